"""Real frames under a real Airflow: a person is asked about an archived night, which is reduced by its sidecar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from nightdesk.night import night_of
from nightdesk.settings import load_settings
from tests import oscaar
from tests.airflow.desk import GROUP_DAG, NIGHT_DAG, Airflow, Desk
from tests.test_real_frames import BRIGHT, find_stars, positions
from tools import observatory

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not oscaar.FRAMES.is_dir(), reason=oscaar.ABSENT)]

PORT = 28785
MORE = '\n[align]\nmode = "wait"\n[watch]\nsettle_seconds = 3\nreadout_seconds = 1\nstalled_seconds = 12\n'


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk with the night on its disk, but for the sidecar."""
    place = tmp_path_factory.mktemp("tres1")
    home, root = place / "home", place / "data"
    config = oscaar.set_up(root, sidecar=False)
    config.write_text(config.read_text() + MORE)
    oscaar.deliver(root)
    with observatory.start(home, data=root, config=config, port=PORT) as running:
        airflow = Airflow(running.url, *observatory.login(home))
        settings = load_settings(config)
        made = Desk(
            root=root,
            night=night_of(datetime.now(UTC), ZoneInfo("America/New_York")),
            archived=(oscaar.NIGHT,),
            airflow=airflow,
            observatory=running,
            config=config,
            settle_seconds=settings.watch.settle_seconds,
            nights_per_day=0,
        )
        running.wait_until_ready(300)
        yield made
        airflow.close()


def test_real_frames_are_asked_about_and_then_reduced_by_their_sidecar(desk: Desk, say: Callable[[str], None]) -> None:
    group = desk.group(oscaar.TARGET, oscaar.NIGHT)
    # Nobody knows when a person will answer: the night's report does not wait for that.
    asked = desk.airflow.trigger(NIGHT_DAG, night=f"{oscaar.NIGHT}")
    assert desk.wait_for_end(NIGHT_DAG, asked, 600)["state"] == "success"
    assert desk.states_of(NIGHT_DAG, asked, "reduce_archived") == {group.run_id: "skipped"}
    assert desk.states(group, "ask") == {"-1": "awaiting_input"}
    # A sidecar written by hand is an answer too.
    oscaar.write_sidecar(desk.root)
    again = desk.airflow.trigger(NIGHT_DAG, night=f"{oscaar.NIGHT}")
    assert desk.wait_for_end(NIGHT_DAG, again, 600)["state"] == "success"
    run = desk.airflow.run(GROUP_DAG, group.run_id)
    assert run is not None
    desk.assert_green(group, run)
    assert desk.manifest(group)["state"] == "done"
    assert desk.stacked(group) == oscaar.NAMES
    stars_are_round_and_single(desk.folder(group, "combined") / "combined.fits")
    say(f"the picture: {desk.folder(group, 'combined') / 'combined.png'}")


def stars_are_round_and_single(stack: Path) -> None:
    """Fail where stars are drawn out, or have a twin as far away as the frames drifted."""
    stars, places = find_stars(stack), positions()
    assert len(stars.x) == BRIGHT
    assert np.median(stars.elongation) < 1.25
    for name in oscaar.NAMES[1:]:
        dx, dy = np.subtract(places[name], places[oscaar.NAMES[0]])
        twins = np.hypot(stars.x[:, None] - (stars.x - dx), stars.y[:, None] - (stars.y - dy)).min(axis=1) < 2
        assert twins.mean() < 0.2
