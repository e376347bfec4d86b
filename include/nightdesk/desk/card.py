"""What is known of an image at a glance: its figures as JSON and a small picture, made when it is."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nightdesk.desk.coding import Coding
from nightdesk.desk.place import frame_card, frame_thumbnail, stack_card, stack_thumbnail, stack_tiles
from nightdesk.desk.plane import find_planes
from nightdesk.desk.pyramid import Pyramid, blank, halve, write_pyramid
from nightdesk.io.atomic import read_json, write_bytes, write_json
from nightdesk.io.frame import RECIPE, Frame
from nightdesk.io.header import find_number, find_text
from nightdesk.night import parse_moment

if TYPE_CHECKING:
    from pathlib import Path

    from astropy.io import fits
    from numpy.typing import NDArray

    from nightdesk.group import Group
    from nightdesk.io.layout import Layout
    from nightdesk.science.image_quality import ImageQuality
    from nightdesk.settings import Settings

SCHEMA: Final = 1
THUMBNAIL: Final = 240
MOST_POSITIONS: Final = 80
COUNTS: Final = {"coverage": "COVERAGE", "rejected": "NREJ"}
"""Planes of a stack that count frames at each pixel: those used, and those whose value was clipped."""

PERCENTILES: Final = (0.5, 1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0, 99.5, 99.9)


@dataclass(frozen=True)
class Taken:
    """When, how long and through how much air an image was taken, as far as its header tells."""

    exposure: float
    airmass: float | None
    moment: str

    @classmethod
    def of_frame(cls, settings: Settings, group: Group, file_name: str, header: fits.Header) -> Taken:
        """Return what a frame's header tells."""
        keywords = settings.instrument_of(group).keywords
        day = find_text(header, file_name, keywords.date)
        try:
            moment = parse_moment(day, find_text(header, file_name, keywords.time)).isoformat() if day else ""
        except ValueError:
            moment = ""
        return cls(
            find_number(header, file_name, keywords.exposure) or 0.0,
            find_number(header, file_name, keywords.airmass),
            moment,
        )

    @classmethod
    def of_stack(cls, header: fits.Header) -> Taken:
        """Return what a stack's header tells; the exposure is the one that its pixels mean."""
        exposure, airmass = header.get("EXPTIME"), header.get("AIRMASS")
        return cls(
            float(exposure) if isinstance(exposure, (int, float)) else 0.0,
            float(airmass) if isinstance(airmass, (int, float)) else None,
            str(header.get("DATE-BEG", "")),
        )


def write_frame_card(layout: Layout, name: str, frame: Frame, *, file_name: str) -> None:
    """Measure a frame and write its figures and its small picture."""
    taken = Taken.of_frame(layout.settings, layout.group, file_name, frame.header)
    values = blank(frame.data, frame.flags)
    figures = _figures(layout, frame, values, taken)
    write_thumbnail(frame_thumbnail(layout, name), _small(values))
    recipe = str(frame.header.get(RECIPE, ""))
    write_json(frame_card(layout, name), {"schema": SCHEMA, "recipe": recipe, "name": name} | figures)


def has_frame_card(layout: Layout, name: str, recipe: str) -> bool:
    """Tell whether a frame has figures and a small picture, made of the product of this recipe."""
    return is_of(frame_card(layout, name), recipe) and frame_thumbnail(layout, name).exists()


def has_stack_card(layout: Layout, recipe: str) -> bool:
    """Tell whether figures, small picture and tiles are there, made of the stack of this recipe."""
    tiles = Pyramid.open(stack_tiles(layout))
    whole = tiles is not None and tiles.recipe == recipe and stack_thumbnail(layout).exists()
    return whole and is_of(stack_card(layout), recipe)


def write_stack_card(layout: Layout, stack: Frame, trend: dict[str, Any]) -> None:
    """Measure a stack and write its figures, its small picture and its tiles.

    `trend` is what is known of its frames by name: how far each moved, and its transparency.
    """
    recipe = str(stack.header.get(RECIPE, ""))
    values = blank(stack.data, stack.flags)
    figures = _figures(layout, stack, values, Taken.of_stack(stack.header))
    coding = Coding.of(figures["sky"] or 0.0, figures["noise"] or 0.0)
    counts = _counts(layout.stack)
    levels = write_pyramid(stack_tiles(layout), stack.data, stack.flags, coding, recipe, counts)
    write_thumbnail(stack_thumbnail(layout), _small(levels[-1]))
    card = {
        "schema": SCHEMA,
        "recipe": recipe,
        "pixel_scale": pixel_scale(stack.header),
        "noise_ratio": _header_number(stack.header, "NOISERAT"),
        "total_exposure": _header_number(stack.header, "TEXPTIME"),
        "frames": trend,
    }
    write_json(stack_card(layout), card | figures)


def _counts(path: Path) -> dict[str, NDArray[Any]]:
    planes = find_planes(path)
    whole = slice(0, planes["SCI"].shape[0]), slice(0, planes["SCI"].shape[1])
    return {kind: planes[name].read(*whole) for kind, name in COUNTS.items() if name in planes}


def is_of(path: Path, recipe: str) -> bool:
    """Tell whether a card was made of the product of this recipe."""
    values = read_json(path)
    return isinstance(values, dict) and values.get("schema") == SCHEMA and values.get("recipe") == recipe


def read_card(path: Path) -> dict[str, Any]:
    """Return a card's figures; empty when there is none."""
    values = read_json(path)
    return values if isinstance(values, dict) and values.get("schema") == SCHEMA else {}


def pixel_scale(header: fits.Header) -> float | None:
    """Return the size of a pixel in arcseconds, if the header has a linear celestial WCS."""
    if "CTYPE1" not in header:
        return None
    try:
        if "CD1_1" in header:
            matrix = [float(header.get(f"CD{i}_{j}", 0.0)) for i in (1, 2) for j in (1, 2)]
            area = abs(matrix[0] * matrix[3] - matrix[1] * matrix[2])
        else:
            area = abs(float(header["CDELT1"]) * float(header["CDELT2"]))
    except (KeyError, TypeError, ValueError):
        return None
    return 3600.0 * math.sqrt(area) if area > 0 else None


def _figures(layout: Layout, frame: Frame, values: NDArray[np.float32], taken: Taken) -> dict[str, Any]:
    limits = layout.settings.quality.of_filter(layout.group.filter_name)
    from nightdesk.science.image_quality import measure_image

    try:
        quality: ImageQuality | None = measure_image(
            frame.data, frame.flags, exposure=taken.exposure, zero_point=limits.zero_point
        )
    except ValueError:
        quality = None  # it has no sky: there is nothing to measure, which is itself told
    coding = Coding.of(quality.sky, quality.noise) if quality else Coding.guess(values[::16, ::16])
    return {
        "shape": list(frame.data.shape),
        "exposure": taken.exposure,
        "airmass": taken.airmass,
        "moment": taken.moment,
        "fwhm": _number(quality.fwhm) if quality else None,
        "ellipticity": _number(quality.ellipticity) if quality else None,
        "sky": _number(quality.sky) if quality else None,
        "noise": _number(quality.noise) if quality else None,
        "depth": _number(quality.depth) if quality else None,
        "zero_point": limits.zero_point,
        "stars": len(quality.stars) if quality else 0,
        "positions": _positions(quality),
    } | _contrast(values, coding)


def _header_number(header: fits.Header, keyword: str) -> float | None:
    value = header.get(keyword)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _positions(quality: ImageQuality | None) -> list[list[float]]:
    if quality is None:
        return []
    stars = quality.stars.chosen(~quality.stars.saturated)
    columns = (stars.x, stars.y, stars.flux)
    return [[round(float(value), 2) for value in row] for row in zip(*columns, strict=True)][:MOST_POSITIONS]


def _contrast(values: NDArray[np.float32], coding: Coding) -> dict[str, Any]:
    """Return how an image's values are spread: what a viewer needs for its first stretch and its histogram."""
    numbers = np.bincount(coding.encode(values).ravel(), minlength=65536)
    numbers[0] = 0
    counts = np.cumsum(numbers)
    if counts[-1] == 0:
        return {"percentiles": {}, "zscale": None, "histogram": []}
    found = np.searchsorted(counts, np.array(PERCENTILES) / 100.0 * counts[-1])
    percentiles = {f"{share:g}": float(coding.decode(code)) for share, code in zip(PERCENTILES, found, strict=True)}
    return {
        "percentiles": percentiles,
        "zscale": _zscale(values),
        "histogram": numbers.reshape(-1, 64).sum(axis=1).tolist(),
    }


def _zscale(values: NDArray[np.float32]) -> list[float] | None:
    from astropy.visualization import ZScaleInterval  # slow to import

    step = max(1, int(math.sqrt(values.size / 100_000)))
    sample = values[::step, ::step]
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return None
    low, high = ZScaleInterval().get_limits(sample)
    return [float(low), float(high)]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _small(values: NDArray[np.float32]) -> NDArray[np.float32]:
    while max(values.shape) > 2 * THUMBNAIL:
        values = halve(values)
    return values


def write_thumbnail(path: Path, values: NDArray[np.float32]) -> None:
    """Write a small picture of an image, y upwards: the sky just above black, faint light seen, stars white."""
    from PIL import Image

    picture = Image.fromarray(_grey(values))
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "jpeg", quality=80)
    write_bytes(path, buffer.getvalue())


def _grey(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    known = np.isfinite(values)
    grey = np.zeros(values.shape, dtype=np.uint8)
    if known.any():
        coding = Coding.guess(values)
        low, high = first_limits(coding, float(np.percentile(values[known], 99.8)))
        share = np.clip((values[known] - low) / (high - low), 0.0, 1.0)
        grey[known] = np.rint(255.0 * np.arcsinh(share * 10.0) / np.arcsinh(10.0))
    return grey[::-1]


def first_limits(coding: Coding, bright: float) -> tuple[float, float]:
    """Return the values that are black and white when an image is first shown.

    The sky lies just above black, at 5 to 8 % of grey under the asinh stretch; white is what the brightest few pixels
    of a thousand have, or where there is nothing bright, so far above the noise that its grain stays dark.
    """
    return coding.sky - coding.noise, max(bright, coding.sky + 50.0 * coding.noise)
