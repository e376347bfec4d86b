"""What can go wrong, as a family.

    NightdeskError             a sentence for a person: what is wrong, and what to do
    ├── FrameError             this frame is bad; the group goes on without it
    ├── GroupError             nothing to combine, or a frame of the group was lost
    └── SetupError             configuration, sidecar or a missing master

None of these is mended by trying again. Two more are no errors at all: `Waiting` and `FrameLost` end a task as
skipped. `StaleProduct` is passing trouble: a later try finds the product.
"""


class NightdeskError(Exception):
    """A permanent failure, told in a sentence that says what to do."""


class FrameError(NightdeskError):
    """This frame cannot be used; the others of its group can."""


class GroupError(NightdeskError):
    """The group has no stack, or its stack lacks frames."""


class SetupError(NightdeskError):
    """Something a person must provide is missing or wrong: configuration, sidecar, master."""


class Waiting(Exception):
    """The group waits for a person's file; nothing is wrong."""


class FrameLost(Exception):
    """Every frame asked for was lost in an earlier step, which has said why."""


class StaleProduct(Exception):
    """An earlier step's product is missing or not made from the raw as it is now."""


def one_line(error: BaseException) -> str:
    """Return an exception as one line of text, without a traceback."""
    text = " ".join(str(error).split())
    return text if isinstance(error, NightdeskError) else f"{type(error).__name__}: {text}"
