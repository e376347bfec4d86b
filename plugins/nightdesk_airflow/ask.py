"""The task that asks a person for a star's positions, in the web UI, and waits without holding anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.standard.operators.hitl import HITLEntryOperator
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict

from nightdesk.desk.words import fenced
from nightdesk_airflow.note import base_path
from nightdesk_airflow.run import skip, skip_unless_succeeded
from nightdesk_airflow.task import run_step

if TYPE_CHECKING:
    from airflow.sdk import Context


class AskPositionsOperator(HITLEntryOperator):
    """Shows the frames of a group and takes one star's position in each; skipped when nobody is to be asked.

    It asks only with ``[align] mode = "wait"`` and while there is no sidecar. The answer becomes `xy.csv`.
    """

    template_fields = ()  # what it asks is made when it runs, from names that no template may see

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(subject="One star's position in each frame", **kwargs)

    def execute(self, context: Context) -> None:
        """Ask, unless the positions are there or are found from the stars."""
        from nightdesk.steps import ask

        skip_unless_succeeded(context["ti"], ["list_frames"])
        names = run_step(ask.frames_to_ask)
        if not names:
            skip("Nobody is asked: positions come from the stars or from xy.csv.")
        self.subject = f"{context['run_id']}: one star's position in each of {len(names)} frames"
        self.body = question(str(context["run_id"]), names)
        self.params = ParamsDict({name: _field(name, ask.POSITION_PATTERN) for name in names})
        super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Write the sidecar."""
        from nightdesk.steps import ask

        answer = super().execute_complete(context, event)
        sentence = run_step(ask.run, answer["params_input"])
        self.log.info("%s", sentence)
        return sentence


def _field(name: str, pattern: str) -> Param:
    return Param(
        None, type=["null", "string"], pattern=pattern, title=name, description="x, y as DS9 shows them: 252, 328"
    )


def question(run_id: str, names: list[str]) -> str:
    """Return what is asked, in markdown: the frames' pictures, and where a star can be clicked instead."""
    base, group = base_path(), quote(run_id, safe="")
    address = f"{base}/nightdesk/thumbnail?group={group}"
    # A name is a file's: in a fence it cannot draw a picture of its own.
    pictures = [f"{fenced(name)}\n\n![The frame]({address}&name={quote(name, safe='')})" for name in names]
    pick = f"[Click it in the star picker]({base}/nightdesk/pick?group={group})"
    return "\n\n".join(
        [
            "Choose one star that is in every frame, and write its position (x, y) beside each frame's name below. "
            f"{pick}, if you like that better, and then answer here with nothing written.",
            *pictures,
        ]
    )
