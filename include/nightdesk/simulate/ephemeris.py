"""Where a target and the moon stand over La Palma; good to an arcminute, which is enough here."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

LATITUDE, LONGITUDE = 28.7606, -17.8792  # Roque de los Muchachos, degrees north and east


def airmass_at(altitude: float) -> float:
    """Return the airmass at an altitude in degrees, by Pickering (2002), to the four decimals of a header."""
    height = max(altitude, 3.0)  # nobody observes lower, and the airmass stays a number
    return max(round(1.0 / math.sin(math.radians(height + 244.0 / (165.0 + 47.0 * height**1.1))), 4), 1.0)


def _days(moment: datetime) -> float:
    return (moment - datetime(2000, 1, 1, 12, tzinfo=UTC)) / timedelta(days=1)


def sidereal_time(moment: datetime, longitude: float) -> float:
    """Return the local mean sidereal time in degrees (UT1 taken as UTC: 15 arcseconds at most)."""
    return (280.46061837 + 360.98564736629 * _days(moment) + longitude) % 360.0


def altitude_of(moment: datetime, longitude: float, right_ascension: float, declination: float) -> float:
    """Return the altitude of a position, all in degrees."""
    hour_angle = math.radians(sidereal_time(moment, longitude) - right_ascension)
    latitude, height = math.radians(LATITUDE), math.radians(declination)
    meridian = math.cos(latitude) * math.cos(height)
    return math.degrees(math.asin(math.sin(latitude) * math.sin(height) + meridian * math.cos(hour_angle)))


def moonlight_at(moment: datetime, longitude: float) -> float:
    """Return how much the moon adds to the dark sky, from its age and its height (as if over the equator)."""
    age = (_days(moment) - 5.26) / 29.530588853 % 1.0  # new on 2000 January 6
    illuminated = (1.0 - math.cos(2.0 * math.pi * age)) / 2.0
    solar = (_days(moment) + 0.5 + longitude / 360.0) % 1.0  # since local midnight, in days
    height = math.cos(2.0 * math.pi * (solar - 0.5 - age))
    return 6.0 * illuminated**2 * max(height, 0.0)
