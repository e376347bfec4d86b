"""Show what the noise of real frames is: eight exposures of TrES-1 by an SBIG ST-10, with five darks.

The frames are not part of the repository; ``NIGHTDESK_REAL_DATA`` says where they are (default ../shared/data).
docs/real_noise.md is written by

    python tools/real_noise.py
"""

import argparse
import csv
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from nightdesk.science.combine import Combined, combine_frames
from nightdesk.science.isr import remove_signature
from nightdesk.science.master import combine_dark
from nightdesk.science.noise_ratio import noise_ratio
from nightdesk.science.object_mask import find_objects
from nightdesk.science.planes import Planes
from nightdesk.science.read_noise import measure_read_noise
from nightdesk.science.scatter import robust_scatter
from nightdesk.science.shift import shift_planes, whole_pixels
from nightdesk.science.sky import estimate_noise, estimate_sky

Image = NDArray[np.float64]

ROOT: Final = Path(__file__).parents[1]
HEADER_GAIN: Final = 0.78
SATURATION: Final = 60_000.0
TILE: Final = 64  # pixels; the power spectrum is the mean over tiles of blank sky
BANDS: Final = ((0.0, 0.05), (0.05, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.71))


class Night:
    """The eight lights in the order of their times, where their star is, and the five darks, in ADU."""

    def __init__(self, folder: Path) -> None:
        with (folder / "xy.csv").open() as lines:
            self.places = {row["fname"]: (float(row["x"]), float(row["y"])) for row in csv.DictReader(lines)}
        self.lights = [np.asarray(fits.getdata(folder / f"{name}.fit"), np.float64) for name in self.places]
        self.darks = [np.asarray(fits.getdata(path), np.float64) for path in sorted(folder.glob("*d.fit"))]
        self.read_noise = float(np.mean([measure_read_noise(a, b) for a, b in pairwise(self.darks)]))  # ADU
        self.dark = np.median(self.darks, axis=0)

    def frames(self, gain: float) -> list[Planes]:
        """Return the lights in electrons."""
        dark = combine_dark(self.darks, exposures=[60.0] * len(self.darks), gain=gain)
        return [
            remove_signature(
                light,
                gain=gain,
                read_noise=self.read_noise * gain,
                dark=dark.data,
                dark_variance=dark.variance,
                dark_contains_bias=True,
                saturation=SATURATION,
            )
            for light in self.lights
        ]

    def shifted(self, frames: Sequence[Planes]) -> list[Planes]:
        """Return frames on the grid of the first."""
        x, y = next(iter(self.places.values()))
        shifts = [(whole_pixels(x - a), whole_pixels(y - b)) for a, b in self.places.values()]
        return [shift_planes(frame, *shift) for frame, shift in zip(frames, shifts, strict=True)]

    def blank_differences(self) -> list[tuple[float, Image]]:
        """Return the light of each pair of lights that follow each other, and their difference in blank sky (ADU)."""
        found = []
        for first, second in pairwise(self.lights):
            a, b = first - self.dark, second - self.dark
            blank = _blank(a) & _blank(b)
            found.append((float(a[blank].mean() + b[blank].mean()), np.where(blank, a - b, np.nan)))
        return found


def _blank(image: Image) -> NDArray[np.bool_]:
    level, sigma = estimate_sky(image)
    return ~find_objects(image, np.ones(image.shape, bool), level=level, sigma=sigma)


def combine(frames: Sequence[Planes], offset_groups: Sequence[int]) -> Combined:
    """Combine frames as the pipeline does."""
    levels = [estimate_sky(frame.data, frame.flags)[0] for frame in frames]
    matched = [frame.without_level(level - levels[0]) for frame, level in zip(frames, levels, strict=True)]
    return combine_frames(
        [frame.data for frame in matched],
        [frame.variance for frame in matched],
        [frame.shared_variance for frame in matched],
        [frame.flags for frame in matched],
        offset_groups=offset_groups,
        sigmas=[estimate_noise(frame.variance, frame.flags) for frame in matched],
        level=levels[0],
    )


def ratio(stack: Combined | Planes) -> float:
    """Return measured over claimed noise."""
    return noise_ratio(stack.data, stack.variance, stack.flags)


def photon_transfer(differences: Sequence[tuple[float, Image]]) -> tuple[float, float]:
    """Return the gain (e-/ADU) and the read noise (ADU) by the line on which noise against light falls."""
    light, noise = [], []
    for level, difference in differences:
        steps = np.diff(difference, axis=1)
        light.append(level)
        noise.append(robust_scatter(steps[np.isfinite(steps)]) ** 2 / 2)
    slope, intercept = np.polyfit(light, noise, 1)
    return float(1 / slope), float(np.sqrt(max(intercept, 0.0) / 2))


def power_spectrum(differences: Sequence[tuple[float, Image]]) -> list[tuple[float, float]]:
    """Return the power of each band of spatial frequency, and its standard error; white noise has 1 in each.

    Each tile of blank sky has its plane taken off; what is no blank sky is 0, and the power is that of as many pixels.
    """
    y, x = np.indices((TILE, TILE)) / TILE - 0.5
    plane = np.stack([np.ones_like(x), x, y])
    fy, fx = np.meshgrid(np.fft.fftfreq(TILE), np.fft.fftfreq(TILE), indexing="ij")
    frequency = np.hypot(fx, fy)
    powers: list[list[float]] = [[] for _ in BANDS]
    for _, difference in differences:
        ny, nx = difference.shape
        for top in range(0, ny - TILE + 1, TILE):
            for left in range(0, nx - TILE + 1, TILE):
                tile = difference[top : top + TILE, left : left + TILE]
                good = np.isfinite(tile)
                good &= (
                    np.abs(tile - np.nanmedian(tile)) < 5 * robust_scatter(tile[good]) if good.mean() > 0.9 else False
                )
                if good.mean() < 0.9:
                    continue
                fit, *_ = np.linalg.lstsq(plane[:, good].T, tile[good], rcond=None)
                rest = np.where(good, tile - np.tensordot(fit, plane, 1), 0.0)
                power = np.abs(np.fft.fft2(rest)) ** 2 / np.sum(rest**2)
                for band, (low, high) in zip(powers, BANDS, strict=True):
                    band.append(float(np.mean(power[(frequency > low) & (frequency <= high)])))
    return [(float(np.mean(band)), float(np.std(band) / np.sqrt(len(band)))) for band in powers]


PAGE: Final = """\
# The noise of real frames

Eight exposures of TrES-1 by an SBIG ST-10 (`oscaar_tres1`) and five darks that contain the bias; no flat. Written by
`python tools/real_noise.py`.

NOISERAT is the noise that a stack has over the noise that it claims. All figures once with the gain that the
header has (EGAIN = {header_gain:g} e-/ADU), once with the gain that the light itself tells: the noise of the sky in
differences of frames that follow each other rises with its light along a line of one over **{gain:.2f} e-/ADU** (photon
transfer). The read noise is that of the darks, {noise:.2f} ADU; by the line it is {noise_of_line:.1f} ADU.

| frames | EGAIN = {header_gain:g} | gain = {gain:.2f} |
| --- | --- | --- |
{rows}
With the gain of the light every figure lies between {low:.3f} and {high:.3f}.

## The cause is the gain, not a pattern

If neighbours shared their noise, or the camera had a pattern, the power of a difference of two frames would depend
on the spatial frequency; white noise has 1 in each band. These are means over tiles of {tile} x {tile} pixels, with
their standard errors: of blank sky in lights that follow each other, and of the darks.

| cycles a pixel | lights | darks |
| --- | --- | --- |
{spectrum}

Between neighbours (above 0.2 cycles a pixel), which NOISERAT compares, the noise of the lights is white: it is the
photons', and only their number, hence the gain, was wrong. What lights have beyond that is of several pixels, and not
the camera's, whose darks have less power there, not more: faint stars that no mask knows, which lie elsewhere in each
frame of a telescope that drifted.
"""


def page(night: Night) -> str:
    """Return the text of docs/real_noise.md."""
    differences = night.blank_differences()
    gain, noise_of_line = photon_transfer(differences)
    columns = [_ratios(night, one) for one in (HEADER_GAIN, gain)]
    rows = "".join(
        f"| {words} | {' | '.join(f'{column[words]:.3f}' for column in columns)} |\n" for words in columns[0]
    )
    of_darks = [(0.0, a - b) for a, b in pairwise(night.darks)]
    spectrum = "\n".join(
        f"| {low:g} to {high:g} | {lights[0]:.3f} +- {lights[1]:.3f} | {darks[0]:.3f} +- {darks[1]:.3f} |"
        for (low, high), lights, darks in zip(BANDS, power_spectrum(differences), power_spectrum(of_darks), strict=True)
    )
    ours = columns[1].values()
    return PAGE.format(
        header_gain=HEADER_GAIN, gain=gain, noise=night.read_noise, noise_of_line=noise_of_line, rows=rows,
        low=min(ours), high=max(ours), tile=TILE, spectrum=spectrum,
    )  # fmt: skip


def _ratios(night: Night, gain: float) -> dict[str, float]:
    frames, names = night.frames(gain), list(night.places)
    found = {"all eight, on the grid of the first": ratio(combine(night.shifted(frames), range(len(frames))))}
    for one in range(0, len(frames) - 1, 2):
        found[f"{names[one]} and {names[one + 1]}, not shifted"] = ratio(combine(frames[one : one + 2], [0, 0]))
    return found


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "real_noise.md")
    data = Path(os.environ.get("NIGHTDESK_REAL_DATA", ROOT.parent / "shared" / "data"))
    out = parser.parse_args().out
    out.write_text(page(Night(data / "oscaar_tres1")), encoding="utf-8")
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
