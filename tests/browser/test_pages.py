"""Each page and each thing one can do on it, in a real browser, in a real Airflow."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import numpy as np
import pytest
from astropy.io import fits
from playwright.sync_api import FrameLocator, expect

from nightdesk.io.sidecar import read_sidecar
from tests.browser.conftest import EVIL_TARGET, HERE, SIZE, Night, Visit

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
    for picture in whole.locator("img").all():
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    astro.page.set_viewport_size({"width": 1440, "height": 640})
    astro.picture("nights")


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
    assert note.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    astro.picture("run")
    astro.page.get_by_role("link", name="Stack", exact=True).or_(
        astro.page.get_by_role("tab", name="Stack")
    ).first.click()
    expect(inside(astro).get_by_role("heading", name=re.compile("NGC5949"))).to_be_visible(timeout=30_000)
    expect(inside(astro).locator("#shown")).to_have_text("stack")
    astro.page.set_viewport_size({"width": 1440, "height": 1200})
    expect(inside(astro).locator("#zoom")).to_contain_text("%")
    inside(astro).locator("#view").hover()
    expect(inside(astro).locator("#r-value")).to_contain_text("e", timeout=20_000)
    astro.picture("group")


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
    page.get_by_label("every").select_option("250")
    page.get_by_role("button", name="Blink").click()
    astro.wait("blinking", "() => window.deskViewer.image.step === 'extinction'", 20)
    page.get_by_role("button", name="Blink").click()
    assert page.evaluate(VIEW) == kept


def test_the_stack_has_its_header_provenance_manifest_and_downloads(visit: Visitor, night: Night) -> None:
    astro = visit()
    page = astro.open_desk("stack", group=night.run_id("NGC5949"))
    astro.wait_for_viewer()
    page.locator("#view").hover()
    expect(page.locator("#r-value")).to_contain_text("e", timeout=20_000)
    astro.picture("stack")
    page.get_by_text("Header (").click()
    page.get_by_label("Find").fill("noiserat")
    expect(page.locator("#header tbody tr:visible")).to_have_count(1)
    page.get_by_text("Provenance", exact=True).click()
    expect(page.get_by_role("region", name="Provenance")).to_contain_text("science")
    page.get_by_text("Every raw file and its fate").click()
    expect(page.get_by_role("region", name="Raw files").locator("tbody tr")).to_have_count(3)
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
    expect(frame.locator("tbody").first.locator("tr")).to_have_count(3, timeout=30_000)
    lost = frame.locator("tr", has_text="lost").first
    expect(lost).to_contain_text("cut short")
    expect(frame.locator("#plots canvas")).to_have_count(5)
    masters = frame.get_by_role("region", name="Masters")
    expect(masters.locator("tr", has_text="used").first).to_be_visible()
    expect(masters).to_contain_text("bias2x2.fits")
    astro.page.set_viewport_size({"width": 1440, "height": 1300})
    astro.picture("frames")


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
    astro.page.set_viewport_size({"width": 1440, "height": 1100})
    astro.page.wait_for_timeout(1000)
    astro.picture("frame")
    astro.open("dags/reduce_night/runs/by_hand_{night.date}/plugin/stack")
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


PAGES = ["nights", "stack", "frames", "frame", "pick"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page_name", PAGES)
def test_everybody_can_read_and_use_the_pages(visit: Visitor, night: Night, page_name: str, theme: str) -> None:
    """WCAG 2.2 A and AA, as axe sees them."""
    astro = visit()
    astro.context.add_init_script(f"localStorage.setItem('theme', '{theme}')")
    values = {} if page_name == "nights" else {"group": night.run_id("M101" if page_name == "pick" else "M51")}
    if page_name == "frame":
        values["name"] = night.served("M51").names[0]
    page = astro.open_desk(page_name, **values)
    if page_name in ("stack", "frame", "pick"):
        astro.wait_for_viewer()
    assert page.evaluate("() => document.documentElement.classList.contains('dark')") == (theme == "dark")
    for summary in page.locator("summary").all():
        summary.click()
    page.evaluate((HERE / "vendor" / "axe.min.js").read_text())
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = page.evaluate(f"() => axe.run(document, {{ runOnly: {json.dumps(tags)} }})")
    problems = {rule["id"]: [node["html"][:200] for node in rule["nodes"][:3]] for rule in found["violations"]}
    assert problems == {}
    if theme == "dark" and page_name == "stack":
        page.evaluate("() => scrollTo(0, 0)")
        astro.picture(f"{page_name}-dark")


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
    astro = visit(viewport={"width": 820, "height": 1180}, has_touch=True)
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
    page = astro.open(f"nightdesk/frames?group={group}")
    expect(page.locator("tbody").first).to_contain_text("<b onmouseover='alert(2)'>")
    page = astro.open("nightdesk/nights")
    page.get_by_text("1 rejected file").click()
    expect(page.locator("details li")).to_contain_text("<img src=x onerror=alert(3)> \\u{202e}gnp")
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
    star = next((x, y) for x, y, _ in stars if 40 < x < SIZE[0] - 40 and 40 < y < SIZE[1] - 40)
    view = page.evaluate(VIEW)
    box = page.locator("#view").bounding_box()
    assert box is not None
    ratio = box["width"] / view["width"]
    page.mouse.click(
        box["x"] + (view["width"] / 2 + (star[0] + 2 - view["x"]) * view["scale"]) * ratio,
        box["y"] + (view["height"] / 2 - (star[1] - 1 - view["y"]) * view["scale"]) * ratio,
    )
    expect(page.locator("#saved")).to_contain_text("Found in 3 of 3", timeout=30_000)
    page.wait_for_timeout(800)
    astro.picture("pick")
    page.get_by_role("button", name="Save positions").click()
    expect(page.locator("#saved")).to_contain_text("Saved as xys/M101/R", timeout=20_000)
    place = night.root / "xys" / "M101" / "R" / night.date.isoformat() / "xy.csv"
    rows = read_sidecar(night.settings, place, names=served.names, shape=(SIZE[1], SIZE[0])).rows
    assert [row.name for row in rows] == list(served.names)
    assert (rows[0].x - 1, rows[0].y - 1) == pytest.approx(star, abs=0.3)
    night.wait("stack of M101", lambda: night.manifest("M101").get("state") == "done")
    page = astro.open_desk("stack", group=night.run_id("M101"))
    astro.wait_for_viewer()
    expect(page.locator(".verdict")).to_contain_text("3 frames are in the stack")
