"""One real Airflow that reduces a small night, and a real browser that looks at it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import httpx
import pytest
from astropy.io import fits
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from nightdesk.desk.served import Served
from nightdesk.group import Group
from nightdesk.manifest import read_manifest
from nightdesk.night import night_of
from nightdesk.settings import Settings, load_settings
from nightdesk.simulate import simulate
from tools import observatory

T = TypeVar("T")

HERE = Path(__file__).parent
FIRST_PORT = 38180
PATIENCE_SECONDS = 420.0
SIZE = (1200, 1100)
"""Fitted into the browser it is binned, and its tiles have seams at every level."""

FRAMES = 3
PICTURES = os.environ.get("NIGHTDESK_PICTURES")
"""A folder for screenshots, as docs/pictures has them."""

CONFIGURATION = """
[site]
timezone = "Atlantic/Canary"

[align]
mode = "require"

[quality.filters.R]
zero_point = 22.6

[watch]
settle_seconds = 2
readout_seconds = 0
stalled_seconds = 6
rescan_seconds = 5
"""

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

EVIL_OBJECT = '<img src=x onerror="alert(1)">'
EVIL_TARGET = "imgsrc-xonerror-alert-1"
EVIL_NAME = "r99 <b onmouseover='alert(2)'>\"x\" ![y](http)"
REJECTED_NAME = "![x](http) <img src=x onerror=alert(3)> \u202e\ngnp"
"""Only printable ASCII can be a frame's name: this one stays a file that is rejected."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(1200))


def find_chromium() -> str:
    """Return the browser's path; a test without one fails, it is not skipped."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise AssertionError("These tests need Chromium: apt-get install chromium.")


@dataclass
class Night:
    """A reduced night in a running Airflow, and the logins of two people."""

    root: Path
    settings: Settings
    date: date
    url: str
    passwords: dict[str, str]
    running: observatory.Observatory
    cookies: dict[str, str] = field(default_factory=dict)

    def group(self, target: str) -> Group:
        return Group(self.evil_date if target == EVIL_TARGET else self.date, target, "R")

    @property
    def evil_date(self) -> date:
        """The night before, with names that try to be more than text."""
        return self.date - timedelta(days=1)

    @property
    def empty_date(self) -> date:
        """The night before that, in which nothing was observed."""
        return self.date - timedelta(days=2)

    def served(self, target: str) -> Served:
        return Served(self.settings, self.group(target))

    def run_id(self, target: str) -> str:
        return self.group(target).run_id

    def manifest(self, target: str) -> dict[str, Any]:
        return read_manifest(self.settings, self.group(target)) or {}

    def api_server(self) -> int:
        """Return the process that serves the pages."""
        return self.running.pid_of("api-server")

    def token(self, user: str) -> str:
        """Return a person's token, as the login gives it."""
        if user not in self.cookies:
            answer = httpx.post(
                f"{self.url}/auth/token", json={"username": user, "password": self.passwords[user]}, timeout=60
            )
            self.cookies[user] = answer.raise_for_status().json()["access_token"]
        return self.cookies[user]

    def client(self, user: str | None = "astro") -> httpx.Client:
        """Return a client with a person's cookie, as a browser has it, or with none."""
        cookies = {"_token": self.token(user)} if user else {}
        return httpx.Client(base_url=f"{self.url}/nightdesk/", cookies=cookies, timeout=60)

    def wait(self, what: str, look: Callable[[], T | None], seconds: float = PATIENCE_SECONDS) -> T:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := look():
                return found
            time.sleep(0.5)
        states = {target: self.manifest(target).get("state") for target in ("NGC5949", "M51", "M101", EVIL_TARGET)}
        raise AssertionError(f"In {seconds:.0f} s there was no {what}. Manifests: {states}")


def _write_sky(root: Path, night: date) -> None:
    """Write a whole group, one with a bad frame, one without positions; and a night before with evil names."""
    targets = ("NGC5949", "M51", "M101")
    sky = simulate(root, targets=targets, nights=(night,), frames=FRAMES, size=SIZE, exposure=16.0, seeing=1.4)
    shutil.rmtree(root / "xys" / "M101")
    bad = sky.group("M51", "R", night)[1].path
    bad.write_bytes(bad.read_bytes()[:60_000])
    _write_more_masters(root, night)
    before = root / "raw" / (night - timedelta(days=1)).isoformat()
    before.mkdir()
    model = sky.group("NGC5949", "R", night)[0].path
    with fits.open(model) as hdus:
        header = hdus[0].header
        header["DATE-OBS"] = (datetime.fromisoformat(header["DATE-OBS"]) - timedelta(days=1)).isoformat()
        header["OBJECT"] = EVIL_OBJECT
        header["OBSERVER"] = "<script>alert(4)</script>"
        hdus.writeto(before / f"{EVIL_NAME}.fits")
        del header["DATE-OBS"]
        hdus.writeto(before / f"{REJECTED_NAME}.fits")
    for path in before.iterdir():
        os.utime(path, (model.stat().st_mtime - 86_400,) * 2)


def _write_more_masters(root: Path, night: date) -> None:
    """Write masters among which one is to be chosen: a nearer flat, a bias of long ago, and one of another size."""
    calibs = root / "calibs"
    places = {days: calibs / (night - timedelta(days=days)).isoformat() for days in (1, 3, 400)}
    for place in places.values():
        place.mkdir()
    shutil.copy(calibs / "Rflatnorm2x2.fits", places[1])
    shutil.copy(calibs / "bias2x2.fits", places[400])
    with fits.open(calibs / "bias2x2.fits") as hdus:
        fits.writeto(places[3] / "bias2x2.fits", hdus[0].data[:800, :800], hdus[0].header)


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    place = tmp_path_factory.mktemp("observatory")
    home, root, config = place / "home", place / "data", place / "observatory.toml"
    config.write_text(CONFIGURATION)
    tonight = night_of(datetime.now(UTC), ZoneInfo("Atlantic/Canary"))
    _write_sky(root, tonight)
    os.environ["NIGHTDESK_DATA"] = str(root)
    settings = load_settings(config)
    del os.environ["NIGHTDESK_DATA"]
    people = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "astro:admin,guest:viewer"}
    with observatory.start(home, data=root, config=config, port=FIRST_PORT, extra=people) as running:
        running.wait_until_ready(300)
        passwords = json.loads((home / observatory.PASSWORDS).read_text())
        reduced = Night(root, settings, tonight, running.url, passwords, running)
        wanted = {"NGC5949": "done", "M51": "partial", "M101": "waiting", EVIL_TARGET: "done"}
        for target, state in wanted.items():
            reduced.wait(
                f"{state} {target}", lambda target=target, state=state: reduced.manifest(target).get("state") == state
            )
        _report(reduced)
        yield reduced


def _report(night: Night) -> None:
    """Run `reduce_night` for the three nights as a person does, and wait for their reports."""
    headers = {"Authorization": f"Bearer {night.token('astro')}"}
    url = f"{night.url}/api/v2/dags/reduce_night/dagRuns"
    for day in (night.empty_date, night.evil_date, night.date):
        page = night.root / "processed" / "reports" / f"{day}.html"
        page.unlink(missing_ok=True)  # the scheduled one may have come before the frames were through
        body = {"logical_date": None, "dag_run_id": f"by_hand_{day}", "conf": {"night": day.isoformat()}}
        httpx.post(url, json=body, headers=headers, timeout=60).raise_for_status()
        night.wait(f"report of {day}", page.is_file)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        yield opened
        opened.close()


@dataclass
class Visit:
    """A person in front of the browser: the page, what it said wrong, and whom it called."""

    page: Page
    night: Night
    context: BrowserContext
    troubles: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.night.url}/{path}")
        return self.page

    def open_desk(self, page: str, **values: str) -> Page:
        return self.open(f"nightdesk/{page}?{httpx.QueryParams(values)}")

    def wait(self, what: str, script: str, seconds: float = 30.0) -> Any:
        """Ask the page until it says yes; Playwright's own waiting is an eval, which our pages do not allow."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := self.page.evaluate(script):
                return found
            self.page.wait_for_timeout(100)
        raise AssertionError(f"{what} did not come in {seconds:.0f} s; the page said {self.troubles}")

    def wait_for_viewer(self) -> None:
        self.wait(
            "picture",
            "() => { const v = window.deskViewer; return !!(v?.image && v.view && v.missing === 0 && !v.waiting); }",
        )

    def picture(self, name: str, *, width: int = 1440, height: int = 0) -> None:
        """Take a picture for the documentation, of another height where the page needs it."""
        if PICTURES:
            if height:
                self.page.set_viewport_size({"width": width, "height": height})
            self.page.wait_for_timeout(800)
            self.page.screenshot(path=f"{PICTURES}/{name}.png")


@pytest.fixture
def visit(night: Night, browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Let a person visit; at the end nothing has gone wrong in the page, and no other host was called."""
    opened: list[Visit] = []

    def begin(user: str | None = "astro", **options: Any) -> Visit:
        context = browser.new_context(**({"viewport": {"width": 1440, "height": 900}} | options))
        if user:
            context.add_cookies([{"name": "_token", "value": night.token(user), "url": night.url}])
        visitor = Visit(context.new_page(), night, context)
        visitor.page.on("pageerror", lambda error: visitor.troubles.append(f"error: {error}"))
        visitor.page.on(
            "dialog", lambda dialog: (visitor.troubles.append(f"dialog: {dialog.message}"), dialog.dismiss())
        )
        visitor.page.on("request", lambda request: visitor.addresses.append(request.url))
        opened.append(visitor)
        return visitor

    yield begin
    for visitor in opened:
        foreign = [url for url in visitor.addresses if not url.startswith((night.url, "data:", "blob:"))]
        visitor.context.close()
        assert foreign == []
        assert visitor.troubles == []
