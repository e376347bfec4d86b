"""Install a file of pinned packages, and this package itself, into the environment that runs this script.

``.venv/bin/python tools/install.py requirements.txt`` is what ``make setup`` calls. uv does it, itself
pinned and installed by pip, because it takes a tenth of pip's time. The user's configuration counts:
uv's own, and from pip's the index, which uv would not read.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
UV_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_NO_INDEX")


def run(command: list[str], environment: dict[str, str] | None = None) -> None:
    """Run a command in the checkout; its failure is ours."""
    subprocess.run(command, cwd=CHECKOUT, env=environment, check=True)


def uv_environment() -> dict[str, str]:
    """Return the environment for uv, with pip's index where uv has none of its own."""
    environment = dict(os.environ)
    index = pip_index()
    if index and not any(environment.get(name) for name in UV_INDEX_VARIABLES):
        environment["UV_DEFAULT_INDEX"] = index
    return environment


def pip_index() -> str | None:
    """Return the index that pip is configured with, if any."""
    for name in (":env:.index-url", "install.index-url", "global.index-url"):
        found = subprocess.run([*PIP, "config", "get", name], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return found.stdout.strip()
    return None


def install(requirements: Path) -> None:
    """Install `requirements` with their hashes checked, then the package as it lies here."""
    run([*PIP, "install", "--quiet", "--require-hashes", "-r", "tools/requirements-uv.txt"])
    environment = uv_environment()
    uv = [sys.executable, "-m", "uv", "--quiet", "pip", "install", "--python", sys.executable]
    # Bytecode now: without it every task of the first night would compile what it imports.
    run([*uv, "--compile-bytecode", "--require-hashes", "-r", str(requirements)], environment)
    run([*uv, "--no-deps", "--editable", "."], environment)
    run([sys.executable, "-m", "compileall", "-q", "include", "plugins"])


def main() -> None:
    """Install the file named on the command line, saying how long it took."""
    if shutil.disk_usage(CHECKOUT).free < 3e9:
        print("Less than 3 GB are free here; the environment takes about 1.5 GB.", file=sys.stderr)
    started = time.monotonic()
    requirements = Path(sys.argv[1])
    print(f"Installing the pinned packages of {requirements} (a first time takes minutes) ...", flush=True)
    try:
        install(requirements)
    except subprocess.CalledProcessError as error:
        sys.exit(f"Installing failed ({' '.join(map(str, error.cmd[2:6]))} ...); its own message is above.")
    print(f"Installed in {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main()
