"""A night of a few small frames on disk, written with nothing but numpy and astropy: what the steps are tested on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from nightdesk.group import Group
from nightdesk.io.layout import Layout
from nightdesk.settings import Settings
from nightdesk.steps import align, extinction, isr, list_frames

Image = NDArray[Any]

NIGHT = date(2026, 11, 21)
GAIN, READ_NOISE, BIAS_LEVEL, SKY = 2.1, 5.0, 300.0, 900.0  # e-/ADU, e-, ADU, e-
CRPIX = (16.5, 12.5)


@dataclass(frozen=True)
class SmallNight:
    """A data root with one group: raws, masters and a sidecar. The same figures write the same files.

    `offsets` are where the sky lies in each frame compared with the first, whole pixels (dx, dy).
    """

    root: Path
    offsets: tuple[tuple[int, int], ...] = ((0, 0), (3, -2), (-1, 4))
    shape: tuple[int, int] = (24, 32)
    seed: int = 1
    night: date = NIGHT
    target: str = "NGC5949"
    filter_name: str = "R"
    first: int = 743053
    exposure: float = 60.0
    star: tuple[int, int] = (14, 11)
    profile: str = "standard"
    tables: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The frames' names, in the order of their times."""
        return [f"r{self.first + index:07d}" for index in range(len(self.offsets))]

    @property
    def group(self) -> Group:
        """The group."""
        return Group(self.night, self.target, self.filter_name)

    @property
    def settings(self) -> Settings:
        """Settings for this root: pt5m's with the profile and the tables asked for."""
        return Settings.model_validate({"profile": self.profile, "data": {"root": self.root}, **self.tables})

    @property
    def layout(self) -> Layout:
        """Where the group's files stand."""
        return Layout(self.settings, self.group)

    def raw(self, name: str) -> Path:
        """The path of a raw."""
        return self.root / "raw" / self.night.isoformat() / f"{name}.fits"

    @property
    def bias(self) -> Image:
        """The bias that is in every raw, ADU."""
        return np.full(self.shape, BIAS_LEVEL, np.float32) + np.arange(self.shape[1], dtype=np.float32) % 3

    @property
    def flat(self) -> Image:
        """The sensitivity, median 1."""
        y, x = np.indices(self.shape)
        response = 1.0 + 0.1 * np.cos(x / 7.0) * np.cos(y / 5.0)
        return (response / np.median(response)).astype(np.float32)

    def write(self) -> SmallNight:
        """Write raws, masters and sidecar."""
        for name in self.names:
            self.write_raw(name)
        self.write_master("bias2x2.fits", self.bias, np.full(self.shape, 0.4, np.float32))
        self.write_master(f"{self.filter_name}flatnorm2x2.fits", self.flat, np.full(self.shape, 1e-6, np.float32))
        self.write_sidecar()
        return self

    def pixels(self, name: str) -> Image:
        """A raw's pixels: sky, a star, Poisson and read noise, as the camera counts them."""
        index = self.names.index(name)
        random = np.random.default_rng([self.seed, index])
        y, x = np.indices(self.shape)
        star_x, star_y = self.position(name)
        light = SKY + 20_000.0 * np.exp(-((x - star_x) ** 2 + (y - star_y) ** 2) / (2 * 1.3**2))
        electrons = random.poisson(light * self.flat) + random.normal(0.0, READ_NOISE, self.shape)
        return np.clip(np.rint(electrons / GAIN + self.bias), 0, 65535).astype(np.uint16)

    def position(self, name: str) -> tuple[int, int]:
        """Where the star is in a frame, 0-based (x, y)."""
        dx, dy = self.offsets[self.names.index(name)]
        return self.star[0] + dx, self.star[1] + dy

    def header(self, name: str, **changes: Any) -> fits.Header:
        """A raw's header; a change to None leaves the card out. ``DATE_OBS`` stands for DATE-OBS."""
        index = self.names.index(name)
        dx, dy = self.offsets[index]
        evening = datetime(self.night.year, self.night.month, self.night.day, 22, 0, tzinfo=UTC)
        start = evening + timedelta(seconds=index * (self.exposure + 12))
        cards: dict[str, Any] = {
            "OBJECT": self.target,
            "FILTER": self.filter_name,
            "IMAGETYP": "object",
            "DATE-OBS": start.strftime("%Y-%m-%dT%H:%M:%S"),
            "EXPTIME": self.exposure,
            "AIRMASS": 1.2 + 0.1 * index,
            "EGAIN": GAIN,
            "RDNOISE": READ_NOISE,
            "XBINNING": 2,
            "YBINNING": 2,
            "INSTRUME": "pt5m",
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CRVAL1": 232.0,
            "CRVAL2": 64.75,
            "CRPIX1": CRPIX[0] + dx,
            "CRPIX2": CRPIX[1] + dy,
            "CD1_1": -2e-4,
            "CD1_2": 0.0,
            "CD2_1": 0.0,
            "CD2_2": 2e-4,
        }
        cards |= {key.replace("_", "-") if key == "DATE_OBS" else key: value for key, value in changes.items()}
        return fits.Header([(key, value) for key, value in cards.items() if value is not None])

    def write_raw(self, name: str, pixels: Image | None = None, *, path: Path | None = None, **changes: Any) -> Path:
        """Write one raw, with other pixels or header cards where they are given."""
        path = path or self.raw(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        image = self.pixels(name) if pixels is None else pixels
        fits.PrimaryHDU(image, self.header(name, **changes)).writeto(path, overwrite=True)
        return path

    def write_master(self, file: str, data: Image, variance: Image | None = None, **cards: Any) -> Path:
        """Write a master into ``calibs``."""
        path = self.root / "calibs" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        hdus = fits.HDUList([fits.PrimaryHDU(data, fits.Header(list(cards.items())))])
        if variance is not None:
            hdus.append(fits.ImageHDU(variance, name="VAR"))
        hdus.writeto(path, overwrite=True)
        return path

    @property
    def sidecar(self) -> Path:
        """The sidecar for all nights."""
        return self.root / "xys" / self.target / self.filter_name / "xy.csv"

    def write_sidecar(self, names: Sequence[str] | None = None, *, unused: Iterable[str] = ()) -> Path:
        """Write the true positions of these frames, in this order, counted from 1; some with use = 0."""
        left_out = set(unused)
        rows = [
            f"{name},{self.position(name)[0] + 1},{self.position(name)[1] + 1},{0 if name in left_out else 1}"
            for name in (self.names if names is None else names)
        ]
        return self.write_rows(["fname,x,y,use", *rows])

    def write_rows(self, lines: Sequence[str]) -> Path:
        """Write a sidecar line by line."""
        self.sidecar.parent.mkdir(parents=True, exist_ok=True)
        self.sidecar.write_text("\n".join(lines) + "\n")
        return self.sidecar

    def list_raws(self) -> list[list[str]]:
        """Run `list_frames`."""
        return list_frames.run(self.settings, self.group, run_id="test")

    def run_to(self, step: str) -> SmallNight:
        """Run the steps of single frames up to and including this one, all frames in one batch."""
        names = [name for batch in self.list_raws() for name in batch]
        for known, work in (("isr", isr.run), ("extinction", extinction.run), ("align", align.run)):
            work(self.settings, self.group, names)
            if known == step:
                break
        return self

    def product(self, step: str, name: str) -> Path:
        """The path of a frame's product."""
        return self.layout.product(step, name)

    def states(self) -> dict[str, tuple[int, int]]:
        """Inode and mtime of every product; one that is written anew has others."""
        return {
            path.relative_to(self.layout.folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in sorted(self.layout.folder.rglob("*"))
            if path.suffix in (".fits", ".png")
        }

    def rewritten(self, before: Mapping[str, tuple[int, int]]) -> list[str]:
        """The products that have been written since."""
        return [name for name, state in self.states().items() if before.get(name) != state]
