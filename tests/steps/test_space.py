"""The room that a group asks for before it begins, and what goes when its time has come."""

from __future__ import annotations

import json
from collections import namedtuple
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from nightdesk.errors import SetupError
from nightdesk.io.layout import EXTINCTION, POST_ISR, SHIFTED
from nightdesk.readiness import tonight
from nightdesk.steps import list_frames, reduce, tidy
from tests.small_night import SmallNight

Usage = namedtuple("Usage", ["total", "used", "free"])
PIXELS = 24 * 32
FRAME, STACK = 14, 17  # bytes a pixel: three float32 and DQ; with COVERAGE and NREJ


@pytest.mark.parametrize(
    ("tables", "profile", "needed"),
    [
        ({}, "standard", 9 * FRAME + STACK),
        ({"products": {"keep": "stack"}, "batch": {"frames_per_task": "all"}}, "standard", STACK),
        ({"products": {"keep": "stack"}}, "standard", 9 * FRAME + STACK),
        ({"combine": {"map_rejections": True}}, "standard", 9 * FRAME + STACK + 3),
        ({"combine": {"footprint": "union"}}, "standard", 6 * FRAME + 1.5 * (3 * FRAME + STACK)),
        ({"products": {"depth": "float64"}}, "standard", 9 * 26 + 29),
        ({}, "notebook", 9 * 16 + 16),
    ],
    ids=["all", "one pass", "stack alone, frame by frame", "map", "union", "float64", "notebook"],
)
def test_a_full_disk_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: dict[str, Any], profile: str, needed: float
) -> None:
    night = SmallNight(tmp_path, tables=tables, profile=profile).write()

    def has(free: float) -> None:
        monkeypatch.setattr(list_frames.shutil, "disk_usage", lambda path: Usage(0, 0, round(free)))

    has(PIXELS * needed)
    assert night.list_raws()
    has(PIXELS * needed - 1)
    with pytest.raises(SetupError, match=r"need about .* GB free\. Make room") as refused:
        night.list_raws()
    writes_nothing_between = tables.get("batch") is not None
    assert ("keep no product before the stack" in str(refused.value)) is not writes_nothing_between


@pytest.mark.parametrize(("age", "stays"), [(2, True), (3, True), (4, False)])
def test_products_before_the_stack_go_after_so_many_days(tmp_path: Path, age: int, stays: bool) -> None:
    night = SmallNight(tmp_path, tables={"products": {"keep": 3}}).write()
    reduce.run(night.settings, night.group)
    values = json.loads(night.layout.manifest.read_text())
    values["group"]["night"] = (tonight(night.settings) - timedelta(days=age)).isoformat()
    night.layout.manifest.write_text(json.dumps(values))
    assert tidy.run(night.settings) == (0 if stays else 9)
    for step in (POST_ISR, EXTINCTION, SHIFTED):
        assert night.product(step, night.names[0]).exists() is stays
    assert night.layout.stack.exists()
    assert night.raw(night.names[0]).exists()


def test_a_group_that_is_not_done_keeps_its_products(tmp_path: Path) -> None:
    night = SmallNight(tmp_path, tables={"products": {"keep": 1}}).write()
    reduce.run(night.settings, night.group)
    values = json.loads(night.layout.manifest.read_text())
    values["group"]["night"], values["state"] = "2020-01-01", "partial"
    night.layout.manifest.write_text(json.dumps(values))
    assert tidy.run(night.settings) == 0
