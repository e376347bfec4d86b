"""The ledger: what a group's run set out with (`inputs.json`), its losses, and what became of it (`manifest.json`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from nightdesk.errors import NightdeskError, StaleProduct, one_line
from nightdesk.io.atomic import locked, read_json, write_json
from nightdesk.io.inventory import Selection, common_shape, most_frequent, typical_temperature
from nightdesk.io.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nightdesk.group import Group
    from nightdesk.io.raw import RawFacts
    from nightdesk.settings import Settings

SCHEMA = 1
MANIFEST_KEYS = {"group", "state", "reason", "stack", "raws", "inputs", "settings", "code"}


@dataclass(frozen=True)
class FileState:
    """One state of a file: below the data root, with slashes."""

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, layout: Layout, path: Path) -> Self:
        """Return the state in which a file is now."""
        status = path.stat()
        return cls(layout.relative(path), status.st_size, status.st_mtime_ns)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"path": self.path, "size": self.size, "mtime_ns": self.mtime_ns}


def states_of(raws: Iterable[RawFacts]) -> frozenset[FileState]:
    """Return the states of a group's raws."""
    return frozenset(FileState(facts.path, facts.size, facts.mtime_ns) for facts in raws)


def sidecar_state(layout: Layout) -> FileState | None:
    """Return the state of a person's sidecar, or None; one that Nightdesk made is a product, not an input."""
    path = layout.person_sidecar
    return FileState.of(layout, path) if path else None


@dataclass(frozen=True)
class Inputs:
    """What a group's last run set out with.

    `raws` are all raws of the group by path, copies and other setups too; `frames` are the names to reduce; `bias_pair`
    are two raw biases of the night, if it has them. `shape` is that of the part with light, `raw_shape` of the raws.
    """

    run_id: str
    raws: dict[str, dict[str, Any]]
    sidecar: FileState | None
    frames: tuple[str, ...]
    left_out: dict[str, str]
    shape: tuple[int, ...]
    binning: str
    bias_pair: tuple[str, ...] = ()
    raw_shape: tuple[int, ...] = ()
    exposure: float | None = None
    temperature: float | None = None
    readout_mode: str = ""
    camera: str = ""

    @property
    def states(self) -> frozenset[FileState]:
        """The states of the raws."""
        return frozenset(FileState(path, raw["size"], raw["mtime_ns"]) for path, raw in self.raws.items())

    def knows(self, state: FileState) -> bool:
        """Tell whether a raw was in this state."""
        raw = self.raws.get(state.path)
        return raw is not None and (raw["size"], raw["mtime_ns"]) == (state.size, state.mtime_ns)

    def paths_of(self, name: str) -> list[str]:
        """Return the paths of a frame's raw (more than one when it was copied)."""
        return self._paths.get(name, [])

    @cached_property
    def _paths(self) -> dict[str, list[str]]:
        paths: dict[str, list[str]] = {}
        for path, raw in self.raws.items():
            paths.setdefault(raw["name"], []).append(path)
        return paths


def write_inputs(
    layout: Layout, run_id: str, raws: Iterable[RawFacts], selection: Selection, bias_pair: tuple[str, ...]
) -> Inputs:
    """Write down what a run sets out with, before anything else is done."""
    inputs = inputs_of(layout, run_id, raws, selection, bias_pair)
    with locked(layout.lock.with_name(".inputs.lock")):
        _write(layout, inputs)
    return inputs


def inputs_of(
    layout: Layout, run_id: str, raws: Iterable[RawFacts], selection: Selection, bias_pair: tuple[str, ...] = ()
) -> Inputs:
    """Return what a run of these raws sets out with."""
    frames = tuple(sorted(selection.frames))
    first = next(iter(selection.frames.values()), None)
    return Inputs(
        run_id=run_id,
        raws={facts.path: {"name": facts.name, "size": facts.size, "mtime_ns": facts.mtime_ns} for facts in raws},
        sidecar=sidecar_state(layout),
        frames=frames,
        left_out=dict(sorted(selection.left_out.items())),
        shape=common_shape(selection.frames.values()),
        binning=first.binning if first else "",
        bias_pair=bias_pair,
        raw_shape=most_frequent(facts.raw_shape for facts in selection.frames.values()),
        exposure=next((facts.exposure for facts in selection.frames.values() if (facts.exposure or 0) > 0), None),
        temperature=typical_temperature(selection.frames.values()),
        readout_mode=first.readout_mode if first else "",
        camera=first.camera if first else "",
    )


def _write(layout: Layout, inputs: Inputs) -> None:
    write_json(
        layout.inputs,
        {
            "schema": SCHEMA,
            "group": layout.group.key,
            "run_id": inputs.run_id,
            "raws": inputs.raws,
            "sidecar": inputs.sidecar.to_json() if inputs.sidecar else None,
            "frames": list(inputs.frames),
            "left_out": inputs.left_out,
            "shape": list(inputs.shape),
            "binning": inputs.binning,
            "bias_pair": list(inputs.bias_pair),
            "raw_shape": list(inputs.raw_shape),
            "exposure": inputs.exposure,
            "temperature": inputs.temperature,
            "readout_mode": inputs.readout_mode,
            "camera": inputs.camera,
        },
    )


def read_inputs(layout: Layout) -> Inputs | None:
    """Return what the last run set out with; None when there was none, or it was another night's or another build's."""
    values = read_json(layout.inputs)
    if not isinstance(values, dict) or values.get("schema") != SCHEMA or values.get("group") != layout.group.key:
        return None
    try:
        sidecar = values["sidecar"]
        return Inputs(
            run_id=values["run_id"],
            raws={path: _raw_of(raw) for path, raw in values["raws"].items()},
            sidecar=FileState(**sidecar) if sidecar else None,
            frames=tuple(values["frames"]),
            left_out=dict(values["left_out"]),
            shape=tuple(values["shape"]),
            binning=values["binning"],
            bias_pair=tuple(values["bias_pair"]),
            raw_shape=tuple(values["raw_shape"]),
            exposure=values["exposure"],
            temperature=values["temperature"],
            readout_mode=values.get("readout_mode", ""),
            camera=values.get("camera", ""),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _raw_of(raw: dict[str, Any]) -> dict[str, Any]:
    return {key: raw[key] for key in ("name", "size", "mtime_ns")}


def require_inputs(layout: Layout) -> Inputs:
    """Return what the last run set out with; `StaleProduct` when `list_frames` has not written it."""
    inputs = read_inputs(layout)
    if inputs is None:
        raise StaleProduct(f"{layout.group.key}: {layout.relative(layout.inputs)} is missing; list_frames writes it.")
    return inputs


def renew_raw(layout: Layout, state: FileState) -> None:
    """Write down that a raw was reduced in this state, so that a mended frame does not start the group again."""
    with locked(layout.lock.with_name(".inputs.lock")):
        inputs = read_inputs(layout)
        raw = inputs.raws.get(state.path) if inputs else None
        if inputs is None or raw is None or (raw["size"], raw["mtime_ns"]) == (state.size, state.mtime_ns):
            return
        raw.update(size=state.size, mtime_ns=state.mtime_ns)
        _write(layout, inputs)


def renew_sidecar(layout: Layout, state: FileState) -> None:
    """Write down which sidecar was used, so that one that arrived during the run does not start it again."""
    with locked(layout.lock.with_name(".inputs.lock")):
        inputs = read_inputs(layout)
        if inputs is not None and inputs.sidecar != state:
            _write(layout, replace(inputs, sidecar=state))


def record_loss(layout: Layout, name: str, step: str, error: NightdeskError, state: FileState | None) -> None:
    """Write down why a frame was lost, for the manifest."""
    raw = state.to_json() if state else None
    figures = getattr(error, "figures", {})
    write_json(layout.failure(name), {"frame": name, "step": step, "reason": one_line(error), "raw": raw} | figures)


def forget_loss(layout: Layout, name: str) -> None:
    """Forget that a frame was lost: it has been read well since."""
    layout.failure(name).unlink(missing_ok=True)


def read_loss(layout: Layout, name: str, state: FileState | None) -> dict[str, Any] | None:
    """Return why a frame was lost (step, reason), if that was said of its raw as it is now."""
    values = read_json(layout.failure(name))
    if not isinstance(values, dict) or values.get("raw") != (state.to_json() if state else None):
        return None
    return values


def read_manifest(settings: Settings, group: Group) -> dict[str, Any] | None:
    """Return what became of a group's last run, or None."""
    layout = Layout(settings, group)
    values = read_json(layout.manifest)
    if not isinstance(values, dict) or values.get("schema") != SCHEMA or not values.keys() >= MANIFEST_KEYS:
        return None
    return values if isinstance(values["group"], dict) and values["group"].get("key") == group.key else None
