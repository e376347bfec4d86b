"""The desk's pages: what each one shows, handed to its template."""

from __future__ import annotations

import json
import time
import warnings
from datetime import UTC, date, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nightdesk.desk import image, positions, words
from nightdesk.desk.master import masters_of
from nightdesk.desk.night import group_row, last_raw, read_night
from nightdesk.desk.place import frame_thumbnail
from nightdesk.desk.search import NightIndex, Wanted
from nightdesk.desk.served import FRAME_STEPS, RAW, STACK, NotThereError, Served
from nightdesk.io.layout import EXTINCTION, POST_ISR, SHIFTED
from nightdesk.quality import GRADES, grade_figures
from nightdesk_airflow.desk.static_file import static_version
from nightdesk_airflow.note import GROUP_DAG

if TYPE_CHECKING:
    from fastapi import Request

    from nightdesk.settings import Settings

BEFORE_AND_AFTER: Final = {
    "frame.isr": (RAW, POST_ISR),
    "frame.extinction": (POST_ISR, EXTINCTION),
    "align": (EXTINCTION, SHIFTED),
}
STEP_TITLES: Final = {RAW: "raw", POST_ISR: "after ISR", EXTINCTION: "before alignment", SHIFTED: "aligned"}
NIGHT_DAG: Final = "reduce_night"
RAW_SECONDS: Final = 10.0
LONGEST_HEADER: Final = 2000


def nights(request: Request, settings: Settings, wanted: Wanted, number: int) -> Response:
    """All nights, newest first, a page at a time."""
    found = _index(settings).page(wanted, number)
    asked = {
        "target": wanted.target,
        "filter": wanted.filter_name,
        "quality": wanted.quality,
        "first": wanted.first.isoformat() if wanted.first else "",
        "last": wanted.last.isoformat() if wanted.last else "",
    }
    return _page(
        request,
        "nights.html",
        found=found,
        asked=asked,
        grades=GRADES,
        last_raw=_last_raw(settings, int(time.monotonic() / RAW_SECONDS)),
        weekday=lambda night: date.fromisoformat(night).strftime("%A"),
        page_link=lambda page: "nights?" + urlencode({k: v for k, v in asked.items() if v} | {"page": page}),
    )


def stack(request: Request, served: Served) -> Response:
    """A group's stack: the viewer, and what is known of it."""
    manifest = served.manifest
    there = served.present(STACK, "")
    night = read_night(served.settings, served.group.night)
    header, provenance = _tables(served) if there else ((), ())
    fates = {raw["name"]: raw["fate"] for raw in reversed((manifest or {}).get("raws", []))}
    names = sorted(served.names, key=lambda name: fates.get(name) != "used")
    images = [{"step": STACK, "name": "", "title": "stack"}] if there else []
    for step in (SHIFTED, EXTINCTION):
        images += [
            {"step": step, "name": name, "title": f"{name}, {STEP_TITLES[step]}{_unless_used(fates.get(name))}"}
            for name in names
            if served.present(step, name)
        ]
    return _page(
        request,
        "stack.html",
        served=served,
        row=_row(served, night),
        manifest=manifest,
        card=served.stack_card,
        data=_shown(served, images),
        there=there,
        header=header,
        provenance=provenance,
        neighbours=_neighbours(served, night),
    )


def _unless_used(fate: str | None) -> str:
    return "" if fate == "used" else f" ({fate or 'not in the stack'})"


def frames(request: Request, served: Served) -> Response:
    """Every frame of a group with its figures, its fate and the reason; which masters were used and why not others."""
    manifest = served.manifest
    layout = served.layout
    trend = served.stack_card.get("frames", {})
    fates = {raw["name"]: raw for raw in reversed((manifest or {}).get("raws", []))}
    inputs = served.inputs
    night = read_night(served.settings, served.group.night)
    names = sorted({*fates, *served.names, *(inputs.left_out if inputs else {})})
    rows = []
    for name in names:
        card = served.frame_card(name) if name in served.names else {}
        raw = fates.get(name)
        in_work = {"fate": "in work", "reason": "its group has not been reduced with it yet"}
        if inputs and name in inputs.left_out:
            in_work = {"fate": "left out", "reason": inputs.left_out[name]}
        rows.append(
            {
                "name": name,
                **{key: card.get(key) for key in _FIGURES},
                "fate": (raw or in_work)["fate"],
                "reason": (raw or in_work)["reason"],
                "quality": grade_figures(served.settings, card, served.group.filter_name) if card else None,
                "thumbnail": name in served.names and frame_thumbnail(layout, name).exists(),
                "known": name in served.names,
                **trend.get(name, {"dx": None, "dy": None, "transparency": None}),
            }
        )
    return _page(
        request,
        "frames.html",
        served=served,
        manifest=manifest,
        row=_row(served, night),
        rows=rows,
        masters=masters_of(served),
        data={"group": served.group.run_id, "frames": [_plotted(row) for row in rows if row["moment"]]},
        neighbours=_neighbours(served, night),
    )


_FIGURES: Final = (
    "fwhm",
    "ellipticity",
    "sky",
    "noise",
    "depth",
    "stars",
    "exposure",
    "airmass",
    "moment",
    "zero_point",
)


def _plotted(row: dict[str, Any]) -> dict[str, Any]:
    moment = datetime.fromisoformat(row["moment"])
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    keys = ("name", "fwhm", "sky", "transparency", "dx", "dy", "airmass", "fate")
    return {"time": aware.timestamp(), **{key: row[key] for key in keys}}


def frame(request: Request, served: Served, name: str, task: str, index: str) -> Response:
    """One frame before and after a step: the one asked for, or that of a mapped task."""
    names = [served.require_name(name)] if name else _batch(served, index)
    chosen = names[0]
    steps = BEFORE_AND_AFTER.get(task, FRAME_STEPS)
    images = [
        {"step": step, "name": chosen, "title": STEP_TITLES[step]} for step in steps if _showable(served, step, chosen)
    ]
    manifest = served.manifest
    raw = next((raw for raw in (manifest or {}).get("raws", []) if raw["name"] == chosen), None)
    card = served.frame_card(chosen)
    return _page(
        request,
        "frame.html",
        served=served,
        name=chosen,
        names=names,
        task=task,
        images=images,
        missing=[STEP_TITLES[step] for step in steps if not _showable(served, step, chosen)],
        fate=raw,
        loss=_loss(served, chosen),
        card=card,
        quality=grade_figures(served.settings, card, served.group.filter_name) if card else None,
        others=served.names,
        data=_shown(served, images),
    )


def _showable(served: Served, step: str, name: str) -> bool:
    """Tell whether an image is there and can be shown: a raw may be compressed, or broken."""
    if step != RAW:
        return served.present(step, name)
    try:
        image.describe(served, step, name)
    except (NotThereError, EOFError):
        return False
    return True


def _shown(served: Served, images: list[dict[str, str]]) -> dict[str, Any]:
    """Return what a viewer is given with its page: which images there are, and how to show the first."""
    first = image.describe(served, images[0]["step"], images[0]["name"]) if images else None
    return {"group": served.group.run_id, "images": images, "first": first}


def _loss(served: Served, name: str) -> dict[str, Any] | None:
    from nightdesk.io.atomic import read_json

    path = served.layout.failure(name)
    values = read_json(path) if served.holds(path) else None
    return values if isinstance(values, dict) else None


def _batch(served: Served, index: str) -> list[str]:
    """Return the frames of a mapped task: its place in the list that `list_frames` made."""
    if not index.isdigit():
        raise NotThereError("This page is about one frame: open it from a frame's square (isr, extinction, align).")
    from nightdesk.steps.list_frames import batch_size

    size = batch_size(served.settings, served.group, len(served.names))
    names = list(served.names[int(index) * size : (int(index) + 1) * size])
    if not names:
        raise NotThereError(f"{served.group.key} has no frame for the square number {index}.")
    return names


def pick(request: Request, served: Served, *, writable: bool) -> Response:
    """The star picker."""
    rows = image.sidecar_rows(served)
    names = [name for name in served.names if served.present(EXTINCTION, name) or _showable(served, RAW, name)]
    ordered = [name for name in rows if name in names] + [name for name in names if name not in rows]
    images = [
        {"step": EXTINCTION if served.present(EXTINCTION, name) else RAW, "name": name, "title": name}
        for name in ordered
    ]
    path = served.layout.sidecars[0]
    return _page(
        request,
        "pick.html",
        served=served,
        images=images,
        writable=writable,
        place=served.layout.relative(path),
        exists=path.is_file(),
        data=_shown(served, images)
        | {
            "seen": positions.version(path),
            "rows": {name: {"x": x, "y": y, "use": use} for name, (x, y, use) in rows.items()},
            "writable": writable,
        },
    )


def other_dag(request: Request, dag: str, run: str) -> Response:
    """What the tabs say on the runs of other Dags."""
    return _page(request, "other.html", dag=dag, run=run, night_dag=dag == NIGHT_DAG)


def sorry(request: Request, status: int, sentence: str) -> Response:
    """Say why there is no page."""
    return _page(request, "sorry.html", status=status, sentence=sentence, status_code=status)


def _page(request: Request, template: str, *, status_code: int = 200, **values: Any) -> Response:
    text = _environment().get_template(template).render(request=request, **values)
    return HTMLResponse(text, status_code)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"words": words, "GROUP_DAG": GROUP_DAG, "run_link": run_link, "link": link}
    environment.globals["static"] = f"static/{static_version()}"
    environment.filters |= {"printable": words.printable, "sentence": words.sentence, "embedded": embedded, "ago": _ago}
    return environment


def run_link(run_id: str) -> str:
    """Return the address of a group's run in Airflow, from one of the desk's pages."""
    return f"../dags/{GROUP_DAG}/runs/{quote(run_id, safe='')}"


def link(page: str, **values: str) -> str:
    """Return the address of one of the desk's pages."""
    return f"{page}?{urlencode({key.rstrip('_'): value for key, value in values.items()})}"


def embedded(values: Any) -> Markup:
    """Return values as JSON that can stand in a script element: nothing in it ends the element."""
    text = json.dumps(values, ensure_ascii=True).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(text)  # every character that HTML knows is written as its number


def _ago(moment: float) -> str:
    return words.seconds(max(0.0, time.time() - moment))


_indices: list[NightIndex] = []
_raws_seen: dict[int, tuple[float, str] | None] = {}


def _index(settings: Settings) -> NightIndex:
    """Return the nights of an observatory, remembered as long as its settings stay the same."""
    if not _indices or _indices[0].settings is not settings:
        _indices[:] = [NightIndex(settings)]
    return _indices[0]


def _last_raw(settings: Settings, moment: int) -> tuple[float, str] | None:
    """Return the newest raw, looked for once in ten seconds."""
    if moment not in _raws_seen:
        _raws_seen.clear()
        _raws_seen[moment] = last_raw(settings)
    return _raws_seen.get(moment)


def _row(served: Served, night: dict[str, Any]) -> dict[str, Any]:
    """Return a group's line as its night's file has it, or gathered where the manifest is of another time."""
    row: dict[str, Any] | None = night["groups"].get(served.group.key)
    same = row is not None and served.manifest is not None and row["written"] == served.manifest["written"]
    return row if row is not None and same else group_row(served.settings, served.group)


def _neighbours(served: Served, night: dict[str, Any]) -> dict[str, str | None]:
    """Return the groups before and after this one in its night."""
    rows = night["groups"].values()
    runs = [row["run_id"] for row in sorted(rows, key=lambda row: (row["target"].casefold(), row["filter_name"]))]
    if served.group.run_id not in runs:
        return {"before": None, "after": None}
    place = runs.index(served.group.run_id)
    return {
        "before": runs[place - 1] if place else None,
        "after": runs[place + 1] if place + 1 < len(runs) else None,
    }


Tables = tuple[tuple[tuple[str, str, str], ...], tuple[dict[str, str], ...]]


def _tables(served: Served) -> Tables:
    """Return the cards of a stack's header, and the lines of its provenance."""
    path = served.file(STACK)
    status = path.stat()
    return _read_tables(path, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=8)
def _read_tables(path: Path, mtime_ns: int, inode: int) -> Tables:
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(path, memmap=False) as hdus:
            cards = hdus[0].header.cards[:LONGEST_HEADER]
            header = tuple((card.keyword, str(card.value), card.comment) for card in cards)
            if "PROVENANCE" not in hdus:
                return header, ()
            table = hdus["PROVENANCE"].data
            return header, tuple({name: str(row[name]).strip() for name in table.names} for row in table)
