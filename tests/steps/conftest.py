"""What the tests of the steps share: a small night, freshly written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_night import SmallNight


@pytest.fixture
def night(tmp_path: Path) -> SmallNight:
    """Three frames of one group with masters and a sidecar, nothing reduced yet."""
    return SmallNight(tmp_path / "data").write()
