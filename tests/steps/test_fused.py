"""The fused pass: the same stack, to the last byte, as by way of products; nothing else is kept."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightdesk.errors import FrameError, GroupError
from nightdesk.io import inventory
from nightdesk.io.raw import RawFacts, read_facts
from nightdesk.manifest import read_manifest
from nightdesk.science import compiled
from nightdesk.science.sample import window_places
from nightdesk.settings import Settings
from nightdesk.steps import combine, fused, isr, list_frames, reduce
from nightdesk.steps.stack_header import read_names
from tests.small_night import SmallNight

OFFSETS = ((0, 0), (3, -2), (-1, 4), (2, 2), (0, 0))
LIBRARY = compiled._library


@pytest.fixture(params=["numpy", "compiled"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of the loops; without a compiler at set-up the second is skipped."""
    if request.param == "numpy":
        monkeypatch.setattr(compiled, "_library", None)
    elif LIBRARY is None:
        pytest.skip("the compiled loops are not there")
    return str(request.param)


def night_at(root: Path, keep: str, **changes: Any) -> SmallNight:
    """A night of five frames with a setting of what to keep."""
    tables = {"products": {"keep": keep}, **changes.pop("tables", {})}
    return SmallNight(root, **({"offsets": OFFSETS} | changes), tables=tables).write()


def reduced(night: SmallNight) -> SmallNight:
    reduce.run(night.settings, night.group)
    return night


def sha256(night: SmallNight) -> str:
    return hashlib.sha256(night.layout.stack.read_bytes()).hexdigest()


CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "notebook": {"profile": "notebook"},
    "one frame": {"offsets": ((0, 0),)},
    "even": {"offsets": OFFSETS[:4]},
    "union": {"tables": {"combine": {"footprint": "union"}}},
    "intersection": {"tables": {"combine": {"footprint": "intersection"}}},
    "clipped mean": {"tables": {"combine": {"method": "clipped"}}},
    "mean": {"tables": {"combine": {"method": "mean"}}},
    "weighted": {"tables": {"combine": {"method": "weighted"}}},
    "rejection map": {"tables": {"combine": {"map_rejections": True}}},
    "sky as it was": {"tables": {"combine": {"match_sky": False}}},
    "scaled": {"tables": {"combine": {"scale": "exposure"}}},
    "float64": {"tables": {"products": {"depth": "float64"}}},
    "little memory": {"tables": {"machine": {"memory": 1, "threads": 3}}, "shape": (200, 150)},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_same_bytes(tmp_path: Path, case: dict[str, Any], way: str) -> None:
    nights = {}
    for keep in ("all", "stack"):
        options = {key: value for key, value in case.items() if key != "tables"}
        tables = {name: dict(table) for name, table in case.get("tables", {}).items()}
        tables["products"] = tables.get("products", {}) | {"keep": keep}
        nights[keep] = reduced(SmallNight(tmp_path / keep, **({"offsets": OFFSETS} | options), tables=tables).write())
    assert list(nights["all"].layout.folder.glob("shifted/*.fits"))
    assert not list(nights["stack"].layout.folder.glob("*/r0*.fits"))
    assert sha256(nights["all"]) == sha256(nights["stack"])


@pytest.mark.parametrize("depth", ["float32", "float64"])
def test_strips_of_a_frame_are_its_rows_on_the_grid(tmp_path: Path, depth: str, way: str) -> None:
    night = reduced(night_at(tmp_path, "stack", tables={"products": {"keep": "stack", "depth": depth}}))
    work = fused.Fused.open(night.settings, night.group)
    work.prepare(night.names)
    strips = [slice(0, 3), slice(17, 40), slice(night.shape[0] - 5, night.shape[0])]
    for name in night.names:
        frame = work.aligned(name)
        for found, expected in zip(frame.sample(strips), combine.Aligned.sample(frame, strips), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_windows_of_a_frame_are_parts_of_it_on_the_grid(tmp_path: Path, way: str) -> None:
    night = reduced(night_at(tmp_path, "stack", tables={"combine": {"footprint": "union"}}))
    work = fused.Fused.open(night.settings, night.group)
    work.prepare(night.names)
    for name in night.names:
        frame = work.aligned(name)
        rows = np.array([0, 1, 9, frame.shape[0] - 5])
        columns = np.array([0, 7, 2, frame.shape[1] - 5])
        places = window_places(rows, columns, 5)
        for found, whole in zip(frame.windows(rows, columns, 5), frame.image(), strict=True):
            np.testing.assert_array_equal(found, whole[places])


LAID_OUT_ANEW = {
    "AIRMASS": "1.20",
    "CD1_1": "-0.00020000000000000123",
    "CRVAL1": "2.320000000000000123E+02 / more digits than a product has",
    "EGAIN": " 2.1d0",
    "EXPTIME": "60",
}


@pytest.mark.parametrize("profile", ["standard", "notebook"])
def test_the_same_bytes_of_headers_that_are_laid_out_anew(tmp_path: Path, profile: str) -> None:
    """What a product's header cannot hold to the last digit is lost, also where no product is written."""
    nights = []
    for keep in ("all", "stack"):
        night = night_at(tmp_path / keep, keep, profile=profile)
        for path in map(night.raw, night.names):
            content = path.read_bytes()
            for keyword, text in LAID_OUT_ANEW.items():
                start = content.index(keyword.ljust(8).encode() + b"= ")
                content = content[:start] + f"{keyword:8}= {text}".ljust(80).encode() + content[start + 80 :]
            path.write_bytes(content)
        nights.append(reduced(night))
    assert sha256(nights[0]) == sha256(nights[1])


def test_what_the_list_of_frames_read_of_a_raw_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = night_at(tmp_path, "stack", tables={"batch": {"frames_per_task": "all"}})
    (batch,) = list_frames.run(night.settings, night.group, run_id="test")
    mended = night.names[1]
    night.write_raw(mended, NOTE="mended since")
    read: list[str] = []

    def _read(settings: Settings, path: Path, *, size: int, mtime_ns: int) -> RawFacts:
        read.append(path.stem)
        return read_facts(settings, path, size=size, mtime_ns=mtime_ns)

    monkeypatch.setattr(inventory, "read_facts", _read)
    isr.run(night.settings, night.group, batch)
    assert read == [mended]


def test_without_positions(tmp_path: Path) -> None:
    """A single star is too little to match: both ways wait, and say so."""
    for keep in ("all", "stack"):
        night = night_at(tmp_path / keep, keep)
        night.sidecar.unlink()
        assert "waits for positions" in reduce.run(night.settings, night.group)


def test_a_group_that_is_done_leaves_no_masters_in_memory(tmp_path: Path) -> None:
    for seed, root in enumerate(("one", "other")):
        reduced(night_at(tmp_path / root, "stack", seed=seed))
    assert {source.rows.path.parents[2] for source in fused._sources.values()} == {tmp_path / "other"}


def test_a_stack_that_is_current_is_left_alone(tmp_path: Path) -> None:
    night = reduced(night_at(tmp_path, "stack"))
    before = night.layout.stack.stat().st_mtime_ns
    assert reduced(night).layout.stack.stat().st_mtime_ns == before


def test_bad_frames_are_named_after_the_good_ones_are_combined(tmp_path: Path) -> None:
    night = night_at(tmp_path, "stack")
    bad = night.names[1]
    night.write_raw(bad, EGAIN=None)
    with pytest.raises(GroupError, match=bad):
        reduced(night)
    from astropy.io import fits

    assert read_names(fits.getheader(night.layout.stack)) == [name for name in night.names if name != bad]
    manifest = read_manifest(night.settings, night.group)
    assert manifest is not None
    assert manifest["state"] == "partial"
    night.write_raw(bad)
    assert reduced(night).layout.stack.is_file()
    assert read_names(fits.getheader(night.layout.stack)) == night.names


def test_the_task_of_isr_names_the_bad_frames(tmp_path: Path) -> None:
    """In a batch of the whole group the red square is that of `isr`, and `combine` goes on."""
    night = night_at(tmp_path, "stack", tables={"batch": {"frames_per_task": "all"}})
    night.write_raw(night.names[2], pixels=np.zeros((5, 5), np.uint16))
    (batch,) = list_frames.run(night.settings, night.group, run_id="test")
    assert fused.applies(night.settings, night.group)
    with pytest.raises(FrameError, match=night.names[2]):
        isr.run(night.settings, night.group, batch)
    assert combine.run(night.settings, night.group, batch)["frames"] == 4


@pytest.mark.parametrize(
    "tables",
    [
        {"products": {"keep": "all"}, "batch": {"frames_per_task": "all"}},
        {"products": {"keep": "stack"}, "batch": {"frames_per_task": 2}},
        {"products": {"keep": "stack"}, "batch": {"frames_per_task": "all"}, "align": {"resample": "subpixel"}},
        {"products": {"keep": "stack"}, "batch": {"frames_per_task": "all"}, "combine": {"scale": "stars"}},
    ],
    ids=["products kept", "batches", "interpolation", "scaled by stars"],
)
def test_where_it_does_not_apply(tmp_path: Path, tables: dict[str, Any]) -> None:
    night = SmallNight(tmp_path, offsets=OFFSETS, tables=tables).write()
    list_frames.run(night.settings, night.group, run_id="test")
    assert not fused.applies(night.settings, night.group)


@pytest.mark.parametrize(
    ("frames", "setting", "size"),
    [
        (300, "auto", 5),
        (3, "auto", 1),
        (65, "auto", 1),
        (3000, "auto", 47),
        (1500, "all", 1500),
        (3000, 1, 3),
        (30, 7, 7),
    ],
)
def test_batches(tmp_path: Path, frames: int, setting: Any, size: int) -> None:
    """By `auto` three tasks a batch make about 200; no step is mapped over more than Airflow allows."""
    batch = replace(SmallNight(tmp_path), tables={"batch": {"frames_per_task": setting}}).settings.batch
    assert batch.size(frames) == size
    if setting == "auto":
        assert 3 * -(-frames // size) + 5 <= 200
