"""Write simulated nights under a data root."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from itertools import chain
from pathlib import Path
from zoneinfo import ZoneInfo

from nightdesk.errors import SetupError
from nightdesk.group import clean_name
from nightdesk.io.atomic import read_json
from nightdesk.simulate.camera import Camera
from nightdesk.simulate.master import write_masters
from nightdesk.simulate.programme import HOME_ZONE, Place, Programme, plan_calibrations
from nightdesk.simulate.raw import SimulatedFrame, write_calibrations, write_frame
from nightdesk.simulate.truth import write_sidecars, write_truth

MARKER = Path("truth", "simulation.json")
DATA_FOLDERS = ("raw", "processed", "calibs", "xys")


@dataclass(frozen=True)
class Simulation:
    """What `simulate` wrote, science frames in the order of their times."""

    root: Path
    frames: tuple[SimulatedFrame, ...]
    masters: tuple[Path, ...]
    calibrations: tuple[Path, ...]
    sidecars: tuple[Path, ...]

    @property
    def truth(self) -> Path:
        """The folder of the truth."""
        return self.root / "truth"

    def group(self, target: str, filter_name: str, night: date | None = None) -> tuple[SimulatedFrame, ...]:
        """Return the frames of one group (of all nights when none is given)."""
        return tuple(
            frame
            for frame in self.frames
            if (frame.target, frame.filter_name) == (target, filter_name) and night in (None, frame.night)
        )


def simulate(
    root: Path,
    *,
    targets: Sequence[str] = ("NGC5949",),
    filters: Sequence[str] = ("R",),
    nights: Sequence[date] = (date(2026, 11, 21),),
    frames: int = 3,
    size: tuple[int, int] = (512, 512),
    exposure: float | Mapping[str, float] = 60.0,
    seed: int = 1,
    masters: bool = True,
    raw_calibrations: bool = False,
    sidecars: bool = True,
    dither: float = 8.0,
    decimal_dither: bool = False,
    place: Place = "raw",
    zone: str = HOME_ZONE,
    calibration_frames: int = 15,
    dark_master: bool = False,
    sky: float | None = None,
    sky_drift: float = 0.0,
    seeing: float = 1.8,
    saturated_stars: int = 0,
    camera: Camera | None = None,
    first_number: int = 743053,
    progress: Callable[[int, int], None] | None = None,
) -> Simulation:
    """Write simulated nights under `root`, with masters, sidecars and the truth.

    Parameters
    ----------
    root : Path
        Data root; empty, or filled by an earlier simulation.
    targets, filters, nights : sequence
        Every target is observed in every filter on every night. A night is the local date of its evening.
    frames : int
        Frames of each group; they follow each other 12 s apart.
    size : tuple of int
        Width and height of a frame, in pixels.
    exposure : float or mapping
        Exposure time in seconds, of all frames or of each filter.
    seed : int
        Decides every random number.
    masters : bool
        Write ``calibs/bias2x2.fits`` and ``calibs/<filter>flatnorm2x2.fits``.
    raw_calibrations : bool
        Write raw bias, dark and flat frames of every night to ``raw/<night>/``.
    sidecars : bool
        Write an ``xy.csv`` for every group.
    dither : float
        Largest move of the sky along x and along y, in pixels; at most a fifth of the frame is used.
    decimal_dither : bool
        Move by fractions of a pixel too (then the stars of a group are sampled differently in each frame).
    place : str
        ``raw``: frames in ``raw/<night>/``, a sidecar for each night. ``processed``: frames in
        ``processed/<target>/<filter>/raws/``, one sidecar for all nights, where the notebook wants them.
    zone : str
        The site's time zone; its clocks say when it is night, the latitude is always La Palma's.
    calibration_frames : int
        How many frames each master is made of, or how many raw calibrations of each kind are written;
        0 makes masters without noise and without a VAR extension.
    dark_master : bool
        Write ``calibs/dark2x2.fits`` too (free of bias, EXPTIME of the longest exposure).
    sky : float or None
        Sky of every frame in electrons per pixel; None follows filter, airmass and moon.
    sky_drift : float
        Relative change of the sky from a group's first frame to its last, on top of the rest.
    seeing : float
        Full width at half maximum of a star, in arcseconds.
    saturated_stars : int
        Stars so bright that they saturate.
    camera : Camera or None
        Figures of the camera; None is pt5m.
    first_number : int
        Run number of the first science frame.
    progress : callable or None
        Called with the number of raw frames written and their total.

    Returns
    -------
    Simulation
        The frames with their truth, and the paths of everything else.

    Raises
    ------
    SetupError
        If the root holds data that no simulation wrote, or the night is too short for the frames.
    """
    if frames < 1 or min(size) < 16 or not targets or not filters or not nights:
        raise SetupError(
            "Nothing to simulate: it takes a target, a filter, a night, a frame and at least 16 x 16 pixels."
        )
    _require_names(targets, filters)
    refuse_real_data(root)
    _refuse_another_size(root, size)
    programme = Programme(
        root=root,
        targets=tuple(dict.fromkeys(targets)),
        filters=tuple(dict.fromkeys(filters)),
        nights=tuple(sorted(set(nights))),
        frames=frames,
        shape=(size[1], size[0]),
        exposures={name: _exposure_of(name, exposure) for name in filters},
        seed=seed,
        dither=dither,
        decimal_dither=decimal_dither,
        place=place,
        zone=ZoneInfo(zone),
        calibration_frames=calibration_frames,
        sky=sky,
        sky_drift=sky_drift,
        seeing=seeing,
        saturated_stars=saturated_stars,
        camera=camera or Camera(),
        first_number=first_number,
        raw_calibrations=raw_calibrations,
    )
    return _write_all(programme, masters=masters, dark_master=dark_master, sidecars=sidecars, progress=progress)


def _exposure_of(filter_name: str, exposure: float | Mapping[str, float]) -> float:
    if not isinstance(exposure, Mapping):
        return float(exposure)
    if filter_name not in exposure:
        raise SetupError(f"No exposure time is given for the filter {filter_name}; add it to the others.")
    return float(exposure[filter_name])


def _require_names(targets: Sequence[str], filters: Sequence[str]) -> None:
    for text in (*targets, *filters):
        try:
            clean_name(text)
        except ValueError as error:
            raise SetupError(f"Nothing to simulate: {error}.") from error


def _refuse_another_size(root: Path, size: tuple[int, int]) -> None:
    """Raise `SetupError` if masters of this size would replace those of the groups that are there."""
    facts = read_json(root / MARKER) or {}
    if facts.get("size", [*size]) != [*size]:
        raise SetupError(
            f"{root} holds frames of {'x'.join(map(str, facts['size']))} pixels, whose masters would be overwritten; "
            "simulate that size again, or into another folder."
        )


def refuse_real_data(root: Path) -> None:
    """Raise `SetupError` if a simulation under `root` could overwrite what a telescope wrote."""
    if root.exists() and not root.is_dir():
        raise SetupError(f"{root} is a file; give a folder to simulate into.")
    if (root / MARKER).exists():
        return
    for file in chain.from_iterable((root / name).rglob("*") for name in DATA_FOLDERS):
        if file.is_file():
            raise SetupError(f"{root} already holds data ({file.relative_to(root)}); simulate into an empty folder.")


def _write_all(
    programme: Programme,
    *,
    masters: bool,
    dark_master: bool,
    sidecars: bool,
    progress: Callable[[int, int], None] | None,
) -> Simulation:
    _write_marker(programme)
    frames: list[SimulatedFrame] = []
    calibrations: list[Path] = []
    total = len(programme.plans) + len(programme.nights) * len(plan_calibrations(programme))
    for written in _write_raws(programme):
        if isinstance(written, SimulatedFrame):
            frames.append(written)
        else:
            calibrations.append(written)
        if progress:
            progress(len(frames) + len(calibrations), total)
    write_truth(programme, frames)
    return Simulation(
        root=programme.root,
        frames=tuple(frames),
        masters=tuple(write_masters(programme, dark_master)) if masters else (),
        calibrations=tuple(calibrations),
        sidecars=tuple(write_sidecars(programme, frames)) if sidecars else (),
    )


def _write_raws(programme: Programme) -> Iterator[SimulatedFrame | Path]:
    """Write every raw frame in the order of its time, numbered without a gap; calibrations come as paths."""
    number = programme.first_number - len(plan_calibrations(programme))
    for night in programme.nights:
        for path in write_calibrations(programme, night, number):
            number += 1
            yield path
        for plan in programme.plans:
            if plan.night == night:
                yield write_frame(programme, plan, number)
                number += 1


def _write_marker(programme: Programme) -> None:
    """Mark the root as a simulated one, before anything else is in it."""
    path = programme.root / MARKER
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"seed": programme.seed, "size": [*reversed(programme.shape)], "camera": asdict(programme.camera)}
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
