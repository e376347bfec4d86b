"""The night's report as one page that can be mailed: nothing in it is loaded from anywhere."""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightdesk.desk import words
from nightdesk.desk.night import counts_of, group_of_key, read_night
from nightdesk.desk.place import stack_thumbnail
from nightdesk.desk.served import Served
from nightdesk.io.atomic import read_json
from nightdesk.io.layout import report_path

if TYPE_CHECKING:
    from datetime import date

    from jinja2 import Template

    from nightdesk.settings import Settings

LARGEST_THUMBNAIL = 60_000


def draw_night(settings: Settings, night: date) -> str:
    """Return the page of a night whose report is written."""
    values = read_night(settings, night)
    report = read_json(report_path(settings, night)) or {"raws": [], "groups": []}
    rows = sorted(values["groups"].values(), key=lambda row: (row["target"].casefold(), row["filter_name"]))
    return _template().render(
        site=settings.site.name,
        night=night.isoformat(),
        values=values,
        counts=counts_of(values),
        rows=[{**row, "picture": _picture(settings, row)} for row in rows],
        raws=report["raws"],
    )


def _picture(settings: Settings, row: dict[str, Any]) -> str:
    group = group_of_key(settings, row["key"]) if row["thumbnail"] else None
    if group is None:
        return ""
    served = Served(settings, group)
    path = stack_thumbnail(served.layout)
    if not served.holds(path) or path.stat().st_size > LARGEST_THUMBNAIL:
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.globals["words"] = words
    environment.filters |= {"printable": words.printable, "sentence": words.sentence}
    return environment.get_template("night.html")
