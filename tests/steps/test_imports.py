"""What the fused pass does without: libraries that take a tenth of a second to be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.star_night import StarNight

SCRIPT = """
import sys
from datetime import date
from nightdesk.group import Group
from nightdesk.settings import Settings
from nightdesk.steps import reduce

settings = Settings.model_validate({"data": {"root": sys.argv[1]}, "products": {"keep": "stack"}})
print(reduce.run(settings, Group(date(2026, 11, 21), "NGC5949", "R"), pictures=False))
print(*(name for name in ("scipy", "astropy.table") if name in sys.modules))
"""


def test_neither_scipy_nor_tables_are_imported(tmp_path: Path) -> None:
    night = StarNight(tmp_path)
    night.write()
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], check=True, capture_output=True, text=True)
    assert night.layout.stack.is_file()
    assert done.stdout.splitlines()[-1] == ""
