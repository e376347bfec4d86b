"""Figures and small pictures beside the products, and never into them."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path

import pytest
from PIL import Image

from nightdesk.desk.card import first_limits, read_card
from nightdesk.desk.coding import Coding
from nightdesk.desk.place import desk_folder, frame_card, frame_thumbnail, stack_card, stack_thumbnail, stack_tiles
from nightdesk.desk.pyramid import Pyramid
from nightdesk.desk.trend import find_shift, transparency
from nightdesk.io.frame import read_recipe
from nightdesk.io.layout import Layout
from nightdesk.steps import extinction, publish, reduce
from tests.desk.conftest import Observed


def test_a_stack_has_its_figures_small_picture_and_tiles(observed_once: Observed) -> None:
    layout = observed_once.served("M13").layout
    card = read_card(stack_card(layout))
    assert card["recipe"] == read_recipe(layout.stack)
    assert 1.5 < card["fwhm"] < 6
    assert card["total_exposure"] == 90.0
    assert card["noise_ratio"] == pytest.approx(1.0, abs=0.1)
    assert 15 < card["depth"] < 25
    assert card["pixel_scale"] == pytest.approx(0.56, abs=0.01)
    assert sum(card["histogram"]) > 0.9 * 230 * 200
    pyramid = Pyramid.open(stack_tiles(layout))
    assert pyramid is not None
    assert pyramid.recipe == card["recipe"]
    with Image.open(stack_thumbnail(layout)) as picture:
        assert max(picture.size) == 230


def test_each_frame_has_its_figures_when_it_and_was_taken(observed_once: Observed) -> None:
    layout = observed_once.served("M13").layout
    for name in observed_once.served("M13").names:
        card = read_card(frame_card(layout, name))
        assert card["exposure"] == 30.0
        assert card["airmass"] >= 1.0
        assert card["moment"].startswith("2026-11-2")
        assert frame_thumbnail(layout, name).stat().st_size < 20_000


def test_frames_are_measured_and_drawn_only_where_they_are_to_be_looked_at(observed: Observed) -> None:
    layout, names = observed.served("M13").layout, observed.served("M13").names
    shutil.rmtree(layout.folder)
    reduce.run(observed.settings, layout.group, pictures=False)
    assert not any(frame_card(layout, name).exists() or frame_thumbnail(layout, name).exists() for name in names)
    products = {path: _state(path) for path in layout.folder.rglob("*.fits")}
    reduce.run(observed.settings, layout.group)
    for name in names:
        assert read_card(frame_card(layout, name))["recipe"] == read_recipe(layout.product("extinction", name))
        assert frame_thumbnail(layout, name).exists()
    assert {path: _state(path) for path in products} == products


def test_figures_of_another_product_are_made_again(observed: Observed) -> None:
    layout, names = observed.served("M13").layout, observed.served("M13").names
    card = json.loads(frame_card(layout, names[0]).read_text())
    frame_card(layout, names[0]).write_text(json.dumps(card | {"recipe": "another"}))
    others = {path: _state(path) for path in layout.folder.rglob("*.fits")}
    extinction.run(observed.settings, layout.group, names)
    assert json.loads(frame_card(layout, names[0]).read_text()) == card
    assert {path: _state(path) for path in others} == others


@pytest.mark.parametrize("bright", [0.0, 2000.0, 60_000.0], ids=["nothing", "stars", "a bright star"])
def test_the_sky_is_dark_at_first_and_its_noise_hardly_seen(bright: float) -> None:
    low, high = first_limits(Coding(1000.0, 10.0), bright)
    sky, noise = (math.asinh(10 * (value - low) / (high - low)) / math.asinh(10) for value in (1000.0, 1020.0))
    assert 0 < sky < 0.08
    assert noise - sky < 0.15


def test_how_frames_compare_is_known_without_their_pixels(observed_once: Observed) -> None:
    layout = observed_once.served("M13").layout
    trend = read_card(stack_card(layout))["frames"]
    names = list(trend)
    assert trend[names[0]] == {"dx": 0.0, "dy": 0.0, "transparency": 1.0}
    for name in names[1:]:
        assert trend[name]["transparency"] == pytest.approx(1.0, abs=0.1)
        cards = [read_card(frame_card(layout, one)) for one in (names[0], name)]
        shift = find_shift(*cards)
        assert shift == pytest.approx((trend[name]["dx"], trend[name]["dy"]), abs=0.7)


def test_half_the_light_is_half_the_transparency() -> None:
    stars = [[10.0 * n, 7.0 * n % 50, 1000.0 + n] for n in range(1, 9)]
    moved = [[x - 3, y + 2, flux / 2] for x, y, flux in stars]
    one, other = {"positions": stars, "exposure": 60.0}, {"positions": moved, "exposure": 60.0}
    assert transparency(one, other, (3.0, -2.0)) == pytest.approx(0.5)
    assert transparency(one, other | {"exposure": 30.0}, (3.0, -2.0)) == pytest.approx(1.0)
    assert transparency(one, {"positions": moved[:2], "exposure": 60.0}, (3.0, -2.0)) is None
    assert transparency(one, {}, (0.0, 0.0)) is None


def test_what_was_deleted_is_made_again_and_nothing_else_is_touched(observed: Observed) -> None:
    layout = observed.served("M13").layout
    products = {path: _state(path) for path in layout.folder.rglob("*.fits")}
    picture = _state(layout.picture)
    before = json.loads(stack_card(layout).read_text())
    stack_card(layout).unlink()
    publish.run(observed.settings, layout.group)
    assert json.loads(stack_card(layout).read_text()) == before
    made = _state(stack_tiles(layout))
    publish.run(observed.settings, layout.group)
    assert _state(stack_tiles(layout)) == made, "what is current is not made again"
    assert {path: _state(path) for path in products} == products
    assert _state(layout.picture) == picture


def _state(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()


def test_all_of_it_stands_beside_the_stack(observed_once: Observed) -> None:
    layout: Layout = observed_once.served("M13").layout
    assert desk_folder(layout).parent == layout.stack.parent
