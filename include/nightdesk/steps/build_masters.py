"""Build masters: a night's raw bias, dark and flat frames become masters with their variance, in ``calibs/<night>``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nightdesk import __version__
from nightdesk.errors import FrameError, SetupError, one_line
from nightdesk.io.association import Candidate, choose_master, list_candidates
from nightdesk.io.atomic import locked
from nightdesk.io.calibration_set import CalibrationSet, sort_calibrations
from nightdesk.io.frame import read_recipe
from nightdesk.io.inventory import hash_file, take_inventory
from nightdesk.io.master import Master, read_master, read_master_facts
from nightdesk.io.master_ledger import begin_ledger, ledger_path, read_ledger, write_ledger
from nightdesk.io.repair import possible_repairs
from nightdesk.science.flat import normalise_flat
from nightdesk.science.isr import offset_variance
from nightdesk.science.master import (
    MasterPlanes,
    combine_bias,
    combine_dark,
    combine_flat,
    compare_levels,
    compare_responses,
    pair_noise,
)
from nightdesk.settings import digest
from nightdesk.steps.calibration import bias_in_dark, flat_region
from nightdesk.steps.master_file import write_master
from nightdesk.steps.raw_image import RawImage, read_raw_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from numpy.typing import NDArray

    from nightdesk.instrument import Instrument
    from nightdesk.settings import Settings

MADE, NOT_MADE, FOREIGN = "made", "not made", "left alone"
MOST_SATURATED = 0.01
REMOVED = "; the master made before is removed"


def run(
    settings: Settings, night: date, *, progress: Callable[[str, int, int], None] = lambda step, done, total: None
) -> list[dict[str, Any]]:
    """Make all masters of a night that are not current, and write the night's account beside them.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    night : date
        The night.
    progress : callable
        Called with the master's name, how many frames of it have been read, and of how many.

    Returns
    -------
    list of dict
        For each set of frames ``kind``, ``path`` (below the data root), ``state`` (made, not made, left alone),
        ``reason``, ``frames`` (names used), ``left_out`` (paths with reasons) and ``compared_with``; empty when the
        night has no raw calibration frame.

    Raises
    ------
    SetupError
        If a setting or a master that is needed cannot be used.
    StaleProduct
        If another process is at it; a later try finds it done.
    """
    inventory = take_inventory(settings)
    sets = sort_calibrations(settings, inventory, night)
    if not sets:
        return []
    with locked(ledger_path(settings, night).with_name(".lock"), patience=600.0):
        begin_ledger(settings, inventory, night)
        known = (read_ledger(settings, night) or {"masters": []})["masters"]
        told = [_Builder(settings, one, progress).build() for one in sets]
        told += _remove_orphans(settings, known, {one["path"] for one in told})
        write_ledger(settings, inventory, night, told)
    return told


def _remove_orphans(settings: Settings, known: list[dict[str, Any]], now: set[str]) -> list[dict[str, Any]]:
    """Remove masters that were made of frames of which the night has none any more, and tell of each."""
    gone = []
    for one in known:
        path = settings.root / one["path"]
        if one["path"] not in now and one["state"] == MADE and path.is_file() and read_recipe(path) is not None:
            path.unlink()
            gone.append({**one, "state": NOT_MADE, "reason": "its frames are gone" + REMOVED, "frames": []})
    return gone


@dataclass
class _Frame:
    """One raw calibration frame, and how bright it is above the bias (a flat)."""

    path: str
    image: RawImage
    exposure: float
    level: float = 0.0


@dataclass
class _Builder:
    """Makes one master."""

    settings: Settings
    chosen: CalibrationSet
    progress: Callable[[str, int, int], None]
    compared_with: str = ""
    used: dict[str, str] = field(default_factory=dict)

    @property
    def instrument(self) -> Instrument:
        return self.settings.instruments[self.chosen.wanted.instrument or next(iter(self.settings.instruments))]

    def build(self) -> dict[str, Any]:
        """Make the master unless it is current, and tell what became of it; without good frames none is left."""
        told = self._build()
        if told["state"] == NOT_MADE and self.chosen.path.is_file():
            self.chosen.path.unlink()
            told["reason"] += REMOVED
        return told

    def _build(self) -> dict[str, Any]:
        path = self.chosen.path
        if path.is_file() and read_recipe(path) is None:
            return self._told(FOREIGN, "a person put it there", [])
        try:
            bias, dark = self._calibration("bias"), self._calibration("dark")
            recipe = self._recipe(bias, dark)
            if path.is_file() and read_recipe(path) == recipe:
                return self._known()
            frames = self._read(bias, dark)
        except SetupError as error:
            return self._told(NOT_MADE, one_line(error), [])
        least = getattr(self.settings.masters, f"minimum_{self.chosen.kind}")
        if len(frames) < least:
            reason = f"{len(frames)} good frames; [masters] minimum_{self.chosen.kind} is {least}"
            return self._told(NOT_MADE, reason, [])
        try:
            self._write(frames, bias, dark, recipe)
        except ValueError as error:
            return self._told(NOT_MADE, str(error), [])
        return self._told(MADE, f"of {len(frames)} frames", [frame.path for frame in frames])

    def _told(self, state: str, reason: str, frames: list[str]) -> dict[str, Any]:
        root = self.settings.root
        return {
            "kind": self.chosen.kind,
            "path": self.chosen.path.relative_to(root).as_posix(),
            "state": state,
            "reason": reason,
            "frames": frames,
            "left_out": dict(sorted(self.chosen.left_out.items())),
            "compared_with": self.compared_with,
            "made_with": self.used,
        }

    def _known(self) -> dict[str, Any]:
        """Return what was told of a master when it was made."""
        ledger = read_ledger(self.settings, self.chosen.wanted.night) or {"masters": []}
        relative = self.chosen.path.relative_to(self.settings.root).as_posix()
        for one in ledger["masters"]:
            if one["path"] == relative and one["state"] == MADE:
                return dict(one)
        return self._told(MADE, "it is current", [facts.path for facts in self.chosen.frames])

    def _calibration(self, kind: str) -> Master | None:
        """Return the master bias for darks and flats, the master dark for flats, as far as there are any."""
        if self.chosen.kind == "bias" or self.chosen.kind == kind:
            return None
        if self.chosen.kind == "dark" and kind == "dark":
            return None
        found = choose_master(self.settings, self.chosen.wanted, kind)
        if found is None:
            return None
        self.used[kind] = found.path.relative_to(self.settings.root).as_posix()
        return read_master(found.path)

    def _recipe(self, bias: Master | None, dark: Master | None) -> str:
        settings, wanted = self.settings, self.chosen.wanted
        repairs = [
            [facts.name, repair.model_dump(mode="json")]
            for facts in self.chosen.frames
            for repair in possible_repairs(settings, facts.path.rpartition("/")[2], wanted.night, wanted.instrument)
        ]
        return digest(
            {
                "master": self.chosen.kind,
                "code": __version__,
                "frames": [[facts.name, hash_file(settings.root / facts.path)] for facts in self.chosen.frames],
                "masters": settings.masters.model_dump(mode="json"),
                "flat": [settings.calibs.flat_level, settings.calibs.flat_region],
                "instrument": self.instrument.model_dump(mode="json", exclude={"match", "max_pixels", "frame_types"}),
                "made with": [hash_file(one.path) if one else None for one in (bias, dark)],
                "repairs": repairs,
            }
        )

    # Reading, and leaving out

    def _read(self, bias: Master | None, dark: Master | None) -> list[_Frame]:
        frames: list[_Frame] = []
        for done, facts in enumerate(self.chosen.frames):
            self.progress(self.chosen.path.name, done, len(self.chosen.frames))
            try:
                image = read_raw_image(self.settings, self.settings.root / facts.path, self.instrument)
                frame = _Frame(facts.path, image, facts.exposure or 0.0)
                self._prepare(frame, bias, dark)
            except FrameError as error:
                self.chosen.left_out[facts.path] = one_line(error)
            else:
                frames.append(frame)
        self.progress(self.chosen.path.name, len(self.chosen.frames), len(self.chosen.frames))
        return self._compared(self._of_one_gain(frames), bias)

    def _of_one_gain(self, frames: list[_Frame]) -> list[_Frame]:
        """Leave out frames of another gain than the most: their ADU mean something else."""
        if self.chosen.kind == "bias" or not frames:
            return frames
        most, _ = Counter(frame.image.gain for frame in frames).most_common(1)[0]
        for frame in frames:
            if frame.image.gain != most:
                self.chosen.left_out[frame.path] = (
                    f"its gain is {frame.image.gain:g} e-/ADU, that of most of the others {most:g}"
                )
        return [frame for frame in frames if frame.image.gain == most]

    def _prepare(self, frame: _Frame, bias: Master | None, dark: Master | None) -> None:
        """Check a frame by itself; of a flat take off bias and dark, and measure its level."""
        image, kind = frame.image, self.chosen.kind
        if image.pixels.shape != self.chosen.wanted.shape:
            raise FrameError(f"its shape is {image.pixels.shape}, that of the others {self.chosen.wanted.shape}")
        if not np.isfinite(image.pixels).all():
            raise FrameError(f"{np.count_nonzero(~np.isfinite(image.pixels)):,} of its pixels are no numbers")
        if kind != "bias" and image.gain is None:
            raise FrameError("its header has no gain (e-/ADU), without which its noise is unknown")
        if kind == "dark" and not frame.exposure > 0:
            raise FrameError("its header has no exposure time")
        if kind == "flat":
            self._prepare_flat(frame, bias, dark)

    def _prepare_flat(self, frame: _Frame, bias: Master | None, dark: Master | None) -> None:
        image = frame.image
        saturated = 0.0 if image.saturation is None else float(np.mean(image.pixels >= image.saturation))
        offset = self._offset(frame, bias, dark)
        image.pixels = image.pixels.astype(np.float32) - offset
        frame.level = self._level(image.pixels)
        faintest, brightest = self.settings.masters.flat_levels
        if saturated > MOST_SATURATED:
            raise FrameError(f"{saturated:.0%} of its pixels are saturated")
        if not faintest <= frame.level <= brightest:
            word = "faint" if frame.level < faintest else "bright"
            raise FrameError(
                f"it is too {word}: {frame.level:.0f} ADU, [masters] flat_levels are {faintest:g} to {brightest:g}"
            )

    def _offset(self, frame: _Frame, bias: Master | None, dark: Master | None) -> NDArray[Any]:
        """Return what is not light in a flat, in ADU."""
        if dark is not None and dark.contains_bias:
            return dark.data.astype(np.float32)
        if bias is None and self.instrument.bias == "required":
            raise SetupError("there is no master bias for the flats: take biases, or darks of the flats' exposure time")
        offset = np.zeros(frame.image.pixels.shape, np.float32) if bias is None else bias.data.astype(np.float32)
        if dark is not None and dark.exposure:
            offset = offset + dark.data.astype(np.float32) * (frame.exposure / dark.exposure)
        return offset

    def _level(self, pixels: NDArray[Any]) -> float:
        region = flat_region(self.settings, pixels.shape)
        seen = pixels if region is None else pixels[region]
        return float(np.mean(seen) if self.settings.calibs.flat_level == "mean" else np.median(seen))

    def _compared(self, frames: list[_Frame], bias: Master | None) -> list[_Frame]:
        """Leave out frames that are far from the last good master; without one, from the middle of their own."""
        last = self._last_good(contains_bias=bias is None)
        if last is not None:
            self.compared_with = last.path.relative_to(self.settings.root).as_posix()
        good = []
        for frame in frames:
            if fault := self._fault(frame, frames, read_master(last.path) if last else None, bias):
                self.chosen.left_out[frame.path] = fault
            else:
                good.append(frame)
        return good

    def _last_good(self, *, contains_bias: bool) -> Candidate | None:
        """Return the nearest master of an earlier night; of darks one of the same sort, with the bias or without."""
        for one in list_candidates(self.settings, self.chosen.wanted, self.chosen.kind):
            if not one.fits or (one.days is not None and one.days >= 0):
                continue
            if self.chosen.kind != "dark" or read_master_facts(one.path).contains_bias == contains_bias:
                return one
        return None

    def _fault(self, frame: _Frame, frames: list[_Frame], last: Master | None, bias: Master | None) -> str:
        """Return why a frame is off; '' when it is not."""
        limits, kind = self.settings.masters, self.chosen.kind
        than = "than the last good master" if last else "than the middle of its night's"
        if kind == "flat":
            if last is None:
                return ""
            spread = compare_responses(frame.image.pixels, last.data)
            if spread <= limits.flat_tolerance:
                return ""
            limit = f"[masters] flat_tolerance is {limits.flat_tolerance:g}"
            return f"its light falls otherwise {than}, by {spread:.1%}; {limit}"
        if kind == "bias" or (kind == "dark" and bias is None):
            reference = last.data if last else self._middle(frames)
            offset, _ = compare_levels(frame.image.pixels, reference)
            tolerance, unit, setting = limits.bias_tolerance, "ADU", "bias_tolerance"
        else:
            assert bias is not None
            rate = (frame.image.pixels - bias.data) / frame.exposure
            reference = (
                last.data / (last.exposure or 1.0) if last else np.full(rate.shape, self._middle_rate(frames, bias))
            )
            offset, _ = compare_levels(rate, reference)
            tolerance, unit, setting = limits.dark_tolerance, "ADU/s", "dark_tolerance"
        if abs(offset) <= tolerance:
            return ""
        word = "higher" if offset > 0 else "lower"
        return f"its level is {abs(offset):.3g} {unit} {word} {than}; [masters] {setting} is {tolerance:g}"

    def _middle(self, frames: list[_Frame]) -> NDArray[Any]:
        levels = [float(np.median(frame.image.pixels)) for frame in frames]
        return np.full(frames[0].image.pixels.shape, np.median(levels))

    def _middle_rate(self, frames: list[_Frame], bias: Master) -> float:
        return float(np.median([np.median(frame.image.pixels - bias.data) / frame.exposure for frame in frames]))

    # Combining

    def _write(self, frames: list[_Frame], bias: Master | None, dark: Master | None, recipe: str) -> None:
        planes, cards = {"bias": self._bias, "dark": self._dark, "flat": self._flat}[self.chosen.kind](
            frames, bias, dark
        )
        roles = [(role, one) for role, one in (("bias", bias), ("dark", dark)) if one is not None]
        write_master(
            self.settings,
            self.chosen,
            planes,
            frames=[frame.image for frame in frames],
            cards=cards,
            masters=[(role, one.path) for role, one in roles],
            recipe=recipe,
        )

    def _bias(
        self, frames: list[_Frame], bias: Master | None, dark: Master | None
    ) -> tuple[MasterPlanes, dict[str, Any]]:
        planes = combine_bias([frame.image.pixels for frame in frames], clip_sigma=self.settings.masters.clip_sigma)
        return planes, {"BUNIT": ("adu", "unit of the image"), "EXPTIME": (0.0, "[s]")}

    def _dark(
        self, frames: list[_Frame], bias: Master | None, dark: Master | None
    ) -> tuple[MasterPlanes, dict[str, Any]]:
        exposures = [frame.exposure for frame in frames]
        planes = combine_dark(
            [frame.image.pixels for frame in frames],
            exposures=exposures,
            gain=self._gain(frames),
            bias=bias.data if bias else None,
            bias_variance=bias.variance if bias else None,
            clip_sigma=self.settings.masters.clip_sigma,
        )
        contains = bias is None
        typical = float(np.median(exposures))
        made_with: dict[str, Any] = {}
        if bias is not None:
            made_with["BIASHASH"] = hash_file(bias.path)
            made_with["BIASPART"] = (float(np.mean(1.0 / np.asarray(exposures))), "how often that bias was taken off")
        return planes, {
            **made_with,
            "BUNIT": ("adu", "unit of the image"),
            "EXPTIME": (typical if contains else 1.0, "[s] exposure that the image stands for"),
            "DARKEXP": (typical, "[s] exposure of the frames"),
            "DARKBIAS": (contains, "whether the bias is still in it"),
        }

    def _flat(
        self, frames: list[_Frame], bias: Master | None, dark: Master | None
    ) -> tuple[MasterPlanes, dict[str, Any]]:
        made = combine_flat(
            [frame.image.pixels for frame in frames],
            levels=[frame.level for frame in frames],
            gain=self._gain(frames),
            read_noise=self._read_noise(frames),
            bias_variance=_offset_variance(bias, dark, [frame.exposure for frame in frames]),
            clip_sigma=self.settings.masters.clip_sigma,
            bad_ratio=self.settings.masters.bad_ratio,
        )
        region = flat_region(self.settings, made.data.shape)
        how = self.settings.calibs.flat_level
        data, variance, _ = normalise_flat(made.data, made.variance, region, how=how)
        levels = [frame.level for frame in frames]
        return MasterPlanes(data, variance, made.flags), {
            "BUNIT": ("", "dimensionless"),
            "FILTER": (self.chosen.wanted.filter_name, "name of filter"),
            "FLATNORM": (how, "what was divided out"),
            "LEVELMIN": (round(min(levels), 2), "level of the faintest frame (ADU)"),
            "LEVELMAX": (round(max(levels), 2), "level of the brightest frame (ADU)"),
        }

    def _gain(self, frames: list[_Frame]) -> float:
        gains = {frame.image.gain for frame in frames}
        if len(gains) > 1 or None in gains:
            raise ValueError(f"its frames have different gains: {sorted(str(gain) for gain in gains)}")
        return float(next(iter(gains)) or 0.0)

    def _read_noise(self, frames: list[_Frame]) -> float:
        """Return the read noise of a flat in electrons; measured from the flats' own biases where no header tells."""
        image = frames[0].image
        if image.read_noise is not None:
            return float(np.sqrt(np.mean(np.square(image.read_noise)))) * image.noise_factor
        biases = self._raw_biases()
        if len(biases) < 2:
            raise ValueError("neither header nor configuration has a read noise, and there are no two raw biases")
        return pair_noise(biases) * self._gain(frames)

    def _raw_biases(self) -> list[NDArray[Any]]:
        inventory = take_inventory(self.settings)
        pair = inventory.bias_pair(self.chosen.wanted.night, self.chosen.frames)
        return [read_raw_image(self.settings, self.settings.root / path, self.instrument).pixels for path in pair]


def _offset_variance(bias: Master | None, dark: Master | None, exposures: list[float]) -> NDArray[Any] | None:
    """Return the variance of what was taken off the flats, ADU squared."""
    if dark is not None and dark.contains_bias:
        return dark.variance
    variance = bias.variance if bias is not None else None
    if dark is None or not dark.exposure or dark.variance is None:
        return variance
    scale = float(np.mean(exposures)) / dark.exposure
    if variance is None:
        return dark.variance * scale**2
    return offset_variance(variance, dark.variance, scale=scale, bias_in_dark=bias_in_dark(bias, dark))


def describe(told: dict[str, Any]) -> str:
    """Return what became of a master in one sentence.

    Parameters
    ----------
    told : dict
        One of those that `run` returns.

    Returns
    -------
    str
        Its path, state and reason.
    """
    left = f"; {len(told['left_out'])} left out" if told["left_out"] else ""
    return f"{told['path']}: {told['state']}, {told['reason']}{left}."
