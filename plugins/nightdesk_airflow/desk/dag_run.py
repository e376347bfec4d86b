"""What only Airflow's database and login know: which group a run is about, and whether this person may write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import select

from nightdesk.desk.served import NotThereError, Served, served_group, served_params
from nightdesk_airflow.note import GROUP_DAG

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

    from nightdesk.settings import Settings


def group_of_run(settings: Settings, dag: str, run: str) -> Served | None:
    """Return the group of a run of `reduce_group`, also of one that was started by hand; None for other Dags."""
    if dag != GROUP_DAG:
        return None
    try:
        return served_group(settings, run)
    except NotThereError:
        conf = _conf_of(dag, run)
        if conf is None:
            raise
        return served_params(settings, conf)


def _conf_of(dag: str, run: str) -> dict[str, Any] | None:
    with create_session() as session:
        conf = session.scalar(select(DagRun.conf).where(DagRun.dag_id == dag, DagRun.run_id == run))
    return conf if isinstance(conf, dict) else None


def may_write(user: BaseUser) -> bool:
    """Tell whether a person may write positions; only for what a page shows, the guard asks again."""
    return bool(
        get_auth_manager().is_authorized_dag(
            method="POST", access_entity=DagAccessEntity.RUN, details=DagDetails(id=GROUP_DAG), user=user
        )
    )
