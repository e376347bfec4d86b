"""A simulated night of pt5m: what the telescope would have written, and the truth beside it.

`simulate` fills a data root with raw frames, masters and sidecars as they lie on a real disk, and writes
under ``truth/`` what a perfect reduction would find. The same arguments write the same bytes.

`expose_slowly` copies a frame as a camera writes it, in place and bit by bit; `truncate`, `drop_keyword` and
`crop` break one.

The fields are invented, also those of real targets: each is placed so that it is up on the first night.
"""

from nightdesk.simulate.camera import Camera
from nightdesk.simulate.fault import crop, drop_keyword, expose_slowly, truncate
from nightdesk.simulate.night import Simulation, simulate
from nightdesk.simulate.raw import SimulatedFrame

__all__ = [
    "Camera",
    "SimulatedFrame",
    "Simulation",
    "crop",
    "drop_keyword",
    "expose_slowly",
    "simulate",
    "truncate",
]
