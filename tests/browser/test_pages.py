"""Each page and each thing one can do on it, in a real browser, in a real Airflow."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, FrameLocator, Page, Route, expect

from nightdesk.desk.positions import version
from nightdesk.desk.pyramid import blank, halve
from nightdesk.io.sidecar import read_sidecar
from tests.browser.conftest import EVIL_TARGET, HERE, PICTURES, SIZE, Night, Visit

Visitor = Callable[..., Visit]
VIEW = "() => { const v = window.deskViewer; return { ...v.view, width: v.canvas.width, height: v.canvas.height }; }"


def inside(visit: Visit) -> FrameLocator:
    return visit.page.frame_locator("iframe")


def test_one_logs_in_and_finds_the_nights_in_airflows_own_menu(visit: Visitor, night: Night) -> None:
    guest = visit(None)
    page = guest.open("")
    page.get_by_label(re.compile("username", re.IGNORECASE)).fill("astro")
    page.get_by_label(re.compile("password", re.IGNORECASE)).first.fill(night.passwords["astro"])
    page.get_by_role("button", name=re.compile("sign in|log in", re.IGNORECASE)).click()
    page.get_by_role("link", name="Nights").or_(page.get_by_role("button", name="Nights")).first.click()
    expect(inside(guest).get_by_role("heading", name="Nights", exact=True)).to_be_visible(timeout=30_000)


def test_the_nights_say_what_became_of_each_group_and_what_to_do(visit: Visitor, night: Night) -> None:
    astro = visit()
    astro.open("plugin/nights")
    frame = inside(astro)
    expect(frame.get_by_role("heading", name=re.compile(night.date.isoformat()))).to_be_visible(timeout=30_000)
    whole, lost, waiting = (frame.locator("tr", has_text=target).first for target in ("NGC5949", "M51", "M101"))
    expect(whole).to_contain_text("reduced")
    expect(whole).to_contain_text("green")
    expect(whole).to_contain_text(f"{3} / {3}")
    expect(lost).to_contain_text("cut short")
    expect(lost).to_contain_text("yellow")
    expect(lost).to_contain_text("2 / 3")
    expect(waiting).to_contain_text("waits for positions")
    expect(waiting.get_by_role("link", name="Give positions")).to_be_visible()
    expect(whole.locator("a.run")).to_have_text("success", timeout=20_000)
    expect(lost.locator("a.run")).to_have_text("failed")
    expect(frame.locator("body")).to_contain_text("Last raw frame")
    expect(frame.get_by_text("1 rejected file")).to_be_visible()
    empty = frame.locator("section", has_text=night.empty_date.isoformat()).last
    expect(empty).to_contain_text("No raw files of this night are on disk.")
    for picture in whole.locator("img").all():
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100


def test_a_run_at_work_is_seen_at_work(visit: Visitor, night: Night) -> None:
    run = f"{night.url}/api/v2/dags/reduce_group/dagRuns/{night.run_id(EVIL_TARGET)}"
    with night.client() as client:
        asked = {"dry_run": False, "only_failed": False}
        client.post(f"{run}/clear", json=asked).raise_for_status()
        astro = visit()
        page = astro.open_desk("nights")
        expect(page.locator("tr", has_text=EVIL_TARGET).locator("a.run")).to_have_text(re.compile("queued|running"))
        page.get_by_text("1 rejected file").click()
        page.evaluate("() => scrollTo(0, 0)")
        astro.picture("nights", height=1060)
        page.evaluate("() => { document.documentElement.classList.add('dark'); }")
        astro.picture("nights-dark", height=1060)
        night.wait("end of that run", lambda: client.get(run).json()["state"] == "success" or None)


def test_while_nights_are_gathered_anew_the_page_loads_itself_again(visit: Visitor, night: Night) -> None:
    astro = visit()
    asked: list[str] = []

    def gathering(route: Route) -> None:
        asked.append(route.request.url)
        text = route.fetch().text()
        route.fulfill(
            body=text.replace("<main>", "<main data-gathering>") if len(asked) == 1 else text, content_type="text/html"
        )

    astro.page.route("**/nightdesk/nights?**", gathering)
    page = astro.open_desk("nights", target="M")
    page.wait_for_timeout(4000)
    assert len(asked) == 2
    expect(page.locator("tbody tr")).not_to_have_count(0)


def test_a_group_that_waits_says_for_what_on_its_own_pages(visit: Visitor, night: Night) -> None:
    astro = visit()
    page = astro.open_desk("frames", group=night.run_id("M101"))
    expect(page.locator(".verdict")).to_contain_text("waits for positions")
    expect(page.locator(".verdict").get_by_role("link", name="Give positions")).to_be_visible()
    expect(page.locator("tbody").first.locator(".mark.waiting")).to_have_count(3)
    astro.picture("waiting", height=760)


def test_nights_are_filtered_and_the_filter_is_in_the_address(visit: Visitor, night: Night) -> None:
    astro = visit()
    page = astro.open_desk("nights")
    page.get_by_label("Quality").select_option("waiting")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("M101")
    assert "quality=waiting" in page.url
    page.get_by_label("Target").fill("ngc 5949")
    page.get_by_label("Quality").select_option("")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="all nights").click()
    expect(page.locator("tbody tr")).to_have_count(4)
    page.get_by_label("From").fill("2031-01-01")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("main")).to_contain_text("No night has such a group")


def test_from_a_night_one_reaches_the_run_in_airflow_without_a_new_login(visit: Visitor, night: Night) -> None:
    astro = visit()
    astro.open("plugin/nights")
    inside(astro).locator("tr", has_text="NGC5949").first.locator("a.run").click()
    astro.page.wait_for_url(f"**/dags/reduce_group/runs/{night.run_id('NGC5949')}**")
    note = astro.page.get_by_alt_text("The stack")
    expect(note).to_be_visible(timeout=30_000)
    for link in ("Stack", "Frames"):  # of the note, above the picture
        expect(astro.page.locator(f'a[href*="/nightdesk/{link.lower()}?"]').first).to_be_visible()
    assert note.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    astro.picture("run")
    astro.page.locator('a[href$="/plugin/stack"]').click()
    expect(inside(astro).get_by_role("heading", name=re.compile("NGC5949"))).to_be_visible(timeout=30_000)
    expect(inside(astro).locator("#shown")).to_have_text("stack")
    astro.page.set_viewport_size({"width": 1440, "height": 1200})
    expect(inside(astro).locator("#zoom")).to_contain_text("%")
    inside(astro).locator("#view").hover()
    expect(inside(astro).locator("#r-value")).to_contain_text("e", timeout=20_000)
    astro.picture("group", width=1600, height=1300)


def _expected_grey(value: float, low: float, high: float) -> float:
    share = min(1.0, max(0.0, (value - low) / (high - low)))
    return 255 * np.arcsinh(10 * share) / np.arcsinh(10)


@pytest.mark.parametrize("zoom", ["fit", "one to one", "eight times"])
@pytest.mark.parametrize("step", ["stack", "shifted", "extinction"])
def test_the_pixel_under_the_cursor_is_the_pixel_in_the_file(
    visit: Visitor, night: Night, step: str, zoom: str
) -> None:
    served = night.served("NGC5949")
    name = "" if step == "stack" else served.names[1]
    with fits.open(served.file(step, name)) as hdus:
        data, variance, flags = hdus["SCI"].data, hdus["VAR"].data, hdus["DQ"].data
    astro = visit()
    page = astro.open_desk("stack", group=night.run_id("NGC5949"))
    astro.wait_for_viewer()
    if name:
        option = page.locator("#image option").filter(
            has_text=f"{name}, {'aligned' if step == 'shifted' else 'before'}"
        )
        page.locator("#image").select_option(option.get_attribute("value"))
        astro.wait("other image", f"() => window.deskViewer.image.key === '{step}/{name}'")
    ny, nx = data.shape
    places = [(0, 0), (nx - 1, 0), (0, ny - 1), (nx - 1, ny - 1), (nx // 2, ny // 2), (37, 201)]
    for x, y in places:
        if zoom != "fit":
            scale = 1 if zoom == "one to one" else 8
            page.evaluate(f"() => window.deskViewer.setView({{ x: {x}, y: {y}, scale: {scale} }})")
        astro.wait_for_viewer()
        view = page.evaluate(VIEW)
        box = page.locator("#view").bounding_box()
        assert box is not None
        for inset_x, inset_y in ((0.0, 0.0), (-0.4, 0.4), (0.4, -0.4)) if zoom == "eight times" else ((0.0, 0.0),):
            # The middle of the canvas is (view.x, view.y); one image pixel is `scale` canvas pixels, y upwards.
            canvas_x = view["width"] / 2 + (x + inset_x - view["x"]) * view["scale"]
            canvas_y = view["height"] / 2 - (y + inset_y - view["y"]) * view["scale"]
            at = (
                box["x"] + canvas_x * box["width"] / view["width"],
                box["y"] + canvas_y * box["height"] / view["height"],
            )
            page.mouse.move(*at)
            astro.wait(f"pixel {x}, {y}", f"() => document.getElementById('readout').dataset.pixel === '{x},{y}'")
            assert page.locator("#r-pixel").inner_text() == f"{x + 1}, {y + 1}"
            shown = page.locator("#r-value").inner_text().split()[0]
            assert float(shown) == pytest.approx(float(data[y, x]), rel=1e-6)
            assert float(page.locator("#r-variance").inner_text().split()[0]) == pytest.approx(
                float(variance[y, x]), rel=1e-6
            )
            assert (page.locator("#r-flags").inner_text() == "none") == (flags[y, x] == 0)
        if zoom == "eight times" and not flags[y, x] & 16:
            _check_colour(page, view, data, flags, x, y)


def _check_colour(page: object, view: dict[str, float], data: np.ndarray, flags: np.ndarray, x: int, y: int) -> None:
    """What is painted at a pixel's place is its own value's grey, at its middle and near its edges."""
    limits = page.evaluate("() => window.deskViewer.display")  # type: ignore[attr-defined]
    for dx, dy in ((0.0, 0.0), (0.35, 0.35), (-0.35, -0.35)):
        canvas_x = view["width"] / 2 + (x + dx - view["x"]) * view["scale"]
        canvas_y = view["height"] / 2 - (y + dy - view["y"]) * view["scale"]
        grey = page.evaluate(  # type: ignore[attr-defined]
            "([x, y]) => window.deskViewer.context.getImageData(x, y, 1, 1).data[0]", [int(canvas_x), int(canvas_y)]
        )
        assert grey == pytest.approx(_expected_grey(float(data[y, x]), limits["low"], limits["high"]), abs=2)


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("place", ["corners", "middle", "seam"])
def test_what_is_painted_of_a_binned_image_is_the_mean_of_its_pixels(
    visit: Visitor, night: Night, level: int, place: str
) -> None:
    """With one canvas pixel for each bin, nothing is blended: each grey is that of the mean of 4 or 16 pixels."""
    with fits.open(night.served("NGC5949").file("stack")) as hdus:
        bins = blank(hdus["SCI"].data, hdus["DQ"].data)
    for _ in range(level):
        bins = halve(bins)
    ny, nx = bins.shape
    corners = [(0, 0), (nx, 0), (0, ny), (nx, ny)]
    points = {"corners": corners, "middle": [(nx // 2, ny // 2)], "seam": [(256, 256), (256, 20)]}[place]
    astro = visit()
    page = astro.open_desk("stack", group=night.run_id("NGC5949"))
    astro.wait_for_viewer()
    factor = 2**level
    checked = 0
    for left, low in points:  # the corner of a bin, which comes to lie on the middle of the canvas
        odd = page.evaluate("() => [deskViewer.canvas.width % 2, deskViewer.canvas.height % 2]")
        x, y = (factor * (edge + half / 2) - 0.5 for edge, half in zip((left, low), odd, strict=True))
        page.evaluate(f"() => deskViewer.setView({{ x: {x}, y: {y}, scale: {1 / factor} }})")
        astro.wait_for_viewer()
        view = page.evaluate(VIEW)
        limits = page.evaluate("() => deskViewer.display")
        for row in range(max(0, low - 3), min(ny, low + 3)):
            for column in range(max(0, left - 3), min(nx, left + 3)):
                canvas_x = view["width"] / 2 + (factor * (column + 0.5) - 0.5 - view["x"]) / factor
                canvas_y = view["height"] / 2 - (factor * (row + 0.5) - 0.5 - view["y"]) / factor
                grey = page.evaluate(
                    "([x, y]) => deskViewer.context.getImageData(x, y, 1, 1).data[0]", [int(canvas_x), int(canvas_y)]
                )
                if np.isfinite(bins[row, column]):
                    expected = _expected_grey(float(bins[row, column]), limits["low"], limits["high"])
                    assert grey == pytest.approx(expected, abs=2), (column, row)
                    checked += 1
    assert checked >= 5


def test_the_stack_is_stretched_blinked_and_overlaid(visit: Visitor, night: Night) -> None:
    astro = visit()
    page = astro.open_desk("stack", group=night.run_id("NGC5949"))
    astro.wait_for_viewer()
    picture = "() => window.deskViewer.canvas.toDataURL()"
    seen = {page.evaluate(picture)}
    for stretch in ("linear", "log"):
        page.get_by_label("Stretch").select_option(stretch)
        page.wait_for_timeout(200)
        seen.add(page.evaluate(picture))
    page.get_by_label("Black on white").check()
    page.locator("#range").select_option("ZScale")
    page.wait_for_timeout(200)
    seen.add(page.evaluate(picture))
    page.get_by_label("frames at each pixel").check()
    astro.wait_for_viewer()
    page.wait_for_timeout(300)
    seen.add(page.evaluate(picture))
    assert len(seen) == 5

    page.evaluate("() => window.deskViewer.setView({ x: 120, y: 90, scale: 4 })")
    kept = page.evaluate(VIEW)
    images = page.locator("#image option").count()
    assert images == 1 + 2 * 3
    page.keyboard.press("n")
    astro.wait("next image", "() => window.deskViewer.image.step === 'shifted'")
    assert page.evaluate(VIEW) == kept
    page.keyboard.press("p")
    astro.wait("first image", "() => window.deskViewer.image.step === 'stack'")
    page.evaluate(COUNT_GAPS)
    page.get_by_label("every").select_option("250")
    blink = page.get_by_role("button", name="Blink", exact=True)
    blink.click()
    astro.wait("blinking", "() => window.deskViewer.image.step === 'extinction'", 20)
    blink.click()
    assert page.evaluate("() => window.gaps") == 0, "no image is shown before its pixels are there"
    assert page.evaluate(VIEW) == kept
    page.get_by_label("through").select_option("pair")
    shown = set()
    for _ in range(4):
        page.get_by_role("button", name="Next image").click()
        page.wait_for_timeout(300)
        shown.add(page.locator("#shown").inner_text())
    assert len(shown) == 2
    assert {text.split(", ")[1] for text in shown} == {"aligned", "before alignment"}
    assert len({text.split(", ")[0] for text in shown}) == 1


COUNT_GAPS = """() => {
  const viewer = window.deskViewer, paint = viewer.paint.bind(viewer);
  window.gaps = 0;
  viewer.paint = () => { paint(); if (viewer.missing) window.gaps++; };
}"""


def _colours_at(page: Page, view: dict[str, float], x: int, y: int) -> list[int]:
    """Return red, green and blue in the middle of a pixel's place."""
    place = (view["width"] / 2 + (x - view["x"]) * view["scale"], view["height"] / 2 - (y - view["y"]) * view["scale"])
    found: list[int] = page.evaluate(
        "([x, y]) => [...deskViewer.context.getImageData(x, y, 1, 1).data].slice(0, 3)", [int(one) for one in place]
    )
    return found


def test_overlays_colour_the_pixels_that_they_are_about(visit: Visitor, night: Night) -> None:
    bit, flagged = 4, (510, 430)
    stack = night.served("NGC5949").file("stack")
    kept = stack.read_bytes()
    with fits.open(stack, mode="update") as hdus:
        hdus["DQ"].data[flagged] |= bit
        flags, clipped = hdus["DQ"].data.astype(int), hdus["NREJ"].data.copy()
    try:
        _look_at_overlays(visit(), night, flags, clipped)
    finally:
        stack.write_bytes(kept)


def _look_at_overlays(astro: Visit, night: Night, flags: NDArray[np.int_], clipped: NDArray[np.uint8]) -> None:
    inner = np.s_[40:-40, 40:-40]
    page = astro.open_desk("stack", group=night.run_id("NGC5949"))
    astro.wait_for_viewer()

    def look(x: int, y: int) -> list[int]:
        page.evaluate(f"() => deskViewer.setView({{ x: {x}, y: {y}, scale: 16 }})")
        astro.wait_for_viewer()
        page.wait_for_timeout(150)
        return _colours_at(page, page.evaluate(VIEW), x, y)

    bit = 4
    y, x = np.argwhere(flags[inner] & bit)[0] + 40
    there = look(int(x), int(y))
    assert there[0] == there[1] == there[2]
    page.locator("#overlays label", has=page.locator(f".swatch.b{bit}")).locator("input").check()
    red, green, blue = look(int(x), int(y))
    assert max(red, green, blue) - min(red, green, blue) > 40
    y, x = np.argwhere((flags[inner] == 0) & (clipped[inner] == 0))[0] + 40
    beside = look(int(x), int(y))
    assert beside[0] == beside[1] == beside[2]

    assert (clipped[inner] > 0).any()
    y, x = np.argwhere((clipped[inner] > 0) & (flags[inner] == 0))[0] + 40
    page.get_by_label("clipped values").check()
    red, _, blue = look(int(x), int(y))
    assert red - blue > 40
    box = page.locator("#view").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("#r-coverage")).to_contain_text("clipped", timeout=10_000)

    star = page.evaluate("() => deskViewer.image.star")
    page.evaluate(f"() => deskViewer.setView({{ x: {star['x']}, y: {star['y']}, scale: 4 }})")
    page.wait_for_timeout(300)
    ringed = page.evaluate("() => deskViewer.canvas.toDataURL()")
    page.get_by_label("alignment star").uncheck()
    page.wait_for_timeout(300)
    assert page.evaluate("() => deskViewer.canvas.toDataURL()") != ringed
    page.get_by_label("alignment star").check()
    page.get_by_label("frames at each pixel").check()
    page.get_by_role("button", name="Fit").click()
    astro.wait_for_viewer()
    page.get_by_label("frames at each pixel").uncheck()
    page.evaluate(f"() => deskViewer.setView({{ x: {star['x'] + 30}, y: {star['y']}, scale: 3 }})")
    astro.wait_for_viewer()
    page.evaluate("() => scrollTo(0, 0)")
    astro.picture("overlays", height=980)


def test_a_stack_whose_tiles_were_deleted_is_shown_from_the_file(visit: Visitor, night: Night) -> None:
    served = night.served("NGC5949")
    folder = served.layout.stack.parent / "desk"
    kept = folder.rename(folder.with_name("kept"))
    try:
        astro = visit()
        page = astro.open_desk("stack", group=night.run_id("NGC5949"))
        astro.wait_for_viewer()
        whole = page.evaluate("() => deskViewer.canvas.toDataURL().length")
        assert whole > 20_000, "the stars are painted"
        page.evaluate("() => deskViewer.setView({ x: 600, y: 550, scale: 1 })")
        astro.wait_for_viewer()
        page.locator("#view").hover()
        expect(page.locator("#r-value")).to_contain_text("e", timeout=20_000)
        page.get_by_label("frames at each pixel").check()
        astro.wait_for_viewer()
    finally:
        kept.rename(folder)


def test_a_stack_that_counts_no_clipped_values_says_so(visit: Visitor, night: Night) -> None:
    astro = visit()
    astro.page.route(
        "**/nightdesk/stack?**",
        lambda route: route.fulfill(
            body=route.fetch().text().replace('"rejected"', '"nothing"'), content_type="text/html"
        ),
    )
    page = astro.open_desk("stack", group=night.run_id("NGC5949"))
    astro.wait_for_viewer()
    expect(page.get_by_label("clipped values")).to_be_disabled()
    expect(page.locator("#overlays")).to_contain_text("this stack has no count of them")


PLACE_UNDER = """([x, y]) => { const b = deskViewer.canvas.getBoundingClientRect();
  return deskViewer.toImage({ x: (x - b.left) * deskViewer.canvas.width / b.width,
                              y: (y - b.top) * deskViewer.canvas.height / b.height }); }"""


def test_the_histogram_is_dragged_and_the_wheel_zooms_about_the_cursor(visit: Visitor, night: Night) -> None:
    astro = visit()
    page = astro.open_desk("stack", group=night.run_id("NGC5949"))
    astro.wait_for_viewer()
    box = page.locator("#histogram").bounding_box()
    assert box is not None
    before = page.evaluate("() => ({ ...deskViewer.display })")
    page.mouse.move(box["x"] + box["width"] - 4, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40, steps=4)
    page.mouse.up()
    after = page.evaluate("() => ({ ...deskViewer.display })")
    assert after["low"] == before["low"]
    assert before["low"] < after["high"] != before["high"]
    assert page.locator("#range").input_value() == "as set"
    assert float(page.get_by_label("white", exact=True).input_value()) == pytest.approx(after["high"], rel=1e-3)

    box = page.locator("#view").bounding_box()
    assert box is not None
    at = {"x": round(box["x"] + box["width"] * 0.7), "y": round(box["y"] + box["height"] * 0.3)}
    page.mouse.move(at["x"], at["y"])
    place, scale = page.evaluate(PLACE_UNDER, [at["x"], at["y"]]), page.evaluate(VIEW)["scale"]
    page.mouse.wheel(0, -240)
    astro.wait("zoom", f"() => deskViewer.view.scale > {scale}")
    assert page.evaluate(PLACE_UNDER, [at["x"], at["y"]]) == pytest.approx(place, abs=1e-6)


def test_a_drag_moves_the_image_and_two_fingers_zoom_it(visit: Visitor, night: Night) -> None:
    astro = visit(viewport={"width": 820, "height": 1180}, has_touch=True)
    page = astro.open_desk("stack", group=night.run_id("NGC5949"))
    astro.wait_for_viewer()
    page.evaluate("() => deskViewer.setView({ x: 600, y: 550, scale: 1 })")
    box = page.locator("#view").bounding_box()
    assert box is not None
    x, y = (round(box[side] + box[length] / 2) for side, length in (("x", "width"), ("y", "height")))
    held = page.evaluate(PLACE_UNDER, [x, y])
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 90, y - 40, steps=5)
    page.mouse.up()
    assert page.evaluate(PLACE_UNDER, [x + 90, y - 40]) == pytest.approx(held, abs=1e-6)
    fingers = astro.context.new_cdp_session(page)
    held = page.evaluate(PLACE_UNDER, [x, y])
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80), ("touchEnd", 0)):
        points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}] if apart else []
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    astro.wait("zoom", "() => deskViewer.view.scale > 1.5")
    assert page.evaluate(VIEW)["scale"] == pytest.approx(2.0, rel=0.05)
    assert page.evaluate(PLACE_UNDER, [x, y]) == pytest.approx(held, abs=3)


def test_keys_act_in_the_viewer_and_nowhere_else(visit: Visitor, night: Night) -> None:
    astro = visit()
    page = astro.open_desk("stack", group=night.run_id("NGC5949"))
    astro.wait_for_viewer()
    scale = page.evaluate(VIEW)["scale"]
    page.locator("h1").click()
    for key in ("n", "p", "+", "1", " "):
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    assert page.evaluate("() => deskViewer.image.step") == "stack"
    assert page.evaluate(VIEW)["scale"] == scale
    assert page.locator("#blink").get_attribute("aria-pressed") == "false"
    page.get_by_text("Every raw file and its fate").click()
    page.get_by_role("region", name="Raw files").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(300)
    expect(page.locator("h1")).to_contain_text("NGC5949")
    page.locator("#view").focus()
    page.keyboard.press("n")
    astro.wait("next image", "() => deskViewer.image.step === 'shifted'")


def test_the_stack_has_its_header_provenance_manifest_and_downloads(visit: Visitor, night: Night) -> None:
    astro = visit()
    page = astro.open_desk("stack", group=night.run_id("NGC5949"))
    astro.wait_for_viewer()
    page.locator("#view").hover()
    expect(page.locator("#r-value")).to_contain_text("e", timeout=20_000)
    astro.picture("stack", height=1000)
    page.get_by_text("Header (").click()
    page.get_by_label("Find").fill("noiserat")
    expect(page.locator("#header tbody tr:visible")).to_have_count(1)
    page.get_by_text("Provenance", exact=True).click()
    expect(page.get_by_role("region", name="Provenance")).to_contain_text("science")
    page.get_by_text("Every raw file and its fate").click()
    expect(page.get_by_role("region", name="Raw files").locator("tbody tr")).to_have_count(3)
    page.get_by_text("Every raw file and its fate").scroll_into_view_if_needed()
    page.evaluate("() => document.querySelector('dl.figures').scrollIntoView()")
    astro.picture("provenance", height=900)
    for label, start in (("stack (FITS)", b"SIMPLE  ="), ("picture (PNG)", b"\x89PNG"), ("manifest (JSON)", b"{")):
        with page.expect_download() as download:
            page.get_by_role("link", name=label).click()
        path = download.value.path()
        assert path.read_bytes().startswith(start)
        assert download.value.suggested_filename.startswith(night.run_id("NGC5949"))
    with page.expect_download() as download:
        page.get_by_role("link", name="stack (FITS)").click()
    assert download.value.path().read_bytes() == night.served("NGC5949").file("stack").read_bytes()


def test_arrow_keys_go_from_group_to_group_and_move_the_cursor_in_the_image(visit: Visitor, night: Night) -> None:
    astro = visit()
    page = astro.open_desk("stack", group=night.run_id("NGC5949"))
    astro.wait_for_viewer()
    page.locator("#view").focus()
    page.keyboard.press("ArrowRight")
    first = page.locator("#r-pixel").inner_text()
    page.keyboard.press("ArrowUp")
    astro.wait("cursor", f"() => document.getElementById('r-pixel').textContent !== '{first}'")
    x, y = (int(part) for part in first.split(", "))
    assert page.locator("#r-pixel").inner_text() == f"{x}, {y + 1}"
    before = page.evaluate(VIEW)["scale"]
    page.keyboard.press("+")
    assert page.evaluate(VIEW)["scale"] == pytest.approx(before * 2**0.5)
    page.keyboard.press("0")
    page.locator("h1").click()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("h1")).to_contain_text("M51")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("h1")).to_contain_text("M101")
    expect(page.locator("main")).to_contain_text("no stack yet")
    page.keyboard.press("ArrowRight")
    expect(page.locator("h1")).to_contain_text("M51")


def test_the_frames_have_figures_fates_plots_and_masters(visit: Visitor, night: Night) -> None:
    astro = visit()
    astro.open(f"dags/reduce_group/runs/{night.run_id('M51')}/plugin/frames")
    frame = inside(astro)
    expect(frame.get_by_role("columnheader", name="Shift")).to_be_attached(timeout=30_000)
    expect(frame.locator("tbody").first.locator("tr")).to_have_count(3, timeout=30_000)
    lost = frame.locator("tr", has_text="lost").first
    expect(lost).to_contain_text("cut short")
    expect(frame.locator("#plots canvas")).to_have_count(5)
    masters = frame.get_by_role("region", name="Masters")
    expect(masters.locator("tbody tr")).to_have_count(7)
    lines = masters.locator("tbody tr").all_inner_texts()
    for number, told in enumerate(
        (
            ("bias", "calibs/bias2x2.fits", "used"),
            ("bias", "3 days earlier", "not used", "It is 800 x 800 pixels, the frames are 1200 x 1100"),
            ("bias", "400 days earlier", "not used", "400 days away, the window is"),
            ("dark", "There is none"),
            ("flat", "1 day earlier", "used"),
            ("flat", "without a night", "not used", "the one that was used has a night"),
            ("bad pixels", "There is none"),
        )
    ):
        assert all(word in lines[number] for word in told), lines[number]
    page = astro.open_desk("frames", group=night.run_id("M51"))
    expect(page.locator("#plots canvas")).to_have_count(5)
    flat = page.locator("figure", has_text="Airmass")
    assert flat.count() == 1
    astro.picture("frames", width=1600, height=1130)
    page.get_by_role("heading", name="Masters").scroll_into_view_if_needed()
    if PICTURES:
        page.get_by_role("region", name="Masters").screenshot(path=f"{PICTURES}/masters.png")


def test_a_click_on_a_point_opens_its_frame(visit: Visitor, night: Night) -> None:
    astro = visit()
    page = astro.open_desk("frames", group=night.run_id("NGC5949"))
    plot = page.locator(".u-over").first
    plot.wait_for()
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 2, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + 4, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url("**/frame?**")
    expect(page.locator("h1")).to_have_text(night.served("NGC5949").names[0])


def test_the_square_of_a_frame_shows_it_before_and_after_the_step(visit: Visitor, night: Night) -> None:
    astro = visit()
    for task, titles in (("frame.isr", ["raw", "after ISR"]), ("align", ["before alignment", "aligned"])):
        astro.open(f"dags/reduce_group/runs/{night.run_id('NGC5949')}/tasks/{task}/mapped/1/plugin/frame")
        frame = inside(astro)
        expect(frame.locator("h1")).to_have_text(night.served("NGC5949").names[1], timeout=30_000)
        assert frame.locator("#image option").all_inner_texts() == titles
    expect(inside(astro).locator("#zoom")).to_contain_text("%")
    astro.open(f"dags/reduce_night/runs/by_hand_{night.date}/plugin/stack")
    expect(inside(astro).get_by_role("heading", name="Nothing to show here")).to_be_visible(timeout=30_000)


def test_the_report_is_one_file(visit: Visitor, night: Night) -> None:
    astro = visit()
    page = astro.open_desk("nights")
    with page.expect_download() as download:
        page.get_by_role("link", name="Report").first.click()
    text = download.value.path().read_text()
    assert download.value.suggested_filename == f"night-{night.date}.html"
    assert text.count("data:image/jpeg;base64,") == 2
    astro.addresses.clear()
    path = download.value.path().rename(download.value.path().with_suffix(".html"))
    reader = astro.context.new_page()
    reader.goto(path.as_uri())
    expect(reader.locator("h1")).to_contain_text("Night of")
    if picture := astro.picture:
        astro.page, kept = reader, astro.page
        picture("report")
        astro.page = kept
    reader.close()


PAGES = ["nights", "stack", "frames", "frame", "pick", "report", "sorry", "other"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page_name", PAGES)
def test_everybody_can_read_and_use_the_pages(visit: Visitor, night: Night, page_name: str, theme: str) -> None:
    """WCAG 2.2 A and AA, as axe sees them."""
    astro = visit()
    astro.context.add_init_script(f"localStorage.setItem('theme', '{theme}')")
    groups = {"pick": night.run_id("M101"), "sorry": "2026-01-01__.__R"}
    values = {} if page_name == "nights" else {"group": groups.get(page_name, night.run_id("M51"))}
    if page_name == "frame":
        values["name"] = night.served("M51").names[0]
    if page_name == "report":  # as the mail's reader opens it: a file
        astro.page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        astro.page.set_content((night.root / "processed" / "reports" / f"{night.date}.html").read_text())
        page = astro.page
    else:
        if page_name == "other":  # what the tabs say on the runs of other Dags
            values = {"dag": "reduce_night", "run": "by_hand"}
        page = astro.open_desk("stack" if page_name in ("sorry", "other") else page_name, **values)
        assert page.evaluate("() => document.documentElement.classList.contains('dark')") == (theme == "dark")
    if page_name in ("stack", "frame", "pick"):
        astro.wait_for_viewer()
    for summary in page.locator("summary").all():
        summary.click()
    page.evaluate((HERE / "vendor" / "axe.min.js").read_text())
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = page.evaluate(f"() => axe.run(document, {{ runOnly: {json.dumps(tags)} }})")
    problems = {rule["id"]: [node["html"][:200] for node in rule["nodes"][:3]] for rule in found["violations"]}
    assert problems == {}
    if theme == "dark" and page_name == "stack":
        for summary in page.locator("summary").all():
            summary.click()
        page.evaluate("() => scrollTo(0, 0)")
        astro.picture("stack-dark", height=1000)


def test_the_pages_follow_airflows_switch_from_light_to_dark(visit: Visitor, night: Night) -> None:
    astro = visit()
    astro.open("plugin/nights")
    expect(inside(astro).locator("h1")).to_be_visible(timeout=30_000)
    for theme in ("dark", "light"):
        astro.page.evaluate(
            "theme => { const c = document.documentElement.classList; c.remove('dark', 'light'); c.add(theme); }", theme
        )
        expect(inside(astro).locator("html")).to_have_attribute("data-theme", theme)


def test_on_a_tablet_nothing_is_cut_off(visit: Visitor, night: Night) -> None:
    astro = visit(viewport={"width": 820, "height": 1180}, has_touch=True, color_scheme="dark")
    for page_name in ("nights", "stack", "frames", "pick"):
        values = {} if page_name == "nights" else {"group": night.run_id("M101" if page_name == "pick" else "NGC5949")}
        page = astro.open_desk(page_name, **values)
        page.wait_for_timeout(500)
        width = page.evaluate("() => document.documentElement.scrollWidth")
        assert width <= 820, page_name
        if page_name == "stack":
            astro.wait_for_viewer()
            astro.picture("tablet")


def test_an_ended_session_says_so_and_offers_the_login(visit: Visitor, night: Night) -> None:
    guest = visit(None)
    page = guest.open_desk("nights")
    expect(page.get_by_role("heading", name="Your session has ended")).to_be_visible()
    expect(page.get_by_role("button", name="Log in again")).to_be_visible()
    astro = visit()
    page = astro.open_desk("stack", group=night.run_id("NGC5949"))
    astro.wait_for_viewer()
    astro.context.clear_cookies()
    page.locator("#view").hover()
    expect(page.locator("#session")).to_be_visible()


def test_what_headers_and_names_say_is_shown_and_does_nothing(visit: Visitor, night: Night) -> None:
    """The dialogs that these names would open are troubles of the visit, and so is a picture that is asked for."""
    astro = visit()
    group = night.run_id(EVIL_TARGET)
    shown: list[str] = []
    for address in (
        "nightdesk/nights",
        f"nightdesk/stack?group={group}",
        f"nightdesk/frames?group={group}",
        f"nightdesk/pick?group={group}",
        f"dags/reduce_group/runs/{group}/plugin/frame",
        f"dags/reduce_group/runs/{group}/tasks/frame.isr/mapped/0/plugin/frame",
        f"dags/reduce_group/runs/{group}",
    ):
        page = astro.open(address)
        page.wait_for_timeout(1500)
        for frame in page.frames:
            if "/nightdesk/" in frame.url:
                assert frame.evaluate("() => document.querySelectorAll('img[onerror], b[onmouseover]').length") == 0
                text = frame.evaluate("() => document.body.innerText")
                assert "\u202e" not in text
                options = frame.evaluate(
                    "() => [...document.querySelectorAll('option')].map((one) => one.label).join()"
                )
                assert "\u202e" not in options
                shown.append(text)
    assert sum("<b onmouseover='alert(2)'>" in text for text in shown) >= 3, "its name is on the pages"
    page = astro.open(f"nightdesk/frames?group={group}")
    expect(page.locator("tbody").first).to_contain_text("<b onmouseover='alert(2)'>")
    page = astro.open("nightdesk/nights")
    page.get_by_text("1 rejected file").click()
    expect(page.locator("details li")).to_contain_text("<img src=x onerror=alert(3)> \\u{202e}\\u{a}gnp")
    page = astro.open(f"nightdesk/stack?group={group}")
    page.get_by_text("Header (").click()
    expect(page.locator("#header")).to_contain_text("<script>alert(4)</script>")
    assert not [url for url in astro.addresses if url.endswith("/x")]


def test_a_viewer_may_look_but_not_save(visit: Visitor, night: Night) -> None:
    guest = visit("guest")
    page = guest.open_desk("pick", group=night.run_id("M101"))
    guest.wait_for_viewer()
    expect(page.locator("main")).to_contain_text("may look, but not save")
    expect(page.get_by_role("button", name="Save positions")).to_be_disabled()


def test_a_star_is_picked_found_in_all_frames_saved_and_the_group_reduced(visit: Visitor, night: Night) -> None:
    astro = visit()
    page = astro.open_desk("pick", group=night.run_id("M101"))
    astro.wait_for_viewer()
    served = night.served("M101")
    from nightdesk.desk.card import read_card
    from nightdesk.desk.place import frame_card

    stars = read_card(frame_card(served.layout, served.names[0]))["positions"]
    star = next((x, y) for x, y, _ in stars[2:] if 40 < x < SIZE[0] - 40 and 40 < y < SIZE[1] - 40)
    # By the keyboard first: the cursor to the star, and Enter.
    page.evaluate(f"() => {{ deskViewer.cursor = {{ x: {round(star[0]) + 1}, y: {round(star[1])} }}; }}")
    page.locator("#view").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.locator("#saved")).to_contain_text("Found in 3 of 3", timeout=30_000)
    by_keys = page.locator("td.x").all_inner_texts()
    # Two quick clicks, and the first one's answer comes last.
    page.evaluate(
        "() => { const fetched = window.fetch; let calls = 0; window.fetch = async (address, ...rest) => {"
        " const mine = String(address).startsWith('centroid') ? ++calls : 0;"
        " const answer = await fetched(address, ...rest);"
        " if (mine === 1) await new Promise((done) => setTimeout(done, 2500)); return answer; }; }"
    )
    _click(page, 15.0, 15.0)
    _click(page, star[0] + 2, star[1] - 1)
    page.wait_for_timeout(4000)
    expect(page.locator("#saved")).to_contain_text("Found in 3 of 3", timeout=30_000)
    assert page.locator("td.x").all_inner_texts() == by_keys
    page.wait_for_timeout(800)
    astro.picture("pick", height=1000)
    _correct_the_second_and_leave_out_the_third(page, served.names)
    _be_late(page, served.layout.sidecars[0])
    page.locator(f'tr[data-name="{served.names[2]}"] .use').check()
    page.get_by_role("button", name="Save positions").click()
    expect(page.locator("#saved")).to_contain_text("Saved as xys/M101/R", timeout=20_000)
    place = night.root / "xys" / "M101" / "R" / night.date.isoformat() / "xy.csv"
    rows = read_sidecar(night.settings, place, names=served.names, shape=(SIZE[1], SIZE[0])).rows
    assert [row.name for row in rows] == list(served.names)
    assert all(row.use for row in rows)
    assert (rows[0].x - 1, rows[0].y - 1) == pytest.approx(star, abs=0.3)
    night.wait("stack of M101", lambda: night.manifest("M101").get("state") == "done")
    page = astro.open_desk("stack", group=night.run_id("M101"))
    astro.wait_for_viewer()
    expect(page.locator(".verdict")).to_contain_text("3 frames are in the stack")


def test_a_run_that_a_person_starts_has_the_stack_in_its_note_and_is_the_nights_run(
    visit: Visitor, night: Night
) -> None:
    with night.client() as client:
        conf = {"conf": night.group("M51").params, "logical_date": None}
        answer = client.post(f"{night.url}/api/v2/dags/reduce_group/dagRuns", json=conf).raise_for_status().json()
        run = f"{night.url}/api/v2/dags/reduce_group/dagRuns/{answer['dag_run_id']}"
        night.wait("end of that run", lambda: client.get(run).json()["state"] in ("success", "failed") or None)
    astro = visit()
    page = astro.open_desk("nights")
    link = page.locator("tr", has_text="M51").first.locator("a.run")
    expect(link).to_have_text("failed", timeout=20_000)
    link.click()
    astro.page.wait_for_url("**/dags/reduce_group/runs/manual__**")
    picture = astro.page.get_by_alt_text("The stack")
    expect(picture).to_be_visible(timeout=30_000)
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    astro.page.locator('a[href$="/plugin/stack"]').click()
    expect(inside(astro).get_by_role("heading", name=re.compile("M51"))).to_be_visible(timeout=30_000)
    expect(inside(astro).get_by_role("link", name="Run", exact=True)).to_have_attribute(
        "href", re.compile("/runs/manual__")
    )


def _click(page: Page, x: float, y: float) -> None:
    """Click a place of the image."""
    view, box = page.evaluate(VIEW), page.locator("#view").bounding_box()
    assert box is not None
    ratio = box["width"] / view["width"]
    page.mouse.click(
        box["x"] + (view["width"] / 2 + (x - view["x"]) * view["scale"]) * ratio,
        box["y"] + (view["height"] / 2 - (y - view["y"]) * view["scale"]) * ratio,
    )


def _correct_the_second_and_leave_out_the_third(page: Page, names: tuple[str, ...]) -> None:
    """A click in another frame is a correction there, and there alone."""
    lines = [page.locator(f'tr[data-name="{name}"]') for name in names]
    before = [line.locator(".x").inner_text() for line in lines]
    x, y = (float(lines[1].locator(f".{axis}").inner_text()) - 1 for axis in "xy")
    lines[1].locator(".open").click()
    expect(page.locator("#shown")).to_contain_text(names[1])
    _click(page, 15.0, 15.0)
    expect(lines[1].locator(".note")).to_contain_text("no star within")
    assert [line.locator(".x").inner_text() for line in lines][::2] == before[::2]
    _click(page, x + 1, y - 1)
    expect(lines[1].locator(".note")).to_be_empty()
    assert lines[1].locator(".x").inner_text() == before[1]
    lines[2].locator(".use").uncheck()


def _be_late(page: Page, place: Path) -> None:
    """Save after somebody else has: told so, and theirs is left as it is."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("of another person")
    try:
        with page.expect_request("**/positions") as request:
            page.get_by_role("button", name="Save positions").click()
        assert [row["use"] for row in request.value.post_data_json["rows"]] == [True, True, False]
        expect(page.locator("#saved")).to_contain_text("has been changed since this page was opened")
        assert place.read_text() == "of another person"
    finally:
        place.unlink()


def test_a_page_of_another_site_can_write_nothing(night: Night, browser: Browser) -> None:
    """By a form, which needs nobody's leave, and by a script, which asks for it: in the browser that guards it."""
    place = night.served("M51").layout.sidecars[0]
    before = place.read_bytes()
    rows = [{"name": name, "x": 100.0, "y": 100.0, "use": True} for name in night.served("M51").names]
    body = json.dumps({"group": night.run_id("M51"), "rows": rows, "seen": version(place)})
    field = f"""<input name='{body[:-1]},"x":"' value='"}}'>"""
    form = f'<form method=post enctype=text/plain action="{night.url}/nightdesk/positions">{field}</form>'
    context = browser.new_context()
    context.add_cookies([{"name": "_token", "value": night.token("astro"), "url": night.url}])
    page = context.new_page()
    page.route(
        "http://evil.example/**", lambda route: route.fulfill(body=f"<!doctype html>{form}", content_type="text/html")
    )
    statuses: list[int] = []
    page.on("response", lambda answer: statuses.append(answer.status) if "/positions" in answer.url else None)
    page.goto("http://evil.example/")
    for kind in ("text/plain", "application/json"):
        page.evaluate(
            "([url, body, kind]) => fetch(url, { method: 'POST', credentials: 'include', body,"
            " mode: kind === 'text/plain' ? 'no-cors' : 'cors', headers: { 'content-type': kind } }).catch(() => {})",
            [f"{night.url}/nightdesk/positions", body, kind],
        )
    page.evaluate("() => document.forms[0].submit()")
    page.wait_for_timeout(1500)
    context.close()
    assert statuses
    assert not [status for status in statuses if status < 400]
    assert place.read_bytes() == before


def test_before_and_after_a_step_are_seen_at_one_place(visit: Visitor, night: Night) -> None:
    astro = visit()
    name = night.served("NGC5949").names[1]
    page = astro.open_desk("frame", group=night.run_id("NGC5949"), name=name, task="frame.isr")
    astro.wait_for_viewer()
    page.evaluate("() => deskViewer.setView({ x: 600, y: 550, scale: 1 })")
    astro.wait_for_viewer()
    shots = []
    for step in ("raw", "postISR"):
        astro.wait("image", f"() => deskViewer.image.step === '{step}' && deskViewer.missing === 0")
        page.locator("#view").hover()
        expect(page.locator("#r-value")).not_to_have_text("\N{EN DASH}", timeout=10_000)
        page.wait_for_timeout(400)
        shots.append(page.screenshot())
        page.get_by_role("button", name="Next image").click()
    assert shots[0] != shots[1]
    if PICTURES:
        halves = [Image.open(io.BytesIO(shot)) for shot in shots]
        both = Image.new("RGB", (halves[0].width * 2 + 8, halves[0].height), "white")
        both.paste(halves[0], (0, 0))
        both.paste(halves[1], (halves[0].width + 8, 0))
        both.resize((both.width * 2 // 3, both.height * 2 // 3), Image.Resampling.LANCZOS).save(f"{PICTURES}/frame.png")


def test_a_frame_that_was_lost_is_blinked_too_as_far_as_it_came(visit: Visitor, night: Night) -> None:
    layout, names = night.served("M51").layout, night.served("M51").names
    lost = next(raw["name"] for raw in night.manifest("M51")["raws"] if raw["fate"] == "lost")
    other = next(name for name in names if name != lost)
    came = shutil.copy(layout.product("extinction", other), layout.product("extinction", lost))
    try:
        astro = visit()
        page = astro.open_desk("stack", group=night.run_id("M51"))
        astro.wait_for_viewer()
        assert page.locator("#image option").all_inner_texts()[-1] == f"{lost}, before alignment (lost)"
        page.locator("#image").select_option(f"{lost}, before alignment (lost)")
        astro.wait("lost frame", f"() => deskViewer.image.name === '{lost}' && deskViewer.missing === 0")
    finally:
        Path(came).unlink()
