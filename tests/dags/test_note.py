"""The note of a group's run, written when the scheduler starts it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from nightdesk_airflow.note import group_note, on_dag_run_running

pytestmark = pytest.mark.usefixtures("database")

BY_HAND = "manual__2026-11-21T09:30:00+00:00"


@pytest.fixture
def session() -> Iterator[Any]:
    """A session as the scheduler has it: what is done in it is committed by nobody else."""
    from airflow.utils.session import create_session
    from airflow.utils.sqlalchemy import prohibit_commit

    with create_session() as opened, prohibit_commit(opened):
        yield opened
        opened.rollback()


def begun(session: Any, dag_id: str = "reduce_group", note: str | None = None) -> Any:
    """Return a run that has just begun."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.types import DagRunType

    run = DagRun(dag_id=dag_id, run_id=BY_HAND, run_type=DagRunType.MANUAL, state="running")
    run.note = note
    session.add(run)
    session.flush()
    return run


def noted(session: Any, run: Any) -> str | None:
    session.refresh(run, ["dag_run_note"])
    note: str | None = run.note
    return note


def test_a_run_that_is_started_by_hand_has_the_note_too(session: Any) -> None:
    run = begun(session)
    on_dag_run_running(run)
    assert noted(session, run) == group_note(BY_HAND)
    on_dag_run_running(run)  # as when it is cleared
    assert noted(session, run) == group_note(BY_HAND)


def test_a_persons_note_stays(session: Any) -> None:
    run = begun(session, note="Clouds from 2 h on.")
    on_dag_run_running(run)
    assert noted(session, run) == "Clouds from 2 h on."


def test_a_person_who_writes_at_this_moment_comes_first_and_the_scheduler_goes_on(session: Any) -> None:
    from airflow.models.dagrun import DagRunNote
    from sqlalchemy import insert

    run = begun(session)
    assert run.note is None
    session.connection().execute(insert(DagRunNote).values(dag_run_id=run.id, content="Mine"))
    on_dag_run_running(run)
    run.state = "success"
    session.flush()
    assert noted(session, run) == "Mine"


def test_runs_of_other_dags_have_none(session: Any) -> None:
    run = begun(session, "reduce_night")
    on_dag_run_running(run)
    assert noted(session, run) is None


def test_a_note_has_its_links_before_the_picture_and_the_runs_name_in_addresses_alone() -> None:
    note = group_note(BY_HAND)
    assert note.index("[Stack](") < note.index("[Frames](") < note.index("![")
    address = note.split("[Stack](")[1].split(")")[0]
    assert parse_qs(urlsplit(address).query) == {"dag": ["reduce_group"], "run": [BY_HAND]}
    assert group_note("[x](http://y)").count("](http") == 0


def test_the_plugin_brings_the_listener() -> None:
    import nightdesk_plugin

    from nightdesk_airflow import note

    assert nightdesk_plugin.NightdeskPlugin.listeners == [note]
