"""Registers with Airflow what Nightdesk adds to it."""

from typing import ClassVar

from airflow.plugins_manager import AirflowPlugin

from nightdesk_airflow.start import StartedRunLink


class NightdeskPlugin(AirflowPlugin):
    """Nightdesk in Airflow: `airflow plugins` lists it when the plugins folder is the right one."""

    name = "nightdesk"
    operator_extra_links: ClassVar = [StartedRunLink()]
