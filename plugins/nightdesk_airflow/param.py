"""The Dags' params, with the patterns of the package; each task checks them again (`Group.from_params`)."""

from __future__ import annotations

from airflow.sdk import Param

from nightdesk.group import NIGHT_PATTERN, PARAM_PATTERN

GROUP_PARAMS = {
    "target": Param(
        type="string", pattern=PARAM_PATTERN, title="Target", description="As the folders have it: NGC5949"
    ),
    "filter_name": Param(type="string", pattern=PARAM_PATTERN, title="Filter", description="R"),
    "night": Param(
        type="string",
        pattern=NIGHT_PATTERN,
        title="Night",
        description="Local date of the evening: 2026-11-21",
    ),
    "instrument": Param(
        None,
        type=["null", "string"],
        pattern=PARAM_PATTERN,
        title="Instrument",
        description="Only where several are configured",
    ),
}

NIGHT_PARAMS = {
    "night": Param(
        None,
        type=["null", "string"],
        pattern=NIGHT_PATTERN,
        title="Night",
        description="Local date of the evening: 2026-11-21. Empty: the last night that is over",
    )
}

DEEP_PARAMS = {
    "target": Param(
        None,
        type=["null", "string"],
        pattern=PARAM_PATTERN,
        title="Target",
        description="As the folders have it: NGC5949. Empty: whatever has a new stack",
    ),
    "filter_name": Param(
        None, type=["null", "string"], pattern=PARAM_PATTERN, title="Filter", description="R, with a target"
    ),
    "nights": Param(
        None,
        type=["null", "string"],
        title="Nights",
        description="2026-11-21, 2026-11-22, with commas between. Empty: all that have a stack",
    ),
    "instrument": GROUP_PARAMS["instrument"],
}
