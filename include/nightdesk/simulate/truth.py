"""What lies beside the frames: the sidecars that a person would write, and the truth."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nightdesk.simulate.field import band_of, extinction_factor
from nightdesk.simulate.programme import Programme, folder_of
from nightdesk.simulate.raw import Card, SimulatedFrame, write_fits


def write_sidecars(programme: Programme, frames: Sequence[SimulatedFrame]) -> Iterator[Path]:
    """Write the sidecars, as a person would who measured the guide star, and yield their paths."""
    rows: dict[Path, list[str]] = {}
    for frame, plan in zip(frames, programme.plans, strict=True):
        rows.setdefault(programme.sidecar(plan), ["fname,x,y"]).append(
            f"{frame.name},{_position(frame.x)},{_position(frame.y)}"
        )
    for path, lines in rows.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield path


def _position(pixel: float) -> str:
    """Return a 0-based position as DS9 shows it: counted from 1."""
    return f"{pixel + 1.0:.2f}".rstrip("0").rstrip(".")


def write_truth(programme: Programme, frames: Sequence[SimulatedFrame]) -> None:
    """Write for every group the noiseless sky of its first frame, and a table of what else is true."""
    for key in programme.offsets:
        target, filter_name, night = key
        group = [frame for frame in frames if (frame.target, frame.filter_name, frame.night) == key]
        band, reference, exposure = band_of(filter_name), group[0], programme.exposures[filter_name]
        field = programme.fields[target]
        above = extinction_factor(filter_name, reference.airmass)
        sky_level = reference.sky * above
        cards: list[Card] = [
            ("BUNIT", "electron", "in one exposure, above the atmosphere"),
            ("SKYLEVEL", sky_level, "[electron] of it, sky"),
            ("EXPTIME", exposure, "[s] exposure time"),
        ]
        stem = programme.root / "truth" / folder_of(target, filter_name) / night.isoformat()
        write_fits(stem.with_suffix(".fits"), (field.light(band, exposure) + sky_level).astype(np.float32), cards)
        facts = {
            "target": target,
            "filter": filter_name,
            "night": night.isoformat(),
            "reference": reference.name,
            "extinction": band.extinction,
            "sky_above_atmosphere": sky_level,
            "fwhm": programme.seeing / programme.camera.pixel_scale,
            "frames": [_frame_facts(programme, frame) for frame in group],
            "stars": [asdict(star) for star in field.stars(band, exposure)],
            "hot_pixels": programme.chip.hot_pixels,
        }
        stem.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _frame_facts(programme: Programme, frame: SimulatedFrame) -> dict[str, Any]:
    path = frame.path.relative_to(programme.root).as_posix()
    moment = frame.date_obs.isoformat(timespec="milliseconds")
    facts = {"name": frame.name} | asdict(frame) | {"path": path, "date_obs": moment}
    return {key: value for key, value in facts.items() if key not in ("target", "filter_name", "night")}
