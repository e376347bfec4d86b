"""Nights without a single sidecar: the stars tell, or a person is asked in the web UI, in a real browser."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from astropy.io import fits
from playwright.sync_api import Page, sync_playwright

from nightdesk.night import night_of
from nightdesk.settings import load_settings
from nightdesk.simulate import simulate
from tests.airflow.desk import GROUP_DAG, Airflow, Desk
from tests.browser.conftest import ARGUMENTS, find_chromium
from tools import observatory

pytestmark = pytest.mark.slow

FIRST_PORT = 28480
TARGETS = ("M27", "M64", "M97", "M100")
FRAMES = 3
PICTURES = os.environ.get("NIGHTDESK_PICTURES")

CONFIGURATION = """
[site]
timezone = "Atlantic/Canary"

[align]
mode = "{mode}"

[watch]
settle_seconds = 3
readout_seconds = 1
stalled_seconds = 12
rescan_seconds = 5
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk whose nights have no sidecar."""
    place = tmp_path_factory.mktemp("positions")
    home, root, config = place / "home", place / "data", place / "observatory.toml"
    night = night_of(datetime.now(UTC), ZoneInfo("Atlantic/Canary"))
    config.write_text(CONFIGURATION.format(mode="auto"))
    before = night - timedelta(days=1)
    nights = (before, night)
    sky = simulate(place / "sky", targets=TARGETS, nights=nights, frames=FRAMES, size=(256, 240), exposure=1.0)
    shutil.copytree(sky.root / "calibs", root / "calibs")
    with observatory.start(home, data=root, config=config, port=FIRST_PORT) as running:
        airflow = Airflow(running.url, *observatory.login(home))
        settings = load_settings(config)
        desk = Desk(
            root=root,
            skies=(sky,),
            night=night,
            archived=(before,),
            airflow=airflow,
            observatory=running,
            config=config,
            settle_seconds=settings.watch.settle_seconds,
            nights_per_day=0,
        )
        running.wait_until_ready(300)
        yield desk
        airflow.close()


@pytest.fixture
def page(desk: Desk) -> Iterator[Page]:
    """A browser in which the desk's person is logged in."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        context = browser.new_context(viewport={"width": 1300, "height": 1000})
        user, password = observatory.login(desk.observatory.home)
        opened = context.new_page()
        opened.goto(desk.observatory.url)
        opened.get_by_label("Username").or_(opened.locator("input[name=username]")).first.fill(user)
        opened.get_by_label("Password").or_(opened.locator("input[name=password]")).first.fill(password)
        opened.keyboard.press("Enter")
        opened.get_by_role("link", name="Dags").first.wait_for(timeout=60_000)
        yield opened
        browser.close()


def shifts(desk: Desk, target: str) -> dict[str, tuple[float, float]]:
    """The shifts that a group's aligned frames bear."""
    folder = desk.folder(desk.group(target), "shifted")
    headers = {path.stem: fits.getheader(path) for path in sorted(folder.glob("*.fits"))}
    return {name: (header["XSHIFT"], header["YSHIFT"]) for name, header in headers.items()}


def true_shifts(desk: Desk, target: str) -> dict[str, tuple[float, float]]:
    """What they ought to be: how the sky moved against the first frame."""
    (sky,) = desk.skies
    frames = sky.group(target, "R", desk.night)
    return {frame.name: (frames[0].dx - frame.dx, frames[0].dy - frame.dy) for frame in frames}


def test_a_whole_night_without_a_sidecar_reduces_itself(desk: Desk) -> None:
    wanted = TARGETS[:2]
    for target in wanted:
        desk.drop(*desk.raws(target))
    for target in wanted:
        group = desk.group(target)
        desk.assert_green(group, desk.wait_for_run(group, seconds=600))
        assert set(desk.states(group, "locate").values()) == {"success"}
        assert set(desk.states(group, "ask").values()) == {"skipped"}
        assert desk.stacked(group) == [path.stem for path in desk.raws(target)]
        assert shifts(desk, target) == true_shifts(desk, target)
        sidecar = desk.root / "xys" / target / "R" / desk.night.isoformat() / "xy.csv"
        assert "nightdesk " in sidecar.read_text()
        assert all(raw["residual"] < 0.3 for raw in desk.manifest(group)["raws"])


def test_what_nightdesk_wrote_starts_nothing(desk: Desk) -> None:
    group = desk.group(TARGETS[0])
    desk.wait_for_run(group, seconds=600)
    assert desk.starts(group) == 1


def test_two_nights_become_a_deep_stack_by_themselves(desk: Desk) -> None:
    target = TARGETS[0]
    group = desk.group(target, desk.archived[0])
    desk.drop(*desk.raws(target, desk.archived[0]))
    desk.assert_green(group, desk.wait_for_run(group, seconds=600))
    deep = desk.root / "deep" / target / "R"
    manifest = desk.wait("deep stack", lambda: (deep / "manifest.json").is_file() and (deep / "manifest.json"), 600)
    assert json.loads(manifest.read_text())["used"] == [night.isoformat() for night in (*desk.archived, desk.night)]
    header = fits.getheader(deep / "deep.fits")
    assert (header["NCOMBINE"], header["TEXPTIME"]) == (2, 6.0)


def test_a_deep_stack_by_hand(desk: Desk) -> None:
    target = TARGETS[0]
    stack = desk.root / "deep" / target / "R" / "deep.fits"
    desk.wait("deep stack", stack.is_file, 600)
    stack.unlink()
    nights = ", ".join(night.isoformat() for night in (*desk.archived, desk.night))
    run_id = desk.airflow.trigger("stack_nights", target=target, filter_name="R", nights=nights)
    assert desk.wait_for_end("stack_nights", run_id, 600)["state"] == "success"
    assert stack.is_file()


def test_a_person_answers_in_the_browser(desk: Desk, page: Page) -> None:
    desk.config.write_text(CONFIGURATION.format(mode="wait"))
    target = TARGETS[2]
    group, raws = desk.group(target), desk.raws(target)
    desk.drop(*raws)
    desk.wait_for_state(group, "ask", "awaiting_input")
    page.goto(f"{desk.observatory.url}/dags/{GROUP_DAG}/runs/{group.run_id}/tasks/ask/required_actions")
    page.get_by_text("Choose one star").wait_for(timeout=60_000)
    if PICTURES:
        page.wait_for_timeout(3000)
        page.screenshot(path=Path(PICTURES) / "ask.png", full_page=True)
    images = page.locator("img[src*='/nightdesk/thumbnail']")
    assert images.count() == FRAMES
    page.wait_for_timeout(2000)
    assert all(images.nth(k).evaluate("image => image.naturalWidth") > 50 for k in range(FRAMES))
    (sky,) = desk.skies
    for frame in sky.group(target, "R", desk.night):
        page.locator(f"[name='element_{frame.name}'], #element_{frame.name}").first.fill(
            f"{frame.x + 1:g}, {frame.y + 1:g}"
        )
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / "answered.png", full_page=True)
    page.get_by_role("button", name="OK").first.click()
    desk.assert_green(group, desk.wait_for_run(group, seconds=600))
    assert shifts(desk, target) == true_shifts(desk, target)
    sidecar = desk.root / "xys" / target / "R" / desk.night.isoformat() / "xy.csv"
    assert sidecar.read_text().splitlines()[0] == "fname,x,y"
    assert "is a person's" in desk.airflow.log(GROUP_DAG, group.run_id, "locate") or desk.starts(group) == 1


def test_an_answer_without_positions_leaves_the_group_waiting(desk: Desk) -> None:
    desk.config.write_text(CONFIGURATION.format(mode="wait"))
    target = TARGETS[3]
    group = desk.group(target)
    desk.drop(*desk.raws(target))
    desk.wait_for_state(group, "ask", "awaiting_input")
    empty = {frame.name: None for frame in desk.skies[0].group(target, "R", desk.night)}
    path = f"/dags/{GROUP_DAG}/dagRuns/{group.run_id}/taskInstances/ask/-1/hitlDetails"
    desk.airflow.call("PATCH", path, json={"chosen_options": ["OK"], "params_input": empty})
    desk.assert_green(group, desk.wait_for_run(group, seconds=600))
    assert desk.manifest(group)["state"] == "waiting"
