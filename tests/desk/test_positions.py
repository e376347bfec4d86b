"""The star picker's part behind the page: found in all frames, and written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nightdesk.desk.image import sidecar_rows
from nightdesk.desk.positions import centroid, propose, sidecar_path, version, write_positions
from nightdesk.desk.served import NotThereError, Served
from nightdesk.errors import SetupError
from nightdesk.io.sidecar import read_sidecar
from tests.desk.conftest import Observed


def brightest(served: Served, name: str) -> tuple[float, float]:
    from nightdesk.desk.card import read_card
    from nightdesk.desk.place import frame_card

    x, y, _ = read_card(frame_card(served.layout, name))["positions"][0]
    return x, y


def test_a_rough_click_is_drawn_to_the_star(observed_once: Observed) -> None:
    served = observed_once.served("M13")
    x, y, _ = sidecar_rows(served)[served.names[0]]
    found = centroid(served, served.names[0], x + 3, y - 2)
    assert found["found"]
    assert (found["x"], found["y"]) == pytest.approx((x, y), abs=0.6)


def test_the_star_is_found_in_all_frames(observed_once: Observed) -> None:
    served = observed_once.served("M13")
    truth = sidecar_rows(served)
    reference = next(iter(truth))
    x, y, _ = truth[reference]
    for name, (true_x, true_y, _) in truth.items():
        found = propose(served, reference, x, y, name)
        assert found["found"], found
        assert (found["x"], found["y"]) == pytest.approx((true_x, true_y), abs=0.6)


def test_a_click_beside_everything_is_kept_with_the_reason(observed_once: Observed) -> None:
    served = observed_once.served("M13")
    outside = centroid(served, served.names[0], -50.0, 20.0)
    assert not outside["found"]
    assert "outside" in outside["reason"]


def rows(served: Served, **changes: Any) -> list[dict[str, Any]]:
    return [
        {"name": name, "x": 10.25 + number, "y": 20.5, "use": True} | changes
        for number, name in enumerate(served.names)
    ]


def test_what_is_written_is_what_the_reduction_reads(observed: Observed) -> None:
    served = observed.served("M57")
    place = write_positions(served, rows(served), "")
    assert place == "xys/M57/R/2026-11-20/xy.csv"
    positions = read_sidecar(observed.settings, observed.root / place, names=served.names, shape=(200, 230))
    assert [(row.name, row.x, row.y) for row in positions.rows] == [
        (name, 11.25 + number, 21.5) for number, name in enumerate(served.names)
    ]
    assert sidecar_rows(served)[served.names[0]][:2] == (10.25, 20.5)


def test_a_file_that_somebody_else_changed_is_not_overwritten(observed: Observed) -> None:
    served = observed.served("M57")
    write_positions(served, rows(served), "")
    text = sidecar_path(served).read_text()
    with pytest.raises(SetupError, match="changed since"):
        write_positions(served, rows(served, x=1.0), "")
    assert sidecar_path(served).read_text() == text
    write_positions(served, rows(served, x=1.0), version(sidecar_path(served)))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"x": 500.0}, "outside"),
        ({"y": -3.0}, "outside"),
        ({"use": False}, "No frame is to be used"),
        ({"name": "../../raw/x"}, "no other file"),
        ({"name": "r0000001"}, "no other file"),
    ],
)
def test_what_is_no_position_in_these_frames_is_refused(
    observed: Observed, change: dict[str, Any], sentence: str
) -> None:
    served = observed.served("M57")
    with pytest.raises(SetupError, match=sentence):
        write_positions(served, rows(served, **change), "")
    assert not sidecar_path(served).exists()


def test_a_link_out_of_the_sidecars_is_refused(observed: Observed, tmp_path: Path) -> None:
    served = observed.served("M57")
    (tmp_path / "elsewhere").mkdir()
    (observed.root / "xys" / "M57").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotThereError):
        write_positions(served, rows(served), "")
    assert not list((tmp_path / "elsewhere").rglob("*"))
