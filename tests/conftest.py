"""What holds for every product that any test makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits


@pytest.fixture(autouse=True)
def every_product_is_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    """No number in a standard product is NaN or infinite, and no variance negative.

    The notebook's products, which have no VAR by name, keep what it did.
    """
    from nightdesk.io import frame
    from nightdesk.io.hdu import write_hdus
    from nightdesk.steps import master_file

    def _write(path: Path, hdus: Sequence[Any]) -> None:
        """Look at what is written, then write it."""
        if any(hdu.name == "DQ" for hdu in hdus):
            for hdu in hdus:
                if not isinstance(hdu, fits.BinTableHDU) and hdu.data.dtype.kind == "f":
                    assert np.isfinite(hdu.data).all(), f"{path.name}: {hdu.name} has values that are no numbers"
                    assert hdu.name not in ("VAR", "VARCAL") or (hdu.data >= 0).all(), f"{path.name}: {hdu.name} < 0"
        write_hdus(path, hdus)

    for module in (frame, master_file):
        monkeypatch.setattr(module, "write_hdus", _write)
