"""Where the real frames are that some tests use: the repository holds none of them."""

import os
from pathlib import Path

REAL_DATA = Path(os.environ.get("NIGHTDESK_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))


def absent(path: Path) -> str:
    """Return why a test is skipped that needs what is not there."""
    return f"{path} is not there; NIGHTDESK_REAL_DATA names the folder of the real frames"
