"""A night whose raw calibration frames become masters in one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date


@dataclass(frozen=True, order=True)
class CalibrationNight:
    """The unit of building masters: one night, all kinds of frames and all instruments."""

    night: date

    @property
    def key(self) -> str:
        """The night as a person writes it."""
        return f"{self.night.isoformat()}/masters"

    @property
    def run_id(self) -> str:
        """The id of the night's one run: ``2026-11-21__masters``."""
        return f"{self.night.isoformat()}__masters"

    @property
    def params(self) -> dict[str, str]:
        """The parameters of that run."""
        return {"night": self.night.isoformat()}
