"""Show that the variance of a stack is right: simulate, reduce, and compare with the truth.

Many small images of a known sky are simulated with everything that makes noise (photons, read-out,
rounding to whole ADU, masters from five biases, five flats and five darks) and go through the functions that
make masters and reduce real frames. Where VAR is right, the mean of (stack - truth)^2 / VAR is 1. The tables in
docs/noise.md are written by

    python tools/noise_table.py
"""

import argparse
import itertools
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from nightdesk.science.combine import Combined, Method, combine_frames
from nightdesk.science.extinction import correct_extinction, extinction_factor
from nightdesk.science.flat import normalise_flat
from nightdesk.science.isr import remove_signature
from nightdesk.science.master import MasterPlanes, combine_bias, combine_dark, combine_flat
from nightdesk.science.planes import Planes
from nightdesk.science.shift import shift_planes
from nightdesk.science.sky import estimate_noise, estimate_sky

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]
Offsets = Literal["dithered", "pairs", "undithered"]
Conditions = Literal["one airmass", "mixed airmass", "sky drifts 20 %", "with a dark"]

COUNTS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 31)
OFFSETS: Final[tuple[Offsets, ...]] = ("dithered", "pairs", "undithered")
CONDITIONS: Final[tuple[Conditions, ...]] = ("one airmass", "mixed airmass", "sky drifts 20 %", "with a dark")
METHODS: Final[tuple[Method, ...]] = ("median", "clipped", "mean")
BRIGHT_SKIES: Final = (200.0, 1000.0)
FAINT_SKIES: Final = (30.0, 100.0)

SIZE: Final = 128  # pixels
MARGIN: Final = 4  # pixels; no dither is larger
GAIN: Final = 1.4  # e-/ADU
READ_NOISE: Final = 5.0  # e-
PEDESTAL: Final = 1000.0  # ADU
FLAT_ELECTRONS: Final = 8000.0  # in each of the flats
MASTERS: Final = 5  # biases, flats, and darks
EXPOSURE: Final = 60.0  # s, of frames and darks
DARK_CURRENT: Final = 0.5  # e-/s
EXTINCTION: Final = 0.15  # mag/airmass
FWHM: Final = 3.0  # pixels
STAR_SPACING: Final = 14  # pixels


@dataclass(frozen=True)
class Scene:
    """A sky without noise: starlight above the atmosphere, in electrons, on a grid with margins."""

    stars: Image

    def seen(self, dx: int, dy: int) -> Image:
        """Return what a frame sees that has to be shifted by (dx, dy) to lie on the reference."""
        rows = slice(MARGIN + dy, MARGIN + dy + SIZE)
        columns = slice(MARGIN + dx, MARGIN + dx + SIZE)
        return self.stars[rows, columns]


@dataclass(frozen=True)
class Masters:
    """Masters as they were measured, with their variances, and the true flat; a dark only where one is used."""

    bias: MasterPlanes
    dark: MasterPlanes | None
    flat: Image
    flat_variance: Image | None
    true_flat: Image


@dataclass(frozen=True)
class Group:
    """Frames that are ready to be combined, and what they should combine to.

    `unmatched` are the frames before they are brought to one sky level, `level_errors` what that level is off by.
    """

    frames: list[Planes]
    unmatched: list[Image]
    level_errors: list[float]
    offset_groups: list[int]
    sigmas: list[float]
    level: float
    truth: Image
    sky: Mask
    stars: Mask
    notebook_variances: list[Image]


@dataclass
class Mean:
    """A mean with its standard error, gathered piece by piece."""

    total: float = 0.0
    squares: float = 0.0
    count: int = 0

    def add(self, values: Image) -> None:
        """Take in more values."""
        self.total += float(np.sum(values))
        self.squares += float(np.sum(values**2))
        self.count += values.size

    @property
    def value(self) -> float:
        """The mean."""
        return self.total / self.count

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return float(np.sqrt(max(self.squares / self.count - self.value**2, 0.0) / self.count))


@dataclass
class Figures:
    """Everything that is measured, by its place in the tables."""

    ratios: dict[tuple[object, ...], Mean] = field(default_factory=lambda: defaultdict(Mean))

    def __getitem__(self, key: tuple[object, ...]) -> Mean:
        return self.ratios[key]


def build_scene(rng: np.random.Generator) -> Scene:
    """Build a grid of stars of many brightnesses, each somewhere within its middle pixel."""
    width = SIZE + 2 * MARGIN
    y, x = np.mgrid[:width, :width]
    stars = np.zeros((width, width))
    sigma = FWHM / 2.3548
    places = np.arange(STAR_SPACING // 2, width, STAR_SPACING)
    for cy, cx in itertools.product(places, places):
        flux = 10 ** rng.uniform(3.5, 5.3)
        ay, ax = rng.uniform(-0.5, 0.5, 2)
        square = (y - cy - ay) ** 2 + (x - cx - ax) ** 2
        stars += flux / (2 * np.pi * sigma**2) * np.exp(-0.5 * square / sigma**2)
    return Scene(stars)


def build_masters(rng: np.random.Generator, *, with_dark: bool = False) -> Masters:
    """Make masters of five biases, five flats and (if asked for) five darks, as a night's own are made."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    pixels = rng.normal(1.0, 0.01, (SIZE, SIZE))
    response = pixels * (1.0 - 0.3 * (x**2 + y**2))
    true_flat = response / np.median(response)
    bias = combine_bias([_read_out(np.zeros_like(response), rng) for _ in range(MASTERS)])
    flats = [_read_out(rng.poisson(FLAT_ELECTRONS * true_flat), rng) - bias.data for _ in range(MASTERS)]
    levels = [float(np.median(flat)) for flat in flats]
    made = combine_flat(flats, levels=levels, gain=GAIN, read_noise=READ_NOISE, bias_variance=bias.variance)
    flat, flat_variance, _ = normalise_flat(made.data, made.variance)
    return Masters(bias, _build_dark(rng, bias) if with_dark else None, flat, flat_variance, true_flat)


def _build_dark(rng: np.random.Generator, bias: MasterPlanes) -> MasterPlanes:
    darks = [_read_out(rng.poisson(DARK_CURRENT * EXPOSURE, (SIZE, SIZE)), rng) for _ in range(MASTERS)]
    return combine_dark(darks, exposures=[EXPOSURE] * MASTERS, gain=GAIN, bias=bias.data, bias_variance=bias.variance)


def simulate_group(rng: np.random.Generator, *, n: int, sky: float, offsets: Offsets, conditions: Conditions) -> Group:
    """Simulate and reduce `n` frames; any number of the first of them is a group of its own."""
    scene, masters = build_scene(rng), build_masters(rng, with_dark=conditions == "with a dark")
    frames: list[Planes] = []
    unmatched: list[Image] = []
    electrons: list[Image] = []
    levels: list[float] = []
    level_errors: list[float] = []
    shifts = list(itertools.islice(_shifts(offsets), n))
    spread = list(itertools.islice(_van_der_corput(), n))
    for (dx, dy), where in zip(shifts, spread, strict=True):
        airmass = 1.0 + 1.2 * where if conditions == "mixed airmass" else 1.2
        background = sky * (1.0 + 0.2 * where) if conditions == "sky drifts 20 %" else sky
        factor = extinction_factor(airmass, EXTINCTION)
        light = (background + scene.seen(dx, dy) / factor) * masters.true_flat
        raw = _read_out(rng.poisson(light + (DARK_CURRENT * EXPOSURE if masters.dark else 0.0)), rng)
        planes = _above_the_atmosphere(_calibrate(raw, masters), airmass)
        levels.append(estimate_sky(planes.data, planes.flags)[0])
        level_errors.append(levels[-1] - background * factor)
        frames.append(shift_planes(planes.without_level(levels[-1] - levels[0]), dx, dy))
        unmatched.append(frames[-1].data + (levels[-1] - levels[0]))
        electrons.append(np.roll((raw - masters.bias.data) * GAIN, (dy, dx), axis=(0, 1)))
    reference = extinction_factor(1.0 if conditions == "mixed airmass" else 1.2, EXTINCTION)
    truth = scene.seen(0, 0) + sky * reference
    starlight, noise = scene.seen(0, 0), np.sqrt(sky + READ_NOISE**2)
    inside = np.zeros(truth.shape, dtype=bool)
    inside[MARGIN:-MARGIN, MARGIN:-MARGIN] = True
    return Group(
        frames=frames,
        unmatched=unmatched,
        level_errors=level_errors,
        offset_groups=[sorted(set(shifts)).index(shift) for shift in shifts],
        sigmas=[estimate_noise(planes.variance, planes.flags) for planes in frames],
        level=levels[0],
        truth=truth,
        sky=inside & (starlight < 0.01 * noise),
        stars=inside & (starlight > noise),
        notebook_variances=electrons,
    )


def combine_group(group: Group, n: int, method: Method) -> Combined:
    """Combine the first `n` frames of a group as the pipeline does."""
    frames = group.frames[:n]
    return combine_frames(
        [planes.data for planes in frames],
        [planes.variance for planes in frames],
        [planes.shared_variance for planes in frames],
        [planes.flags for planes in frames],
        offset_groups=group.offset_groups[:n],
        sigmas=group.sigmas[:n],
        method=method,
        clip_sigma=None if method == "mean" else 4.0,
        level=group.level,
    )


def measure(
    figures: Figures, rng: np.random.Generator, *, sky: float, offsets: Offsets, conditions: Conditions,
    counts: Iterable[int], methods: Iterable[Method],
) -> None:  # fmt: skip
    """Add one realisation of a group to the figures, for every number of frames and every method."""
    counts, place = list(counts), (sky, offsets, conditions)
    group = simulate_group(rng, n=max(counts), sky=sky, offsets=offsets, conditions=conditions)
    for n, method in itertools.product(counts, methods):
        stack = combine_group(group, n, method)
        square = (stack.data - group.truth) ** 2
        for kind, where in (("sky", group.sky), ("stars", group.stars)):
            figures[*place, n, method, kind].add(square[where] / stack.variance[where])
    if conditions == "one airmass" and len(group.frames) > 1:
        figures[sky, "level"].add(np.var(group.level_errors, ddof=1, keepdims=True))
    if conditions != "with a dark":
        for n in counts:
            _measure_others(figures, place, group, n)


def _measure_others(figures: Figures, place: tuple[object, ...], group: Group, n: int) -> None:
    """Add the variances that other rules give to the same frames, which none of them brings to one sky level.

    A stack may be too bright or too dark everywhere; only what it scatters about the truth counts.
    """
    for kind, where in (("sky", group.sky), ("stars", group.stars)):
        data = np.stack([image[where] for image in group.unmatched[:n]])
        variance = np.stack([planes.variance[where] for planes in group.frames[:n]])
        electrons = np.stack([image[where] for image in group.notebook_variances[:n]])
        blank = np.stack([image[group.sky] for image in group.unmatched[:n]])
        truth, level = group.truth[where], float(np.mean(group.truth[group.sky]))
        median, mean = np.median(data, axis=0), np.mean(data, axis=0)
        off = {"median": float(np.mean(np.median(blank, axis=0))) - level, "mean": float(np.mean(blank)) - level}
        deviation = np.median(np.abs(data - median), axis=0)
        laplace = 0.5 * np.pi * np.mean(variance, axis=0) / n
        middle = np.take_along_axis(variance, np.argsort(data, axis=0)[n // 2][None], axis=0)[0]
        claims = {
            # astropy/ccdproc, combiner.py: median_combine and average_combine.
            "ccdproc median": (median, (1.482602218505602 * deviation) ** 2 / n),
            "ccdproc average": (mean, np.var(data, axis=0) / n),
            # GeminiDRSoftware/DRAGONS, gempy/library/nddops.py: NDStacker.median (with a mask and without) and mean.
            "DRAGONS median": (median, laplace),
            "DRAGONS median, no mask": (median, middle if n % 2 else laplace),
            "DRAGONS mean": (mean, np.mean(variance, axis=0) / n),
            "notebook": (median, np.median(electrons, axis=0) / n),
        }
        for rule, (value, claim) in claims.items():
            error = value - truth - off["mean" if value is mean else "median"]
            figures[*place, n, rule, kind, "true"].add(error**2)
            figures[*place, n, rule, kind, "claimed"].add(claim)


def _read_out(electrons: NDArray[np.generic], rng: np.random.Generator) -> Image:
    """Return what the camera writes: whole ADU, with read noise, above the pedestal."""
    noisy = np.asarray(electrons, dtype=np.float64) + rng.normal(0.0, READ_NOISE, electrons.shape)
    return np.rint(noisy / GAIN + PEDESTAL)


def _calibrate(raw: Image, masters: Masters) -> Planes:
    return remove_signature(
        raw,
        gain=GAIN,
        read_noise=READ_NOISE,
        bias=masters.bias.data,
        bias_variance=masters.bias.variance,
        dark=masters.dark.data if masters.dark else None,
        dark_variance=masters.dark.variance if masters.dark else None,
        dark_scale=EXPOSURE,
        bias_in_dark=1.0 / EXPOSURE,
        flat=masters.flat,
        flat_variance=masters.flat_variance,
    )


def _above_the_atmosphere(planes: Planes, airmass: float) -> Planes:
    data, variance = correct_extinction(
        planes.data, planes.variance, airmass=airmass, extinction_coefficient=EXTINCTION
    )
    _, shared = correct_extinction(
        planes.data, planes.shared_variance, airmass=airmass, extinction_coefficient=EXTINCTION
    )
    return Planes(data, variance, shared, planes.flags)


def _shifts(offsets: Offsets) -> Iterator[tuple[int, int]]:
    """Yield shifts (dx, dy): all different, each twice, or none at all; the first is (0, 0)."""
    if offsets == "undithered":
        yield from itertools.repeat((0, 0))
    reach = range(-MARGIN, MARGIN + 1)
    places = sorted(itertools.product(reach, reach), key=lambda shift: (shift[0] ** 2 + shift[1] ** 2, shift))
    for place in places:
        yield place
        if offsets == "pairs":
            yield place


def _van_der_corput() -> Iterator[float]:
    """Yield 0, 1, then ever finer fractions between, so that the first few already span the range."""
    yield from (0.0, 1.0)
    for i in itertools.count(1):
        bits = f"{i:b}"[::-1]
        yield sum(int(bit) / 2 ** (k + 1) for k, bit in enumerate(bits))


def run(seed: int, realisations: int, counts: Sequence[int] = COUNTS) -> Figures:
    """Measure everything that the tables show."""
    figures = Figures()
    cases: list[tuple[float, Offsets, Conditions]] = [
        *itertools.product(BRIGHT_SKIES, OFFSETS, CONDITIONS),
        *((sky, OFFSETS[0], CONDITIONS[0]) for sky in FAINT_SKIES),
    ]
    generators = iter(np.random.default_rng(seed).spawn(len(cases) * realisations))
    for sky, offsets, conditions in cases:
        for _ in range(realisations):
            measure(
                figures, next(generators), sky=sky, offsets=offsets, conditions=conditions,
                counts=counts, methods=METHODS,
            )  # fmt: skip
        print(f"{sky:5.0f} e-, {offsets}, {conditions}", flush=True)
    return figures


def extremes(figures: Figures, kind: str, *, n: int | None = None) -> tuple[float, float, float]:
    """Return lowest and highest ratio over the cells of bright skies, and the largest standard error.

    With a number of frames: of so many at one offset.
    """
    ours = {
        key: mean
        for key, mean in figures.ratios.items()
        if key[-1] == kind
        and key[-2] in METHODS
        and key[0] in BRIGHT_SKIES
        and (n is None or key[1:4:2] == ("undithered", n))
    }
    values = [mean.value for mean in ours.values()]
    return min(values), max(values), max(mean.error for mean in ours.values())


PAGE: Final = """\
# Is the variance right?

Every stack comes with a variance, VAR. It is right if the mean of (stack - truth)^2 / VAR is 1. Here the
truth is known, because the frames are simulated; everything after the camera, the masters too, is done by the
functions that reduce real frames. What real ones say: [real_noise.md](real_noise.md).

Written by `{command}`
(seed {seed}, {realisations} realisations of each case, {minutes:.1f} minutes of one core).
Run it again to get the same figures.

**In blank sky of 200 and 1000 e- every figure below lies between {sky[0]:.3f} and {sky[1]:.3f}, on stars
between {stars[0]:.3f} and {stars[1]:.3f}.** The statistical error of a single figure is at most
{sky_error:.1f} % in the sky and {stars_error:.1f} % on stars.

## What is simulated

Images of {size} x {size} pixels; read noise {read_noise:g} e-, gain {gain:g} e-/ADU, whole ADU; a flat with
vignetting and 1 % from pixel to pixel; masters from {masters} biases, {masters} flats of
{flat_electrons:g} e- and {masters} darks of {dark_electrons:g} e-. Stars of 3 000 to 200 000 e-, one PSF of {fwhm:g}
pixels, whole-pixel dithers. *Sky* is where starlight is below a hundredth of the noise, *stars* where it is
above the noise.

- *dithered*: each frame at an offset of its own; *pairs*: two frames at each offset; *undithered*: all at
  one offset, where the error of the masters does not average down.
- *one airmass*: 1.2; *mixed*: 1.0 to 2.2 at {extinction:g} mag/airmass; *drift*: the sky rises by 20 %;
  *dark*: thermal electrons, and a dark of the frames' own exposure time made with the same bias.

Every frame is brought to the sky level of the first before frames are combined. In each cell: sky / stars.

What is left of the deviations beyond chance has two known causes. The flat is made with the same master
bias as the frames, so that the error of the bias partly cancels, which VAR does not know: it shows most in
{most} frames at one offset, where the lowest figures are {lowest:.3f} in the sky and {lowest_star:.3f} on stars.
And the sky level of so small an image is only known to {level:.2f} e- (in a sky of {faintest:g} e-), which adds
up to {level_excess:.1f} % to stacks of {most}; in a full frame it adds nothing.

{tables}
## Faint skies

The shot noise of a frame is taken from each pixel's own count. A pixel that happens to be low claims less
noise than it has, so that (value - truth)^2 / VAR is above 1 on average, by 3 / V - N / V^2 for one frame
with N electrons of sky and V = N + R^2, which is {excess}; and by that over n for n frames.
VAR itself is unbiased. Dithered frames at one airmass:

{faint}
## What other rules say

The same frames with the variance that other rules give, and without our sky matching, which is not part of
them; a level that is wrong everywhere is forgiven. This is the ratio of the mean of (stack - truth)^2 to the
mean of the claimed variance, sky / stars, in a sky of {rule_sky:g} e- (the mean of the ratio does not exist
where the variance comes from the scatter of two or three values).

- *ccdproc* (`Combiner.median_combine`: (1.4826 MAD)^2 / n; `average_combine`: the variance of the values
  over n, without Bessel's correction): a few values know little of their own scatter, and frames at one
  offset cannot see the error they share.
- *DRAGONS* (`NDStacker.median`: pi/2 times the mean variance over n; without a mask and for odd n the
  variance of the middle frame, not divided by n; `NDStacker.mean`: the mean variance over n): pi/2 is the
  limit for many values, and the error of the masters is averaged down.
- *notebook*: the median of the electrons before the flat field, over n: no read noise, no factor of the
  median, no flat field, no extinction.

{rules}"""


def page(figures: Figures, *, command: str, seed: int, realisations: int, minutes: float) -> str:
    """Return the text of docs/noise.md."""
    sky, stars = extremes(figures, "sky"), extremes(figures, "stars")
    most, level = max(COUNTS), float(np.sqrt(figures[BRIGHT_SKIES[0], "level"].value))
    return PAGE.format(
        command=command, seed=seed, realisations=realisations, minutes=minutes,
        sky=sky, stars=stars, sky_error=100 * sky[2], stars_error=100 * stars[2],
        size=SIZE, read_noise=READ_NOISE, gain=GAIN, masters=MASTERS, flat_electrons=FLAT_ELECTRONS,
        fwhm=FWHM, extinction=EXTINCTION, rule_sky=BRIGHT_SKIES[-1], dark_electrons=DARK_CURRENT * EXPOSURE,
        most=most, lowest=extremes(figures, "sky", n=most)[0], lowest_star=extremes(figures, "stars", n=most)[0],
        level=level, faintest=BRIGHT_SKIES[0], level_excess=100 * most * level**2 / (BRIGHT_SKIES[0] + READ_NOISE**2),
        tables="".join(_our_table(figures, sky, method) for sky in BRIGHT_SKIES for method in METHODS),
        faint=_faint_table(figures),
        excess=", ".join(f"{100 * _excess(sky):.1f} % at {sky:g} e-" for sky in (*FAINT_SKIES, BRIGHT_SKIES[0])),
        rules="\n".join(_rules_table(figures, *case) for case in itertools.product(OFFSETS, CONDITIONS[:3])),
    )  # fmt: skip


NAMES: Final = {"median": "Median", "clipped": "Clipped mean", "mean": "Mean"}
RULES: Final = (
    "ccdproc median", "ccdproc average", "DRAGONS median", "DRAGONS median, no mask", "DRAGONS mean", "notebook"
)  # fmt: skip
RULE_COUNTS: Final = (1, 2, 3, 4, 5, 10, 11, 31)
SHORT: Final = {
    "one airmass": "one airmass", "mixed airmass": "mixed", "sky drifts 20 %": "drift", "with a dark": "dark"
}  # fmt: skip


def _our_table(figures: Figures, sky: float, method: Method) -> str:
    cases = list(itertools.product(OFFSETS, CONDITIONS))
    rows = [
        [str(n)]
        + [
            " / ".join(f"{figures[sky, *case, n, method, kind].value:.3f}" for kind in ("sky", "stars"))
            for case in cases
        ]
        for n in COUNTS
    ]
    heads = ["n", *(f"{offsets}, {SHORT[conditions]}" for offsets, conditions in cases)]
    return f"## {NAMES[method]}, sky of {sky:g} e-\n\n{_table(heads, rows)}\n"


def _faint_table(figures: Figures) -> str:
    cases = list(itertools.product(FAINT_SKIES, METHODS))
    rows = [
        [str(n)]
        + [
            " / ".join(
                f"{figures[sky, OFFSETS[0], CONDITIONS[0], n, method, kind].value:.3f}" for kind in ("sky", "stars")
            )
            for sky, method in cases
        ]
        for n in COUNTS
    ]
    return _table(["n", *(f"{sky:g} e-, {NAMES[method].lower()}" for sky, method in cases)], rows)


def _rules_table(figures: Figures, offsets: Offsets, conditions: Conditions) -> str:
    place = BRIGHT_SKIES[-1], offsets, conditions
    rows = []
    for n in (n for n in RULE_COUNTS if n in COUNTS):
        ours = [
            " / ".join(f"{figures[*place, n, method, kind].value:.2f}" for kind in ("sky", "stars"))
            for method in ("median", "mean")
        ]
        rows.append([str(n), *ours, *(_rule_cell(figures, (*place, n, rule)) for rule in RULES)])
    heads = ["n", "Nightdesk median", "Nightdesk mean", *RULES]
    return f"{offsets.capitalize()}, {conditions}:\n\n{_table(heads, rows)}"


def _rule_cell(figures: Figures, place: tuple[object, ...]) -> str:
    pairs = [(figures[*place, kind, "true"].value, figures[*place, kind, "claimed"].value) for kind in ("sky", "stars")]
    return " / ".join(_ratio(*pair) for pair in pairs) if all(claimed > 0 for _, claimed in pairs) else "claims none"


def _excess(sky: float) -> float:
    """Return by how much the ratio of one frame exceeds 1: the third and fourth moment of its noise."""
    variance = sky + READ_NOISE**2
    return 3 / variance - sky / variance**2


def _ratio(true: float, claimed: float) -> str:
    return f"{true / claimed:.2f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (default 1)")
    parser.add_argument("--realisations", type=int, default=12, help="of each case (default 12)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "noise.md")
    arguments = parser.parse_args()
    start = time.process_time()
    figures = run(arguments.seed, arguments.realisations)
    text = page(
        figures,
        command=shlex.join(["python", "tools/noise_table.py", *sys.argv[1:]]),
        seed=arguments.seed,
        realisations=arguments.realisations,
        minutes=(time.process_time() - start) / 60,
    )
    arguments.out.write_text(text, encoding="utf-8")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
