"""What a raw file says of itself, without its pixels: is it whole, and to which group does it belong."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from dataclasses import asdict, dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from nightdesk.errors import FrameError
from nightdesk.group import clean_name, resolve_alias
from nightdesk.io.detector import trimmed_shape
from nightdesk.io.header import (
    as_number,
    complete_header,
    ends_header,
    find_number,
    find_text,
    find_value,
    parse_header,
)
from nightdesk.io.repair import apply_repairs, find_repairs, list_repairs
from nightdesk.night import night_of, parse_moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from astropy.io import fits

    from nightdesk.settings import Instrument, Repair, Settings

BLOCK = 2880
LONGEST_HEADER_BLOCKS = 2000
MOST_HDUS = 1000
MOST_AXES = 999
MOST_BINNING = 1000
MOST_UNPACKED_BYTES = 1_000_000_000


@dataclass(frozen=True)
class RawFacts:
    """What is known of a raw file before its pixels are opened.

    `kind` is science, bias, dark, flat, ignored or rejected; `reason` says why for the last two. `target_text` and
    `filter_text` are the header's own words (after aliases). `shape` is that of the part with light, `raw_shape` that
    of the file's image. `missing` is how many bytes the file is shorter than its headers say (1 where only the fact is
    known). `temperature` is the detector's, C; `camera` what INSTRUME says.
    """

    path: str
    name: str
    size: int
    mtime_ns: int
    kind: str
    missing: int
    reason: str = ""
    instrument: str | None = None
    target_text: str = ""
    filter_text: str = ""
    moment: str = ""
    night: str = ""
    exposure: float | None = None
    binning: str = ""
    readout_mode: str = ""
    shape: tuple[int, ...] = ()
    raw_shape: tuple[int, ...] = ()
    temperature: float | None = None
    camera: str = ""

    @property
    def complete(self) -> bool:
        """Whether the file is as long as its headers say."""
        return self.missing == 0

    @property
    def identity(self) -> tuple[str, int, int]:
        """What tells one state of the file from another."""
        return (self.path, self.size, self.mtime_ns)

    @property
    def target(self) -> str:
        """The target's name."""
        return clean_name(self.target_text)

    @property
    def filter_name(self) -> str:
        """The filter's name."""
        return clean_name(self.filter_text)

    @property
    def named_by_folder(self) -> bool:
        """Whether it lies in the notebook's place, where folders are its target's and filter's names."""
        return self.path.startswith("processed/")

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the cache."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RawFacts:
        """Return the facts that `to_json` wrote."""
        return cls(**{**values, "shape": tuple(values["shape"]), "raw_shape": tuple(values["raw_shape"])})


def stem_of(file_name: str, extensions: Iterable[str]) -> str | None:
    """Return a raw's name without its extension, or None when it has none of `extensions`."""
    lower = file_name.lower()
    fitting = [extension for extension in extensions if lower.endswith(extension.lower())]
    return file_name[: -len(max(fitting, key=len))] if fitting else None


_RSYNC_TEMPORARY = re.compile(r"^\..+\.[A-Za-z0-9]{6}$")


def is_raw_name(settings: Settings, file_name: str) -> bool:
    """Tell whether a file of this name can be a raw: a known extension, and nobody's temporary file."""
    if _RSYNC_TEMPORARY.match(file_name):
        return False
    if any(fnmatchcase(file_name, pattern) for pattern in settings.files.ignore):
        return False
    return bool(stem_of(file_name, settings.files.extensions))


def read_facts(settings: Settings, path: Path, *, size: int, mtime_ns: int) -> RawFacts:
    """Read a raw's headers and sort it: to its group, or out, with the reason.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    path : Path
        The raw file, below the data root.
    size, mtime_ns : int
        As listed; they are part of the facts' identity.
    """
    base = _identity(settings, path, size, mtime_ns)
    name = base["name"]
    if not re.fullmatch(r"[!-.0-~]([ -.0-~]*[!-.0-~])?", name) or len(name) > 200:
        reason = "its name holds characters other than printable ASCII; rename it"
        return RawFacts(**base, kind="rejected", missing=0, reason=reason)
    try:
        header, shape, missing, chosen = _open_header(settings, path, size)
    except NotFitsError as error:
        return RawFacts(**base, kind="rejected", missing=0 if error.final else 1, reason=str(error))
    return _sort(settings, path, header, shape, {**base, "missing": missing}, chosen)


def _open_header(
    settings: Settings, path: Path, size: int
) -> tuple[fits.Header, tuple[int, ...], int, tuple[str, Instrument] | None]:
    """Return the repaired header of the image that counts, its shape, the bytes missing, and the instrument."""
    headers, missing = _walk_raw(settings, path, size)
    header, shape = image_header(headers)
    apply_repairs(header, find_raw_repairs(settings, path, header))
    chosen = _instrument_of(settings, header)
    if chosen is not None and chosen[1].extension is not None:
        header, shape = image_header(headers, chosen[1].extension)
        apply_repairs(header, find_raw_repairs(settings, path, header, chosen[1]))
    return header, shape, missing, chosen


def _walk_raw(settings: Settings, path: Path, size: int) -> tuple[list[fits.Header], int]:
    return _walk_file(path, size, most_bytes=8 * max(i.max_pixels for i in settings.instruments.values()))


def repairs_made(settings: Settings, path: Path) -> list[dict[str, Any]]:
    """Return what is repaired in a raw's header, for the ledger; nothing where it cannot be read."""
    if not settings.repairs or not path.is_file():
        return []
    try:
        *_, chosen = _open_header(settings, path, path.stat().st_size)
        headers, _ = _walk_raw(settings, path, path.stat().st_size)
    except NotFitsError:
        return []
    instrument = chosen[1] if chosen else None
    header, _ = image_header(headers, instrument.extension if instrument else None)
    return list_repairs(header, find_raw_repairs(settings, path, header, instrument))


def open_headers(path: Path) -> list[fits.Header]:
    """Return all headers of a file of which no configuration tells anything yet."""
    return _walk_file(path, path.stat().st_size, most_bytes=MOST_UNPACKED_BYTES)[0]


def read_raw_header(settings: Settings, path: Path) -> tuple[str, Instrument, fits.Header, tuple[int, ...]]:
    """Return a raw's instrument, its repaired header and its image's shape.

    Raises
    ------
    FrameError
        If it is no FITS file, or no instrument matches it.
    """
    try:
        header, shape, _, chosen = _open_header(settings, path, path.stat().st_size)
    except NotFitsError as error:
        raise FrameError(f"{path.name}: {error}.") from error
    if chosen is None:
        told = ", ".join(f"{key} = {header.get(key)!r}" for i in settings.instruments.values() for key in i.match)
        raise FrameError(f"{path.name}: no configured instrument matches its header ({told}).")
    return *chosen, header, shape


def forbidden_facts(settings: Settings, path: Path, *, size: int, mtime_ns: int) -> RawFacts:
    """Return the facts of a raw that this process may not read."""
    reason = "it may not be read; give it read permission (chmod a+r)"
    return RawFacts(**_identity(settings, path, size, mtime_ns), kind="rejected", missing=0, reason=reason)


def _identity(settings: Settings, path: Path, size: int, mtime_ns: int) -> dict[str, Any]:
    name = stem_of(path.name, settings.files.extensions) or path.stem
    return {"path": path.relative_to(settings.root).as_posix(), "name": name, "size": size, "mtime_ns": mtime_ns}


class NotFitsError(Exception):
    """The file cannot be walked as FITS; `final` tells that more bytes would not help."""

    def __init__(self, message: str, *, final: bool) -> None:
        super().__init__(message)
        self.final = final


def _walk_file(path: Path, size: int, *, most_bytes: int) -> tuple[list[fits.Header], int]:
    if path.name.lower().endswith(".gz"):
        try:
            with gzip.open(path) as stream:
                return walk(stream, None, most_bytes=most_bytes)
        except (EOFError, zlib.error, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's trouble, not the file's
            raise NotFitsError(f"it is not a whole gzip file ({error}); copy it again", final=False) from error
    with path.open("rb") as stream:
        return walk(stream, size)


def walk(
    stream: BinaryIO | gzip.GzipFile, size: int | None, *, most_bytes: int | None = None
) -> tuple[list[fits.Header], int]:
    """Read every header of a FITS stream, stepping over the data.

    Parameters
    ----------
    stream : binary file
        Positioned at its beginning.
    size : int or None
        Length of the file in bytes; None for a compressed stream, whose end is found by reading.
    most_bytes : int or None
        How much of a compressed stream is unpacked at most.

    Returns
    -------
    headers : list of Header
        Of all HDUs that have begun.
    missing : int
        How many bytes of the last one's data are missing; 1 where only the fact is known.

    Raises
    ------
    NotFitsError
        If the first header is not one, or is cut short.
    """
    headers: list[fits.Header] = []
    position = 0
    while len(headers) < MOST_HDUS:
        header, position_after = _next_header(stream, position, first=not headers)
        if header is None:
            return headers, 0
        if position_after is None:
            if not headers:
                raise NotFitsError("its header is cut short; wait for the rest or copy it again", final=False)
            return headers, 1
        headers.append(header)
        length = data_length(header)
        end = position_after + length
        if size is not None:
            if size < end:
                return headers, end - size
            position = position_after + _padded(length)
            stream.seek(position)
        elif most_bytes is not None and position_after + length > most_bytes:
            raise NotFitsError(
                f"its headers announce {position_after + length:,} bytes unpacked, more than max_pixels allows",
                final=True,
            )
        elif not _skip(stream, length, _padded(length)):
            return headers, 1
        else:
            position = position_after + _padded(length)
    return headers, 0


def _next_header(
    stream: BinaryIO | gzip.GzipFile, position: int, *, first: bool
) -> tuple[fits.Header | None, int | None]:
    from astropy.io import fits

    text = b""
    for _ in range(LONGEST_HEADER_BLOCKS):
        block = stream.read(BLOCK)
        if not text and not first and not block.startswith(b"XTENSION"):
            return None, None  # the end, or bytes behind the last HDU that are nobody's
        if not text and first and block and not block.startswith(b"SIMPLE  ="[: len(block)]):
            raise NotFitsError("it is not a FITS file (no SIMPLE at its beginning)", final=True)
        text += block
        if ends_header(block):
            header = parse_header(_NOT_PRINTABLE.sub(b"?", text).decode("ascii"))
            return header, position + _padded(len(text))
        if len(block) < BLOCK:
            return fits.Header(), None
    raise NotFitsError(f"its header has no END in {LONGEST_HEADER_BLOCKS} blocks", final=True)


_NOT_PRINTABLE = re.compile(rb"[^ -~]")  # astropy reads these as a question mark, too


def _padded(length: int) -> int:
    return -(-length // BLOCK) * BLOCK


def _skip(stream: BinaryIO | gzip.GzipFile, length: int, padded: int) -> bool:
    left = padded
    while left > 0:
        chunk = stream.read(min(left, 1 << 20))
        if not chunk:
            return padded - left >= length
        left -= len(chunk)
    return True


def data_length(header: fits.Header) -> int:
    """Return how many bytes of data a header announces (FITS standard 4.0, equations 1 and 2)."""
    axes = _axes(header, "NAXIS")
    if not axes:
        return 0
    if axes[0] == 0 and header.get("GROUPS") is True:
        axes = axes[1:]
    pixels = 1
    for axis in axes:
        pixels *= axis
    depth = abs(_count(header, "BITPIX", negative=True)) // 8
    return depth * _count(header, "GCOUNT", missing=1) * (_count(header, "PCOUNT") + pixels)


def _count(header: fits.Header, keyword: str, *, missing: int = 0, negative: bool = False) -> int:
    value = header.get(keyword, missing)
    if isinstance(value, bool) or not isinstance(value, int) or (value < 0 and not negative):
        raise NotFitsError(f"{keyword} = {value!r} is not a count", final=True)
    return value


def is_image(header: fits.Header) -> bool:
    """Tell whether an HDU holds an image, plain or compressed."""
    if header.get("ZIMAGE") is True:
        return True
    kind = str(header.get("XTENSION", "IMAGE")).strip()
    return kind == "IMAGE" and bool(header.get("NAXIS")) and header.get("GROUPS") is not True


def image_shape(header: fits.Header) -> tuple[int, ...]:
    """Return an image's shape as numpy has it, slowest axis first."""
    prefix = "ZNAXIS" if header.get("ZIMAGE") is True else "NAXIS"
    return tuple(reversed(_axes(header, prefix)))


def _axes(header: fits.Header, prefix: str) -> list[int]:
    count = _count(header, prefix)
    if count > MOST_AXES:
        raise NotFitsError(f"{prefix} = {count}, where FITS allows {MOST_AXES} axes at most", final=True)
    return [_count(header, f"{prefix}{axis}") for axis in range(1, count + 1)]


def image_header(headers: list[fits.Header], extension: int | str | None = None) -> tuple[fits.Header, tuple[int, ...]]:
    """Return an image's header, completed by the primary's, and its shape (empty when there is none).

    It is that of the extension asked for, by number or name, else the first.
    """
    for number, header in enumerate(headers):
        if extension is not None and extension not in (number, str(header.get("EXTNAME", "")).strip()):
            continue
        if is_image(header):
            if header is headers[0]:
                return header, image_shape(header)
            return complete_header(header, headers[0]), image_shape(header)
    return headers[0], ()


def find_raw_repairs(
    settings: Settings, path: Path, header: fits.Header, instrument: Instrument | None = None
) -> tuple[Repair, ...]:
    """Return the repairs of a raw; `header` is its own, as it stands in the file."""
    if not settings.repairs:
        return ()
    chosen = _instrument_of(settings, header)
    profile = instrument or (chosen[1] if chosen else next(iter(settings.instruments.values())))
    name = next((name for name, known in settings.instruments.items() if known is profile), None)
    night, _, _ = _when(settings, path, header, profile)
    own = date.fromisoformat(night) if night else folder_night(path.relative_to(settings.root).as_posix())
    return find_repairs(settings, path, night=own, instrument=name if instrument or chosen else None)


def _sort(
    settings: Settings,
    path: Path,
    header: fits.Header,
    raw_shape: tuple[int, ...],
    base: dict[str, Any],
    chosen: tuple[str, Instrument] | None,
) -> RawFacts:
    shape = trimmed_shape(header, path.name, chosen[1], raw_shape) if chosen else raw_shape

    def out(kind: str, reason: str, **more: Any) -> RawFacts:
        return RawFacts(**base, kind=kind, reason=reason, shape=shape, raw_shape=raw_shape, **more)

    if chosen is None:
        return out("rejected", "no configured instrument matches its header; see [instruments.<name>.match]")
    name, instrument = chosen
    keywords = instrument.keywords
    night, moment, trouble = _when(settings, path, header, instrument)
    known: dict[str, Any] = {
        "night": night,
        "moment": moment,
        "instrument": name if len(settings.instruments) > 1 else None,
    }
    word = find_text(header, path.name, keywords.frame_type) or ""
    kind = next((kind for kind, words in instrument.frame_types if _is_word(word, words)), None)
    target, filter_text = _target_and_filter(settings, path, header, instrument)
    if pattern := _ignored(settings, path.name, word, target or ""):
        return out("ignored", f"the configuration ignores {pattern}", **known)
    if kind is None:
        reason = f"its frame type {word!r} is not among the words of [instruments.{name}.frame_types]"
        return out("rejected", reason, **known)
    try:
        if kind == "science":
            _require_name(target, keywords.target, "target")
            _require_name(filter_text, keywords.filter_name, "filter")
        if trouble:
            raise ValueError(trouble)
        binning = _binning(header, path.name, instrument)
    except ValueError as error:
        return out("rejected", str(error), **known)
    return RawFacts(
        **base,
        **known,
        kind=kind,
        shape=shape,
        raw_shape=raw_shape,
        temperature=find_number(header, path.name, keywords.temperature),
        camera=find_text(header, path.name, ("INSTRUME",)) or "",
        target_text=target or "",
        filter_text=filter_text or "",
        exposure=find_number(header, path.name, keywords.exposure),
        binning=binning,
        readout_mode=find_text(header, path.name, keywords.readout_mode) or "",
    )


def _instrument_of(settings: Settings, header: fits.Header) -> tuple[str, Instrument] | None:
    for name, instrument in settings.instruments.items():
        patterns = instrument.match.items()
        if all(fnmatchcase(str(header.get(key, "")).strip().casefold(), text.casefold()) for key, text in patterns):
            return name, instrument
    return None


def _is_word(word: str, words: Iterable[str]) -> bool:
    return word.casefold() in (known.casefold() for known in words)


def _target_and_filter(
    settings: Settings, path: Path, header: fits.Header, instrument: Instrument
) -> tuple[str | None, str | None]:
    """Return both texts after aliases; in the notebook's place the folders are their names."""
    if place := notebook_place(settings, path):
        target: str | None = place[-2]
        filter_text: str | None = place[-1]
    else:
        target = find_text(header, path.name, instrument.keywords.target)
        filter_text = find_text(header, path.name, instrument.keywords.filter_name)
    return (
        target and resolve_alias(target, settings.aliases.targets),
        filter_text and resolve_alias(filter_text, settings.aliases.filters),
    )


def notebook_place(settings: Settings, path: Path) -> tuple[str, ...] | None:
    """Return (instrument,) target, filter of a raw that lies in ``processed/<target>/<filter>/raws``, else None."""
    parts = path.relative_to(settings.root).parts
    if parts[0] == "processed" and len(parts) >= 5 and parts[-2] == "raws":
        return parts[1:-2]
    return None


def _ignored(settings: Settings, file_name: str, word: str, target: str) -> str:
    rules = settings.ignore
    for label, text, patterns in (
        ("files", file_name, rules.files),
        ("types", word, rules.types),
        ("targets", target, rules.targets),
    ):
        for pattern in patterns:
            if fnmatchcase(text.casefold(), pattern.casefold()):
                return f"{label} like {pattern!r}"
    return ""


def _require_name(text: str | None, sources: Iterable[object], what: str) -> None:
    keywords = " or ".join(source for source in sources if isinstance(source, str))
    if not text:
        raise ValueError(f"its header names no {what} ({keywords or 'configuration'} is missing or blank)")
    try:
        clean_name(text)
    except ValueError as error:
        raise ValueError(f"its {what} is no name: {error}") from error


def _when(settings: Settings, path: Path, header: fits.Header, instrument: Instrument) -> tuple[str, str, str]:
    """Return night, UTC moment, and what is wrong with the date ('' when nothing is)."""
    day = find_text(header, path.name, instrument.keywords.date)
    clock = find_text(header, path.name, instrument.keywords.time)
    keyword = " or ".join(source for source in instrument.keywords.date if isinstance(source, str)) or "date"
    if day is None:
        return "", "", f"its header has no {keyword}, so its night is unknown"
    try:
        moment = parse_moment(day, clock)
        night = night_of(moment, settings.site.zone)
    except OverflowError:
        return "", "", f"its {keyword} = {day!r} is outside the calendar"
    except ValueError as error:
        return "", "", f"its {keyword} cannot be read: {error}"
    return night.isoformat(), moment.isoformat(), ""


def _binning(header: fits.Header, file_name: str, instrument: Instrument) -> str:
    keywords = instrument.keywords
    sides = []
    for setting, sources in (("binning_x", keywords.binning_x), ("binning_y", keywords.binning_y)):
        found = find_value(header, file_name, sources)
        number = as_number(found[0]) if found else None
        if found is None:
            names = " or ".join(source for source in sources if isinstance(source, str))
            raise ValueError(f"its header has no {names}, the binning; give {setting} in the configuration")
        if number is None or not 0 < number < MOST_BINNING:
            raise ValueError(f"its {found[1]} = {found[0]!r} is no binning")
        sides.append(number)
    return f"{sides[0]:g}x{sides[1]:g}"


def folder_night(path: str) -> date | None:
    """Return the night that a raw's folder claims (``raw/<night>/...``), or None."""
    parts = Path(path).parts
    for part in parts[1:-1] if parts[0] == "raw" else ():
        try:
            return date.fromisoformat(part)
        except ValueError:
            continue
    return None


def list_raw_files(settings: Settings, closed: set[Path] | None = None) -> Iterator[tuple[Path, int, int]]:
    """Yield path, size and mtime_ns of every file that can be a raw, in both places, sorted by path.

    Folders that this process may not look into are added to `closed`.
    """
    closed = set() if closed is None else closed
    for place in raw_places(settings):
        for path in sorted(_raw_files_below(settings, place, closed)):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # it went away while we looked
            except PermissionError:
                closed.add(path.parent)
                continue
            yield path, status.st_size, status.st_mtime_ns


def _raw_files_below(settings: Settings, place: Path, closed: set[Path]) -> Iterator[Path]:
    folders, visited = [place], set()
    while folders:
        folder = folders.pop()
        try:
            status = folder.stat()
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            closed.add(folder)
            continue
        if (status.st_dev, status.st_ino) in visited:
            continue  # a link that leads back
        visited.add((status.st_dev, status.st_ino))
        for entry in entries:
            if entry.is_dir():
                folders += [] if entry.name.startswith(".") else [Path(entry.path)]
            elif entry.is_file() and is_raw_name(settings, entry.name):
                yield Path(entry.path)


def raw_places(settings: Settings) -> list[Path]:
    """Return the folders that raws land in: ``raw`` and every ``processed/.../raws`` there is."""
    processed = settings.root / "processed"
    depth = "*/*/*/raws" if len(settings.instruments) > 1 else "*/*/raws"
    return [settings.root / "raw", *sorted(path for path in processed.glob(depth) if path.is_dir())]
