"""# build_masters: a night's bias, dark and flat frames become masters

Each night has **one run for ever** (`2026-11-21__masters`), started by **watch_raws** when the night's raw
calibration frames are complete, and again when one is added, changed or removed. It writes
`calibs/<night>/bias2x2.fits`, `dark2x2.fits` and `<filter>flatnorm2x2.fits` with their variance, and
`masters.json` with every frame and, where one was left out, why: cut short, too faint, saturated, or far from
the last good master. A master that a person put there is left alone. `[masters]` in `observatory.toml` has the
limits. By hand: *Trigger* with the param `night`.

Stacks made with other masters before are not touched: they are *out of date* now, which `nightdesk groups` and
the night's report say. **reduce_night** renews those of its own night at noon; `nightdesk refresh` renews all.

**When the square is red**, a setting or a disk is at fault; the log names it. Mend that and clear the square.
Too few good frames are no failure: the log and `masters.json` say so, and the nearest night's masters are used.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, task

from nightdesk_airflow.night import build_masters_of
from nightdesk_airflow.param import NIGHT_PARAMS

with DAG(
    "build_masters",
    description="A night's raw bias, dark and flat frames to masters with their variance",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2000, 1, 1, tzinfo=UTC),
    catchup=False,
    is_paused_upon_creation=False,
    rerun_with_latest_version=True,
    tags=["nightdesk", "calibration"],
    params=NIGHT_PARAMS,
    default_args={
        "owner": "nightdesk",
        "retries": 3,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=5),
    },
):

    @task
    def build_masters() -> list[str]:
        """Make the night's masters; the log tells of each, and of the frames that were left out.

        Red: the log says what to mend; then clear this square.
        """
        return build_masters_of()

    build_masters()
