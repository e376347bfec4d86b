"""The site's time zone, read without the package's settings: a Dag file must parse in a moment."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

PT5M_ZONE = "Atlantic/Canary"


def site_zone() -> str:
    """Return the IANA zone that the configuration gives the site; pt5m's when it gives none.

    A configuration that cannot be read fails the Dag file that asks, and Airflow shows why above the list
    of Dags.
    """
    named = os.environ.get("NIGHTDESK_CONFIG")
    if not named:
        raise LookupError(
            "NIGHTDESK_CONFIG is not set: it names your observatory.toml, whose [site] has the time zone."
        )
    site = tomllib.loads(Path(named).read_text(encoding="utf-8")).get("site", {})
    return str(site.get("timezone", PT5M_ZONE))
