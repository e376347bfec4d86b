"""How fast the pages are with a thousand nights and a 4096 x 4096 stack, and what they cost the server.

The aims are those of an idle machine; the limits here leave room for a busy one. The figures are printed, and stand in
docs/desk.md.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from astropy.io import fits

from nightdesk.desk.card import write_stack_card
from nightdesk.desk.night import read_night
from nightdesk.desk.place import frame_card, frame_thumbnail, night_file
from nightdesk.desk.served import Served
from nightdesk.group import Group
from nightdesk.io.atomic import write_json
from nightdesk.io.frame import RECIPE, Frame, write_frame
from nightdesk.io.layout import EXTINCTION, SHIFTED, Layout
from tests.browser.conftest import Night, Visit

pytestmark = pytest.mark.slow

NIGHTS, GROUPS = 1000, 10
SIDE = 4096
FRAMES = 3
MANY = 150
FIRST_BYTE_SECONDS, USABLE_SECONDS, MEMORY_MB = 0.2, 0.4, 150.0
COLD_SECONDS, BLINK_SECONDS = 0.5, 0.1
BUSY = max(1.5, os.getloadavg()[0] / (os.cpu_count() or 1))
"""How many times slower the machine may be: as many as there are processes for each core when the test begins."""


def _write_nights(night: Night) -> None:
    row = next(iter(read_night(night.settings, night.date)["groups"].values()))
    for number in range(1, NIGHTS + 1):
        day = night.date - timedelta(days=number)
        values = read_night(night.settings, day) | {"report": True, "raws": {"used": 30}}
        for target in range(GROUPS):
            group = Group(day, f"T{target}", "R")
            values["groups"][group.key] = row | group.params | {"key": group.key, "run_id": group.run_id}
        night_file(night.settings, day).write_text(json.dumps(values))


def _write_stack(night: Night) -> Group:
    """Write a group as large as detectors are, with the figures and tiles that `publish` makes, and frames to blink."""
    model = night.served("NGC5949")
    group = replace(model.group, target="BIG")
    layout = Layout(night.settings, group)
    random = np.random.default_rng(1)
    data = random.normal(900.0, 9.0, (SIDE, SIDE)).astype(np.float32)
    y, x = np.indices((21, 21)) - 10
    star = np.exp(-(x**2 + y**2) / 8.0)
    for left, low in random.integers(20, SIDE - 40, (900, 2)):
        data[low : low + 21, left : left + 21] += random.uniform(100, 40_000) * star
    header = fits.getheader(model.layout.stack)
    header[RECIPE] = "big"
    frame = Frame(data, np.full_like(data, 81.0), None, np.zeros(data.shape, np.uint16), header)
    counts = [
        fits.ImageHDU(np.full(data.shape, 20, np.uint16), name="COVERAGE"),
        fits.ImageHDU((random.random(data.shape, np.float32) < 0.001).astype(np.uint8), name="NREJ"),
    ]
    write_frame(layout.stack, frame, depth="float32", extra=counts)
    write_stack_card(layout, frame, {})
    _write_ledger(model, layout)
    for name in model.names:
        for step in (SHIFTED, EXTINCTION):
            write_frame(layout.product(step, name), frame, depth="float32")
        shutil.copy(frame_card(model.layout, name), _parent_made(frame_card(layout, name)))
    return group


def _write_ledger(model: Served, layout: Layout) -> None:
    inputs = json.loads(model.layout.inputs.read_text()) | {"group": layout.group.key}
    manifest = json.loads(model.layout.manifest.read_text())
    manifest["group"] |= {"key": layout.group.key, "target": "BIG"}
    write_json(layout.inputs, inputs)
    write_json(layout.manifest, manifest)


def _write_many(night: Night) -> Group:
    """Write a group of as many frames as a long series has, each of which can be blinked."""
    model = night.served("NGC5949")
    group = replace(model.group, target="MANY")
    layout = Layout(night.settings, group)
    shutil.copytree(model.layout.stack.parent, layout.stack.parent)
    inputs, manifest = (json.loads(path.read_text()) for path in (model.layout.inputs, model.layout.manifest))
    raw, place = next(raw for raw in manifest["raws"] if raw["name"] == model.names[0]), next(iter(inputs["raws"]))
    names = [f"m{number:03d}" for number in range(MANY)]
    inputs |= {"group": group.key, "frames": names}
    inputs["raws"] = {place.replace(model.names[0], name): inputs["raws"][place] for name in names}
    manifest["group"] |= {"key": group.key, "target": "MANY"}
    manifest["raws"] = [raw | {"name": name, "path": raw["path"].replace(model.names[0], name)} for name in names]
    write_json(layout.inputs, inputs)
    write_json(layout.manifest, manifest)
    for name in names:
        shutil.copy(frame_card(model.layout, model.names[0]), frame_card(layout, name))
        shutil.copy(frame_thumbnail(model.layout, model.names[0]), frame_thumbnail(layout, name))
        for step in (SHIFTED, EXTINCTION):
            _parent_made(layout.product(step, name)).hardlink_to(model.layout.product(step, model.names[0]))
    return group


def _parent_made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _memory(pid: int) -> float:
    """Return the memory of the API server and its children that is theirs alone, in MB."""
    server = psutil.Process(pid)
    return sum(one.memory_full_info().uss for one in [server, *server.children(recursive=True)]) / 1e6


def _seconds(client: httpx.Client, address: str, times: int = 7) -> float:
    spent = []
    for _ in range(times):
        begun = time.perf_counter()
        with client.stream("GET", address) as answer:
            spent.append(time.perf_counter() - begun)
            assert answer.status_code == 200, address
            answer.read()
    return statistics.median(spent)


def test_pages_are_fast_and_the_server_stays_small(
    visit: Callable[..., Visit], night: Night, capsys: pytest.CaptureFixture[str]
) -> None:
    figures: dict[str, Any] = {"memory before (MB)": _memory(night.api_server())}
    _write_nights(night)
    group, many = _write_stack(night), _write_many(night)
    with night.client() as client:
        figures["first request of all"] = _seconds(client, "static/moon.svg", 1)  # the desk is imported by it
        figures["cold index: nights"] = _seconds(client, "nights", 1)
        asked = f"group={group.run_id}&step=stack"
        for address in (
            f"stack?group={group.run_id}",
            f"frames?group={group.run_id}",
            f"pick?group={group.run_id}",
            *(f"{page}?group={many.run_id}" for page in ("stack", "frames", "pick")),
            "nights",
            "nights?page=60",
            "nights?target=T7&quality=green",
            f"image?{asked}",
            f"tile?{asked}&level=4&row=0&column=0",
            f"tile?{asked}&level=0&row=8&column=8",
            f"tile?{asked}&level=4&row=0&column=0&kind=coverage",
            f"tile?{asked}&level=4&row=0&column=0&kind=rejected",
            f"tile?{asked}&level=0&row=8&column=8&kind=rejected",
            f"tile?group={group.run_id}&step=shifted&name={night.served('NGC5949').names[0]}&level=4&row=0&column=0",
            f"tile?group={group.run_id}&step=shifted&name={night.served('NGC5949').names[0]}&level=2&row=1&column=1",
            f"pixel?{asked}&x=2000&y=2000",
        ):
            figures[address.replace(group.run_id, "BIG")] = _seconds(client, address)
    looks = [_until_painted(visit, group) for _ in range(7)]
    figures["usable image (s)"] = statistics.median(first for first, _ in looks)
    figures["sharp image (s)"] = statistics.median(sharp for _, sharp in looks)
    figures |= _blinked(visit, group)
    figures["memory after (MB)"] = _memory(night.api_server())
    _tell(capsys, {"processes for each core": BUSY} | figures)
    pages = [seconds for name, seconds in figures.items() if "?" in name or name == "nights"]
    assert max(pages) < BUSY * FIRST_BYTE_SECONDS
    assert figures["cold index: nights"] < BUSY * COLD_SECONDS
    assert figures["blink again (s)"] < BUSY * BLINK_SECONDS
    assert figures["usable image (s)"] < BUSY * USABLE_SECONDS
    assert figures["memory after (MB)"] - figures["memory before (MB)"] < MEMORY_MB


def _until_painted(visit: Callable[..., Visit], group: Group) -> tuple[float, float]:
    """Return the seconds from the click until the whole stack is seen, and until it is sharp, with an empty cache."""
    astro = visit()
    astro.context.add_init_script(
        "addEventListener('DOMContentLoaded', () => { const look = () => { const v = window.deskViewer;"
        " if (v && v.image && v.view && v.blank === 0) window.seenAt ??= performance.now();"
        " if (v && v.image && v.view && v.missing === 0) window.paintedAt ??= performance.now();"
        " else requestAnimationFrame(look); }; look(); });"
    )
    astro.open_desk("stack", group=group.run_id)
    sharp = float(astro.wait("picture", "() => window.paintedAt")) / 1000
    return float(astro.page.evaluate("() => window.seenAt")) / 1000, sharp


def _blinked(visit: Callable[..., Visit], group: Group) -> dict[str, float]:
    """Return the seconds from a key to the next whole image, for images that are fetched ahead and that were seen."""
    astro = visit()
    page = astro.open_desk("stack", group=group.run_id)
    astro.wait_for_viewer()
    images = page.locator("#image option").count()
    assert images == 1 + 2 * FRAMES
    page.locator("#view").focus()
    spent = []
    for _ in range(2 * images):
        page.wait_for_timeout(1500)  # what a person looks at before the next key
        spent.append(page.evaluate(BLINK))
    return {
        "blink, fetched ahead (s)": statistics.median(spent[: images - 1]) / 1000,
        "blink again (s)": statistics.median(spent[images:]) / 1000,
    }


BLINK = """() => new Promise((done) => {
  const viewer = window.deskViewer, before = viewer.image, begun = performance.now();
  const look = () => {
    if (viewer.image === before || viewer.missing) return;
    viewer.removeEventListener("painted", look);
    done(performance.now() - begun);
  };
  viewer.addEventListener("painted", look);
  viewer.canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "n", bubbles: true }));
})"""


def _tell(capsys: pytest.CaptureFixture[str], figures: dict[str, Any]) -> None:
    lines = [f"{name:<50} {value:8.3f}" for name, value in figures.items()]
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
