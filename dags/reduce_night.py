"""# reduce_night: all groups of a night, and the night's report

Runs at noon after each night, for the night that is over: makes masters of raw calibration frames that are not
made yet, finds all groups of the night on disk, brings each up to date by its own run of **reduce_group** (also
one whose stack is *out of date*, because flats came at dawn or a setting has changed), and writes the night's
report with every raw frame and its fate. Most mornings nothing is left to reduce, because **watch_raws** has
done it; this run then only reports.

**An archived night** is reduced by a backfill: *Trigger*, *Backfill*, choose the days; or

    airflow backfill create --dag-id reduce_night --from-date 2026-11-12 --to-date 2026-11-15

for the nights of 12, 13 and 14 November (the last day is midnight UTC: give the day after). A second backfill
of the same nights changes nothing. One night alone: *Trigger* with the param `night`. Archived nights share
the pool `archive`, so that frames that land tonight need not queue behind them.

**When a `reduce` square is red**, that group lost frames; the log says why. Open its run with the button
*Run*, mend it there, then clear the square here with its downstream: it turns green without touching the
group. Pink: the group waits for positions. `masters` red: the log names the setting or file to mend; groups take other
masters meanwhile. `verdict` red: it only sums up.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, TriggerRule, task, task_group

from nightdesk_airflow.night import (
    ARCHIVE_POOL,
    build_masters_of,
    groups_to_reduce,
    judge_night,
    nights_to_calibrate,
    notify_night,
    write_report,
)
from nightdesk_airflow.param import NIGHT_PARAMS
from nightdesk_airflow.start import ReduceGroupOperator
from nightdesk_airflow.task import this_task
from nightdesk_airflow.zone import site_zone

REDUCE_DOC = (
    "One square for each group: brings it up to date and ends as it ended. Red: the group lost frames; the "
    "log says why, and the button *Run* leads to its run. Pink: it waits for positions, or the night has no "
    "group of this kind."
)

with DAG(
    "reduce_night",
    description="All groups of a night and the night's report; backfill this one for archived nights",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 12 * * *", timezone=site_zone()),
    start_date=datetime(2000, 1, 1, tzinfo=UTC),
    catchup=False,
    is_paused_upon_creation=False,
    rerun_with_latest_version=True,
    tags=["nightdesk", "archive"],
    params=NIGHT_PARAMS,
    default_args={
        "owner": "nightdesk",
        "retries": 3,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=5),
    },
):

    @task_group(tooltip="The masters of this night and of those near it, where they are still to be made")
    def masters() -> None:
        """Make what the night's groups may need before they look for it."""

        @task
        def find_calibrations() -> list[str]:
            """Find the nights whose raw calibration frames are not made into masters yet.

            Red: the log says what to mend; then clear this square with its downstream.
            """
            return nights_to_calibrate()

        @task(map_index_template="{{ task.op_kwargs['night'] }}")
        def build_masters(night: str) -> list[str]:
            """Make the masters of one night; the log tells of each, and of the frames that were left out.

            Pink: nothing is to be made. Red: the log says what to mend; then clear this square with its downstream.
            """
            return build_masters_of(night)

        build_masters.expand(night=find_calibrations())

    # Groups are found and reduced whatever became of the masters: those of another night may serve.
    @task(trigger_rule=TriggerRule.ALL_DONE)
    def find_groups() -> list[dict[str, object]]:
        """Find the groups of the last night; none when this run is about an older one.

        Red: the log says what to mend; then clear this square with its downstream.
        """
        return groups_to_reduce(archived=False)

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def find_archived_groups() -> list[dict[str, object]]:
        """Find the groups of an older night; none when this run is about the last one.

        Red: the log says what to mend; then clear this square with its downstream.
        """
        return groups_to_reduce(archived=True)

    live, archived = find_groups(), find_archived_groups()
    masters() >> [live, archived]

    reduce = ReduceGroupOperator.partial(
        task_id="reduce",
        trigger_dag_id="reduce_group",
        map_index_template="{{ task.trigger_run_id }}",
        doc_md=REDUCE_DOC,
    ).expand_kwargs(live)

    reduce_archived = ReduceGroupOperator.partial(
        task_id="reduce_archived",
        trigger_dag_id="reduce_group",
        map_index_template="{{ task.trigger_run_id }}",
        pool=ARCHIVE_POOL,
        doc_md=REDUCE_DOC,
    ).expand_kwargs(archived)

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def report() -> str:
        """Write the night's report: every raw frame with its fate.

        Red: the log says what to mend; then clear this square with its downstream.
        """
        return write_report()

    @task
    def notify() -> str:
        """Send the report to whoever the configuration names ([notify]); to nobody, when it names no one.

        Red: the mail server or the webhook refused. Mend its connection (Admin, Connections); then clear this
        square.
        """
        return notify_night()

    @task(trigger_rule=TriggerRule.ALL_DONE, retries=0)
    def verdict() -> str:
        """Say how the night ended. Red: the sentence names the groups to mend."""
        return judge_night(this_task(), {"reduce": "find_groups", "reduce_archived": "find_archived_groups"})

    [reduce, reduce_archived] >> report() >> notify() >> verdict()
