"""Write the networks of few values as C, so that a compiler can keep all values of a pixel in registers.

``python tools/networks.py`` writes science/networks.h, which middle.h includes. The steps are those of
nightdesk.science.network, one after the other, so all ways give the same bits.
"""

from __future__ import annotations

from pathlib import Path

from nightdesk.science.network import BOTH, SMALLER, middle_places, network

HEADER = Path(__file__).resolve().parent.parent / "include" / "nightdesk" / "science" / "networks.h"
FEW = range(2, 33)
"""So many values have room in the registers of today's widest processors."""

HEAD = """\
/* Steps that bring the middle values of a few to their places; BOTH, SMALLER and LARGER say what a step keeps.
 * Written by tools/networks.py from network.py; not to be changed by hand. */
"""


def as_c() -> str:
    """Return the header's text."""
    lines = [HEAD]
    for n in FEW:
        steps = " ".join(f"{_kind(kind)}({a}, {b})" for a, b, kind in network(n, frozenset(middle_places(n))).tolist())
        lines.append(f"#define NETWORK_{n} {steps}\n")
    lines.append(f"#define EACH_NETWORK(use) {' '.join(f'use({n})' for n in FEW)}\n")
    return "".join(lines)


def _kind(kind: int) -> str:
    return "BOTH" if kind == BOTH else "SMALLER" if kind == SMALLER else "LARGER"


if __name__ == "__main__":
    HEADER.write_text(as_c())
