"""One step of the package as one task: who calls, for which group, and what its errors mean to Airflow."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from nightdesk_airflow.run import REASON, skip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.sdk import Context

    from nightdesk.group import Group
    from nightdesk.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def nightdesk_errors() -> Iterator[None]:
    """Say in Airflow's words what a Nightdesk error means.

    A `NightdeskError` stays wrong however often it is tried: it fails the task at once. `Waiting` and
    `FrameLost` are no errors of this task: they skip it. Anything else, a stale product or a disk that
    blinks, is left to the retries.
    """
    from nightdesk.errors import FrameLost, NightdeskError, Waiting

    try:
        yield
    except NightdeskError as error:
        raise AirflowFailException(str(error)) from None
    except (Waiting, FrameLost) as reason:
        skip(str(reason))


def settings_and_group() -> tuple[Settings, Group]:
    """Read the settings and return the group that the current run's params name, checked once more."""
    return settings_and_group_of(get_current_context())


def settings_and_group_of(context: Context) -> tuple[Settings, Group]:
    """Read the settings and return the group that a run's params name; for callbacks, which have no current run."""
    from nightdesk.group import Group
    from nightdesk.settings import load_settings

    params = context["params"]
    settings = load_settings()
    named = {key: params[key] for key in ("target", "filter_name", "night")}
    return settings, Group.from_params(settings, **named, instrument=params.get("instrument"))


def group_of_run() -> Group:
    """Return the group that the current run is about."""
    with nightdesk_errors():
        return settings_and_group()[1]


def run_step(step: Callable[Concatenate[Settings, Group, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run one step of the package on the current run's group; leave the reason when it fails for good.

    Tasks share the group's lock, so that `nightdesk reduce` and they keep out of each other's way.
    """
    from nightdesk.io.atomic import locked
    from nightdesk.io.layout import Layout

    try:
        with nightdesk_errors():
            settings, group = settings_and_group()
            with locked(Layout(settings, group).run_lock, shared=True):
                return step(settings, group, *args, **kwargs)
    except AirflowFailException as failure:
        this_task().xcom_push(key=REASON, value=str(failure))
        raise


def this_task() -> Any:
    """Return the running task instance."""
    return get_current_context()["ti"]
