"""What holds for every product that any test makes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.io.hdu import Block

# Where several processes share the tests each is told the terminal's width, and the command's tables would keep to it.
os.environ.pop("COLUMNS", None)


@pytest.fixture(autouse=True)
def every_product_is_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    """No number in a standard product is NaN or infinite, and no variance negative.

    The notebook's products, which have no VAR by name, keep what it did.
    """
    from nightdesk.io import frame
    from nightdesk.io.hdu import write_hdus
    from nightdesk.steps import master_file

    def _check(path: Path, name: str, values: Any) -> None:
        if values.dtype.kind == "f":
            assert np.isfinite(values).all(), f"{path.name}: {name} has values that are no numbers"
            assert name not in ("VAR", "VARCAL") or (values >= 0).all(), f"{path.name}: {name} < 0"

    def _write(path: Path, hdus: Sequence[Any], block: Block | None = None, extra: Sequence[Any] = ()) -> None:
        """Look at what is written, also at rows that come when they are written, then write it."""
        listed = [hdu for hdu in (*hdus, *extra) if not isinstance(hdu, fits.BinTableHDU)]
        if not any(hdu.name == "DQ" for hdu in listed):
            write_hdus(path, hdus, block, extra)
            return
        for hdu in listed:
            _check(path, hdu.name, hdu.data)

        def _checked(first: int, last: int) -> Sequence[Any]:
            assert block is not None
            rows = block(first, last)
            for hdu, values in zip(hdus, rows, strict=True):
                _check(path, hdu.name, values)
            return rows

        write_hdus(path, hdus, _checked if block else None, extra)

    for module in (frame, master_file):
        monkeypatch.setattr(module, "write_hdus", _write)
