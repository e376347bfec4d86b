"""# reduce_archive: an archive, a few nights a day

Opens each day the next nights of an archive (`[archive] from` and `nights_per_day` in `observatory.toml`):
those that have raw frames and no report yet. Each becomes a run `archive__2026-01-31` of **reduce_night**,
whose groups wait in the pool `archive`, behind the frames that land tonight. Without `[archive] from` it
does nothing.

**To go faster**, raise `nights_per_day`, or backfill **reduce_night**. **When a square is red**, its log says
why; clear it when that is mended. A night that could not be opened is tried again the next day.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronTriggerTimetable, task

from nightdesk_airflow.night import ARCHIVE_POOL, nights_to_open
from nightdesk_airflow.start import StartRunOperator
from nightdesk_airflow.zone import site_zone

with DAG(
    "reduce_archive",
    description="Opens the next nights of an archive, a few a day",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("30 12 * * *", timezone=site_zone()),
    start_date=datetime(2000, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["nightdesk", "archive"],
    default_args={
        "owner": "nightdesk",
        "retries": 3,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=5),
    },
):

    @task
    def next_nights() -> list[dict[str, object]]:
        """Find the archive's next nights. Red: the log names the setting or the folder to mend."""
        return nights_to_open()

    StartRunOperator.partial(
        task_id="open_night",
        trigger_dag_id="reduce_night",
        map_index_template="{{ task.trigger_run_id }}",
        pool=ARCHIVE_POOL,
        doc_md="Starts the run of one archived night. Pink (skipped): no night is left, or its run is active "
        "already. Red: Airflow refused; the log says why.",
    ).expand_kwargs(next_nights())
