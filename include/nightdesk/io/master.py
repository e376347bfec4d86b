"""Master bias, dark and flat: finding them, and reading them with their variance."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from nightdesk.errors import SetupError
from nightdesk.io.header import mend_cards
from nightdesk.io.inventory import hash_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nightdesk.io.layout import Layout
    from nightdesk.settings import Settings


@dataclass(frozen=True)
class Masters:
    """The masters chosen for a group; None where there is none and none is needed."""

    bias: Path | None
    dark: Path | None
    flat: Path | None
    bad_pixels: Path | None = None

    @property
    def by_role(self) -> dict[str, Path]:
        """Those there are, by their role."""
        roles = {"bias": self.bias, "dark": self.dark, "flat": self.flat, "bad pixels": self.bad_pixels}
        return {role: path for role, path in roles.items() if path is not None}


@dataclass(frozen=True)
class Master:
    """One master as it stands on disk; `variance` and `flags` are None where it has no VAR or DQ HDU."""

    path: Path
    data: NDArray[Any]
    variance: NDArray[Any] | None
    flags: NDArray[Any] | None
    exposure: float | None
    contains_bias: bool


def find_masters(settings: Settings, layout: Layout, binning: str) -> Masters:
    """Choose a group's masters: the night's own, else the observatory's.

    Raises
    ------
    SetupError
        If one that is needed is missing: naming where it was looked for, and what to do.
    """
    group = layout.group
    notebook = settings.profile == "notebook"
    dark = None if notebook else _first(layout.masters("dark", binning))
    bad_pixels = None if notebook else _first(layout.masters("bad_pixels", binning))
    bias = _first(layout.masters("bias", binning))
    if bias is None and not (dark and dark_contains_bias(dark)):
        raise _missing(layout, "bias", binning, "Put the master bias there.")
    flat = None
    if settings.filter_of(group).flat == "required":
        flat = _first(layout.masters("flat", binning))
        if flat is None:
            advice = (
                f'Put the master flat there, or, to do without a flat, write flat = "none" under '
                f"[filters.{group.filter_name}] in the configuration."
            )
            raise _missing(layout, "flat", binning, advice)
    elif notebook:
        raise SetupError(f'[filters.{group.filter_name}] flat = "none": the notebook profile always divides by a flat.')
    return Masters(bias, dark, flat, bad_pixels)


def _first(paths: list[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _missing(layout: Layout, kind: str, binning: str, advice: str) -> SetupError:
    places = " nor ".join(layout.relative(path) for path in layout.masters(kind, binning))
    return SetupError(f"{layout.group.key}: no master {kind}: there is neither {places}. {advice} Then clear this run.")


def dark_contains_bias(path: Path) -> bool:
    """Tell whether a master dark says that the bias is still in it (DARKBIAS = T)."""
    return _read_header(path).get("DARKBIAS") is True


def _read_header(path: Path) -> fits.Header:
    try:
        return fits.getheader(path)
    except (OSError, EOFError, IndexError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: BaseException) -> SetupError:
    if isinstance(error, OSError) and error.errno is not None:
        raise error  # the disk's trouble, not the file's: worth another try
    return SetupError(f"{path.name}: the master cannot be read ({' '.join(str(error).split())}). Replace {path}.")


def read_master(path: Path) -> Master:
    """Read a master: its image, its VAR HDU if it has one, and what a dark says of itself.

    Raises
    ------
    SetupError
        If it cannot be read or is not a two-dimensional image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with path.open("rb") as stream, fits.open(stream, memmap=False) as hdus:
                image = next(
                    (hdu for hdu in hdus if hdu.name not in ("VAR", "DQ") and hdu.is_image and hdu.data is not None),
                    None,
                )
                if image is None or image.data.ndim != 2:
                    raise SetupError(f"{path.name}: the master holds no two-dimensional image. Replace {path}.")
                variance = next((_native(hdu.data) for hdu in hdus if hdu.name == "VAR"), None)
                flags = next((_native(hdu.data) for hdu in hdus if hdu.name == "DQ"), None)
                header = image.header.copy()
                data = _native(image.data)
    except (OSError, EOFError, TypeError, ValueError, fits.VerifyError) as error:
        raise _unreadable(path, error) from error
    mend_cards(header)
    for name, plane in (("VAR", variance), ("DQ", flags)):
        if plane is not None and plane.shape != data.shape:
            raise SetupError(
                f"{path.name}: its {name} has the shape {plane.shape}, its image {data.shape}. Replace {path}."
            )
    exposure = header.get("EXPTIME")
    seconds = float(exposure) if isinstance(exposure, (int, float)) and not isinstance(exposure, bool) else None
    return Master(path, data, variance, flags, seconds, header.get("DARKBIAS") is True)


def _native(plane: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(plane, dtype=plane.dtype.newbyteorder("="))


def hash_masters(masters: Masters) -> dict[str, str]:
    """Return the sha256 of each master, by role."""
    return {role: hash_file(path) for role, path in masters.by_role.items()}
