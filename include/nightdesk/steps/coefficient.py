"""A group's extinction coefficient: the night's own, the configuration's, or the site's curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nightdesk.errors import SetupError
from nightdesk.science.extinction_curve import SOURCES, extinction_at

if TYPE_CHECKING:
    from nightdesk.group import Group
    from nightdesk.settings import Settings


@dataclass(frozen=True)
class Coefficient:
    """An extinction coefficient and its error in mag/airmass, and where it comes from."""

    k: float
    sigma: float
    source: str


def find_coefficient(settings: Settings, group: Group) -> Coefficient:
    """Return the extinction coefficient of a group's filter on its night.

    Parameters
    ----------
    settings : Settings
        A filter's `extinction` is taken as it is, unless the site has a k_V for the night and the filter a wavelength;
        without either, the site's curve tells.
    group : Group
        The group.

    Returns
    -------
    Coefficient
        In mag/airmass.

    Raises
    ------
    SetupError
        If the filter has no settings, or the curve that it needs is missing or does not reach its wavelength.
    """
    chosen, site = settings.filter_of(group), settings.site
    where = f"[filters.{group.filter_name}]"
    night_k_v = site.k_v.get(group.night)
    if chosen.wavelength is None or (chosen.extinction is not None and night_k_v is None):
        if chosen.extinction is None:
            raise SetupError(f"{where}: give extinction (mag/airmass), or a wavelength (Angstrom).")
        return Coefficient(chosen.extinction, chosen.extinction_sigma, "configuration")
    curve = site.extinction_curve
    if curve is None:
        raise SetupError(
            f"{where} has a wavelength, but [site] extinction_curve names no curve to read it from: one of "
            f"{', '.join(SOURCES)}. Or give extinction = (mag/airmass) for the filter."
        )
    try:
        k = extinction_at(chosen.wavelength, curve, night_k_v)
    except ValueError as error:
        raise SetupError(f"{where}: {error}") from error
    source = f"curve {curve} at {chosen.wavelength:g} A"
    if night_k_v is not None:
        source += f", k_V = {night_k_v:g} of {group.night}"
    return Coefficient(round(k, 6), chosen.extinction_sigma, source)
