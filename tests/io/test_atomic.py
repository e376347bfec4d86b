"""Writing leaves a whole file or none; a lock dies with its holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightdesk.errors import StaleProduct
from nightdesk.io.atomic import let_go, locked, read_json, release, write_bytes, write_json, written_whole


def test_bytes_are_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a/b/c.bin"
    for content in (b"one", b"", b"another" * 1000):
        write_bytes(path, content)
        assert path.read_bytes() == content
    assert [entry.name for entry in path.parent.iterdir()] == ["c.bin"]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_bytes(path, b"before")
    with pytest.raises(TypeError):
        write_bytes(path, "no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_a_reader_sees_the_old_or_the_new_never_a_part(tmp_path: Path) -> None:
    path = tmp_path / "x"
    contents = [bytes([letter]) * 200_000 for letter in b"ab"]
    write_bytes(path, contents[0])
    done = threading.Event()

    def write() -> None:
        for index in range(30):
            write_bytes(path, contents[index % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not done.is_set():
            assert path.read_bytes() in contents
    finally:
        writer.join()


def test_an_open_file_keeps_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_bytes(path, b"before")
    with path.open("rb") as stream:
        write_bytes(path, b"behind")
        assert stream.read() == b"before"


def test_a_file_that_memory_lets_go_is_still_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_bytes(path, b"content" * 10_000)
    release(path)
    assert path.read_bytes() == b"content" * 10_000


def test_what_is_not_yet_on_disk_is_not_lost_with_the_memory(tmp_path: Path) -> None:
    with written_whole(tmp_path / "x") as stream:
        for _ in range(10):
            stream.write(b"content" * 1000)
            stream.flush()
            let_go(stream.fileno())
    assert (tmp_path / "x").read_bytes() == b"content" * 10_000


def test_a_system_without_such_advice_keeps_files_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fadvise")
    write_bytes(tmp_path / "x", b"content")
    release(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"content"


@pytest.fixture
def umask() -> Iterator[int]:
    before = os.umask(0o002)
    yield 0o002
    os.umask(before)


def test_the_umask_decides_who_may_read(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "x"
    write_bytes(path, b"")
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_json_is_for_people_too_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    values = {"b": [1, 2.5, None, True], "a": "é"}
    write_json(path, values)
    assert read_json(path) == values
    assert path.read_text().startswith('{\n "b": [')
    assert path.read_bytes().isascii()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"a": 1} x'])
def test_what_is_no_json_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    assert read_json(path) is None


def test_json_that_is_not_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert read_json(tmp_path / "x.json") is None
    assert read_json(tmp_path / "file/x.json") is None


HOLDER = """
import sys, time
from pathlib import Path
from nightdesk.io.atomic import locked
with locked(Path(sys.argv[1]), shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["exclusive", "shared"])
def holder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], bool]]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / ".lock"), request.param]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process, request.param == "shared"
        process.kill()


def test_a_lock_is_one_holders_or_shared_and_dies_with_its_holder(
    tmp_path: Path, holder: tuple[subprocess.Popen[str], bool]
) -> None:
    process, is_shared = holder
    path = tmp_path / ".lock"
    with pytest.raises(StaleProduct, match="is being reduced by another process"), locked(path, patience=0):
        pass
    if is_shared:
        with locked(path, shared=True, patience=0):
            pass
    else:
        with pytest.raises(StaleProduct), locked(path, shared=True, patience=0):
            pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with locked(path, patience=0):
        pass
    assert path.exists()


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    path, order = tmp_path / ".lock", []

    def second() -> None:
        with locked(path, patience=10):
            order.append("second")

    with locked(path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "new/.lock"
    with pytest.raises(ZeroDivisionError), locked(path):
        _ = 1 / 0
    with locked(path, patience=0):
        pass
