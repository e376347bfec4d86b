"""Scripts and styles, held in memory: under an address that names their version, a browser asks for each once."""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "static"
KINDS: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class StaticFile:
    """A file's content, as it is and packed."""

    kind: str
    plain: bytes
    packed: bytes


@cache
def static_files() -> dict[str, StaticFile]:
    """Return all that is served, by its path below the folder; read once, and nothing else is ever opened."""
    files = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in KINDS:
            content = path.read_bytes()
            name = path.relative_to(FOLDER).as_posix()
            files[name] = StaticFile(KINDS[path.suffix], content, gzip.compress(content, mtime=0))
    return files


@cache
def static_version() -> str:
    """Return what an address carries so that it changes with the files."""
    digest = hashlib.sha256()
    for name, file in static_files().items():
        digest.update(name.encode() + file.plain)
    return digest.hexdigest()[:12]


def find_static(address: str) -> tuple[StaticFile | None, bool]:
    """Return the file at an address below ``static/``, and whether the address names the version of now.

    A page of before an update finds the file of now.
    """
    versioned = re.fullmatch(r"([0-9a-f]{12})/(.+)", address)
    version, name = versioned.groups() if versioned else ("", address)
    return static_files().get(name), version == static_version()
