"""The flags of a pixel: one bit each in an unsigned 16-bit mask, as in the Gemini pipeline."""

from typing import Final

BAD_PIXEL: Final = 1
NON_LINEAR: Final = 2
SATURATED: Final = 4
COSMIC_RAY: Final = 8
NO_DATA: Final = 16
OVERLAP: Final = 32
UNILLUMINATED: Final = 64

EXCLUDING: Final = BAD_PIXEL | COSMIC_RAY | NO_DATA | UNILLUMINATED
"""A value with one of these bits is left out of a stack wherever another frame has a good one."""

KEEPING: Final = NON_LINEAR | SATURATED | OVERLAP
"""A value with one of these bits stays in: to reject only the saturated draws of a pixel is biased."""

LEAST_BAD_FIRST: Final = (UNILLUMINATED, COSMIC_RAY, BAD_PIXEL)
"""Which excluded values serve where a pixel has no good one; NO_DATA never does."""

FLAG_MEANINGS: Final[dict[int, str]] = {
    BAD_PIXEL: "bad pixel",
    NON_LINEAR: "non-linear",
    SATURATED: "saturated",
    COSMIC_RAY: "cosmic ray",
    NO_DATA: "no data",
    OVERLAP: "overlap of detectors",
    UNILLUMINATED: "unilluminated",
}
