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
UV_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_NO_INDEX", "UV_CONFIG_FILE")


def run(command: list[str], environment: dict[str, str] | None = None) -> None:
    """Run a command in the checkout; its failure is ours."""
    subprocess.run(command, cwd=CHECKOUT, env=environment, check=True)


def pip_index() -> str | None:
    """Return the index that pip is configured with, if any."""
    for name in (":env:.index-url", "install.index-url", "global.index-url"):
        found = subprocess.run([*PIP, "config", "get", name], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return found.stdout.strip()
    return None


def uv_names_an_index() -> bool:
    """Tell whether the user's own uv configuration names an index."""
    folders = [Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"), Path("/etc")]
    files = [folder / "uv" / "uv.toml" for folder in folders]
    return any(os.environ.get(name) for name in UV_INDEX_VARIABLES) or any(
        file.is_file() and "index" in file.read_text() for file in files
    )


def uv_environment() -> dict[str, str]:
    """Return the environment for uv, with pip's index where uv has none of its own."""
    index = None if uv_names_an_index() else pip_index()
    return dict(os.environ) | ({"UV_DEFAULT_INDEX": index} if index else {})


def install_with_uv(requirements: Path) -> None:
    """Install the pins with uv, hashes checked, then the package as it lies here."""
    run([*PIP, "install", "--quiet", "--require-hashes", "-r", "tools/requirements-uv.txt"])
    environment = uv_environment()
    uv = [sys.executable, "-m", "uv", "--quiet", "pip", "install", "--python", sys.executable]
    # Bytecode now: without it every task of the first night would compile what it imports.
    run([*uv, "--compile-bytecode", "--require-hashes", "-r", str(requirements)], environment)
    run([*uv, "--no-deps", "--editable", "."], environment)


def install_with_pip(requirements: Path) -> None:
    """Do the same with pip, which compiles bytecode by itself."""
    run([*PIP, "install", "--quiet", "--require-hashes", "-r", str(requirements)])
    run([*PIP, "install", "--quiet", "--no-deps", "--editable", "."])


def install(requirements: Path) -> None:
    """Install by uv; where it does not get through (a proxy, a certificate), by pip."""
    try:
        install_with_uv(requirements)
    except subprocess.CalledProcessError:
        print("uv could not install the packages; trying pip, which takes longer.", file=sys.stderr, flush=True)
        install_with_pip(requirements)
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
