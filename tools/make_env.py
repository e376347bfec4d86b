"""Write ``.env`` for docker-compose.yaml: .env.example with fresh secrets and the caller's user number.

It needs no environment of its own: on a host that only runs containers, any Python will do.
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

SECRETS: dict[str, Callable[[], str]] = {
    "NIGHTDESK_PASSWORD": lambda: secrets.token_urlsafe(12),
    # Part of a URL, so nothing but letters and digits.
    "POSTGRES_PASSWORD": lambda: secrets.token_hex(16),
    "FERNET_KEY": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "JWT_SECRET": lambda: secrets.token_hex(32),
    "API_SECRET_KEY": lambda: secrets.token_hex(32),
}


def fill(example: str, user: int) -> str:
    """Return the text of .env.example with its empty secrets filled in."""
    return "\n".join(_filled(line, user) for line in example.splitlines()) + "\n"


def _filled(line: str, user: int) -> str:
    name, _, value = line.partition("=")
    if name in SECRETS and not value:
        return f"{name}={SECRETS[name]()}"
    # As root's, files would be nobody else's: then the image's own user writes them.
    return f"{name}={user}" if name == "AIRFLOW_UID" and user else line


def main() -> None:
    """Write ``.env`` unless there is one."""
    file = CHECKOUT / ".env"
    text = fill((CHECKOUT / ".env.example").read_text(encoding="utf-8"), os.getuid())
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        sys.exit(f"{file} is there already; its secrets belong to the database, so it is left as it is.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    print(f"Wrote {file}, readable by you alone; now name the folders in it.")


if __name__ == "__main__":
    main()
