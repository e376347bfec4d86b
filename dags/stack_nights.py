"""# stack_nights: all nights of a target and filter in one deep image

Starts by itself when a group has a new stack, and looks which targets and filters have two nights or more. By
hand: *Trigger* with `target` and `filter_name`, and `nights` (with commas between) if only some are meant.

| square | what it does |
|---|---|
| `find_stacks` | finds the deep stacks to make |
| `deepen` | makes one: `deep/<target>/<filter>/deep.fits`, `deep.png` and `manifest.json` |

The nights are laid on one another by their stars, brought to the brightness of the first night's stars and to its
sky, and weighted by one figure each. A night that cannot be laid on is left out; the manifest says why.

**When a square is red**, its log says what to do: mostly no two nights show the same stars. Choose the nights by
hand, or reduce the night anew; then clear the square. Pink: there is a single night so far, or nothing to do.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, AssetAlias, task

from nightdesk_airflow.deep import deepen, stacks_to_deepen
from nightdesk_airflow.night import ARCHIVE_POOL
from nightdesk_airflow.param import DEEP_PARAMS

with DAG(
    "stack_nights",
    description="All nights of a target and filter to one deep image",
    doc_md=__doc__,
    schedule=[AssetAlias("nightdesk-stacks")],
    start_date=datetime(2000, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    rerun_with_latest_version=True,
    tags=["nightdesk", "archive"],
    params=DEEP_PARAMS,
    default_args={
        "owner": "nightdesk",
        "pool": ARCHIVE_POOL,  # behind the frames that land tonight
        "retries": 3,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=5),
    },
):

    @task
    def find_stacks() -> list[dict[str, Any]]:
        """Find the deep stacks to make. Red: the log names the setting or the param to mend."""
        return stacks_to_deepen()

    @task(map_index_template="{{ task.op_kwargs['target'] }}/{{ task.op_kwargs['filter_name'] }}")
    def deepen_stack(target: str, filter_name: str, instrument: str | None, nights: list[str] | None) -> dict[str, Any]:
        """Make one deep stack.

        Red: its nights cannot be laid on one another; the log says which and why. Choose nights by hand, or clear
        this square when they are mended. Pink: there is a single night so far.
        """
        return deepen(target, filter_name, instrument, nights)

    deepen_stack.override(task_id="deepen").expand_kwargs(find_stacks())
