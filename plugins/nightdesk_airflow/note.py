"""The note of a group's run: links to the desk, and the stack's small picture as it is when somebody looks.

This module is a listener of the scheduler's: a run's own tasks can write no note, and a run may be started by a person.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit

from airflow.listeners import hookimpl

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

GROUP_DAG: Final = "reduce_group"


@hookimpl
def on_dag_run_running(dag_run: DagRun) -> None:
    """Give a group's run its note when it starts, whoever started it; one that is there stays.

    Written in a savepoint: if a person writes a note at this moment, theirs stays, and the scheduler goes on.
    """
    if dag_run.dag_id != GROUP_DAG or dag_run.note is not None:
        return
    from airflow.models.dagrun import DagRunNote
    from sqlalchemy import insert
    from sqlalchemy.exc import IntegrityError
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    assert session is not None  # the note above has just been read by it
    with suppress(IntegrityError), session.connection().begin_nested():
        session.connection().execute(
            insert(DagRunNote).values(dag_run_id=dag_run.id, content=group_note(dag_run.run_id))
        )


def group_note(run_id: str) -> str:
    """Return a run's note in markdown.

    It holds no text from headers or file names, and a run's id only as part of an address. The picture is served by
    the desk, so it shows the stack of now, not of when the run was started. All is in one paragraph, the links first:
    Airflow shows the first paragraph of a note, as high as a picture may be.
    """
    base = base_path()
    query = urlencode({"dag": GROUP_DAG, "run": run_id})
    picture = f"[![The stack]({base}/nightdesk/thumbnail?{query}&note=true)]({base}/nightdesk/stack?{query})"
    links = [f"[{page.capitalize()}]({base}/nightdesk/{page}?{query})" for page in ("stack", "frames")]
    return f"{' · '.join(links)} {picture}"


def base_path() -> str:
    """Return the path at which a proxy serves the web UI; mostly none."""
    from airflow.sdk.configuration import conf

    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
