"""What others wrote is what they published."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
VENDOR = CHECKOUT / "plugins" / "nightdesk_airflow" / "desk" / "static" / "vendor"
AXE = CHECKOUT / "tests" / "browser" / "vendor"


@pytest.mark.parametrize(
    ("path", "sha256"),
    [
        (VENDOR / "uPlot.iife.min.js", "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"),
        (VENDOR / "uPlot.min.css", "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"),
        (AXE / "axe.min.js", "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_a_file_is_that_of_the_registrys_package(path: Path, sha256: str) -> None:
    """uPlot 1.6.32 and, for the tests, axe-core 4.14.1."""
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def test_their_licences_stand_beside_them() -> None:
    assert "MIT" in (VENDOR / "uPlot.LICENSE").read_text()
    assert "Mozilla Public License" in (AXE / "axe.LICENSE").read_text()
