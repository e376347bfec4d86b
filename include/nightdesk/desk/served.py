"""From what a browser asks for to a file: only by the names of a group and of its frames, never by a path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nightdesk.desk.card import read_card
from nightdesk.desk.place import frame_card, stack_card
from nightdesk.errors import SetupError
from nightdesk.group import Group
from nightdesk.io.layout import EXTINCTION, POST_ISR, SHIFTED, Layout
from nightdesk.manifest import read_inputs, read_manifest
from nightdesk.settings import CONFIG_VARIABLE, load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nightdesk.manifest import Inputs
    from nightdesk.settings import Settings

STACK, RAW = "stack", "raw"
FRAME_STEPS: Final = (RAW, POST_ISR, EXTINCTION, SHIFTED)


class NotThereError(Exception):
    """What was asked for is not there, or not to be seen."""


@lru_cache(maxsize=2)
def _settings(named: str, mtime_ns: int) -> Settings:
    return load_settings()


def current_settings() -> Settings:
    """Return the observatory's settings, read again when the file has changed."""
    named = os.environ.get(CONFIG_VARIABLE, "")
    try:
        return _settings(named, Path(named).stat().st_mtime_ns if named else 0)
    except OSError as error:
        raise SetupError(f"{named}: the configuration cannot be read: {error.strerror}.") from error


@dataclass(frozen=True)
class Served:
    """A group as the pages serve it, for one request: what it has read is not read again."""

    settings: Settings
    group: Group

    @cached_property
    def layout(self) -> Layout:
        """Where its files stand."""
        return Layout(self.settings, self.group)

    @cached_property
    def inputs(self) -> Inputs | None:
        """What its last run set out with."""
        return read_inputs(self.layout) if self.holds(self.layout.inputs) else None

    @cached_property
    def manifest(self) -> dict[str, Any] | None:
        """What became of it."""
        return read_manifest(self.settings, self.group) if self.holds(self.layout.manifest) else None

    @cached_property
    def stack_card(self) -> dict[str, Any]:
        """The figures of its stack; empty when there are none."""
        path = stack_card(self.layout)
        return read_card(path) if self.holds(path) else {}

    def frame_card(self, name: str) -> dict[str, Any]:
        """Return the figures of one of its frames; empty when there are none."""
        path = frame_card(self.layout, name)
        return read_card(path) if self.holds(path) else {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its frames."""
        inputs = self.inputs
        return inputs.frames if inputs else ()

    def require_name(self, name: str) -> str:
        """Return a frame's name if the group has such a frame; 404 if not."""
        if name not in self.names:
            raise NotThereError(f"{self.group.key} has no frame of this name.")
        return name

    def file(self, step: str, name: str = "") -> Path:
        """Return an image's file: the stack, a frame's product of a step, or its raw; 404 when there is none."""
        if step == STACK:
            return self.safe(self.layout.stack, "processed")
        if step not in FRAME_STEPS:
            raise NotThereError("There is no such step.")
        self.require_name(name)
        if step == RAW:
            return self._raw(name)
        return self.safe(self.layout.product(step, name), "processed")

    def _raw(self, name: str) -> Path:
        inputs = self.inputs
        for place in inputs.paths_of(name) if inputs else []:
            path = self.settings.root / place
            if path.is_file():
                return self.safe(path, Path(place).parts[0])
        raise NotThereError(f"The raw file of {name} is not on disk.")

    def safe(self, path: Path, tree: str) -> Path:
        """Return a file if it is there and lies in its tree; a link that leads out of it is refused."""
        base = (self.settings.root / tree).resolve()
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise NotThereError(f"{self.layout.relative(path)} is not there.") from error
        if not real.is_relative_to(base) or not real.is_file():
            raise NotThereError(f"{self.layout.relative(path)} is not a file of {tree}.")
        return real

    def holds(self, path: Path, tree: str = "processed") -> bool:
        """Tell whether a file is there and lies in its tree."""
        try:
            self.safe(path, tree)
        except NotThereError:
            return False
        return True

    def present(self, step: str, name: str) -> bool:
        """Tell whether an image can be served."""
        try:
            self.file(step, name)
        except NotThereError:
            return False
        return True


def served_group(settings: Settings, run_id: str) -> Served:
    """Return the group that a run id such as ``2026-11-21__NGC5949__R`` names; `NotThereError` when it names none."""
    parts = run_id.split("__")
    if len(parts) not in (3, 4):
        raise NotThereError("This names no group: a group is night, target and filter.")
    night, *instrument, target, filter_name = parts
    params = {"night": night, "target": target, "filter_name": filter_name}
    return served_params(settings, params | ({"instrument": instrument[0]} if instrument else {}))


def served_params(settings: Settings, params: Mapping[str, Any]) -> Served:
    """Return the group that the parameters of a run name; `NotThereError` when they name none."""
    named = {key: params.get(key) for key in ("night", "target", "filter_name", "instrument")}
    if not all(isinstance(named[key], str) for key in ("night", "target", "filter_name")):
        raise NotThereError("This names no group: a group is night, target and filter.")
    try:
        return Served(settings, Group.from_params(settings, **named))  # type: ignore[arg-type]  # checked above
    except SetupError as error:
        raise NotThereError(str(error)) from error
