"""The desk's web application: what each address answers. Handlers that read files run in threads beside the loop."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from nightdesk.desk import image, positions
from nightdesk.desk.place import frame_thumbnail, stack_thumbnail
from nightdesk.desk.search import Wanted
from nightdesk.desk.served import NotThereError, Served, current_settings, served_group
from nightdesk.errors import NightdeskError, SetupError
from nightdesk.io.layout import report_path
from nightdesk.night import parse_night
from nightdesk_airflow.desk import page
from nightdesk_airflow.desk.access import MAY_SEE, MAY_WRITE, Guarded, from_our_page
from nightdesk_airflow.desk.dag_run import group_of_run, may_write
from nightdesk_airflow.desk.static_file import find_static

FOREVER: Final = "private, max-age=31536000, immutable"


DagAsked = Annotated[str, Query(max_length=250)]
RunAsked = Annotated[str, Query(max_length=300)]
GroupText = Annotated[str, Query(max_length=300)]


def _asked(dag: str, run: str, group: str) -> Served | None:
    if group:
        return served_group(current_settings(), group)
    return group_of_run(current_settings(), dag, run)


def the_group(dag: DagAsked = "", run: RunAsked = "", group: GroupText = "") -> Served:
    """Return the group that a request names, by its own name or by a run of it."""
    served = _asked(dag, run, group)
    if served is None:
        raise NotThereError("This names no group, and no run of one.")
    return served


GroupAsked = Annotated[Served, Depends(the_group)]
Step = Annotated[str, Query(max_length=20)]
FrameName = Annotated[str, Query(max_length=300)]
Coordinate = Annotated[float, Query(ge=-1e6, le=1e6)]


class Row(BaseModel):
    """One frame's position, 0-based."""

    name: str = Field(max_length=300)
    x: float = Field(ge=-1e6, le=1e6, allow_inf_nan=False)
    y: float = Field(ge=-1e6, le=1e6, allow_inf_nan=False)
    use: bool = True


class Positions(BaseModel):
    """What the star picker sends."""

    group: str = Field(max_length=300)
    rows: list[Row] = Field(max_length=10_000)
    seen: str = Field(max_length=64)


def build() -> Any:
    """Return the application."""
    app = FastAPI(title="Nightdesk", docs_url=None, redoc_url=None, openapi_url=None)
    # What is the same for everybody; without it the page that says "log in" could not be read.
    app.add_api_route("/static/{name:path}", static_file, methods=["GET"])
    for path, handler, kind in (
        ("/nights", nights_page, HTMLResponse),
        ("/stack", stack_page, HTMLResponse),
        ("/frames", frames_page, HTMLResponse),
        ("/frame", frame_page, HTMLResponse),
        ("/pick", pick_page, HTMLResponse),
        ("/image", image_facts, JSONResponse),
        ("/tile", image_tile, Response),
        ("/pixel", image_pixel, JSONResponse),
        ("/thumbnail", thumbnail, Response),
        ("/download", download, Response),
        ("/report", report, Response),
        ("/centroid", star_centroid, JSONResponse),
        ("/propose", star_proposal, JSONResponse),
    ):
        app.add_api_route(path, handler, methods=["GET"], response_class=kind, dependencies=[MAY_SEE])
    app.add_api_route("/positions", save_positions, methods=["POST"], dependencies=[MAY_WRITE, Depends(from_our_page)])
    app.add_exception_handler(NotThereError, _not_there)
    app.add_exception_handler(EOFError, _cut_short)
    app.add_exception_handler(NightdeskError, _setup)
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _misunderstood)
    return Guarded(app)


def nights_page(
    request: Request,
    target: Annotated[str, Query(max_length=64)] = "",
    filter_name: Annotated[str, Query(alias="filter", max_length=64)] = "",
    quality: Annotated[str, Query(max_length=16)] = "",
    first: Annotated[str, Query(max_length=10)] = "",
    last: Annotated[str, Query(max_length=10)] = "",
    number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1,
) -> Response:
    """All nights, newest first."""
    wanted = Wanted(target.strip(), filter_name, quality, _date(first), _date(last))
    return page.nights(request, current_settings(), wanted, number)


def _date(text: str) -> date | None:
    try:
        return parse_night(text) if text else None
    except ValueError as error:
        raise HTTPException(422, str(error)) from error


def stack_page(request: Request, dag: DagAsked = "", run: RunAsked = "", group: GroupText = "") -> Response:
    """A group's stack, in a viewer."""
    served = _asked(dag, run, group)
    return page.stack(request, served) if served else page.other_dag(request, dag, run)


def frames_page(request: Request, dag: DagAsked = "", run: RunAsked = "", group: GroupText = "") -> Response:
    """A group's frames: figures, fate, masters."""
    served = _asked(dag, run, group)
    return page.frames(request, served) if served else page.other_dag(request, dag, run)


def frame_page(
    request: Request,
    dag: DagAsked = "",
    run: RunAsked = "",
    group: GroupText = "",
    name: FrameName = "",
    task: Annotated[str, Query(max_length=250)] = "",
    index: Annotated[str, Query(max_length=8)] = "",
) -> Response:
    """A frame before and after a step."""
    served = _asked(dag, run, group)
    return page.frame(request, served, name, task, index) if served else page.other_dag(request, dag, run)


def pick_page(request: Request, served: GroupAsked, user: GetUserDep) -> Response:
    """The star picker."""
    return page.pick(request, served, writable=may_write(user))


def image_facts(served: GroupAsked, step: Step, name: FrameName = "") -> Any:
    """How an image is to be shown."""
    return image.describe(served, step, name)


def image_tile(
    served: GroupAsked,
    step: Step,
    level: Annotated[int, Query(ge=0, le=16)],
    row: Annotated[int, Query(ge=0, le=4095)],
    column: Annotated[int, Query(ge=0, le=4095)],
    name: FrameName = "",
    kind: Annotated[str, Query(max_length=10)] = "sci",
    version: Annotated[str, Query(max_length=60)] = "",
) -> Response:
    """A tile of an image. Airflow would compress it, which takes longer than it saves."""
    same = version == image.version(served, step, name)
    headers = {"content-encoding": "identity", "cache-control": FOREVER if same else "no-store"}
    content = image.tile(served, step, name, kind, level, row, column)
    return Response(content, media_type="application/octet-stream", headers=headers)


def image_pixel(
    served: GroupAsked,
    step: Step,
    x: Annotated[int, Query(ge=0, le=1_000_000)],
    y: Annotated[int, Query(ge=0, le=1_000_000)],
    name: FrameName = "",
) -> Any:
    """One pixel's value, variance and flags."""
    return image.pixel(served, step, name, x, y)


NO_STACK_YET: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="240" height="60" role="img"><rect width="240" height="60" rx="6" '
    'fill="#888" fill-opacity=".25"/><text x="120" y="36" text-anchor="middle" font-family="sans-serif" font-size="15" '
    'fill="#888">no stack yet</text></svg>'
)


def thumbnail(served: GroupAsked, name: FrameName = "", note: bool = False) -> Response:
    """A small picture of a stack or a frame; for a run's note there is always one."""
    layout = served.layout
    if note and not stack_thumbnail(layout).is_file():
        return Response(NO_STACK_YET, media_type="image/svg+xml")
    path = frame_thumbnail(layout, served.require_name(name)) if name else stack_thumbnail(layout)
    return FileResponse(
        served.safe(path, "processed"), media_type="image/jpeg", headers={"cache-control": "private, max-age=30"}
    )


def download(served: GroupAsked, what: Step, name: FrameName = "") -> Response:
    """A product as a file: the stack, its picture, its manifest, or a frame's product of a step."""
    layout = served.layout
    stem = served.group.run_id
    if what == "picture":
        return _attached(served.safe(layout.picture, "processed"), f"{stem}.png", "image/png")
    if what == "manifest":
        return _attached(served.safe(layout.manifest, "processed"), f"{stem}.json", "application/json")
    if what == "stack":
        return _attached(served.file("stack"), f"{stem}.fits", "application/fits")
    if what == "raw":
        raise HTTPException(404, "Raw files are not downloaded from here.")
    return _attached(served.file(what, name), f"{stem}__{what}__{_plain(name)}.fits", "application/fits")


def _plain(name: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in name)


def _attached(path: Path, file_name: str, kind: str) -> Response:
    return FileResponse(path, media_type=kind, filename=file_name)


def report(night: Annotated[str, Query(max_length=10)]) -> Response:
    """A night's report, the page that is mailed, as a file."""
    chosen = current_settings()
    day = _date(night)
    if day is None:
        raise HTTPException(422, "Say which night.")
    path = report_path(chosen, day).with_suffix(".html")
    base = (chosen.root / "processed" / "reports").resolve()
    if not path.is_file() or not path.resolve().is_relative_to(base):
        raise HTTPException(404, f"There is no report of {day} yet; reduce_night writes it.")
    return _attached(path, f"night-{day}.html", "text/html; charset=utf-8")


def star_centroid(served: GroupAsked, name: FrameName, x: Coordinate, y: Coordinate) -> Any:
    """The centroid of the star near a position."""
    return positions.centroid(served, served.require_name(name), x, y)


def star_proposal(served: GroupAsked, reference: FrameName, name: FrameName, x: Coordinate, y: Coordinate) -> Any:
    """Where the star of one frame is in another."""
    return positions.propose(served, served.require_name(reference), x, y, served.require_name(name))


def save_positions(asked: Positions) -> Any:
    """Write `xy.csv`; its arrival starts the group."""
    served = served_group(current_settings(), asked.group)
    place = positions.write_positions(served, [row.model_dump() for row in asked.rows], asked.seen)
    seen = positions.version(positions.sidecar_path(served))
    return {"file": place, "seen": seen, "settle_seconds": served.settings.watch.settle_seconds}


async def static_file(request: Request, name: str) -> Response:
    """Scripts and styles: those that lie in the folder, and nothing else. Nothing blocks, so no thread is asked."""
    file, same = find_static(name)
    if file is None:
        raise HTTPException(404, "There is no such file.")
    packed = "gzip" in request.headers.get("accept-encoding", "")
    headers = {
        "cache-control": FOREVER if same else "no-cache",
        "content-encoding": "gzip" if packed else "identity",
        "vary": "accept-encoding",
    }
    return Response(file.packed if packed else file.plain, media_type=file.kind, headers=headers)


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _answer(request: Request, status: int, sentence: str) -> Response:
    if _wants_page(request):
        return page.sorry(request, status, sentence)
    return JSONResponse({"detail": sentence}, status)


def _not_there(request: Request, error: Exception) -> Response:
    return _answer(request, 404, str(error))


def _cut_short(request: Request, error: Exception) -> Response:
    return _answer(request, 404, str(error))


def _setup(request: Request, error: Exception) -> Response:
    return _answer(request, 409 if isinstance(error, SetupError) else 500, str(error))


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    return _answer(request, error.status_code, str(error.detail))


def _misunderstood(request: Request, error: Exception) -> Response:
    return _answer(request, 422, "This address is not complete, or a value in it is not understood.")
