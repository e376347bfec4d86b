"""Where everything stands below the data root."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from nightdesk.io.atomic import read_json
from nightdesk.io.signature import is_made_by_nightdesk

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from nightdesk.group import Group
    from nightdesk.settings import Settings

POST_ISR, EXTINCTION, SHIFTED, COMBINED = "postISR", "extinction", "shifted", "combined"


@dataclass(frozen=True)
class Layout:
    """The folders and files of one group."""

    settings: Settings
    group: Group

    @property
    def folder(self) -> Path:
        """The group's own folder; the notebook profile has none for the night."""
        place = self.settings.root.joinpath("processed", *self.group.parts)
        return place if self.settings.profile == "notebook" else place / self.group.night.isoformat()

    def product(self, step: str, name: str) -> Path:
        """A frame's product of one step."""
        return self.folder / step / f"{name}.fits"

    @property
    def stack(self) -> Path:
        """The combined image."""
        return self.folder / COMBINED / "combined.fits"

    @property
    def picture(self) -> Path:
        """The combined image as a picture."""
        return self.folder / COMBINED / "combined.png"

    @property
    def owner(self) -> str | None:
        """The key of the group whose products the folder holds; None when it holds none."""
        path = self.folder / COMBINED / "inputs.json"
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _owner(path, status.st_ino, status.st_size, status.st_mtime_ns)

    @property
    def ledger(self) -> Path:
        """Where it is written down what became of the group: beside the stack.

        In the notebook profile the folder may be another night's; what is said of this one must not replace that.
        """
        place = self.folder / COMBINED
        if self.settings.profile == "notebook" and self.owner not in (None, self.group.key):
            return place / "refused" / self.group.night.isoformat()
        return place

    @property
    def manifest(self) -> Path:
        """What became of the group."""
        return self.ledger / "manifest.json"

    @property
    def inputs(self) -> Path:
        """What the group's last run set out with."""
        return self.ledger / "inputs.json"

    @property
    def lock(self) -> Path:
        """The group's lock."""
        return self.ledger / ".lock"

    @property
    def run_lock(self) -> Path:
        """What a run by hand holds alone, and the tasks of a run share."""
        return self.ledger / ".run.lock"

    def failure(self, name: str) -> Path:
        """Why a frame was lost."""
        return self.ledger / "lost" / f"{name}.json"

    def relative(self, path: Path) -> str:
        """A path as products and manifests name it: below the data root, with slashes."""
        return path.relative_to(self.settings.root).as_posix()

    @property
    def sidecars(self) -> list[Path]:
        """The places of `xy.csv`, a night's own first; folders that a person made are found in any case."""
        place = self.settings.root / "xys"
        for part in self.group.parts:
            place = _without_case(place, part)
        return [place / self.group.night.isoformat() / "xy.csv", place / "xy.csv"]

    @property
    def sidecar(self) -> Path | None:
        """The sidecar in force: a person's, else Nightdesk's own; or None."""
        return self.person_sidecar or self.own_sidecar

    @property
    def person_sidecar(self) -> Path | None:
        """The sidecar that a person wrote, or None."""
        return next((path for path in self.sidecars if path.is_file() and not is_made_by_nightdesk(path)), None)

    @property
    def own_sidecar(self) -> Path | None:
        """The sidecar that Nightdesk wrote, or None, also where the settings ask for a person's."""
        path = self.sidecars[0]
        located = self.settings.align.mode == "auto" and self.settings.profile == "standard"
        return path if located and path.is_file() and is_made_by_nightdesk(path) else None

    @property
    def located(self) -> Path:
        """What `locate` found out about the frames."""
        return self.ledger / "located.json"

    def masters(self, kind: str, binning: str) -> list[Path]:
        """The places of a master (bias, dark, flat or bad_pixels), a night's own first."""
        pattern: str = getattr(self.settings.calibs, kind)
        name = pattern.format(binning=binning, filter=self.group.filter_name)
        place = self.settings.root / "calibs"
        if self.group.instrument:
            place /= self.group.instrument
        return [place / self.group.night.isoformat() / name, place / name]


@lru_cache
def _owner(path: Path, *_: int) -> str | None:
    """Return whose inputs a file holds; it is read again when it is another, for every ledger's place asks."""
    values = read_json(path)
    return str(values.get("group")) if isinstance(values, dict) else None


def _without_case(folder: Path, name: str) -> Path:
    """Return the folder of this name, else the one that has it in another case, else where it would be."""
    wanted = folder / name
    if wanted.is_dir() or not folder.is_dir():
        return wanted
    return next((path for path in sorted(folder.iterdir()) if path.name.casefold() == name.casefold()), wanted)


def rejection_path(settings: Settings, night: date, name: str) -> Path:
    """Where a file that belongs to no group has its reason."""
    return settings.root / "rejected" / night.isoformat() / f"{name}.json"


def report_path(settings: Settings, night: date) -> Path:
    """Where a night's report stands."""
    return settings.root / "processed" / "reports" / f"{night.isoformat()}.json"
