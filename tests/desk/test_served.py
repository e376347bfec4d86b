"""What is served: products of a group, by names, and nothing that lies elsewhere."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.desk import image
from nightdesk.desk import served as served_module
from nightdesk.desk.coding import Coding
from nightdesk.desk.night import group_row
from nightdesk.desk.place import frame_card, stack_card, stack_tiles
from nightdesk.desk.pyramid import TILE
from nightdesk.desk.served import NotThereError, served_group
from nightdesk.io.layout import EXTINCTION
from tests.desk.conftest import Observed


@pytest.mark.parametrize(
    "run_id",
    [
        "",
        "..",
        "2026-11-20",
        "2026-11-20__M13",
        "2026-11-20__..__R",
        "2026-11-20__.__.",
        "2026-11-20__reports__R",
        "../../etc__passwd__R",
        "2026-13-40__M13__R",
        "2026-11-20__M13__R__x__y",
        "2026-11-20__pt5m__M13__R__",
        "2026-11-20__" + "x" * 200 + "__R",
    ],
)
def test_what_names_no_group_is_not_there(observed_once: Observed, run_id: str) -> None:
    with pytest.raises(NotThereError):
        served_group(observed_once.settings, run_id).file("stack")


def test_a_path_in_a_name_becomes_a_name(observed_once: Observed) -> None:
    served = served_group(observed_once.settings, "2026-11-20__../M13__R")
    assert served.group.target == "M13"
    served = served_group(observed_once.settings, "2026-11-20__/etc/passwd__R")
    assert served.group.target == "etc-passwd"


@pytest.mark.parametrize("name", ["", "../../../../etc/passwd", "r0743053.fits", "/etc/passwd", "r9999999", "."])
@pytest.mark.parametrize("step", ["raw", "postISR", "extinction", "shifted"])
def test_only_the_groups_own_frames_are_served(observed_once: Observed, step: str, name: str) -> None:
    with pytest.raises(NotThereError):
        observed_once.served("M13").file(step, name)


@pytest.mark.parametrize("step", ["", "combined", "../raw", "combined/desk", "lost"])
def test_only_the_steps_are_served(observed_once: Observed, step: str) -> None:
    served = observed_once.served("M13")
    with pytest.raises(NotThereError):
        served.file(step, served.names[0])


def test_every_step_of_every_frame_is_served(observed_once: Observed) -> None:
    served = observed_once.served("M13")
    for step in ("raw", "postISR", "extinction", "shifted"):
        assert served.file(step, served.names[0]).name == f"{served.names[0]}.fits"


def test_a_link_out_of_the_products_is_refused(observed: Observed, tmp_path: Path) -> None:
    served = observed.served("M13")
    secret = tmp_path / "secret.fits"
    shutil.copy(served.layout.stack, secret)
    served.layout.stack.unlink()
    served.layout.stack.symlink_to(secret)
    with pytest.raises(NotThereError, match="not a file of processed"):
        served.file("stack")
    folder = served.layout.folder / EXTINCTION
    shutil.move(folder, tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotThereError):
        served.file(EXTINCTION, served.names[0])


def test_a_link_out_of_the_products_is_not_followed_for_what_is_known_of_them_either(
    observed: Observed, tmp_path: Path
) -> None:
    layout = observed.served("M13").layout
    name = observed.served("M13").names[0]
    assert layout.sidecar is not None
    assert image.sidecar_rows(observed.served("M13"))
    for path in (layout.manifest, layout.sidecar, stack_card(layout), frame_card(layout, name), stack_tiles(layout)):
        shutil.move(path, tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    served = observed.served("M13")
    assert served.manifest is None
    assert served.stack_card == {}
    assert served.frame_card(name) == {}
    assert image.sidecar_rows(served) == {}
    assert image._pyramid(served) is None
    assert group_row(observed.settings, served.group)["fwhm"] is None
    shutil.move(layout.inputs, tmp_path / "inputs.json")
    layout.inputs.symlink_to(tmp_path / "inputs.json")
    assert observed.served("M13").names == ()


def test_what_a_run_set_out_with_is_read_once_for_a_page(
    observed_once: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = observed_once.served("M13")
    assert served.names
    monkeypatch.setattr(served_module, "read_inputs", lambda layout: pytest.fail("read again"))
    assert all(served.present("extinction", name) for name in served.names)


def test_other_tiles_are_another_version(observed: Observed) -> None:
    """The browser keeps tiles for a year: with the pyramid the coding of all of them goes."""
    before = image.describe(observed.served("M13"), "stack", "")
    stack_tiles(observed.served("M13").layout).unlink()
    after = image.describe(observed.served("M13"), "stack", "")
    assert after["coding"] != before["coding"]
    assert after["version"] != before["version"]


def test_a_link_between_products_and_a_linked_root_are_fine(observed: Observed, tmp_path: Path) -> None:
    served = observed.served("M13")
    twin = served.layout.stack.with_name("kept.fits")
    shutil.move(served.layout.stack, twin)
    served.layout.stack.symlink_to(twin)
    assert served.file("stack") == twin.resolve()
    (tmp_path / "link").symlink_to(observed.root)
    assert Observed(tmp_path / "link").served("M51").file("stack").is_file()


@pytest.mark.parametrize("step", ["stack", "shifted", "extinction", "postISR", "raw"])
def test_a_pixel_is_the_one_in_the_file(observed_once: Observed, step: str) -> None:
    served = observed_once.served("M13")
    name = "" if step == "stack" else served.names[1]
    with fits.open(served.file(step, name)) as hdus:
        data = hdus[0].data
        for x, y in (
            (0, 0),
            (data.shape[1] - 1, 0),
            (0, data.shape[0] - 1),
            (data.shape[1] - 1, data.shape[0] - 1),
            (117, 63),
        ):
            pixel = image.pixel(served, step, name, x, y)
            assert float(pixel["value"]) == pytest.approx(float(data[y, x]), rel=1e-6)
            if "VAR" in hdus:
                assert float(pixel["variance"]) == pytest.approx(float(hdus["VAR"].data[y, x]), rel=1e-6)
    for x, y in ((-1, 0), (data.shape[1], 0), (0, data.shape[0])):
        with pytest.raises(NotThereError):
            image.pixel(served, step, name, x, y)


def test_a_raw_with_a_wcs_has_its_place_in_the_sky_too(observed_once: Observed) -> None:
    served = observed_once.served("M13")
    pixel = image.pixel(served, "raw", served.names[0], 100, 50)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d\d", pixel["position"]["ra"])


def test_a_clipped_value_is_counted_at_its_pixel_and_shown_in_every_tile_over_it(observed: Observed) -> None:
    layout = observed.served("M13").layout
    with fits.open(layout.stack, mode="update") as hdus:
        hdus["NREJ"].data[:] = 0
        hdus["NREJ"].data[50, 100] = 2
    served = observed.served("M13")
    assert "rejected" in image.describe(served, "stack", "")["planes"]
    assert image.pixel(served, "stack", "", 100, 50)["rejected"] == 2
    assert image.pixel(served, "stack", "", 101, 50)["rejected"] == 0
    made = np.frombuffer(image.tile(served, "stack", "", "rejected", 0, 0, 0), np.uint8).reshape(TILE, TILE)
    assert np.argwhere(made).tolist() == [[50, 100]]


def test_a_pixel_names_its_flags_frames_and_place_in_the_sky(observed_once: Observed) -> None:
    from astropy.wcs import WCS, FITSFixedWarning

    served = observed_once.served("M13")
    with fits.open(served.file("stack")) as hdus:
        flagged = np.argwhere(hdus["DQ"].data)[0] if hdus["DQ"].data.any() else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            sky = WCS(hdus[0].header).pixel_to_world(100, 50)
        coverage = int(hdus["COVERAGE"].data[50, 100])
    pixel = image.pixel(served, "stack", "", 100, 50)
    assert pixel["coverage"] == coverage
    assert pixel["position"]["ra"] == sky.ra.to_string("hour", sep=":", precision=2, pad=True)
    assert pixel["position"]["dec"] == sky.dec.to_string(sep=":", precision=1, pad=True, alwayssign=True)
    if flagged is not None:
        assert image.pixel(served, "stack", "", int(flagged[1]), int(flagged[0]))["flags"]


@pytest.mark.parametrize("step", ["stack", "extinction", "raw"])
def test_a_tile_is_the_images_pixels(observed_once: Observed, step: str) -> None:
    served = observed_once.served("M13")
    name = "" if step == "stack" else served.names[0]
    facts = image.describe(served, step, name)
    coding = Coding(facts["coding"]["sky"], facts["coding"]["noise"])
    data = fits.getdata(served.file(step, name)).astype(float)
    made = np.frombuffer(image.tile(served, step, name, "sci", 0, 0, 0), "<u2").reshape(TILE, TILE)
    ny, nx = data.shape
    values = coding.decode(made[:ny, :nx])
    known = np.isfinite(values)
    assert known.mean() > 0.5
    error = np.abs(values - data)[known]
    assert (error <= 0.01 * coding.noise + 0.001 * np.abs(data - coding.sky)[known] + 0.01).all()
    assert (made[ny:] == 0).all()


@pytest.mark.parametrize(
    ("kind", "level", "row", "column"),
    [("sci", 0, 1, 0), ("sci", 0, 0, 9), ("sci", 17, 0, 0), ("var", 0, 0, 0), ("", 0, 0, 0), ("sci", 1, 0, 0)],
)
def test_a_tile_that_is_not_there_is_told(
    observed_once: Observed, kind: str, level: int, row: int, column: int
) -> None:
    with pytest.raises(NotThereError):
        image.tile(observed_once.served("M13"), "stack", "", kind, level, row, column)


def test_a_file_that_is_no_fits_is_told(observed: Observed) -> None:
    served = observed.served("M13")
    served.layout.stack.write_bytes(b"no FITS at all")
    with pytest.raises(NotThereError):
        image.describe(served, "stack", "")


def test_a_raw_that_is_compressed_or_cut_short_is_told(observed: Observed) -> None:
    served = observed.served("M13")
    path = served.file("raw", served.names[0])
    whole = path.read_bytes()
    with fits.open(path) as hdus:
        packed = fits.CompImageHDU(hdus[0].data, hdus[0].header)
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(path, overwrite=True)
    with pytest.raises(NotThereError, match="compressed"):
        image.describe(served, "raw", served.names[0])
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises((NotThereError, EOFError)):
        image.describe(served, "raw", served.names[0])


def test_without_tiles_a_stack_is_still_shown(observed: Observed) -> None:
    served = observed.served("M13")
    shutil.rmtree(served.layout.stack.parent / "desk")
    facts = image.describe(served, "stack", "")
    assert facts["histogram"]
    assert facts["limits"]
    assert len(image.tile(served, "stack", "", "sci", 0, 0, 0)) == 2 * TILE * TILE
