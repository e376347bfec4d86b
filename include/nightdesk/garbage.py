"""How often a process of ours that soon ends looks for garbage."""

import atexit
import gc

OBJECTS = 20_000
"""New ones before Python looks among them; 700 by itself, which is reached many hundred times while libraries load."""


def collect_rarely() -> None:
    """Look for garbage seldom, and not once more at the end.

    A command or a task loads some hundred modules, works for seconds with few large arrays, which go as soon as nobody
    has them, and ends. Python would search all that it loaded for circles again and again, and before it ends once
    more: a tenth of a second of the half that loading takes. For commands, not for servers.
    """
    gc.set_threshold(OBJECTS, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)  # the search at the end leaves out what is frozen
