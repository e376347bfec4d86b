"""# reduce_group: one target, one filter, one night

From raw frames to one combined image with its error. Each group has **one run for ever**, called after it
(`2026-11-21__NGC5949__R`); it is cleared and runs again when its frames or its sidecar change, and then does
only what is missing.

| square | what it does |
|---|---|
| `list_frames` | finds the group's frames and the setup to reduce |
| `isr` | removes the instrument's signature: bias, dark, flat, gain (a square for each frame) |
| `extinction` | scales each frame to above the atmosphere |
| `locate` | finds out from the stars how the frames lie on one another, and writes `xy.csv`; a person's wins |
| `ask` | asks for positions in the web UI, if the settings say so (`[align] mode = "wait"`) |
| `find_sidecar` | finds `xy.csv`, one star's position in each frame |
| `align` | moves each frame onto the grid of the first one |
| `combine` | makes the stack of all frames that came so far |
| `publish` | makes the picture |
| `verdict` | writes `manifest.json`: every frame with its fate; red when one was lost |

**When a square is red**, open its log: the last line says what is wrong and what to do.

* `isr` red: *that frame* is bad; the square bears its name. The others are in the stack. Replace or mend the
  file, then clear the square *with its downstream*: the frame joins the stack and the run turns green. Or
  take the file out of its folder: the run starts anew by itself (or clear it) and turns green without it.
* `align` red: this frame's stars do not match the others', or are still off after the shift; the log has the figures.
  Remove the frame, or write `xy.csv` with its position.
* `list_frames`, `find_sidecar` or `combine` red: something is missing or wrong for the whole group (a master
  in `calibs/`, a setting, a line of `xy.csv`); the log names it. Mend it, then clear the square *with its
  downstream*. A changed `xy.csv` starts the run by itself.
* `verdict` red: it only sums up. Mend what its sentence names.

**When `find_sidecar` is pink** (skipped), the group *waits for positions*. Its log says which file to write
and how it begins; the file's arrival starts the run. Other pink squares: the frame was lost in a step
before, or there was nothing to do.
"""

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, AssetAlias, TriggerRule, WeightRule, task, task_group

from nightdesk_airflow.ask import AskPositionsOperator
from nightdesk_airflow.asset import announce_stack
from nightdesk_airflow.notify import tell_failure
from nightdesk_airflow.param import GROUP_PARAMS
from nightdesk_airflow.run import aligned_frames, fail_for, failed_tasks, frame_states, skip_unless_succeeded
from nightdesk_airflow.task import group_of_run, run_step, this_task

log = logging.getLogger(__name__)

STACKS = AssetAlias("nightdesk-stacks")
FRAME_NAMES = "{{ task.op_kwargs['names'] | join(', ') }}"  # what a mapped square is called

with DAG(
    "reduce_group",
    description="Raw frames of one target, filter and night to one combined image",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    is_paused_upon_creation=False,
    rerun_with_latest_version=True,
    tags=["nightdesk", "reduction"],
    params=GROUP_PARAMS,
    default_args={
        "owner": "nightdesk",
        # For what passes: a busy disk, a step that runs ahead of the one before it. Bad frames fail at once.
        "retries": 3,
        "retry_delay": timedelta(seconds=5),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=5),
        # The later a step, the sooner it gets a worker: what has begun is finished before others begin.
        "weight_rule": WeightRule.UPSTREAM,
    },
):

    @task
    def list_frames() -> list[list[str]]:
        """Find the group's frames and the setup to reduce.

        Red: the log names what is missing for the whole group. Mend it and clear this square with its
        downstream.
        """
        from nightdesk.steps import list_frames

        return run_step(list_frames.run, run_id=this_task().run_id)

    @task(map_index_template=FRAME_NAMES)
    def isr(names: list[str]) -> None:
        """Remove bias, dark, flat and gain.

        Red: this frame is bad, for the reason in the log; the others go on. Replace or mend the file and
        clear this square with its downstream, or take the file out of its folder.
        """
        from nightdesk.steps import isr

        run_step(isr.run, names)

    @task(map_index_template=FRAME_NAMES, trigger_rule=TriggerRule.ALL_DONE)
    def extinction(names: list[str]) -> None:
        """Scale the frame to above the atmosphere.

        Pink: `isr` lost the frame. Red: the log says what to mend; then clear this square with its
        downstream.
        """
        from nightdesk.steps import extinction

        run_step(extinction.run, names)

    @task_group(tooltip="What is done to each frame by itself")
    def frame(names: list[str]) -> None:
        """Reduce one batch of frames, which is one frame unless the configuration says otherwise."""
        isr(names=names) >> extinction(names=names)

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def locate() -> str:
        """Find out from the stars how the frames lie on one another.

        Writes `xy.csv` where no person has, and never over a person's. A frame whose stars do not match is named in
        the log with the figure that failed. Red: the log says what to mend.
        """
        from nightdesk.steps import locate

        skip_unless_succeeded(this_task(), ["list_frames"])
        return run_step(locate.run)

    ask = AskPositionsOperator(
        task_id="ask",
        trigger_rule=TriggerRule.ALL_DONE,
        doc_md='Asks for one star\'s position in each frame, with `[align] mode = "wait"` and no `xy.csv`: *Required '
        "Actions* of this square has the form. Pink: nobody needs to be asked. Red: what was written is no position; "
        "the log says whose. Clear it to be asked again.",
    )

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def find_sidecar() -> str:
        """Find `xy.csv`, one star's position in each frame.

        Pink: the group waits for it; the log says where it belongs and how it begins. Red: the log names the
        line of `xy.csv` to correct. Either way the file's arrival starts the run by itself.
        """
        from nightdesk.steps import find_sidecar

        skip_unless_succeeded(this_task(), ["list_frames"])
        return run_step(find_sidecar.run)

    @task(map_index_template=FRAME_NAMES)
    def align(names: list[str]) -> None:
        """Move the frame onto the common grid.

        Pink: the frame was lost before, or positions are awaited. Red: the log says what to mend; then clear
        this square with its downstream.
        """
        from nightdesk.steps import align

        run_step(align.run, names)

    @task(trigger_rule=TriggerRule.ALL_DONE, outlets=[STACKS])
    def combine(*, outlet_events: Any = None) -> dict[str, Any]:
        """Combine the frames that came so far.

        Red: there is nothing to combine. Mend the frames and clear their squares with their downstream.
        """
        from nightdesk.steps import combine

        stack = run_step(combine.run, aligned_frames(this_task()))
        announce_stack(outlet_events[STACKS], group_of_run(), stack)
        return stack

    @task
    def publish() -> str:
        """Make the picture `combined.png`. Red: the log says why; clear this square with its downstream."""
        from nightdesk.steps import publish, solve

        picture = run_step(publish.run)
        log.info("%s", run_step(solve.run))
        return picture

    @task(trigger_rule=TriggerRule.ALL_DONE, retries=0, on_failure_callback=tell_failure)
    def verdict() -> str:
        """Write `manifest.json` and say how the group ended.

        Red: frames were lost; the sentence names them. Mend those, and this square with them.
        """
        from nightdesk.steps import verdict

        ti = this_task()
        failed = failed_tasks(ti, ["list_frames", "locate", "ask", "find_sidecar", "combine", "publish"])
        sentence = run_step(verdict.run, run_id=ti.run_id, states=frame_states(ti), failed_steps=failed)
        fail_for(failed)  # the run's colour is this task's
        return sentence

    batches = list_frames()
    reduced, aligned = frame.expand(names=batches), align.expand(names=batches)
    reduced >> locate() >> ask >> find_sidecar() >> aligned >> combine() >> publish() >> verdict()
