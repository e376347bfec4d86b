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
    from nightdesk.io import hdu as written

    def _check(path: Path, name: str, values: Any) -> None:
        if values.dtype.kind == "f":
            assert np.isfinite(values).all(), f"{path.name}: {name} has values that are no numbers"
            assert name not in ("VAR", "VARCAL") or (values >= 0).all(), f"{path.name}: {name} < 0"

    class Checked(written.Content):
        """Look at what is written, also at rows that come when they are written."""

        def __init__(
            self, path: Path, hdus: Sequence[Any], block: Block | None = None, extra: Sequence[Any] = (), **more: Any
        ) -> None:
            listed = [hdu for hdu in (*hdus, *extra) if not isinstance(hdu, fits.BinTableHDU)]
            is_standard = any(hdu.name == "DQ" for hdu in listed)

            def _checked(first: int, last: int) -> Sequence[Any]:
                assert block is not None
                rows = block(first, last)
                for hdu, values in zip(hdus, rows, strict=True):
                    _check(path, hdu.name, values)
                return rows

            for hdu in listed if is_standard else ():
                _check(path, hdu.name, hdu.data)
            super().__init__(path, hdus, _checked if block and is_standard else block, extra, **more)

    for module in (written, frame):
        monkeypatch.setattr(module, "Content", Checked)
