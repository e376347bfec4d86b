"""Where everything stands below the data root."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from nightdesk.group import Group
from nightdesk.io.atomic import write_json
from nightdesk.io.layout import EXTINCTION, POST_ISR, SHIFTED, Layout, rejection_path, report_path
from nightdesk.settings import Settings

NIGHT = date(2026, 11, 21)
ROOT = Path("/data")


def layout(instrument: str | None = None, **tables: Any) -> Layout:
    settings = Settings.model_validate({"data": {"root": ROOT}, **tables})
    return Layout(settings, Group(NIGHT, "NGC5949", "R", instrument))


@pytest.mark.parametrize(
    ("found", "folder"),
    [
        pytest.param(layout(), "processed/NGC5949/R/2026-11-21", id="standard"),
        pytest.param(layout("blue"), "processed/blue/NGC5949/R/2026-11-21", id="one of several instruments"),
        pytest.param(layout(profile="notebook"), "processed/NGC5949/R", id="the notebook's, without the night"),
    ],
)
def test_the_folders_of_a_group(found: Layout, folder: str) -> None:
    place = ROOT / folder
    assert [found.product(step, "r1") for step in (POST_ISR, EXTINCTION, SHIFTED)] == [
        place / "postISR/r1.fits",
        place / "extinction/r1.fits",
        place / "shifted/r1.fits",
    ]
    assert (found.stack, found.picture) == (place / "combined/combined.fits", place / "combined/combined.png")
    assert (found.manifest, found.inputs) == (place / "combined/manifest.json", place / "combined/inputs.json")
    assert found.relative(found.stack) == f"{folder}/combined/combined.fits"


@pytest.mark.parametrize(
    ("instrument", "place"), [pytest.param(None, "calibs", id="one"), pytest.param("blue", "calibs/blue", id="several")]
)
@pytest.mark.parametrize(
    ("kind", "name"),
    [("bias", "bias2x2.fits"), ("dark", "dark2x2.fits"), ("flat", "Rflatnorm2x2.fits")],
)
def test_masters_are_looked_for_in_the_night_first(instrument: str | None, place: str, kind: str, name: str) -> None:
    assert layout(instrument).masters(kind, "2x2") == [ROOT / place / "2026-11-21" / name, ROOT / place / name]


def test_the_masters_names_are_settings() -> None:
    (own, _) = layout(calibs={"flat": "flat-{filter}-{binning}.fit"}).masters("flat", "1x1")
    assert own.name == "flat-R-1x1.fit"


def test_a_nights_own_sidecar_is_before_that_of_all_nights(tmp_path: Path) -> None:
    found = layout(data={"root": tmp_path})
    place = tmp_path / "xys/NGC5949/R"
    assert found.sidecars == [place / "2026-11-21/xy.csv", place / "xy.csv"]
    assert found.sidecar is None
    for path in (place / "xy.csv", place / "2026-11-21/xy.csv"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        assert found.sidecar == path


def test_a_folder_named_like_a_sidecar_is_none(tmp_path: Path) -> None:
    (tmp_path / "xys/NGC5949/R/xy.csv").mkdir(parents=True)
    assert layout(data={"root": tmp_path}).sidecar is None


def test_rejections_and_reports_lie_by_their_night() -> None:
    settings = layout().settings
    assert rejection_path(settings, NIGHT, "r1") == ROOT / "rejected/2026-11-21/r1.json"
    assert report_path(settings, NIGHT) == ROOT / "processed/reports/2026-11-21.json"


def test_whose_products_a_folder_holds_is_what_its_inputs_say_now(tmp_path: Path) -> None:
    found = layout(profile="notebook", data={"root": tmp_path})
    assert found.owner is None
    for key in ("2026-11-21/NGC5949/R", "2026-11-22/NGC5949/R"):
        write_json(found.folder / "combined" / "inputs.json", {"group": key})
        assert found.owner == key
    assert found.ledger == found.folder / "combined" / "refused" / "2026-11-21"
    (found.folder / "combined" / "inputs.json").unlink()
    assert found.owner is None
