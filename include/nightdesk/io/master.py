"""Master bias, dark and flat: what they say of themselves, and reading them with their variance."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astropy.io import fits

from nightdesk.errors import FrameError, SetupError
from nightdesk.io.header import mend_cards
from nightdesk.io.quiet import quiet
from nightdesk.io.unpacking import BYTES_OF_A_PIXEL, MOST_BYTES, UNPACKING_ERRORS, check_tiles, open_unpacked

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Master:
    """One master as it stands on disk; `variance` and `flags` are None where it has no VAR or DQ HDU.

    From a dark's image the bias of the sha256 `bias_hash` was taken off `bias_share` times.
    """

    path: Path
    data: NDArray[Any]
    variance: NDArray[Any] | None
    flags: NDArray[Any] | None
    exposure: float | None
    contains_bias: bool
    bias_hash: str = ""
    bias_share: float = 0.0


@dataclass(frozen=True)
class MasterFacts:
    """What a master's header says of it; empty or None where it says nothing.

    `exposure` is that of the frames a dark was made of, in seconds, whatever the dark itself stands for.
    """

    shape: tuple[int, ...]
    binning: str = ""
    filter_name: str = ""
    exposure: float | None = None
    temperature: float | None = None
    contains_bias: bool = False
    recipe: str = ""
    header: fits.Header = field(default_factory=fits.Header)


_facts: dict[tuple[str, int, int], MasterFacts] = {}


def read_master_facts(path: Path) -> MasterFacts:
    """Read what a master's header says; within a process it is read again only when size or mtime differ.

    Raises
    ------
    SetupError
        If it cannot be read or holds no image.
    """
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key not in _facts:
        _facts[key] = _facts_of(_read_header(path))
    return _facts[key]


def _read_header(path: Path) -> fits.Header:
    try:
        with (
            quiet(),
            open_unpacked(path) as stream,
            fits.open(stream, memmap=False, lazy_load_hdus=True) as hdus,
        ):
            image = next((hdu for hdu in hdus if hdu.is_image and len(hdu.shape) == 2), None)
            if image is None:
                raise SetupError(f"{path.name}: the master holds no two-dimensional image. Replace it.")
            header: fits.Header = image.header.copy()
            mend_cards(header)
            header["NDSHAPE"] = f"{image.shape[0]},{image.shape[1]}"
            return header
    except FrameError as error:
        raise SetupError(str(error)) from error
    except (OSError, EOFError, IndexError, TypeError, ValueError, fits.VerifyError, *UNPACKING_ERRORS) as error:
        raise _unreadable(path, error) from error


def _facts_of(header: fits.Header) -> MasterFacts:
    x, y = _number(header, "XBINNING"), _number(header, "YBINNING")
    exposure = _number(header, "DARKEXP")
    return MasterFacts(
        shape=tuple(int(axis) for axis in str(header["NDSHAPE"]).split(",")),
        binning=f"{x:g}x{y:g}" if x and y else "",
        filter_name=str(header.get("FILTER", "")).strip(),
        exposure=_number(header, "EXPTIME") if exposure is None else exposure,
        temperature=_number(header, "CCD-TEMP"),
        contains_bias=header.get("DARKBIAS") is True,
        recipe=str(header.get("NDRECIPE", "")),
        header=header,
    )


def _number(header: fits.Header, keyword: str) -> float | None:
    value = header.get(keyword)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _unreadable(path: Path, error: BaseException) -> SetupError:
    if isinstance(error, OSError) and error.errno is not None:
        raise error  # the disk's trouble, not the file's: worth another try
    return SetupError(f"{path.name}: the master cannot be read ({_plain(error)}). Replace it.")


def _plain(error: BaseException) -> str:
    """Return what is wrong, without what astropy advises its programmers to do, and without the file's place."""
    return " ".join(str(error).split()).split(". If ")[0].rstrip(".")


MOST_MASTERS = 4  # kept in memory for the steps of one process, which follow one another

_masters: OrderedDict[tuple[str, int, int, bool], Master] = OrderedDict()


def read_master(path: Path, *, with_variance: bool = True) -> Master:
    """Read a master: its image, its VAR HDU if it has one and that is wanted, and what a dark says of itself.

    Its planes cannot be written to: within a process it is read again only when size or mtime differ.

    Raises
    ------
    SetupError
        If it cannot be read or is not a two-dimensional image.
    """
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns, with_variance)
    if key not in _masters:
        _masters[key] = _read_master(path, with_variance=with_variance)
        while len(_masters) > MOST_MASTERS:
            _masters.popitem(last=False)
    return _masters[key]


def _read_master(path: Path, *, with_variance: bool) -> Master:
    try:
        with quiet(), open_unpacked(path) as stream, fits.open(stream, memmap=False) as hdus:
            for number, hdu in enumerate(hdus):
                if isinstance(hdu, fits.CompImageHDU):
                    if math.prod(hdu.shape) * BYTES_OF_A_PIXEL > MOST_BYTES:
                        raise SetupError(f"{path.name}: the master of {hdu.shape} pixels is too large to unpack.")
                    check_tiles(path, number)
            image = next(
                (hdu for hdu in hdus if hdu.name not in ("VAR", "DQ") and hdu.is_image and hdu.data is not None),
                None,
            )
            if image is None or image.data.ndim != 2:
                raise SetupError(f"{path.name}: the master holds no two-dimensional image. Replace it.")
            shapes = {hdu.name: tuple(getattr(hdu, "shape", ())) for hdu in hdus if hdu.name in ("VAR", "DQ")}
            variance = next((_native(hdu.data) for hdu in hdus if with_variance and hdu.name == "VAR"), None)
            flags = next((_native(hdu.data) for hdu in hdus if hdu.name == "DQ"), None)
            header = image.header.copy()
            data = _native(image.data)
    except FrameError as error:
        raise SetupError(str(error)) from error
    except (OSError, EOFError, TypeError, ValueError, fits.VerifyError, *UNPACKING_ERRORS) as error:
        raise _unreadable(path, error) from error
    mend_cards(header)
    for name, shape in shapes.items():
        if shape != data.shape:
            raise SetupError(f"{path.name}: its {name} has the shape {shape}, its image {data.shape}. Replace it.")
    exposure = header.get("EXPTIME")
    seconds = float(exposure) if isinstance(exposure, (int, float)) and not isinstance(exposure, bool) else None
    return Master(
        path,
        data,
        variance,
        flags,
        seconds,
        header.get("DARKBIAS") is True,
        bias_hash=str(header.get("BIASHASH", "")),
        bias_share=_number(header, "BIASPART") or 0.0,
    )


def _native(plane: NDArray[Any]) -> NDArray[Any]:
    """Return a plane in this computer's byte order, read-only; turned round where it lies, if that can be."""
    native = plane.dtype.newbyteorder("=")
    if plane.dtype == native:
        turned = plane
    elif plane.flags.writeable and plane.flags.c_contiguous:
        turned = plane.byteswap(inplace=True).view(native)
    else:
        turned = plane.astype(native)
    turned.flags.writeable = False
    return turned
