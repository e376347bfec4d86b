"""The airmass of an exposure: the header's where it is sane, else from coordinates, else from a zenith distance.

From coordinates it is computed for the middle of the exposure with ERFA (the library inside astropy): precession,
nutation and apparent sidereal time. UT1 is taken as UTC, so no table from the network is needed and the same frame
gives the same figure for ever. That (below 0.9 s), aberration (20") and refraction, which the formula does not want,
leave an altitude right to 35": the airmass is within 0.0006 at airmass 2, and 0.002 at 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from nightdesk.angle import is_sexagesimal, parse_angle
from nightdesk.errors import FrameError
from nightdesk.io.header import as_number, find_number, find_value, require_number
from nightdesk.io.moment import find_moment
from nightdesk.science.airmass import airmass_at

if TYPE_CHECKING:
    from astropy.io import fits

    from nightdesk.settings import Instrument, Settings

LARGEST_DISAGREEMENT = 0.02
LARGEST_AIRMASS = 40.0
SECONDS_TT_AHEAD_OF_UTC = 69.2


@dataclass(frozen=True)
class Airmass:
    """An airmass, where it comes from, and what is suspicious about it ('' when nothing is)."""

    value: float
    source: str
    warning: str = ""


def find_airmass(settings: Settings, instrument: Instrument, header: fits.Header, file_name: str) -> Airmass:
    """Return the airmass of an exposure.

    Raises
    ------
    FrameError
        If neither header nor configuration gives it, and what is needed to compute it is missing.
    """
    keywords = instrument.keywords
    altitude = _altitude(settings, instrument, header, file_name)
    computed = airmass_at(altitude) if altitude is not None and altitude >= 0 else None
    told = _from_height(instrument, header, file_name)
    found = find_value(header, file_name, keywords.airmass)
    number = as_number(found[0]) if found else None
    doubts = [_doubt(f"{told[1]} gives {told[0]:.4f}", told[0], altitude)] if told else []
    if found and number is not None and 1 <= number <= LARGEST_AIRMASS:
        doubts.append(_doubt(f"{found[1]} = {number:g}", number, altitude))
        if told and altitude is None and abs(number - told[0]) > LARGEST_DISAGREEMENT:
            doubts.append(f"{found[1]} = {number:g}, but {told[1]} gives an airmass of {told[0]:.4f}")
        return Airmass(number, found[1] if found[1] == "configuration" else "header", _joined(doubts))
    if found:
        doubts.insert(0, f"{found[1]} = {found[0]!r} is no airmass")
    if computed is not None:
        return Airmass(computed, "coordinates and time", _joined(doubts))
    if told:
        return Airmass(told[0], told[1], _joined(doubts))
    if found is None:
        _raise_missing(settings, header, file_name, instrument)
    value, source = require_number(header, file_name, keywords.airmass, what="airmass", setting="airmass", least=1)
    return Airmass(value, source, f"{source} = {value:g} is beyond the horizon")


def _raise_missing(settings: Settings, header: fits.Header, file_name: str, instrument: Instrument) -> None:
    keywords = instrument.keywords
    names = " or ".join(source for source in keywords.airmass if isinstance(source, str)) or "airmass"
    site = settings.site
    needs = [] if None not in (site.latitude, site.longitude) else ["[site] has no latitude and longitude"]
    needs += _faults_of_pointing(header, file_name, instrument)
    needs = needs or ["RA, DEC and time put it below the horizon, or cannot be read"]
    raise FrameError(
        f"{file_name}: the header has no {names} (airmass), and it cannot be computed: {' and '.join(needs)}. Mend the "
        "header, or give airmass in the configuration under [instruments.<name>.keywords]."
    )


def _faults_of_pointing(header: fits.Header, file_name: str, instrument: Instrument) -> list[str]:
    """Return what is wrong with RA and DEC, each with its keyword and value."""
    sources = {"RA": instrument.keywords.ra, "DEC": instrument.keywords.dec}
    found = {name: find_value(header, file_name, where) for name, where in sources.items()}
    missing = [name for name, one in found.items() if one is None]
    faults = [f"the header has no {' and '.join(missing)}"] if missing else []
    for value, source in (one for one in found.values() if one):
        try:
            parse_angle(value)
        except ValueError as error:
            faults.append(f"{source}: {error}")
    return faults


def _doubt(what: str, number: float, altitude: float | None) -> str:
    """Return what coordinates and time have against an airmass; '' when nothing."""
    if altitude is None:
        return ""
    if altitude < 0:
        return f"{what}, but coordinates and time put it {-altitude:.1f} degrees below the horizon"
    computed = airmass_at(altitude)
    if abs(number - computed) <= LARGEST_DISAGREEMENT:
        return ""
    return f"{what}, but coordinates and time give an airmass of {computed:.4f}"


def _joined(doubts: list[str]) -> str:
    return "; ".join(doubt for doubt in doubts if doubt)


def _from_height(instrument: Instrument, header: fits.Header, file_name: str) -> tuple[float, str] | None:
    keywords = instrument.keywords
    for sources, from_zenith in ((keywords.zenith_distance, True), (keywords.altitude, False)):
        found = find_value(header, file_name, sources)
        angle = _angle(found[0]) if found else None
        if found and angle is not None and 0 <= angle <= 90:
            return airmass_at(90.0 - angle if from_zenith else angle), found[1]
    return None


def _altitude(settings: Settings, instrument: Instrument, header: fits.Header, file_name: str) -> float | None:
    """Return the altitude in degrees by coordinates and time; None where one of them is missing or nonsense."""
    site, keywords = settings.site, instrument.keywords
    latitude, longitude = site.latitude, site.east_longitude
    ra, dec = _coordinate(header, file_name, keywords.ra), _coordinate(header, file_name, keywords.dec)
    moment = find_moment(header, file_name, keywords)
    if latitude is None or longitude is None or ra is None or dec is None or moment is None:
        return None
    hours = instrument.ra_unit == "hours" or (instrument.ra_unit == "auto" and ra[1])
    degrees = ra[0] * 15.0 if hours else ra[0]
    equinox = find_number(header, file_name, keywords.equinox) or 2000.0
    if not 0 <= degrees <= 360 or not -90 <= dec[0] <= 90 or not 1800 <= equinox <= 2200:
        return None
    exposure = find_number(header, file_name, keywords.exposure) or 0.0
    middle = moment + timedelta(seconds=exposure / 2)
    return altitude_of(degrees, dec[0], equinox, middle, latitude=latitude, longitude=longitude)


def _coordinate(header: fits.Header, file_name: str, sources: Any) -> tuple[float, bool] | None:
    """Return an angle as written, and whether it was sexagesimal."""
    found = find_value(header, file_name, sources)
    angle = _angle(found[0]) if found else None
    return None if found is None or angle is None else (angle, is_sexagesimal(found[0]))


def _angle(value: Any) -> float | None:
    try:
        return parse_angle(value)
    except ValueError:
        return None


def altitude_of(
    right_ascension: float, declination: float, equinox: float, moment: datetime, *, latitude: float, longitude: float
) -> float:
    """Return the altitude of a position, all angles in degrees, longitude positive to the east."""
    import erfa

    ut = erfa.DJM0, (moment - datetime(1858, 11, 17, tzinfo=UTC)) / timedelta(days=1)
    tt = ut[0], ut[1] + SECONDS_TT_AHEAD_OF_UTC / 86400.0
    mean_j2000 = erfa.trxp(erfa.pmat06(*erfa.epj2jd(equinox)), erfa.s2c(*_radians(right_ascension, declination)))
    turned = erfa.pnm06a(*tt)
    alpha, delta = erfa.c2s(erfa.rxp(turned, mean_j2000))
    hour_angle = float(erfa.gst06(*ut, *tt, turned)) + math.radians(longitude) - float(alpha)
    phi = math.radians(latitude)
    sine = math.sin(phi) * math.sin(float(delta)) + math.cos(phi) * math.cos(float(delta)) * math.cos(hour_angle)
    return math.degrees(math.asin(max(-1.0, min(1.0, sine))))


def _radians(*degrees: float) -> tuple[float, ...]:
    return tuple(math.radians(angle) for angle in degrees)
