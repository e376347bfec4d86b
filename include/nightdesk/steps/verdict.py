"""Verdict: what became of a group and of each of its raws, in `manifest.json`, whatever happened before."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from astropy.io import fits

from nightdesk import __version__
from nightdesk.desk.card import read_card
from nightdesk.desk.night import note_group
from nightdesk.desk.place import stack_card
from nightdesk.errors import GroupError, NightdeskError, StaleProduct, one_line
from nightdesk.io.association import passed_over
from nightdesk.io.atomic import write_json
from nightdesk.io.frame import RECIPE, WARNING, read_recipe
from nightdesk.io.inventory import hash_file
from nightdesk.io.layout import EXTINCTION, POST_ISR, Layout
from nightdesk.io.raw import repairs_made
from nightdesk.io.repair import repairs_hash
from nightdesk.manifest import SCHEMA, FileState
from nightdesk.quality import Quality, grade_stack
from nightdesk.steps import fused
from nightdesk.steps.find_sidecar import told_by_locate, told_by_sidecar
from nightdesk.steps.recipe import Work
from nightdesk.steps.stack_header import read_names
from nightdesk.steps.tidy import remove_intermediate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nightdesk.group import Group
    from nightdesk.settings import Settings

USED, LEFT_OUT, LOST, WAITING = "used", "left out", "lost", "waiting"
NOT_IN_STACK = "it is not in the stack. Clear the whole run."
STEPS = ("isr", "extinction", "align")


@dataclass
class _Outcome:
    """A group's state, the reason in a sentence, and each frame's fate with its reason."""

    state: str
    reason: str
    fates: dict[str, tuple[str, str]] = field(default_factory=dict)
    quality: Quality | None = None

    @property
    def red(self) -> bool:
        return self.state in ("failed", "partial") or any(fate == LOST for fate, _ in self.fates.values())


def run(
    settings: Settings,
    group: Group,
    *,
    run_id: str,
    states: Mapping[str, Mapping[str, str]],
    failed_steps: Mapping[str, str] | None = None,
) -> str:
    """Write the manifest and say how the group ended.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    group : Group
        The group.
    run_id : str
        Of the run that asks.
    states : mapping of str to mapping of str to str
        How each frame's tasks ended, by frame name and step, for losses that no step could write down.
    failed_steps : mapping of str to str, optional
        Steps of the whole group that failed, with the reason where it is known.

    Returns
    -------
    str
        A sentence: done, or waiting for what.

    Raises
    ------
    GroupError
        When a frame was lost or there is no stack: the sentence names the frames and what to do.
    """
    layout = Layout(settings, group)
    try:
        work = Work.open(settings, group)
    except StaleProduct as error:
        outcome = _Outcome("failed", _failed_reason(failed_steps) or one_line(error))
        _write(settings, layout, None, outcome, run_id)
    else:
        outcome = _judge(work, states, failed_steps or {})
        _write(settings, layout, work, outcome, run_id)
    note_group(settings, group)
    if outcome.state == "done" and settings.products.keep == "stack":
        remove_intermediate(layout.folder)
    if outcome.red:
        raise GroupError(f"{group.key} is {outcome.state}: {outcome.reason}")
    return f"{group.key} is {outcome.state}: {outcome.reason}"


def _failed_reason(failed_steps: Mapping[str, str] | None) -> str:
    steps = failed_steps or {}
    return " ".join(
        f"{step} failed: {why}" if why else f"{step} failed; its log says why." for step, why in steps.items()
    )


def _judge(work: Work, states: Mapping[str, Mapping[str, str]], failed_steps: Mapping[str, str]) -> _Outcome:
    try:
        used = _used_names(work)
        fates = {name: _fate(work, name, used, states.get(name, {})) for name in work.inputs.frames}
    except NightdeskError as error:
        fates = dict.fromkeys(work.inputs.frames, (LOST, "the group as a whole failed"))
        return _Outcome("failed", one_line(error), fates)
    lost = {name: reason for name, (fate, reason) in fates.items() if fate == LOST}
    whole = _failed_reason(failed_steps)
    # Where the group as a whole failed, that is the reason; frames are named that have one of their own.
    sentence = " ".join(
        f"{name} was lost: {reason}" for name, reason in lost.items() if not (whole and reason == NOT_IN_STACK)
    )
    if not used and any(fate == WAITING for fate, _ in fates.values()):
        why = told_by_locate(work) + told_by_sidecar(work)
        told = f"it waits for positions in {_sidecar_place(work)}.{why} {sentence}".strip()
        return _Outcome("waiting", told, fates)
    troubles = f"{whole} {sentence}".strip()
    if not used:
        return _Outcome("failed", troubles or "there is no stack.", fates)
    quality = _grade(work, len(lost))
    left_out = sorted(work.inputs.left_out) + [name for name, (fate, _) in fates.items() if fate == LEFT_OUT]
    others = f"; left out: {', '.join(left_out)}" if left_out else ""
    if lost or troubles:
        told = f"{len(used)} of {len(fates)} frames are in the stack{others}. {troubles}"
        return _Outcome("partial", told, fates, quality)
    graded = f" Quality {quality.grade}: {quality.reason}" if quality.reason else ""
    counted = "1 frame is" if len(used) == 1 else f"{len(used)} frames are"
    lacks = "".join(f" {sentence}" for sentence in passed_over(work.settings, work.layout, work.inputs, work.masters))
    return _Outcome("done", f"{counted} in the stack{others}.{graded}{lacks}", fates, quality)


def _grade(work: Work, lost: int) -> Quality:
    header = fits.getheader(work.layout.stack)
    figures = read_card(stack_card(work.layout))
    if figures.get("recipe") != header.get(RECIPE):
        figures = {}  # publish did not come so far
    return grade_stack(work.settings, header, figures, filter_name=work.group.filter_name, lost=lost)


def _sidecar_place(work: Work) -> str:
    return work.layout.relative(work.layout.sidecars[0])


def _used_names(work: Work) -> list[str]:
    """Return the frames of the stack on disk, if it is made from everything as it is now."""
    recipe = read_recipe(work.layout.stack)
    if recipe is None:
        return []
    names = read_names(fits.getheader(work.layout.stack))
    try:
        return names if recipe == work.stack_recipe(names) else []
    except (NightdeskError, FileNotFoundError):
        return []  # a frame of that stack is gone or has changed since


def _fate(work: Work, name: str, used: Sequence[str], tasks: Mapping[str, str]) -> tuple[str, str]:
    if name in used:
        return USED, ""
    if loss := work.loss(name):
        return LOST, loss["reason"]
    positions = work.positions
    rows = {row.name: row for row in positions.rows} if positions else {}
    if name in rows and not rows[name].use:
        return LEFT_OUT, "the sidecar leaves it out (use = 0)"
    if positions is None and work.needs_positions and _could_wait(work, name, tasks):
        return WAITING, f"it waits for its position in {_sidecar_place(work)}"
    for step in STEPS:
        if tasks.get(step) in ("failed", "upstream_failed"):
            return LOST, f"{step} did not succeed; its log says why. Clear that task with its downstream."
    if work.raw_state(name) is None:
        return LOST, "its raw file is gone, or stands twice with different content. Clear the whole run."
    return LOST, NOT_IN_STACK


def _could_wait(work: Work, name: str, tasks: Mapping[str, str]) -> bool:
    """Tell whether a frame is as far as it can be without its position; in one pass it has no product by then."""
    if not fused.applies(work.settings, work.group):
        return work.is_current(EXTINCTION, name)
    # All frames share the square of `isr`: it is red for one that is on record, else for this one too.
    told = tasks.get("isr") != "failed" or any(work.loss(other) for other in work.inputs.frames)
    return told and work.raw_state(name) is not None


def _write(settings: Settings, layout: Layout, work: Work | None, outcome: _Outcome, run_id: str) -> None:
    group = layout.group
    write_json(
        layout.manifest,
        {
            "schema": SCHEMA,
            "group": {"key": group.key, **group.params},
            "state": outcome.state,
            "reason": outcome.reason,
            "quality": asdict(outcome.quality) if outcome.quality else None,
            "stack": layout.relative(layout.stack) if outcome.state in ("done", "partial") else None,
            "raws": _raws(work, outcome) if work else [],
            "inputs": _other_inputs(work) if work else [],
            "profile": settings.profile,
            "settings": _settings_hash(work),
            "repairs": repairs_hash(settings, group, work.inputs) if work else None,
            "code": __version__,
            "run_id": run_id,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )


def _settings_hash(work: Work | None) -> str | None:
    try:
        return work.settings_hash if work else None
    except NightdeskError:
        return None  # the filter has no settings, which is the reason given


def _raws(work: Work, outcome: _Outcome) -> list[dict[str, Any]]:
    rows = []
    alignment = _alignment(work)
    told: set[str] = set()
    for path, raw in sorted(work.inputs.raws.items(), key=lambda item: (item[1]["name"], item[0])):
        name = raw["name"]
        if name in work.inputs.left_out:
            fate, reason = LEFT_OUT, work.inputs.left_out[name]
        elif name in told and outcome.fates.get(name, (LOST, ""))[0] != LOST:
            fate, reason = LEFT_OUT, "a copy of a frame that is counted already"
        else:
            fate, reason = outcome.fates.get(name, (LOST, outcome.reason))
        told.add(name)
        file = work.settings.root / path
        sha256 = hash_file(file) if file.is_file() else None
        told_of = {"fate": fate, "reason": reason, **_warning(work, name), **alignment.get(name, {})}
        if repairs := repairs_made(work.settings, file):
            told_of["repairs"] = repairs
        rows.append({**raw, "path": path, "sha256": sha256, **told_of})
    return rows


def _warning(work: Work, name: str) -> dict[str, str]:
    """Return what is suspicious about a frame that was used all the same, by its product's header."""
    for step in (EXTINCTION, POST_ISR):
        path = work.layout.product(step, name)
        if path.is_file() and (text := fits.getheader(path).get(WARNING)):
            return {"warning": str(text)}
    return {}


def _alignment(work: Work) -> dict[str, dict[str, Any]]:
    """Return what the stack's header says of how each frame was aligned, and what was noted of its position."""
    told: dict[str, dict[str, Any]] = {}
    location = work.location
    for name, note in (location.notes if location is not None and work.refines else {}).items():
        told.setdefault(name, {})["note"] = note
    for name in work.inputs.frames:
        loss = work.loss(name) or {}
        told.setdefault(name, {}).update({key: loss[key] for key in ("residual", "matches") if key in loss})
    if read_recipe(work.layout.stack) is None:
        return told
    header = fits.getheader(work.layout.stack)
    for number, name in enumerate(read_names(header), start=1):
        figures = {key: header.get(f"{card}{number:04d}") for key, card in (("residual", "ARES"), ("matches", "ARSN"))}
        told.setdefault(name, {}).update({key: value for key, value in figures.items() if value is not None})
        if figures["residual"] is None and work.needs_positions and not work.notebook:
            notes = [told[name].get("note"), "its place was not verified: too few of its stars match the reference's"]
            told[name]["note"] = "; ".join(note for note in notes if note)
    return told


def _other_inputs(work: Work) -> list[dict[str, Any]]:
    try:
        masters = work.masters
        files: dict[str, Path] = {f"master {role}": path for role, path in masters.by_role.items()}
        days: dict[str, int | None] = {f"master {role}": away for role, away in masters.distances.items()}
    except NightdeskError:
        files, days = {}, {}  # one is missing, which is the reason given
    if (sidecar := work.layout.sidecar) is not None:
        files["sidecar"] = sidecar
    pair = [work.settings.root / path for path in work.bias_pair]
    files |= {f"raw bias {number}": path for number, path in enumerate(pair, start=1) if path.is_file()}
    return [
        {"role": role, **FileState.of(work.layout, path).to_json(), "sha256": hash_file(path)}
        | ({"days": days[role]} if role in days else {})
        for role, path in files.items()
    ]
