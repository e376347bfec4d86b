"""Real frames through the steps: eight lights of TrES-1 that drifted by 118 pixels become one image of single stars."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sep
from astropy.io import fits
from PIL import Image

from nightdesk.group import Group
from nightdesk.io.layout import Layout
from nightdesk.settings import Settings, load_settings
from nightdesk.steps import reduce, report
from tests import oscaar

pytestmark = pytest.mark.skipif(not oscaar.FRAMES.is_dir(), reason=oscaar.ABSENT)

BRIGHT = 60


@dataclass(frozen=True)
class Reduced:
    """The data root after the reduction."""

    settings: Settings
    layout: Layout
    sentence: str
    before: dict[Path, str]

    @property
    def manifest(self) -> Any:
        return json.loads(self.layout.manifest.read_text())


@dataclass(frozen=True)
class Stars:
    """The bright, unsaturated stars of an image: positions and how they look."""

    x: np.ndarray
    y: np.ndarray
    fwhm: np.ndarray
    elongation: np.ndarray


def hashes(root: Path) -> dict[Path, str]:
    given = [path for place in ("raw", "calibs", "xys") for path in (root / place).rglob("*") if path.is_file()]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in given}


def image_of(path: Path) -> np.ndarray:
    return np.ascontiguousarray(fits.getdata(path), dtype=np.float64)


def find_stars(path: Path) -> Stars:
    """Find the brightest stars that are neither saturated nor near an edge."""
    image = image_of(path)
    seen = fits.getdata(path, "DQ") == 0
    background = sep.Background(image, mask=~seen)
    found = sep.extract(image - background.back(), 20.0, err=background.globalrms, mask=~seen, minarea=9)
    ny, nx = image.shape
    inside = (found["x"] > 20) & (found["x"] < nx - 20) & (found["y"] > 20) & (found["y"] < ny - 20)
    good = found[inside & (found["flag"] == 0) & (found["peak"] < 40_000)]
    bright = good[np.argsort(good["flux"])[::-1][:BRIGHT]]
    radius, _ = sep.flux_radius(
        image - background.back(), bright["x"], bright["y"], np.full(len(bright), 12.0), 0.5, subpix=5
    )
    return Stars(bright["x"], bright["y"], 2 * radius, bright["a"] / bright["b"])


def brightest_near(path: Path, x: float, y: float, reach: int = 8) -> tuple[float, float]:
    """Return the centroid of the star that a sidecar points at."""
    image = image_of(path)
    column, row = round(x), round(y)
    box = image[row - reach : row + reach + 1, column - reach : column + reach + 1]
    box = np.clip(box - np.median(box) - 0.1 * (box.max() - np.median(box)), 0, None)
    rows, columns = np.indices(box.shape)
    return (
        column - reach + float((columns * box).sum() / box.sum()),
        row - reach + float((rows * box).sum() / box.sum()),
    )


def positions() -> dict[str, tuple[float, float]]:
    with (oscaar.FRAMES / "xy.csv").open() as stream:
        return {row["fname"]: (float(row["x"]), float(row["y"])) for row in csv.DictReader(stream)}


@pytest.fixture(scope="module")
def reduced(tmp_path_factory: pytest.TempPathFactory) -> Reduced:
    root = tmp_path_factory.mktemp("oscaar")
    settings = load_settings(oscaar.set_up(root))
    oscaar.deliver(root)
    group = Group(oscaar.NIGHT, oscaar.TARGET, oscaar.FILTER)
    before = hashes(root)
    return Reduced(settings, Layout(settings, group), reduce.run(settings, group), before)


def test_every_frame_is_in_the_stack(reduced: Reduced) -> None:
    assert reduced.sentence == "2012-06-16/tres1/R is done: 8 frames are in the stack."
    header = fits.getheader(reduced.layout.stack)
    assert [header[f"IMCMB{number:03d}"] for number in range(1, 9)] == oscaar.NAMES
    assert (header["NCOMBINE"], header["EXPTIME"], header["TEXPTIME"]) == (8, 60.0, 480.0)
    assert {raw["fate"] for raw in reduced.manifest["raws"]} == {"used"}


def test_nothing_that_was_given_is_touched(reduced: Reduced) -> None:
    assert hashes(reduced.settings.root) == reduced.before
    for name in oscaar.NAMES:
        delivered = reduced.settings.root / "raw" / "2012-06-16" / f"{name}.fit"
        assert delivered.read_bytes() == (oscaar.FRAMES / f"{name}.fit").read_bytes()


def test_the_configuration_supplied_what_the_headers_lack(reduced: Reduced) -> None:
    raw = fits.getheader(oscaar.FRAMES / "tres1-025.fit")
    assert raw["OBJECT"].strip() == ""
    assert "AIRMASS" not in raw
    frame = fits.getheader(reduced.layout.product("extinction", "tres1-025"))
    assert (frame["AIRMASS"], frame["NDGAIN"], frame["RDNOISE"], frame["RDNSRC"]) == (1.2, 1.28, 14.1, "configuration")
    assert (frame["DARKCOR"], frame["DARKBIAS"], frame["BIASCOR"], frame["FLATCOR"]) == (True, True, False, False)
    assert any("no flat (the configuration says so)" in line for line in frame["HISTORY"])


def test_the_dark_that_contains_the_bias_leaves_the_sky(reduced: Reduced) -> None:
    light = image_of(oscaar.FRAMES / "tres1-025.fit")
    dark = image_of(reduced.settings.root / "calibs" / "dark2x2.fits")
    product = image_of(reduced.layout.product("postISR", "tres1-025"))
    np.testing.assert_allclose(product, (light - dark) * 1.28, rtol=1e-5, atol=1e-2)


def test_the_frames_moved_by_the_drift(reduced: Reduced) -> None:
    last = fits.getheader(reduced.layout.product("shifted", "tres1-200"))
    assert (last["XSHIFT"], last["YSHIFT"]) == (-118, 130)


@pytest.mark.parametrize("name", oscaar.NAMES)
def test_the_star_is_where_it_is_in_the_reference_frame(reduced: Reduced, name: str) -> None:
    """Whole pixels leave up to half a pixel in each axis, and the centroids of a person and of a program differ."""
    x, y = positions()["tres1-025"]
    found_x, found_y = brightest_near(reduced.layout.product("shifted", name), x, y)
    assert found_x == pytest.approx(x, abs=0.8)
    assert found_y == pytest.approx(y, abs=0.8)


def test_stars_all_over_the_frame_fall_on_each_other(reduced: Reduced) -> None:
    """Not only the star that was measured: no rotation, and no other star taken for it."""
    reference = find_stars(reduced.layout.product("shifted", "tres1-025"))
    for name in oscaar.NAMES[1:]:
        stars = find_stars(reduced.layout.product("shifted", name))
        distances = np.hypot(stars.x[:, None] - reference.x, stars.y[:, None] - reference.y).min(axis=1)
        matched = distances < 3
        assert matched.sum() >= 25, name
        assert np.median(distances[matched]) < 0.8, name


def test_stars_in_the_stack_are_round_and_single(reduced: Reduced) -> None:
    """As round as in one frame, not much wider, and without twins at the distance of a drift."""
    one = find_stars(reduced.layout.product("shifted", "tres1-025"))
    stack = find_stars(reduced.layout.stack)
    assert len(stack.x) == BRIGHT
    assert np.median(stack.elongation) < max(1.25, 1.1 * np.median(one.elongation))
    assert np.median(stack.fwhm) < 1.25 * np.median(one.fwhm)
    moves = [np.subtract(positions()[name], positions()["tres1-025"]) for name in oscaar.NAMES[1:]]
    for dx, dy in moves:
        twins = np.hypot(stack.x[:, None] - (stack.x - dx), stack.y[:, None] - (stack.y - dy)).min(axis=1) < 2
        assert twins.mean() < 0.2


def test_the_stack_is_deeper_and_its_noise_is_the_predicted_one(reduced: Reduced) -> None:
    header = fits.getheader(reduced.layout.stack)
    assert header["NOISERAT"] == pytest.approx(1.0, abs=0.05)
    one = sep.Background(image_of(reduced.layout.product("shifted", "tres1-025"))).globalrms
    assert sep.Background(image_of(reduced.layout.stack)).globalrms < 0.75 * one


def test_coverage_falls_where_the_drift_took_the_sky_away(reduced: Reduced) -> None:
    coverage = fits.getdata(reduced.layout.stack, "COVERAGE")
    assert coverage.shape == (736, 1092)
    assert (coverage[200:700, :900] >= 7).mean() > 0.99, "all eight, but for what was clipped"
    assert (coverage[:, 1000:] < 8).all()
    assert coverage[:, -10:].max() <= 2
    assert coverage[:20].max() <= 2
    assert coverage.min() >= 1


def test_no_product_holds_nan_or_a_negative_variance(reduced: Reduced) -> None:
    for path in reduced.layout.folder.rglob("*.fits"):
        with fits.open(path) as hdus:
            assert np.isfinite(hdus["SCI"].data).all()
            assert (hdus["VAR"].data >= 0).all()


def test_the_picture_shows_stars_on_a_darker_sky(reduced: Reduced) -> None:
    with Image.open(reduced.layout.picture) as picture:
        grey = np.asarray(picture)
    assert grey.shape == (736, 1092)
    assert 1 < np.median(grey) < 200
    stars = find_stars(reduced.layout.stack)
    at_stars = grey[735 - np.rint(stars.y).astype(int), np.rint(stars.x).astype(int)]
    assert np.median(at_stars) == 255


def test_the_nights_report_knows_the_darks(reduced: Reduced) -> None:
    told = json.loads((reduced.settings.root / report.run(reduced.settings, oscaar.NIGHT)).read_text())
    fates = [raw["fate"] for raw in told["raws"]]
    assert sorted(fates) == ["calibration"] * 5 + ["used"] * 8
