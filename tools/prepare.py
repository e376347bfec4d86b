"""Prepare Airflow's database: migrate it, make the pools that are missing, set the login.

docker-compose's service ``init`` runs this before the others start; ``standalone.py`` uses its parts.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from airflow.models.pool import Pool
from airflow.utils import db
from observatory import USER, write_private

ARCHIVE_SLOTS = 2


def make_pools() -> None:
    """Make the pools that the Dags name. One whose size somebody changed is left as it is."""
    if Pool.get_pool("archive") is None:
        # Archived nights wait here. Deferred waiting counts too, or all of them would start at once.
        Pool.create_or_update_pool(
            "archive",
            slots=ARCHIVE_SLOTS,
            description="Archived nights, a few at a time behind the live one",
            include_deferred=True,
        )


def set_login(file: Path, password: str) -> None:
    """Write the web UI's login, readable by its owner alone."""
    if len(password) < 8:
        raise ValueError("NIGHTDESK_PASSWORD in .env needs at least 8 characters.")
    file.unlink(missing_ok=True)
    write_private(file, json.dumps({USER: password}) + "\n")


def main() -> None:
    """Do all of it, with what docker-compose.yaml puts into the environment."""
    try:
        set_login(
            Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]),
            os.environ.get("NIGHTDESK_PASSWORD", ""),
        )
    except ValueError as error:
        sys.exit(str(error))
    db.initdb()
    make_pools()


if __name__ == "__main__":
    main()
