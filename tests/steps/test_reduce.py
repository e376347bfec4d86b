"""`reduce`: all steps by hand, and what a rerun does: only the missing work, and the same bytes."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.errors import GroupError, SetupError, StaleProduct
from nightdesk.io.atomic import locked
from nightdesk.io.frame import RowFrame, open_frame
from nightdesk.manifest import read_manifest
from nightdesk.readiness import differs
from nightdesk.science import star
from nightdesk.science.star import find_stars
from nightdesk.steps import align, batch, reduce, verdict
from nightdesk.steps.stack_header import read_names
from tests.small_night import SmallNight
from tests.star_night import StarNight

FIRST, SECOND, THIRD = "r0743053", "r0743054", "r0743055"
STEPS = ("postISR", "extinction", "shifted")
STACK = ["combined/combined.fits", "combined/combined.png"]


def reduced(night: SmallNight) -> str:
    return reduce.run(night.settings, night.group)


def state_of(night: SmallNight) -> str:
    manifest = read_manifest(night.settings, night.group)
    assert manifest is not None
    return str(manifest["state"])


def frames_in_stack(night: SmallNight) -> list[str]:
    return read_names(fits.getheader(night.layout.stack))


def products(*names: str, steps: tuple[str, ...] = STEPS) -> list[str]:
    return sorted([*(f"{step}/{name}.fits" for step in steps for name in names), *STACK])


def redone(night: SmallNight, before: dict[str, tuple[int, int]]) -> list[str]:
    """The products written since, but for small pictures for the web pages."""
    return [name for name in night.rewritten(before) if not name.startswith("combined/desk")]


class TestEnds:
    """How a run by hand can end."""

    def test_done(self, night: SmallNight) -> None:
        assert reduced(night).startswith("2026-11-21/NGC5949/R is done: 3 frames are in the stack.")
        assert not differs(night.settings, night.group)

    def test_waiting(self, night: SmallNight) -> None:
        night.sidecar.unlink()
        assert "is waiting: it waits for positions in xys/NGC5949/R/2026-11-21/xy.csv" in reduced(night)
        assert f"It begins:\nfname,x,y\n{FIRST},(x),(y)\n{SECOND},(x),(y)\n{THIRD},(x),(y)" in reduced(night)
        assert not night.layout.stack.exists()
        assert night.product("extinction", THIRD).exists()

    def test_waiting_with_a_sidecar_that_names_others(self, night: SmallNight) -> None:
        night.write_rows(["fname,x,y", "r74305,14,11", "r74306,14,11"])
        told = "xys/NGC5949/R/xy.csv is there, but none of its rows (r74305, r74306) is a frame of this group"
        assert told in reduced(night)
        manifest = read_manifest(night.settings, night.group)
        assert manifest is not None
        assert told in manifest["reason"]

    def test_a_sidecar_is_found_in_any_case(self, night: SmallNight) -> None:
        (night.root / "xys/NGC5949/R").rename(night.root / "xys/NGC5949/r")
        (night.root / "xys/NGC5949").rename(night.root / "xys/ngc5949")
        assert "is done: 3 frames" in reduced(night)

    def test_without_exposure_time_a_frame_is_lost(self, night: SmallNight) -> None:
        night.write_raw(SECOND, EXPTIME=0.0)
        with pytest.raises(GroupError, match=r"2 of 3 frames.* EXPTIME = 0.0 cannot be the exposure time"):
            reduced(night)

    def test_left_out_frames_are_named_also_when_one_was_lost(self, night: SmallNight) -> None:
        night.write_raw(FIRST, EGAIN=None)
        night.write_raw(FIRST, path=night.raw("r0743099"), EXPTIME=5.0)
        with pytest.raises(GroupError, match="2 of 3 frames are in the stack; left out: r0743099"):
            reduced(night)

    def test_it_and_the_tasks_of_a_run_keep_out_of_each_others_way(self, night: SmallNight) -> None:
        with locked(night.layout.run_lock, shared=True), pytest.raises(StaleProduct, match="by another process"):
            reduced(night)

    def test_partial(self, night: SmallNight) -> None:
        night.write_raw(SECOND, EGAIN=None)
        with pytest.raises(GroupError, match="is partial: 2 of 3 frames"):
            reduced(night)
        assert frames_in_stack(night) == [FIRST, THIRD]

    def test_failed_for_want_of_a_master(self, night: SmallNight) -> None:
        (night.root / "calibs" / "bias2x2.fits").unlink()
        with pytest.raises(SetupError, match="no master bias"):
            reduced(night)
        assert state_of(night) == "failed"

    def test_failed_for_a_wrong_line_of_the_sidecar(self, night: SmallNight) -> None:
        night.write_rows(["fname,x,y", f"{FIRST},a,2"])
        with pytest.raises(SetupError, match="line 2"):
            reduced(night)
        assert state_of(night) == "failed"

    def test_a_single_frame_without_a_sidecar(self, tmp_path: Path) -> None:
        night = SmallNight(tmp_path, offsets=((0, 0),)).write()
        night.sidecar.unlink()
        assert "is done: 1 frame" in reduced(night)

    def test_two_at_once_do_not_mix(self, night: SmallNight) -> None:
        with (
            locked(night.layout.lock.with_name(".run.lock")),
            pytest.raises(StaleProduct, match="is being reduced by another process"),
        ):
            reduced(night)

    def test_progress_is_told(self, night: SmallNight) -> None:
        told: list[tuple[str, int, int]] = []
        reduce.run(night.settings, night.group, progress=lambda *what: told.append(what))
        assert [step for step, done, total in told if done == total] == ["isr", "extinction", "align", "combine"]

    def test_the_folder_holds_what_the_design_says_and_nothing_temporary(self, night: SmallNight) -> None:
        reduced(night)
        folder = night.root / "processed" / "NGC5949" / "R" / "2026-11-21"
        assert {path.name for path in folder.iterdir()} >= {*STEPS, "combined"}
        names = {path.name for path in (folder / "combined").iterdir() if path.is_file()}
        assert names >= {"combined.fits", "combined.png", "manifest.json", "inputs.json"}
        assert not list(night.root.rglob("*.tmp"))

    def test_the_notebook_profile_has_no_folder_for_the_night(self, night: SmallNight) -> None:
        notebook = replace(night, profile="notebook")
        reduced(notebook)
        folder = night.root / "processed" / "NGC5949" / "R"
        assert (folder / "combined" / "combined.fits").exists()
        assert not (folder / "2026-11-21").exists()
        assert "lost" not in {path.name for path in (folder / "combined").iterdir()}


def add_frame(night: SmallNight) -> SmallNight:
    more = replace(night, offsets=(*night.offsets, (2, 2)))
    more.write_raw(more.names[3])
    more.write_sidecar()
    return more


class TestRerun:
    """Only the missing work is done."""

    def test_nothing_changed(self, night: SmallNight) -> None:
        reduced(night)
        before = night.states()
        reduced(night)
        assert redone(night, before) == []

    @pytest.mark.parametrize("removed", ["postISR", "extinction", "shifted"])
    def test_a_product_that_is_gone(self, night: SmallNight, removed: str) -> None:
        """It is made again with the same bytes, and so nothing behind it need be."""
        reduced(night)
        content = night.product(removed, SECOND).read_bytes()
        before = night.states()
        night.product(removed, SECOND).unlink()
        reduced(night)
        again = redone(night, before)
        assert f"{removed}/{SECOND}.fits" in again
        assert not [name for name in again if SECOND not in name]
        assert night.product(removed, SECOND).read_bytes() == content

    def test_a_late_frame(self, night: SmallNight) -> None:
        reduced(night)
        before = night.states()
        more = add_frame(night)
        assert differs(more.settings, more.group)
        assert "4 frames" in reduced(more)
        assert sorted(redone(more, before)) == products(more.names[3])

    def test_a_late_sidecar(self, night: SmallNight) -> None:
        night.sidecar.unlink()
        reduced(night)
        before = night.states()
        night.write_sidecar()
        assert differs(night.settings, night.group)
        reduced(night)
        assert sorted(redone(night, before)) == products(*night.names, steps=("shifted",))

    def test_a_mended_frame(self, night: SmallNight) -> None:
        night.write_raw(SECOND, EGAIN=None)
        with pytest.raises(GroupError):
            reduced(night)
        before = night.states()
        night.write_raw(SECOND)
        assert "3 frames" in reduced(night)
        assert sorted(redone(night, before)) == products(SECOND)
        assert not differs(night.settings, night.group)

    def test_a_mended_reference_frame(self, night: SmallNight) -> None:
        """The others carry its WCS, so that they are aligned anew; ISR and extinction are not done again."""
        night.write_raw(FIRST, EGAIN=None)
        with pytest.raises(GroupError):
            reduced(night)
        before = night.states()
        night.write_raw(FIRST)
        reduced(night)
        assert sorted(redone(night, before)) == sorted(
            [*products(FIRST), f"shifted/{SECOND}.fits", f"shifted/{THIRD}.fits"]
        )

    def test_a_removed_frame(self, night: SmallNight) -> None:
        reduced(night)
        before = night.states()
        night.raw(SECOND).unlink()
        assert differs(night.settings, night.group)
        assert "2 frames are in the stack" in reduced(night)
        assert frames_in_stack(night) == [FIRST, THIRD]
        assert redone(night, before) == STACK

    def test_a_removed_bad_frame(self, night: SmallNight) -> None:
        night.write_raw(SECOND, EGAIN=None)
        with pytest.raises(GroupError):
            reduced(night)
        before = night.states()
        night.raw(SECOND).unlink()
        assert "is done: 2 frames" in reduced(night)
        assert redone(night, before) == []

    def test_a_changed_master(self, night: SmallNight) -> None:
        reduced(night)
        before = night.states()
        night.write_master("bias2x2.fits", night.bias + 1)
        assert not differs(night.settings, night.group), "it is shown, not started"
        reduced(night)
        assert sorted(redone(night, before)) == products(*night.names)

    def test_a_changed_coefficient_leaves_isr_alone(self, night: SmallNight) -> None:
        reduced(night)
        before = night.states()
        reduced(replace(night, tables={"filters": {"R": {"extinction": 0.2}}}))
        assert sorted(redone(night, before)) == products(*night.names, steps=("extinction", "shifted"))

    def test_a_changed_way_of_combining_makes_the_stack_alone(self, night: SmallNight) -> None:
        reduced(night)
        before = night.states()
        reduced(replace(night, tables={"combine": {"method": "mean"}}))
        assert redone(night, before) == STACK

    def test_a_frame_that_is_left_out_now(self, night: SmallNight) -> None:
        reduced(night)
        before = night.states()
        night.write_sidecar(unused=[SECOND])
        assert "left out: r0743054" in reduced(night)
        assert redone(night, before) == STACK

    def test_growing_and_shrinking_ends_with_exactly_the_right_frames(self, night: SmallNight) -> None:
        reduced(night)
        more = replace(night, offsets=(*night.offsets, (2, 2), (0, 1), (1, 0)))
        fourth, fifth, sixth = more.names[3:]
        for name in (fourth, fifth, sixth):
            more.write_raw(name, **({"EGAIN": None} if name == fifth else {}))
        more.write_sidecar()
        with pytest.raises(GroupError, match=f"5 of 6 frames .* {fifth} was lost"):
            reduced(more)
        assert frames_in_stack(more) == [*night.names, fourth, sixth]
        more.raw(fifth).unlink()
        more.raw(FIRST).unlink()
        assert "4 frames" in reduced(more)
        assert frames_in_stack(more) == [SECOND, THIRD, fourth, sixth]


def frozen(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    """Move every clock that a product could look at, and rename the host."""
    moment = datetime.now().astimezone() + timedelta(days=days)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return moment.astimezone(tz)

        @classmethod
        def utcnow(cls) -> Any:
            return moment.replace(tzinfo=None)

    monkeypatch.setattr(verdict, "datetime", Clock)
    monkeypatch.setattr("astropy.io.fits.hdu.base.datetime.datetime", Clock)
    monkeypatch.setattr("time.time", lambda: moment.timestamp())
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")


def bytes_of(night: SmallNight) -> dict[str, str]:
    return {name: hashlib.sha256((night.layout.folder / name).read_bytes()).hexdigest() for name in night.states()}


def same_root(night: SmallNight, folder: Path, profile: str) -> SmallNight:
    shutil.copytree(night.root, folder)
    return replace(night, root=folder, profile=profile)


@pytest.mark.parametrize("profile", ["standard", "notebook"])
def test_the_same_inputs_give_the_same_bytes_on_another_day_in_another_folder(
    night: SmallNight, tmp_path: Path, profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = same_root(night, tmp_path / "monday" / "data", profile)
    other = same_root(night, tmp_path / "a much longer name for the same data", profile)
    reduced(one)
    frozen(monkeypatch, days=400)
    reduce.run(other.settings, other.group, run_id="manual__by_hand_of_somebody_else")
    assert len(bytes_of(one)) >= 11
    assert bytes_of(other) == bytes_of(one)


def test_neither_path_nor_run_id_is_in_a_product(night: SmallNight) -> None:
    reduce.run(night.settings, night.group, run_id="tell-tale-run-id")
    for name in night.states():
        content = (night.layout.folder / name).read_bytes()
        assert str(night.root).encode() not in content
        assert b"tell-tale-run-id" not in content


@pytest.mark.parametrize(("profile", "read"), [("standard", 3), ("notebook", 0)])
def test_what_one_step_makes_the_next_need_not_read(
    night: SmallNight, monkeypatch: pytest.MonkeyPatch, profile: str, read: int
) -> None:
    """But where the frames' stars tell first how they lie, they are read to be aligned."""
    opened = []

    def _open(path: Path) -> RowFrame:
        opened.append(path)
        return open_frame(path)

    monkeypatch.setattr(batch, "open_frame", _open)
    night = replace(night, profile=profile)
    reduced(night)
    assert len(opened) == read


@pytest.mark.parametrize("profile", ["standard", "notebook"])
def test_step_by_step_and_in_one_pass_the_same_bytes_are_made(night: SmallNight, tmp_path: Path, profile: str) -> None:
    one = same_root(night, tmp_path / "one pass", profile)
    other = same_root(night, tmp_path / "step by step", profile)
    reduce.run(one.settings, one.group, pictures=False)
    other.run_to("align")
    assert len(bytes_of(other)) == 9
    assert bytes_of(other).items() <= bytes_of(one).items()


@pytest.mark.parametrize("profile", ["standard", "notebook"])
@pytest.mark.parametrize("missing", STEPS)
def test_a_pass_begins_where_products_are_missing(night: SmallNight, profile: str, missing: str) -> None:
    night = replace(night, profile=profile)
    reduced(night)
    before = bytes_of(night)
    night.product(missing, SECOND).unlink()
    reduced(night)
    assert bytes_of(night) == before


@pytest.mark.parametrize("size", [1, 2, 3])
def test_batches_make_no_difference(night: SmallNight, tmp_path: Path, size: int) -> None:
    reduced(night)
    batched = same_root(night, tmp_path / "batched", "standard")
    shutil.rmtree(batched.layout.folder)
    batched = replace(batched, tables={"batch": {"frames_per_task": size}})
    reduced(batched)
    assert bytes_of(batched) == bytes_of(night)


def wild(night: SmallNight) -> None:
    """Everything that could make a NaN or a negative variance."""
    flat = night.flat
    flat[0, :4] = (0.0, -1.0, np.nan, np.inf)
    night.write_master("Rflatnorm2x2.fits", flat, np.full(night.shape, -1e-6, np.float32))
    variance = np.full(night.shape, 0.4, np.float32)
    variance[1, :3] = (np.nan, -3.0, np.inf)
    bias = night.bias
    bias[2, :2] = (np.nan, np.inf)
    night.write_master("bias2x2.fits", bias, variance)
    image = night.pixels(FIRST).astype(np.float32)
    image[3, :4] = (np.nan, np.inf, -np.inf, 0.0)
    image[4, :3] = (-1e30, 1e30, 3e38)
    night.write_raw(FIRST, image)
    night.write_raw(SECOND, np.zeros(night.shape, np.uint16))


def saturated(night: SmallNight) -> None:
    for name in night.names:
        image = night.pixels(name)
        image[8:] = 65535  # a sky is left, or the frame would be refused
        night.write_raw(name, image)


def constant(night: SmallNight) -> None:
    for name in night.names:
        night.write_raw(name, np.full(night.shape, 1000, np.uint16))


SPOILT: dict[str, Callable[[SmallNight], None]] = {
    "wild": wild,
    "full": saturated,
    "flat": constant,
    "good": lambda night: None,
}


@pytest.mark.parametrize(
    ("kind", "footprint", "method"),
    [
        *((kind, footprint, "median") for kind in SPOILT for footprint in ("first", "union")),
        *(("wild", "union", method) for method in ("clipped", "mean", "weighted")),
    ],
)
def test_no_standard_product_holds_nan_or_a_negative_variance(
    night: SmallNight, kind: str, footprint: str, method: str
) -> None:
    SPOILT[kind](night)
    night = replace(night, tables={"combine": {"footprint": footprint, "method": method}})
    reduced(night)
    checked = 0
    for path in night.layout.folder.rglob("*.fits"):
        with fits.open(path) as hdus:
            for hdu in hdus:
                if hdu.name in ("SCI", "VAR", "VARCAL"):
                    assert np.isfinite(hdu.data).all(), f"{path.parent.name}/{path.name} {hdu.name}"
                    checked += 1
                if hdu.name in ("VAR", "VARCAL"):
                    assert (hdu.data >= 0).all(), f"{path.parent.name}/{path.name} {hdu.name}"
    assert checked >= 3 * 3 * 3 + 2


def test_the_stars_that_all_frames_are_compared_with_are_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = StarNight(tmp_path, shape=(220, 240), number=40, first=743901).write()
    searched = []

    def _find(*planes: Any) -> Any:
        searched.append(planes)
        return find_stars(*planes)

    monkeypatch.setattr(star, "find_stars", _find)
    reduce.run(night.settings, night.group, pictures=False)
    for name in night.names:
        night.product("shifted", name).unlink()
        align.run(night.settings, night.group, [name])
    assert len(searched) == 1
