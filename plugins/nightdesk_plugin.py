"""Registers with Airflow what Nightdesk adds to it."""

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from nightdesk_airflow import note
from nightdesk_airflow.desk import PREFIX, VIEWS, LazyDesk
from nightdesk_airflow.preload import preload_steps
from nightdesk_airflow.start import StartedRunLink


class NightdeskPlugin(AirflowPlugin):
    """Nightdesk in Airflow: `airflow plugins` lists it when the plugins folder is the right one."""

    name = "nightdesk"
    operator_extra_links = [StartedRunLink()]  # noqa: RUF012  # an instance variable in the base class
    external_views = VIEWS
    listeners = [note]  # noqa: RUF012  # as above
    fastapi_apps = [{"app": LazyDesk(), "url_prefix": PREFIX, "name": "Nightdesk"}]  # noqa: RUF012  # as above

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Make the scheduler's tasks start fast."""
        preload_steps()
