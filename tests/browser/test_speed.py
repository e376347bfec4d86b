"""How fast the pages are with a thousand nights and a 4096 x 4096 stack, and what they cost the server.

The aims are those of an idle machine; the limits here leave room for a busy one. The figures are printed.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from astropy.io import fits

from nightdesk.desk.card import write_stack_card
from nightdesk.desk.night import read_night
from nightdesk.desk.place import night_file
from nightdesk.group import Group
from nightdesk.io.frame import RECIPE, Frame, write_frame
from nightdesk.io.layout import Layout
from tests.browser.conftest import Night, Visit

pytestmark = pytest.mark.slow

NIGHTS, GROUPS = 1000, 10
SIDE = 4096
FIRST_BYTE_SECONDS, USABLE_SECONDS, MEMORY_MB = 0.2, 0.4, 150.0
BUSY = 4.0
"""How many times slower a machine may be that others use at the same time."""


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
    """Write a group whose stack is as large as detectors are, with the figures and tiles that `publish` makes."""
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
    write_frame(layout.stack, frame, depth="float32")
    write_stack_card(layout, frame, {})
    return group


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
    group = _write_stack(night)
    with night.client() as client:
        client.get("nights?quality=green")  # the first look at all nights reads them
        asked = f"group={group.run_id}&step=stack"
        for address in (
            "nights",
            "nights?page=60",
            "nights?target=T7&quality=green",
            f"image?{asked}",
            f"tile?{asked}&level=4&row=0&column=0",
            f"tile?{asked}&level=0&row=8&column=8",
            f"pixel?{asked}&x=2000&y=2000",
        ):
            figures[address.replace(group.run_id, "BIG")] = _seconds(client, address)
    figures["usable image (s)"] = statistics.median(_until_painted(visit, group) for _ in range(5))
    figures["memory after (MB)"] = _memory(night.api_server())
    _tell(capsys, figures)
    pages = [seconds for name, seconds in figures.items() if name.startswith(("nights", "image", "tile", "pixel"))]
    assert max(pages) < BUSY * FIRST_BYTE_SECONDS
    assert figures["usable image (s)"] < BUSY * USABLE_SECONDS
    assert figures["memory after (MB)"] - figures["memory before (MB)"] < MEMORY_MB


def _until_painted(visit: Callable[..., Visit], group: Group) -> float:
    """Return the seconds from the click to the whole stack on the screen, in a browser that has nothing of it."""
    astro = visit()
    astro.context.add_init_script(
        "addEventListener('DOMContentLoaded', () => { const look = () => { const v = window.deskViewer;"
        " if (v && v.image && v.view && v.missing === 0) window.paintedAt ??= performance.now();"
        " else requestAnimationFrame(look); }; look(); });"
    )
    astro.open_desk("stack", group=group.run_id)
    return float(astro.wait("picture", "() => window.paintedAt")) / 1000


def _tell(capsys: pytest.CaptureFixture[str], figures: dict[str, Any]) -> None:
    lines = [f"{name:<50} {value:8.3f}" for name, value in figures.items()]
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
