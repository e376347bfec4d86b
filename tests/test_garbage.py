"""A command that ends does not search all that it loaded."""

import subprocess
import sys

TOLD = """
import gc
from nightdesk.garbage import OBJECTS, collect_rarely
collect_rarely()
print(gc.get_threshold()[0] == OBJECTS, gc.isenabled(), gc.get_freeze_count())
class Circle:
    def __del__(self):
        print("searched")
one = Circle()
one.self = one
del one
"""


def test_what_is_left_at_the_end_is_not_searched() -> None:
    done = subprocess.run([sys.executable, "-c", TOLD], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["True True 0", ""]
    searched = subprocess.run(
        [sys.executable, "-c", TOLD.replace("\ncollect_rarely()", "")], capture_output=True, text=True, check=True
    )
    assert "searched" in searched.stdout


def test_the_command_collects_rarely() -> None:
    told = "import gc, nightdesk.cli; from nightdesk.garbage import OBJECTS; print(gc.get_threshold()[0] == OBJECTS)"
    assert subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout == "True\n"
