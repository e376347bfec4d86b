"""The quality of a stack, graded by the limits in the settings, with the reason in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from nightdesk.settings import Settings

GREEN, YELLOW, ORANGE, RED = "green", "yellow", "orange", "red"
GRADES = (GREEN, YELLOW, ORANGE, RED)


@dataclass(frozen=True)
class Quality:
    """A grade, and why it is not better ('' when it is green)."""

    grade: str
    reason: str


def grade_stack(
    settings: Settings,
    header: Mapping[str, Any],
    figures: Mapping[str, Any] | None = None,
    *,
    filter_name: str = "",
    lost: int = 0,
) -> Quality:
    """Grade a stack: the worst of what its header, its measured figures and its lost frames say.

    What is not known (as the noise ratio in the notebook profile) is not held against it.
    """
    found = [*_by_noise(settings, header), *_by_figures(settings, figures or {}, filter_name)]
    if lost:
        found.append(Quality(YELLOW, f"{lost} {'frame was' if lost == 1 else 'frames were'} lost."))
    worst = max((quality.grade for quality in found), key=GRADES.index, default=GREEN)
    return Quality(worst, " ".join(quality.reason for quality in found if quality.grade != GREEN))


def grade_figures(settings: Settings, figures: Mapping[str, Any], filter_name: str) -> Quality:
    """Grade an image by its measured figures alone."""
    return grade_stack(settings, {}, figures, filter_name=filter_name)


def not_judged(settings: Settings, filter_name: str) -> list[str]:
    """Return the figures for which a filter has no limits, as a person calls them."""
    limits = settings.quality.of_filter(filter_name)
    return [word for word in ("fwhm", "ellipticity", "sky", "stars", "depth") if getattr(limits, word) is None]


def _by_noise(settings: Settings, header: Mapping[str, Any]) -> Iterator[Quality]:
    low, high = settings.quality.noise_ratio
    ratio = header.get("NOISERAT")
    if isinstance(ratio, (int, float)) and not low <= ratio <= high:
        told = "more" if ratio > high else "less"
        yield Quality(
            ORANGE,
            f"the sky is {told} noisy than VAR says: NOISERAT = {ratio:.3f}, the limits are {low:g} and {high:g}.",
        )


def _by_figures(settings: Settings, figures: Mapping[str, Any], filter_name: str) -> Iterator[Quality]:
    limits = settings.quality.of_filter(filter_name)
    exposure = figures.get("exposure") or 0.0
    sky = figures.get("sky")
    for steps, value, what, unit, rising in (
        (limits.fwhm, figures.get("fwhm"), "the stars are wide: FWHM", " px", True),
        (limits.ellipticity, figures.get("ellipticity"), "the stars are not round: ellipticity", "", True),
        (limits.sky, sky / exposure if sky is not None and exposure else None, "the sky is bright:", " e-/s", True),
        (limits.stars, figures.get("stars"), "few stars are seen:", "", False),
        (limits.depth, figures.get("depth"), "it is not deep: 5 sigma at", " mag", False),
    ):
        if steps is None or value is None:
            continue
        passed = [step for step in steps if (value > step if rising else value < step)]
        if passed:
            limit = f"the limit is {passed[-1]:g}{unit}"
            yield Quality(GRADES[len(passed)], f"{what} {value:.3g}{unit}, {limit}.")
