"""Deep: the stacks of several nights of one target and filter become one image."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from nightdesk import __version__
from nightdesk.errors import FrameError, GroupError, Waiting
from nightdesk.group import Group
from nightdesk.io.atomic import locked, read_json, write_json
from nightdesk.io.frame import RECIPE, Frame, read_frame, read_recipe, write_frame
from nightdesk.io.inventory import hash_file
from nightdesk.io.layout import Layout
from nightdesk.io.sidecar import Placement, Position
from nightdesk.manifest import SCHEMA
from nightdesk.science.alignment import align_frames
from nightdesk.science.combine import Combined, combine_frames
from nightdesk.science.flag import EXCLUDING
from nightdesk.science.match import match_stars
from nightdesk.science.noise_ratio import noise_ratio
from nightdesk.science.planes import Planes
from nightdesk.science.scale import star_scales
from nightdesk.science.shift import whole_pixels
from nightdesk.science.sky import estimate_noise, estimate_sky
from nightdesk.science.star import find_stars
from nightdesk.settings import digest
from nightdesk.steps.grid import place_wcs
from nightdesk.steps.motion import Motion, common_grid
from nightdesk.steps.picture import draw_picture
from nightdesk.steps.residual import largest_move

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nightdesk.settings import Settings

FEWEST_NIGHTS = 2
MOST_NIGHTS_NAMED = 4
NOISE_BOX = 10


@dataclass(frozen=True)
class DeepLayout:
    """The files of one deep stack."""

    settings: Settings
    parts: tuple[str, ...]
    nights: tuple[date, ...] = ()

    @property
    def folder(self) -> Path:
        """Its folder below ``deep``; a stack of some nights has one of its own, named by them."""
        return self.settings.root.joinpath("deep", *self.parts, *([_name_of(self.nights)] if self.nights else []))

    @property
    def stack(self) -> Path:
        """The image."""
        return self.folder / "deep.fits"

    @property
    def picture(self) -> Path:
        """The image as a picture."""
        return self.folder / "deep.png"

    @property
    def manifest(self) -> Path:
        """Which nights it is made of, and why others are not in it."""
        return self.folder / "manifest.json"


def _name_of(nights: Sequence[date]) -> str:
    names = [night.isoformat() for night in nights]
    if len(names) <= MOST_NIGHTS_NAMED:
        return "_".join(names)
    return f"{names[0]}_to_{names[-1]}_{len(names)}_{digest(names)[:8]}"


@dataclass
class _Night:
    """One night's stack, on the common grid once it is aligned."""

    group: Group
    path: Path
    frame: Frame
    flats: frozenset[str]
    pedestals: frozenset[str]
    motion: Motion = field(default_factory=lambda: Motion("integer", 0, 0))
    planes: Planes | None = None
    scale: float = 1.0
    sky: float = 0.0
    noise: float = 0.0
    residual: float = 0.0
    matches: int = 0

    @property
    def name(self) -> str:
        return self.group.night.isoformat()

    @property
    def laid(self) -> Planes:
        assert self.planes is not None  # aligned before anything else is asked
        return self.planes

    @property
    def place(self) -> tuple[int, int, bool, int]:
        """Where the detector lies, to a pixel, its turn included: nights that share it share their masters' errors."""
        corner = math.radians(self.motion.rotation) * 0.5 * math.hypot(*_shape(self.frame))
        return *self.motion.whole, self.motion.flipped, whole_pixels(corner)

    @property
    def variance_factor(self) -> float:
        """By what the variance of a large area exceeds the sum of VAR, after this motion too."""
        here = float(self.frame.header.get("CORRFACT", 1.0))
        return here * self.motion.correlation(_shape(self.frame))

    @property
    def weight(self) -> float:
        """One figure for the night: the inverse of its sky's variance, at the reference's brightness."""
        return 1.0 / (self.noise**2 * self.scale**2 * self.variance_factor) if self.noise > 0 else 1.0


def nights_of(settings: Settings, parts: tuple[str, ...]) -> list[date]:
    """Return the nights that have a stack of a target and filter.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    parts : tuple of str
        Instrument (where there are several), target and filter.

    Returns
    -------
    list of date
        Oldest first. The stack itself counts, not its manifest, which is written a little later.
    """
    place = settings.root.joinpath("processed", *parts)
    nights = []
    for stack in place.glob("*/combined/combined.fits"):
        if read_recipe(stack) is not None:
            with suppress(ValueError):
                nights.append(date.fromisoformat(stack.parent.parent.name))
    return sorted(nights)


def run(
    settings: Settings,
    *,
    target: str,
    filter_name: str,
    nights: Sequence[date] | None = None,
    instrument: str | None = None,
) -> dict[str, Any]:
    """Combine all nights of a target and filter into ``deep/<target>/<filter>/deep.fits``, or some of them.

    Parameters
    ----------
    settings : Settings
        The observatory's settings; ``[align] resample`` and ``[combine] clip_sigma`` and ``footprint`` apply.
    target, filter_name : str
        What was observed.
    nights : sequence of date, optional
        Which nights, and then the image lies in a folder below that is named by them; all that have a stack if not
        given.
    instrument : str, optional
        Where several are configured.

    Returns
    -------
    dict
        ``nights`` (used), ``exposure`` (their sum, s), ``path`` (below the data root) and ``left_out`` (nights with
        reasons).

    Raises
    ------
    Waiting
        If there are fewer than two nights so far.
    GroupError
        If fewer than two nights can be laid on one another, with the reason for each.
    SetupError
        If the names name no group.
    """
    probe = Group.from_params(
        settings, target=target, filter_name=filter_name, night=date(2000, 1, 1), instrument=instrument
    )
    parts = probe.parts
    present = nights_of(settings, parts)
    wanted = sorted(set(nights)) if nights is not None else present
    layout = DeepLayout(settings, parts, tuple(wanted) if nights is not None else ())
    left_out = {night.isoformat(): "it has no stack" for night in wanted if night not in present}
    chosen = [Group(night, probe.target, probe.filter_name, probe.instrument) for night in wanted if night in present]
    if len(chosen) < FEWEST_NIGHTS:
        raise Waiting(f"{'/'.join(parts)}: {len(chosen)} nights have a stack; a deep one needs {FEWEST_NIGHTS}.")
    paths = {group: Layout(settings, group).stack for group in chosen}
    recipe = _recipe(settings, paths)
    with locked(layout.folder / ".lock"):
        values = read_json(layout.manifest)
        if read_recipe(layout.stack) == recipe and isinstance(values, dict) and values.get("recipe") == recipe:
            return _answer(layout, values["used"], values["exposure"], left_out | values["refused"])
        used, refused, header = _make(settings, layout, paths, recipe)
        draw_picture(layout.stack, layout.picture)
        exposure = float(header["TEXPTIME"])
        _write_manifest(layout, recipe, used, refused, exposure)
    return _answer(layout, [night.name for night in used], exposure, left_out | refused)


def _answer(layout: DeepLayout, used: list[str], exposure: float, left_out: dict[str, str]) -> dict[str, Any]:
    path = layout.stack.relative_to(layout.settings.root).as_posix()
    return {"nights": used, "exposure": exposure, "path": path, "left_out": left_out}


def _recipe(settings: Settings, paths: dict[Group, Path]) -> str:
    return digest(
        {
            "step": "deep",
            "code": __version__,
            "stacks": [[group.night.isoformat(), read_recipe(path)] for group, path in paths.items()],
            "align": settings.align.model_dump(mode="json", include={"resample", "reference", "residual_limit"}),
            "combine": settings.combine.model_dump(mode="json", include={"clip_sigma", "footprint"}),
            "depth": settings.products.depth,
        }
    )


def _make(
    settings: Settings, layout: DeepLayout, paths: dict[Group, Path], recipe: str
) -> tuple[list[_Night], dict[str, str], fits.Header]:
    nights = [_read(group, path) for group, path in paths.items()]
    aligned, refused = _aligned(settings, nights)
    if len(aligned) < FEWEST_NIGHTS:
        raise GroupError(_alone(layout, refused))
    origin = _lay(settings, aligned)
    aligned, misplaced = _checked(settings, aligned)
    aligned, unmeasured = _measured(aligned)
    refused |= misplaced | unmeasured
    if len(aligned) < FEWEST_NIGHTS:
        raise GroupError(_alone(layout, refused))
    combined = _combined(settings, aligned)
    header = _header(settings, aligned, combined, origin)
    header[RECIPE] = recipe
    stack = Frame(combined.data, combined.variance, None, combined.flags, header)
    write_frame(layout.stack, stack, depth=settings.products.depth, extra=[_coverage(combined), _provenance(aligned)])
    return aligned, refused, header


def _alone(layout: DeepLayout, refused: dict[str, str]) -> str:
    reasons = " ".join(f"{name}: {reason}." for name, reason in sorted(refused.items()))
    return f"{'/'.join(layout.parts)}: fewer than two nights lie on one another. {reasons}"


def _read(group: Group, path: Path) -> _Night:
    frame = read_frame(path)
    with fits.open(path) as hdus:
        rows = hdus["PROVENANCE"].data
        masters = {str(row["SHA256"]): str(row["ROLE"]) for row in rows if str(row["ROLE"]).startswith("master")}
    flats = frozenset(sha256 for sha256, role in masters.items() if "flat" in role)
    return _Night(group, path, frame, flats, frozenset(masters) - flats)


def _shape(frame: Frame | Planes) -> tuple[int, int]:
    ny, nx = frame.data.shape
    return int(ny), int(nx)


def _aligned(settings: Settings, nights: list[_Night]) -> tuple[list[_Night], dict[str, str]]:
    """Lay the nights on one another by their stars; the reference is the first of the answer."""
    lists = [find_stars(night.frame.data, night.frame.flags) for night in nights]
    shapes = [_shape(night.frame) for night in nights]
    largest = max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)
    alignment = align_frames(lists, largest, reference=settings.align.reference)
    reference = nights[alignment.reference]
    good, refused = [reference], {}
    for night, match, shape in zip(nights, alignment.matches, shapes, strict=True):
        if night is reference:
            continue
        if not match.accepted:
            refused[night.name] = f"its stars do not match those of {reference.name}: {match.refusal}"
            continue
        dx, dy = match.transform.shift_at((shape[1] - 1) / 2.0, (shape[0] - 1) / 2.0)
        placement = Placement(dx, dy, match.transform.degrees, match.transform.scale, match.matches, match.rms)
        row, zero = Position(night.name, 0, 0, True, 0, placement), Position(reference.name, 0, 0, True, 0)
        night.motion = Motion.between(row, zero, resample=settings.align.resample, shape=shape)
        good.append(night)
    return good, refused


def _lay(settings: Settings, nights: list[_Night]) -> tuple[int, int]:
    """Lay the nights on one grid, and return where it begins in the reference night's."""
    shapes = [_shape(night.frame) for night in nights]
    shape, origin = common_grid([night.motion for night in nights], shapes, settings.combine.footprint)
    for night in nights:
        frame = night.frame
        shared = frame.shared_variance if frame.shared_variance is not None else np.zeros(frame.data.shape)
        flags = frame.flags if frame.flags is not None else np.zeros(frame.data.shape, np.uint16)
        planes = Planes(frame.data.astype("f8"), frame.variance.astype("f8"), shared.astype("f8"), flags)
        night.planes = night.motion.apply(planes, shape, origin)
    return origin


def _checked(settings: Settings, nights: list[_Night]) -> tuple[list[_Night], dict[str, str]]:
    """Find the stars of the nights where they were laid, and leave out a night that misses the reference's."""
    reference, *others = nights
    there = find_stars(reference.laid.data, reference.laid.flags)
    good, refused = [reference], {}
    limit = settings.align.residual_limit
    for night in others:
        stars = find_stars(night.laid.data, night.laid.flags)
        match = match_stars(stars, there, _shape(night.laid))
        night.residual, night.matches = largest_move(match.transform, stars) if match.accepted else 0.0, match.matches
        if not match.accepted:
            refused[night.name] = f"after the shift its stars do not match those of {reference.name}: {match.refusal}"
        elif night.residual > limit:
            refused[night.name] = (
                f"after the shift its stars are still {night.residual:.2f} px from those of {reference.name} "
                f"({match.matches} stars, turned by {match.transform.degrees:.2f} degrees; the limit is {limit:g} px, "
                '[align] residual_limit); [align] resample = "auto" turns it'
            )
        else:
            good.append(night)
    return good, refused


def _measured(nights: list[_Night]) -> tuple[list[_Night], dict[str, str]]:
    """Measure sky, noise and the brightness of the common stars; a night that has none of these is left out."""
    refused = {}
    good = []
    for night in nights:
        try:
            night.sky, _ = estimate_sky(night.laid.data, night.laid.flags)
            night.noise = estimate_noise(night.laid.variance, night.laid.flags)
            if night is not nights[0]:
                pair = (nights[0].laid, night.laid)
                night.scale = float(star_scales([p.data for p in pair], [p.flags for p in pair])[1])
            good.append(night)
        except ValueError as error:
            refused[night.name] = str(error)
            if night is nights[0]:
                raise FrameError(f"{night.name}: its stack has no sky that can be measured: {error}") from error
    return good, refused


def _combined(settings: Settings, nights: list[_Night]) -> Combined:
    base = nights[0].sky
    combined = combine_frames(
        [_levelled(night, base) for night in nights],
        [night.laid.variance * night.scale**2 for night in nights],
        [night.laid.shared_variance * night.scale**2 for night in nights],
        [night.laid.flags for night in nights],
        offset_groups=range(len(nights)),
        sigmas=[night.noise * night.scale for night in nights],
        method="weighted",
        clip_sigma=settings.combine.clip_sigma,
        weights=[night.weight for night in nights],
        level=base,
        map_rejections=True,
    )
    return replace(combined, variance=combined.variance + _shared_excess(nights, combined))


def _shared_excess(nights: list[_Night], combined: Combined) -> NDArray[np.float64]:
    """Return by how much the variance grows because nights share a flat, or a bias or dark, at one place of the chip.

    The error of a shared master is one and the same: its amplitudes add up, not their squares.
    """
    assert combined.rejection_map is not None
    used = ~combined.rejection_map & np.array([(night.laid.flags & EXCLUDING) == 0 for night in nights])
    weights = used * np.array([night.weight for night in nights]).reshape(-1, 1, 1)
    of_flats = [_part_of_flat(night) for night in nights]
    of_pedestals = [night.laid.shared_variance - flat for night, flat in zip(nights, of_flats, strict=True)]
    excess = np.zeros(combined.variance.shape)
    for parts, masters in (
        (of_flats, [night.flats for night in nights]),
        (of_pedestals, [night.pedestals for night in nights]),
    ):
        amplitudes = [
            weight * night.scale * np.sqrt(part) for weight, night, part in zip(weights, nights, parts, strict=True)
        ]
        for one, two in combinations(range(len(nights)), 2):
            if masters[one] & masters[two] and nights[one].place == nights[two].place:
                excess += 2.0 * amplitudes[one] * amplitudes[two]
    total = weights.sum(axis=0)
    return np.asarray(excess / np.where(total > 0, total, 1.0) ** 2)


def _part_of_flat(night: _Night) -> NDArray[np.float64]:
    """Return the flat's part of the masters' variance: what grows with the square of the signal, by a straight line."""
    shared, square = night.laid.shared_variance, night.laid.data**2
    good = night.laid.flags == 0
    if not night.flats or not good.any():
        return np.zeros(shared.shape)
    if not night.pedestals:
        return shared
    x, y = square[good] - square[good].mean(), shared[good] - shared[good].mean()
    slope = max(float(x @ y) / (float(x @ x) or 1.0), 0.0)
    constant = max(float(np.median(shared[good]) - slope * np.median(square[good])), 0.0)
    grown = slope * square
    return np.asarray(shared * np.divide(grown, grown + constant, out=np.ones_like(grown), where=grown + constant > 0))


def _levelled(night: _Night, base: float) -> NDArray[np.float64]:
    return np.asarray(night.laid.data * night.scale - (night.sky * night.scale - base))


def _header(settings: Settings, nights: list[_Night], combined: Combined, origin: tuple[int, int]) -> fits.Header:
    """Return the header of the reference night, with what is of that night alone replaced."""
    first = nights[0].frame.header
    header = first.copy()
    for keyword in [keyword for keyword in header if keyword[:4] in ("IMCM", "SKYZ", "ARES", "ARSN", "SCAL")]:
        header.remove(keyword, remove_all=True, ignore_missing=True)
    for keyword in ("HISTORY", "AIRMASS", "AIRMSTRT", "AIRMEND", "NDCONF", "DATE-AVG", RECIPE):
        header.remove(keyword, remove_all=True, ignore_missing=True)
    place_wcs(header, first, shift=(0, 0), origin=origin)
    header["NCOMBINE"] = (len(nights), "nights combined")
    _add_when(header, sorted((night.frame.header for night in nights), key=lambda one: str(one.get("DATE-BEG", ""))))
    read_noises = [night.weight * night.scale * float(night.frame.header.get("RDNOISE", 0.0)) for night in nights]
    header["RDNOISE"] = (
        math.hypot(*read_noises) / math.fsum(night.weight for night in nights),
        "read noise of the stack (e-)",
    )
    header["COMBMETH"] = ("weighted", "one weight per night")
    total = math.fsum(night.weight for night in nights)
    for number, night in enumerate(nights, start=1):
        header[f"NIGHT{number:03d}"] = (night.name, "a night combined")
        header[f"SCAL{number:04d}"] = (night.scale, "factor it was multiplied by")
        header[f"WGHT{number:04d}"] = (night.weight / total, "its weight")
        header[f"SKYZ{number:04d}"] = (night.sky * night.scale - nights[0].sky, "e- taken from its sky")
        header[f"ARES{number:04d}"] = (night.residual, "px at most left to the reference's stars")
        header[f"ARSN{number:04d}"] = (night.matches, "stars that told it; 0: the reference night")
    noises = [night.weight**2 * night.noise**2 * night.scale**2 for night in nights]
    factors = [night.variance_factor for night in nights]
    correlation = math.fsum(f * v for f, v in zip(factors, noises, strict=True)) / (math.fsum(noises) or 1.0)
    header["CORRFACT"] = (correlation, "x sum of VAR: variance of a large area")
    header["NREJ"] = (int(combined.rejected_by_frame.sum()), "values clipped")
    resampled = correlation > 1.0
    ratio = noise_ratio(
        combined.data,
        combined.variance * (correlation if resampled else 1.0),
        combined.flags,
        NOISE_BOX if resampled else 1,
    )
    header["NOISERAT"] = (ratio if math.isfinite(ratio) else None, "measured over predicted noise of the sky")
    header["NDVERS"] = (__version__, "version of Nightdesk")
    ways = sorted({night.motion.way for night in nights})
    header.add_history(f"Deep: {len(nights)} nights on the grid of {nights[0].name}, {', '.join(ways)} shifts;")
    header.add_history("Deep: scaled by common stars, sky matched, one weight per night.")
    return header


def _add_when(header: fits.Header, nights: list[fits.Header]) -> None:
    """Write down when, how long and through which air the nights were taken, the oldest first."""
    times = [float(one.get("TEXPTIME", 0.0)) for one in nights]
    weights = [seconds or 1.0 for seconds in times]
    header["TEXPTIME"] = (math.fsum(times), "exposure of all nights (s)")
    if all("DATE-BEG" in one and "DATE-END" in one for one in nights):
        header["DATE-BEG"] = (nights[0]["DATE-BEG"], "start of the first frame (UTC)")
        header["DATE-END"] = (max(one["DATE-END"] for one in nights), "end of the last frame (UTC)")
    if all("DATE-AVG" in one for one in nights):
        middles = [datetime.fromisoformat(one["DATE-AVG"]).replace(tzinfo=UTC).timestamp() for one in nights]
        average = datetime.fromtimestamp(float(np.average(middles, weights=weights)), UTC).replace(tzinfo=None)
        header["DATE-AVG"] = (average.isoformat(timespec="milliseconds"), "exposure-weighted middle (UTC)")
    if all("AIRMASS" in one for one in nights):
        mean = float(np.average([float(one["AIRMASS"]) for one in nights], weights=weights))
        header["AIRMASS"] = (mean, "exposure-weighted mean airmass")
        header["AIRMSTRT"] = (nights[0].get("AIRMSTRT", nights[0]["AIRMASS"]), "airmass of the first frame")
        header["AIRMEND"] = (nights[-1].get("AIRMEND", nights[-1]["AIRMASS"]), "airmass of the last frame")


def _coverage(combined: Combined) -> fits.ImageHDU:
    hdu = fits.ImageHDU(combined.coverage, name="COVERAGE")
    hdu.header["BUNIT"] = ("count", "nights used at each pixel")
    return hdu


def _provenance(nights: list[_Night]) -> fits.BinTableHDU:
    paths = [f"{night.name}/{night.path.name}" for night in nights]
    columns = [
        fits.Column("ROLE", "5A", array=["stack"] * len(nights)),
        fits.Column("FILE", f"{max(map(len, paths))}A", array=paths),
        fits.Column("SHA256", "64A", array=[hash_file(night.path) for night in nights]),
        fits.Column("WEIGHT", "D", array=[night.weight for night in nights]),
    ]
    return fits.BinTableHDU.from_columns(columns, name="PROVENANCE")


def _write_manifest(
    layout: DeepLayout, recipe: str, nights: list[_Night], refused: dict[str, str], exposure: float
) -> None:
    write_json(
        layout.manifest,
        {
            "schema": SCHEMA,
            "deep": "/".join(layout.parts),
            "used": [night.name for night in nights],
            "refused": refused,
            "nights": [
                {
                    "night": night.name,
                    "stack": night.path.relative_to(layout.settings.root).as_posix(),
                    "sha256": hash_file(night.path),
                    "scale": night.scale,
                    "weight": night.weight,
                    "residual": night.residual,
                    "matches": night.matches,
                }
                for night in nights
            ],
            "exposure": exposure,
            "stack": layout.stack.relative_to(layout.settings.root).as_posix(),
            "recipe": recipe,
            "code": __version__,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
