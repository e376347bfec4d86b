"""Writing that leaves a whole file or none, and the locks of a group."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from nightdesk.errors import StaleProduct

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Give a stream whose content becomes `path` when all is written: a temporary file beside it, flushed to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path`, whole or not at all."""
    with written_whole(path) as stream:
        stream.write(content)


def create_bytes(path: Path, content: bytes) -> None:
    """Write a new file, whole; `FileExistsError` when there is one by now, which is left alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        path.hardlink_to(temporary)
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


def release(path: Path) -> None:
    """Let the system take back the memory in which it still has a file that was read for the last time for now.

    What is written next goes into that memory, and does not drive out what others have in theirs.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        let_go(handle)
    finally:
        os.close(handle)


def let_go(handle: int, first: int = 0, size: int = 0) -> None:
    """Do the same for a part of an open file, else all of it; what is not yet on the disk is sent on its way there.

    So a file that is flushed when all is written has little left to wait for.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle, first, size, os.POSIX_FADV_DONTNEED)


def write_json(path: Path, values: Any) -> None:
    """Write plain values as JSON that a person can read."""
    write_bytes(path, (json.dumps(values, indent=1, ensure_ascii=True) + "\n").encode())


def read_json(path: Path) -> Any | None:
    """Return what a JSON file holds, or None when there is none or it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _umask() -> int:
    # There is no way to read the umask but to set it; /proc shows it where there is one.
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o022


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path, *, shared: bool = False, patience: float = 60.0) -> Iterator[None]:
    """Hold an advisory lock on `path`, which dies with its holder.

    Parameters
    ----------
    path : Path
        The lock's own file; made when missing, never removed.
    shared : bool
        Whether others may hold it too, so long as they also share it.
    patience : float
        Seconds to wait for it.

    Raises
    ------
    StaleProduct
        If another holds it for longer; a later try may have it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    with path.open("a") as stream:
        while True:
            try:
                fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StaleProduct(f"{path.parent} is being reduced by another process; try again later.") from None
                time.sleep(0.05)
        yield
