"""Which values make a pixel, and what its flags then say."""

import numpy as np
import pytest

from nightdesk.science.flag import (
    BAD_PIXEL,
    COSMIC_RAY,
    EXCLUDING,
    FLAG_MEANINGS,
    KEEPING,
    NO_DATA,
    NON_LINEAR,
    OVERLAP,
    SATURATED,
    UNILLUMINATED,
)
from nightdesk.science.selection import combine_flags, select_values


@pytest.mark.parametrize(
    ("flags", "used", "joined"),
    [
        ([0, 0, 0], [1, 1, 1], 0),
        ([0, SATURATED, OVERLAP], [1, 1, 1], SATURATED | OVERLAP),
        ([0, BAD_PIXEL, NON_LINEAR], [1, 0, 1], NON_LINEAR),
        ([0, COSMIC_RAY, NO_DATA], [1, 0, 0], 0),
        ([SATURATED | COSMIC_RAY, 0, 0], [0, 1, 1], 0),
        ([UNILLUMINATED, COSMIC_RAY, BAD_PIXEL], [1, 0, 0], UNILLUMINATED | COSMIC_RAY | BAD_PIXEL),
        ([NO_DATA, COSMIC_RAY, BAD_PIXEL], [0, 1, 0], NO_DATA | COSMIC_RAY | BAD_PIXEL),
        ([NO_DATA, BAD_PIXEL, BAD_PIXEL], [0, 1, 1], NO_DATA | BAD_PIXEL),
        ([COSMIC_RAY | BAD_PIXEL, COSMIC_RAY, NO_DATA], [0, 1, 0], COSMIC_RAY | BAD_PIXEL | NO_DATA),
        ([UNILLUMINATED | COSMIC_RAY, BAD_PIXEL, BAD_PIXEL], [1, 0, 0], UNILLUMINATED | COSMIC_RAY | BAD_PIXEL),
        ([UNILLUMINATED | SATURATED, BAD_PIXEL, NO_DATA], [1, 0, 0], 64 | 4 | 1 | 16),
        ([NO_DATA, NO_DATA, NO_DATA], [0, 0, 0], NO_DATA),
        ([NO_DATA | BAD_PIXEL, NO_DATA, NO_DATA | SATURATED], [0, 0, 0], NO_DATA),
    ],
)  # fmt: skip
def test_the_rule(flags: list[int], used: list[int], joined: int) -> None:
    bits = np.array(flags, np.uint16)[:, None]
    chosen, doubtful = select_values(bits)
    assert chosen[:, 0].tolist() == [bool(u) for u in used]
    assert combine_flags(bits, chosen, doubtful).tolist() == [joined]


def test_every_flag_excludes_or_keeps_and_has_a_meaning() -> None:
    assert EXCLUDING & KEEPING == 0
    assert set(FLAG_MEANINGS) == {1, 2, 4, 8, 16, 32, 64}
    assert sum(FLAG_MEANINGS) == EXCLUDING | KEEPING
