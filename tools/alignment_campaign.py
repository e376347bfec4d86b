"""Measure how well frames are aligned by their stars, on simulated groups, and write it into docs/alignment.md.

    python tools/alignment_campaign.py --groups 500 --negatives 500 --seed 1 --write

Each group has a reference frame and two more: moved by up to a fifth of the field, turned by up to a degree, some by
half a turn besides (a meridian flip), with 5 to 500 stars, a FWHM of 2 to 6 pixels, hot pixels fixed on the chip, and
in some a cloud, a satellite's trail, or an empty frame. A fifth of the groups is guided: two more frames stand as the
reference frame does, so that stars stay where hot pixels do, before the others jump or flip. A negative is a pair of
frames of different fields with the same hot pixels. Any seed gives another campaign.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nightdesk.science.alignment import align_frames
from nightdesk.science.star import Stars, find_stars
from nightdesk.science.synthetic import Star, add_star, draw_fluxes
from nightdesk.science.transform import Transform, half_turn

Image = NDArray[np.float64]

SHAPE = (480, 512)
MOVED_FRAMES = 2
STILL_FRAMES = 2
GUIDED = 0.2  # part of the groups that have still frames before the moved ones
LARGE_SHAPE = (1300, 1462)
SEEN_SIGNAL_TO_NOISE = 12.0  # a star of so much light is counted as one that can be seen
HEADING = "## Simulated groups"
PAGE = Path(__file__).parent.parent / "docs" / "alignment.md"


@dataclass(frozen=True)
class Sky:
    """A field of stars, and the conditions under which its group was taken."""

    positions: Image
    fluxes: Image
    fwhm: float
    level: float
    hot: Image

    def frame(self, random: np.random.Generator, place: Transform, *, light: float = 1.0, trail: bool = False) -> Image:
        """Return an exposure; `place` takes positions of the field to the frame's, `light` passes the clouds."""
        image = np.zeros(SHAPE)
        for (x, y), flux in zip(place.apply(self.positions), self.fluxes, strict=True):
            add_star(image, Star(float(x), float(y), float(flux * light)), fwhm=self.fwhm)
        if trail:
            _add_trail(image, random, self.fwhm)
        exposed: Image = random.poisson(image + self.level) + random.normal(0.0, READ_NOISE, SHAPE) + self.hot
        return exposed

    def seen(self, place: Transform, light: float) -> NDArray[np.bool_]:
        """Tell which stars stand inside a frame, bright enough to be seen."""
        x, y = place.apply(self.positions).T
        edge = max(self.fwhm, 2.0) + 1.0
        inside = (x > edge) & (y > edge) & (x < SHAPE[1] - 1 - edge) & (y < SHAPE[0] - 1 - edge)
        return np.asarray(inside & (self.fluxes * light > SEEN_SIGNAL_TO_NOISE * _noise(self.fwhm, self.level)))


READ_NOISE = 6.0


def _noise(fwhm: float, level: float) -> float:
    """Return the noise of a faint star's light, in electrons."""
    return 0.9 * fwhm * math.sqrt(math.pi * (level + READ_NOISE**2))


def _add_trail(image: Image, random: np.random.Generator, fwhm: float) -> None:
    ny, nx = SHAPE
    angle, through = random.uniform(0, math.pi), random.uniform(0.2, 0.8, 2) * (nx, ny)
    y, x = np.indices(SHAPE)
    away = (x - through[0]) * math.sin(angle) - (y - through[1]) * math.cos(angle)
    image += random.uniform(200, 3000) * np.exp(-((away / (0.6 * fwhm)) ** 2))


def draw_chip(random: np.random.Generator) -> Image:
    """Return hot pixels, in electrons: up to 3 in a thousand, some beside another."""
    hot = np.zeros(SHAPE)
    number = int(random.uniform(0, 0.003) * hot.size)
    rows, columns = random.integers(0, SHAPE[0], number), random.integers(0, SHAPE[1], number)
    hot[rows, columns] = 10 ** random.uniform(2.0, 4.5, number)
    beside = number // 20
    hot[rows[:beside], np.minimum(columns[:beside] + 1, SHAPE[1] - 1)] = 10 ** random.uniform(2.0, 4.5, beside)
    return hot


def draw_sky(random: np.random.Generator, hot: Image) -> Sky:
    """Return a field with 5 to 500 stars that can be seen in one frame."""
    fwhm, level = random.uniform(2.0, 6.0), 10 ** random.uniform(2.0, 3.5)
    wanted = math.exp(random.uniform(math.log(5.5), math.log(500.0)))
    margin = 0.25 * max(SHAPE)
    size = np.array(SHAPE[::-1]) + 2 * margin
    number = max(round(wanted * size.prod() / math.prod(SHAPE)), 6)
    faintest = SEEN_SIGNAL_TO_NOISE * _noise(fwhm, level)
    fluxes = draw_fluxes(random, number, faintest=faintest, brightest=200.0 * faintest)
    return Sky(random.uniform(0, 1, (number, 2)) * size - margin, fluxes, fwhm, level, hot)


def draw_place(random: np.random.Generator, *, flipped: bool) -> Transform:
    """Return how a frame lies on the reference frame: up to a fifth of the field away, turned by up to a degree."""
    ny, nx = SHAPE
    centre = np.array([(nx - 1) / 2, (ny - 1) / 2])
    turned = Transform(math.radians(random.uniform(-1.0, 1.0)))
    dx, dy = centre - turned.matrix @ centre + random.uniform(-0.2, 0.2, 2) * (nx, ny)
    place = Transform(turned.rotation, 1.0, float(dx), float(dy))
    return half_turn(SHAPE).after(place) if flipped else place


@dataclass(frozen=True)
class Outcome:
    """What became of one frame beside its reference frame; `guided` is one of a group most of which stood still."""

    kind: str  # "frame", "empty" or "negative"
    common: int
    accepted: bool
    centre_error: float  # pixels
    frame_error: float  # pixels, root mean square over the frame
    refusal: str
    flipped: bool = False
    guided: bool = False


def try_group(seed: int, number: int, seconds: Counter[str]) -> list[Outcome]:
    """Simulate one group, align it, and compare with the truth."""
    random = np.random.default_rng([seed, 1, number])
    sky = draw_sky(random, draw_chip(random))
    flips, cloudy, trailed, empty, guided = random.random(5) < (0.2, 0.25, 0.2, 0.1, GUIDED)
    still = STILL_FRAMES if guided else 0
    places = [Transform()] + [Transform(0.0, 1.0, *random.normal(0.0, 0.1, 2)) for _ in range(still)]
    places += [draw_place(random, flipped=bool(flips and k == MOVED_FRAMES)) for k in range(1, MOVED_FRAMES + 1)]
    frames = len(places)
    lights = [1.0] + [float(random.uniform(0.3, 1.0)) if cloudy else 1.0 for _ in range(1, frames)]
    lost = int(random.integers(1, frames)) if empty else -1
    lists = []
    for k, (place, light) in enumerate(zip(places, lights, strict=True)):
        image = sky.frame(random, place, light=0.0 if k == lost else light, trail=bool(trailed and k == 1))
        began = time.process_time()
        lists.append(find_stars(image))
        seconds["find"] += time.process_time() - began  # type: ignore[assignment]
    began = time.process_time()
    alignment = align_frames(lists, SHAPE)
    seconds["match"] += time.process_time() - began  # type: ignore[assignment]
    seconds["frames"] += frames
    base = alignment.reference
    shown = [sky.seen(place, 0.0 if k == lost else lights[k]) for k, place in enumerate(places)]
    outcomes = []
    for k in range(frames):
        if k != base:
            match = alignment.matches[k]
            true = places[base].after(places[k].inverse())
            common = int(np.count_nonzero(shown[base] & shown[k]))
            kind = "empty" if k == lost else "frame"
            errors = errors_of(match.transform, true)
            outcomes.append(
                Outcome(kind, common, match.accepted, *errors, match.refusal, true.is_flip, guided=bool(guided))
            )
    return outcomes


def errors_of(found: Transform, true: Transform) -> tuple[float, float]:
    """Return by how much a transform is wrong at the frame's centre, and over the frame, in pixels."""
    ny, nx = SHAPE
    grid = np.stack(np.meshgrid(np.linspace(0, nx - 1, 7), np.linspace(0, ny - 1, 7)), axis=-1).reshape(-1, 2)
    off = np.linalg.norm(found.apply(grid) - true.apply(grid), axis=1)
    return float(off[len(grid) // 2]), float(np.sqrt(np.mean(off**2)))


def try_negative(seed: int, number: int) -> Outcome:
    """Try to align two frames of different fields that share their hot pixels."""
    random = np.random.default_rng([seed, 2, number])
    hot = draw_chip(random)
    skies = [draw_sky(random, hot) for _ in range(2)]
    lists: list[Stars] = [find_stars(sky.frame(random, Transform())) for sky in skies]
    alignment = align_frames(lists, SHAPE)
    refusal = " ".join(match.refusal for match in alignment.matches)
    return Outcome("negative", 0, len(alignment.aligned) > 1, math.inf, math.inf, refusal.strip())


@dataclass(frozen=True)
class Campaign:
    """All outcomes, and what they cost."""

    groups: list[list[Outcome]]
    negatives: list[Outcome]
    find_seconds: float
    match_seconds: float

    @property
    def frames(self) -> list[Outcome]:
        """The frames that show their field."""
        return [outcome for group in self.groups for outcome in group if outcome.kind == "frame"]

    @property
    def empty(self) -> list[Outcome]:
        """The frames without a star."""
        return [outcome for group in self.groups for outcome in group if outcome.kind == "empty"]

    def share(self, limit: float, *, fewest: int = 0, whole: bool = False) -> float:
        """Return which part of the frames with so many common stars is aligned within `limit` pixels."""
        chosen = [one for one in self.frames if one.common >= fewest]
        near = [one for one in chosen if one.accepted and (one.frame_error if whole else one.centre_error) <= limit]
        return len(near) / max(len(chosen), 1)

    def group_share(self, limit: float, *, fewest: int = 0) -> float:
        """Return which part of the groups has every frame (but the empty ones) aligned within `limit` pixels."""
        chosen = [[one for one in group if one.kind == "frame"] for group in self.groups]
        chosen = [group for group in chosen if group and min(one.common for one in group) >= fewest]
        good = [group for group in chosen if all(one.accepted and one.centre_error <= limit for one in group)]
        return len(good) / max(len(chosen), 1)

    @property
    def wrong(self) -> list[Outcome]:
        """Alignments that were accepted and are off by more than a pixel, or should not be at all."""
        false = [one for one in (*self.negatives, *self.empty) if one.accepted]
        return false + [one for one in self.frames if one.accepted and not one.frame_error <= 1.0]


def run(groups: int, negatives: int, seed: int, *, show: bool = False) -> Campaign:
    """Run a campaign."""
    seconds: Counter[str] = Counter()
    tried = []
    for number in range(groups):
        tried.append(try_group(seed, number, seconds))
        if show and number % 50 == 49:
            print(f"{number + 1} groups", file=sys.stderr, flush=True)
    false = [try_negative(seed, number) for number in range(negatives)]
    frames = max(seconds["frames"], 1)
    return Campaign(tried, false, seconds["find"] / frames, seconds["match"] / frames)


def large_frame_seconds(stars: int, *, tries: int = 3) -> tuple[float, float]:
    """Return the CPU time that finding stars in a frame of 1.9 million pixels, and matching it, takes: the best one."""
    random = np.random.default_rng(stars)
    ny, nx = LARGE_SHAPE
    positions, fluxes = random.uniform(0, 1, (stars, 2)) * (nx, ny), 10 ** random.uniform(3.3, 5.5, stars)
    hot = random.integers(0, nx * ny, 4000)
    images = []
    for place in (Transform(), Transform(dx=31.2, dy=-20.4)):
        light = np.zeros(LARGE_SHAPE)
        for (x, y), flux in zip(place.apply(positions), fluxes, strict=True):
            add_star(light, Star(float(x), float(y), float(flux)), fwhm=3.5)
        images.append(random.poisson(light + 300.0) + random.normal(0.0, READ_NOISE, LARGE_SHAPE))
        images[-1].flat[hot] += 5000.0
    find, match = [], []
    for _ in range(tries):
        began = time.process_time()
        lists = [find_stars(image) for image in images]
        found = time.process_time()
        align_frames(lists, LARGE_SHAPE)
        find.append((found - began) / len(images))
        match.append(time.process_time() - found)
    return min(find), min(match)


def kind_of(refusal: str) -> str:
    """Return the kind of a refusal: its words before the figures."""
    return refusal.split(":")[0]


def main() -> None:
    """Run a campaign and print its figures, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=500)
    parser.add_argument("--negatives", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    arguments = parser.parse_args()
    began = time.monotonic()
    campaign = run(arguments.groups, arguments.negatives, arguments.seed, show=True)
    seconds = time.monotonic() - began
    text = page(campaign, arguments, seconds, {stars: large_frame_seconds(stars) for stars in (60, 500, 2000)})
    print(text)
    if arguments.write:
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")


def replaced(whole: str, text: str) -> str:
    """Return the page with the campaign's section replaced."""
    before, rest = whole.split(HEADING)
    _, *after = rest.split("\n## ", 1)
    return before + text + "".join(f"\n## {part}" for part in after)


def page(
    campaign: Campaign, arguments: argparse.Namespace, seconds: float, large: dict[int, tuple[float, float]]
) -> str:
    """Return the section of the page that a campaign writes."""
    ranges = [(0, 5), (5, 8), (8, 20), (20, 50), (50, 10**6)]
    rows = []
    for low, high in ranges:
        chosen = [one for one in campaign.frames if low <= one.common < high]
        errors = [one.centre_error for one in chosen if one.accepted]
        whole = [one.frame_error for one in chosen if one.accepted]
        name = f"{low} to {high - 1}" if high < 10**6 else f"{low} and more"
        if errors:
            within = [f"{sum(e <= limit for e in errors) / len(chosen):.3f}" for limit in (0.1, 0.5)]
            rows.append(
                f"| {name} | {len(chosen)} | {len(errors)} | {within[0]} | {within[1]} | {np.median(errors):.3f} "
                f"| {np.median(whole):.3f} |"
            )
        else:
            rows.append(f"| {name} | {len(chosen)} | 0 | - | - | - | - |")
    refused = Counter(kind_of(one.refusal) for one in campaign.frames if not one.accepted)
    blind = Counter(kind_of(one.refusal) for one in campaign.empty if not one.accepted)
    false = Counter(kind_of(one.refusal) for one in campaign.negatives if not one.accepted)
    flipped = [one for one in campaign.frames if one.flipped and one.common >= 5]
    guided = [one for one in campaign.frames if one.guided and one.common >= 5]
    kinds = [
        f"| {name} | {refused[name]} | {blind[name]} | {false[name]} |" for name in sorted(refused | blind | false)
    ]
    lines = [
        HEADING,
        "",
        f"    python tools/alignment_campaign.py --groups {arguments.groups} --negatives {arguments.negatives} "
        f"--seed {arguments.seed} --write",
        "",
        f"({seconds / 60:.0f} minutes on one core, shared with others; any other seed will do.)",
        "",
        *(__doc__ or "").split("\n\n")[2].strip().splitlines(),
        "",
        f"Frames have {SHAPE[1]} x {SHAPE[0]} pixels. A common star stands in both frames with a signal-to-noise",
        f"ratio of {SEEN_SIGNAL_TO_NOISE:g} or more. Errors are those of the transform that was found: at the frame's",
        "centre, and as root mean square over the frame, rotation included.",
        "",
        "| | within 0.1 px | within 0.5 px |",
        "|---|---|---|",
        f"| frames | {campaign.share(0.1):.3f} | {campaign.share(0.5):.3f} |",
        f"| frames with 5 common stars or more | {campaign.share(0.1, fewest=5):.3f} | "
        f"{campaign.share(0.5, fewest=5):.3f} |",
        f"| the same, root mean square over the frame | {campaign.share(0.1, fewest=5, whole=True):.3f} | "
        f"{campaign.share(0.5, fewest=5, whole=True):.3f} |",
        f"| groups, every frame of which | {campaign.group_share(0.1):.3f} | {campaign.group_share(0.5):.3f} |",
        f"| groups with 5 common stars or more | {campaign.group_share(0.1, fewest=5):.3f} | "
        f"{campaign.group_share(0.5, fewest=5):.3f} |",
        "",
        f"Accepted and wrong by more than a pixel, or of another or an empty field: **{len(campaign.wrong)}** of "
        f"{len(campaign.frames)} frames, {len(campaign.empty)} empty ones and {len(campaign.negatives)} negatives. "
        f"Of {len(flipped)} flipped frames with 5 common stars {sum(one.accepted for one in flipped)} were aligned, "
        f"of {len(guided)} frames of guided groups {sum(one.accepted for one in guided)}. "
        f"Finding the stars of a frame took {1000 * campaign.find_seconds:.0f} ms of CPU time, matching it "
        f"{1000 * campaign.match_seconds:.0f} ms.",
        "",
        "| common stars | frames | aligned | within 0.1 px | within 0.5 px | median error (px) | over the frame |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Why the others were refused:",
        "",
        "| reason | frames | empty frames | negatives |",
        "|---|---|---|---|",
        *kinds,
        "",
        f"Seconds of CPU time for a frame of {LARGE_SHAPE[1]} x {LARGE_SHAPE[0]} pixels (1.9 million) with 4000 hot "
        "pixels, the best of three:",
        "",
        "| stars | to find them | to match them |",
        "|---|---|---|",
        *(f"| {stars} | {find:.2f} | {match:.2f} |" for stars, (find, match) in large.items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
