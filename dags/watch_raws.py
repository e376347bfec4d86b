"""# watch_raws: a night that reduces itself

Watches the folders of raw frames and sidecars, and starts **reduce_group** for each group (target, filter,
night) that is *ready*: all its files are complete, and nothing changed for a while (`[watch]` in
`observatory.toml`). A group is started again when a frame or its sidecar is added, changed or removed; never
twice for the same files, also not when its run failed. It looks at the last nights only (`watch_nights`);
older ones belong to **reduce_night** and its backfill.

A night's raw bias, dark and flat frames start **build_masters** in the same way.

There is always one run. `wait_for_groups` is *deferred* (purple) almost all the time: it waits in the
triggerer and holds no worker.

**When a square is red**, Nightdesk itself is in trouble, not a frame. Open the square's log: it names the
file, the key and what was expected (mostly a mistake in `observatory.toml`, or, where `check_folders` is red,
a folder that cannot be read: all others are watched meanwhile). Mend that; there is nothing to clear, for the
next run begins by itself and scans the disk, so no frame is lost. A configuration that is written anew takes
effect within `rescan_seconds`.

**When frames land and nothing starts**: is this Dag paused? Is `wait_for_groups` deferred, and does the
triggerer live (the health lights on the home page)? `nightdesk groups` lists each group with the reason why
it is not started.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, WeightRule, task

from nightdesk_airflow.sensor import ReadyGroupsSensor, require_open_folders
from nightdesk_airflow.start import StartRunOperator

with DAG(
    "watch_raws",
    description="Waits for frames and starts the reduction of each group that is ready",
    doc_md=__doc__,
    schedule="@continuous",
    start_date=datetime(2000, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["nightdesk", "live"],
    default_args={
        "owner": "nightdesk",
        # Ahead of all frames that wait for a worker: without these two nothing new begins.
        "priority_weight": 10_000,
        "weight_rule": WeightRule.ABSOLUTE,
        # The Dag begins anew as soon as a run has failed; the retries are what keeps it from spinning.
        "retries": 8,
        "retry_delay": timedelta(seconds=5),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=5),
    },
):

    @task
    def check_folders() -> str:
        """See whether all raw folders can be looked into; the frames in the others are reduced meanwhile.

        Red: the log names the folder. Give it read permission; the next run begins by itself.
        """
        return require_open_folders()

    check_folders()

    ready = ReadyGroupsSensor(
        task_id="wait_for_groups",
        group_dag_id="reduce_group",
        doc_md="Waits until groups are ready, and returns them. Deferred (purple) is its normal state. "
        "Red: the log names the setting or the folder to mend; the next run begins by itself.",
    )
    StartRunOperator.partial(
        task_id="start",
        map_index_template="{{ task.trigger_run_id }}",
        doc_md="Starts the run of one group (or of a night's masters), or clears it and starts it anew. "
        "Pink (skipped): no group was ready, or its run was active already. "
        "Red: Airflow refused, the log says why; the group is started again by itself.",
    ).expand_kwargs(ready.output)
