"""What each product of a group must be made from, and whether the one on disk is.

A product's recipe is a hash of everything that decides its numbers: the raw's content, the masters', the settings that
touch it, the code's version, and the recipe of the step before. It is written into the product's header, so a step
knows without any clock whether its work is done, and whether its predecessor's is.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from astropy.io import fits

from nightdesk import __version__
from nightdesk.errors import FrameError, StaleProduct
from nightdesk.io.association import Masters, find_masters, hash_masters
from nightdesk.io.frame import Frame, read_frame, read_recipe
from nightdesk.io.inventory import hash_file
from nightdesk.io.layout import COMBINED, EXTINCTION, POST_ISR, SHIFTED, Layout
from nightdesk.io.repair import possible_repairs
from nightdesk.io.rows import StoredRows
from nightdesk.io.sidecar import Placement, Positions, read_sidecar
from nightdesk.location import Location, read_location
from nightdesk.manifest import FileState, Inputs, read_loss, require_inputs
from nightdesk.science.sample import look_at_each
from nightdesk.settings import Measured, digest
from nightdesk.steps.coefficient import find_coefficient

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from nightdesk.group import Group
    from nightdesk.science.sample import Look
    from nightdesk.science.star import Stars
    from nightdesk.settings import Repair, Settings
    from nightdesk.steps.grid import Grid

__all__ = ["COMBINED", "EXTINCTION", "POST_ISR", "SHIFTED", "Work"]


MOST_STARS = 2000

_stars: OrderedDict[str, Stars] = OrderedDict()
"""The stars that this process has found, by the recipe of their frame, of no more frames than that."""


@dataclass
class Work:
    """One group as a step finds it: its settings, places, frames, masters, positions and recipes.

    Everything is looked up once, when first asked for; `once` is held where several threads may ask.
    """

    settings: Settings
    group: Group
    layout: Layout
    inputs: Inputs
    _masters: Masters | None = None
    _positions: Positions | None = None
    _sidecar: Path | None = None
    _location: Location | None = None
    _recipes: dict[tuple[str, str], str] = field(default_factory=dict)
    _of_all: dict[str, Any] | None = None
    _grid: Grid | None = None
    once: threading.RLock = field(default_factory=threading.RLock)

    @classmethod
    def open(cls, settings: Settings, group: Group) -> Self:
        """Return the group's work as its last `list_frames` laid it out; `StaleProduct` when it has not."""
        layout = Layout(settings, group)
        return cls(settings, group, layout, require_inputs(layout))

    @property
    def notebook(self) -> bool:
        """Whether the notebook profile is in force."""
        return self.settings.profile == "notebook"

    @property
    def masters(self) -> Masters:
        """The group's masters."""
        with self.once:
            if self._masters is None:
                self._masters = find_masters(self.settings, self.layout, self.inputs)
        return self._masters

    @property
    def positions(self) -> Positions | None:
        """The sidecar's rows for this group; None when no sidecar is there, or it is other nights' alone."""
        if self._positions is None:
            for path in (self.layout.person_sidecar, self.layout.own_sidecar):
                if path is None:
                    continue
                found = read_sidecar(self.settings, path, names=self.inputs.frames, shape=self.inputs.raw_shape)
                if found.rows or path == self.layout.sidecars[0]:
                    self._sidecar = path
                    self._positions = self._refined(found)
                    break
        return self._positions

    @property
    def sidecar(self) -> Path | None:
        """The sidecar whose rows count; None when there is none."""
        return self._sidecar if self.positions is not None else None

    @property
    def location(self) -> Location | None:
        """What `locate` found out last, from whatever frames and settings; None when it has not run."""
        if self._location is None:
            self._location = read_location(self.layout)
        return self._location

    def forget_location(self) -> None:
        """Take a person's positions as they are written, until `locate` has looked again."""
        self._location, self._positions, self._grid = Location(""), None, None

    @property
    def refines(self) -> bool:
        """Whether a person's positions are only near the star."""
        return self.settings.align.refine and not self.notebook

    def _refined(self, found: Positions) -> Positions:
        """Return a person's positions with what `locate` saw in their frames: centroids, turns and the best frame."""
        location = self.location
        if location is None or self.notebook or any(row.placement for row in found.rows):
            return found
        rows = []
        for row in found.rows:
            x, y = location.refined.get(row.name, (row.x, row.y)) if self.refines else (row.x, row.y)
            placed = location.placed.get(row.name)
            rows.append(replace(row, x=x, y=y, placement=Placement(*placed, 0, 0.0) if placed else None))
        rows.sort(key=lambda row: row.name != location.reference)  # the best goes before the first
        return replace(found, rows=tuple(rows))

    @property
    def bias_pair(self) -> tuple[str, ...]:
        """The paths of two raw biases, where the read noise may have to be measured from them."""
        sources = self.settings.instrument_of(self.group).keywords.read_noise
        return self.inputs.bias_pair if any(isinstance(source, Measured) for source in sources) else ()

    @property
    def needs_positions(self) -> bool:
        """Whether there is more than one frame, so that they must be aligned."""
        return len(self.inputs.frames) > 1

    @property
    def order(self) -> list[str]:
        """The frames in the order in which they are combined: the sidecar's, else by name."""
        positions = self.positions
        return [row.name for row in positions.used] if positions else list(self.inputs.frames)

    def raw_path(self, name: str) -> Path:
        """Return the path of a frame's raw.

        Raises
        ------
        FrameError
            If it is gone, or two different files have its name.
        """
        paths = [self.settings.root / path for path in self.inputs.paths_of(name)]
        present = [path for path in paths if path.is_file()]
        if not present:
            raise FrameError(f"{name}: its raw file is gone. Clear the whole run to go on without it.")
        if len(present) > 1 and len({hash_file(path) for path in present}) > 1:
            places = " and ".join(self.layout.relative(path) for path in present)
            raise FrameError(
                f"{name}: two different files have this name: {places}. Remove or rename one, then clear this task "
                "with its downstream."
            )
        return present[0]

    def raw_state(self, name: str) -> FileState | None:
        """Return the state of a frame's raw as it is now; None when it is gone or doubtful."""
        try:
            return FileState.of(self.layout, self.raw_path(name))
        except (FrameError, FileNotFoundError):
            return None

    def loss(self, name: str) -> dict[str, Any] | None:
        """Return why a frame was lost, if its raw is still the one that was lost."""
        return read_loss(self.layout, name, self.raw_state(name))

    def recipe(self, step: str, name: str) -> str:
        """Return the recipe by which a frame's product of a step must be made."""
        key = (step, name)
        if key not in self._recipes:
            make = {POST_ISR: self._isr, EXTINCTION: self._extinction, SHIFTED: self._shifted}[step]
            self._recipes[key] = digest(
                {"step": step, "code": __version__, "profile": self.settings.profile, **make(name)}
            )
        return self._recipes[key]

    def _isr(self, name: str) -> dict[str, Any]:
        with self.once:
            if self._of_all is None:
                self._of_all = self._isr_of_all()
        repairs = [repair.model_dump(mode="json") for repair in self.repairs(name)]
        return {"raw": hash_file(self.raw_path(name)), "repairs": repairs, **self._of_all}

    def _isr_of_all(self) -> dict[str, Any]:
        """Return what all frames of the group have in common."""
        instrument = self.settings.instrument_of(self.group)
        return {
            "masters": hash_masters(self.masters),
            "instrument": instrument.model_dump(mode="json", exclude={"match", "max_pixels", "frame_types"}),
            "bias pair": [hash_file(self.settings.root / path) for path in self.bias_pair],
            "cosmic rays": self.settings.filter_of(self.group).cosmic_rays,
            "flat": [self.settings.filter_of(self.group).flat, *self._flat_settings()],
            "distances": self.masters.distances,
            "place": self.settings.numbers_of_site(self.group)["place"],
            "depth": self.settings.depth,
        }

    def _flat_settings(self) -> list[Any]:
        calibs = self.settings.calibs
        return [calibs.flat_limit, calibs.flat_level, calibs.flat_region]

    def repairs(self, name: str) -> tuple[Repair, ...]:
        """Return the header repairs that can touch a frame."""
        path = self.raw_path(name)
        return possible_repairs(self.settings, path.name, self.group.night, self.group.instrument)

    def _extinction(self, name: str) -> dict[str, Any]:
        chosen = find_coefficient(self.settings, self.group)
        return {"from": self.recipe(POST_ISR, name), "k": [chosen.k, chosen.sigma, chosen.source]}

    def _shifted(self, name: str) -> dict[str, Any]:
        with self.once:
            if self._grid is None:
                from nightdesk.steps.grid import Grid  # which builds on this module

                self._grid = Grid.of(self)
        return {"from": self.recipe(EXTINCTION, name), "grid": self._grid.placed(name)}

    def stack_recipe(self, names: list[str]) -> str:
        """Return the recipe of the stack of these frames, in this order."""
        return digest(
            {
                "step": COMBINED,
                "code": __version__,
                "profile": self.settings.profile,
                "frames": [[name, self.recipe(SHIFTED, name)] for name in names],
                "combine": self.settings.combine.model_dump(mode="json"),
                "settings": self.settings_hash,
            }
        )

    @property
    def settings_hash(self) -> str:
        """The hash of the settings that touch this group's numbers."""
        return digest(self.settings.numbers_of(self.group))

    def is_current(self, step: str, name: str) -> bool:
        """Tell whether a frame's product of a step is on disk, made from everything as it is now."""
        try:
            return read_recipe(self.layout.product(step, name)) == self.recipe(step, name)
        except (FrameError, FileNotFoundError):
            return False

    def require(self, step: str, name: str) -> Path:
        """Return an earlier step's product; `StaleProduct` when it is missing or not current."""
        path = self.layout.product(step, name)
        if not self.is_current(step, name):
            raise StaleProduct(
                f"{name}: {self.layout.relative(path)} is missing or not made from the raw, masters and settings as "
                "they are now. If trying again does not help, clear the whole run."
            )
        return path

    def frame(self, step: str, name: str) -> Frame:
        """Return an earlier step's product; `StaleProduct` when it is missing or not current."""
        return read_frame(self.require(step, name))

    def header(self, step: str, name: str) -> fits.Header:
        """Return the header of an earlier step's product."""
        return fits.getheader(self.layout.product(step, name))

    def look(self, step: str, name: str) -> Look:
        """Return what gives data and flags of small parts of an earlier step's product."""
        path = self.require(step, name)
        with fits.open(path, memmap=False, lazy_load_hdus=True) as hdus:
            sci, flags = (StoredRows.of(path, hdus[plane]) for plane in ("SCI", "DQ"))

        def _window(rows: slice, columns: slice) -> tuple[NDArray[Any], NDArray[np.uint16]]:
            part = (rows.start, rows.stop)
            return sci.stored_rows(*part)[:, columns], flags.flag_rows(*part)[:, columns]

        return look_at_each(_window)

    def image(self, name: str) -> tuple[NDArray[Any], NDArray[np.uint16] | None]:
        """Return data and flags of a frame above the atmosphere."""
        frame = self.frame(EXTINCTION, name)
        return frame.data, frame.flags

    def stars(self, name: str) -> Stars:
        """Return the stars of a frame above the atmosphere; found once in a process."""
        recipe = self.recipe(EXTINCTION, name)
        if (known := _stars.get(recipe)) is None:
            from nightdesk.science.star import find_stars

            known = _stars[recipe] = find_stars(*self.image(name))
            while len(_stars) > MOST_STARS:
                _stars.popitem(last=False)
        return known
