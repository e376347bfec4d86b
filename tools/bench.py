"""Measure how long a stack takes: the notebook's way, ccdproc's, Siril's and ours, one after the other, in turn.

``make bench`` writes docs/benchmarks.md. Each run is a process of its own: its whole time counts, its computation after
the imports, and its peak of memory. The ways take turns, so that what else the computer does falls on all of them; a
ratio is that of runs in the same turn, and the median and the spread of these are told.

The notebook's cells are executed as they stand where notebook.txt is at hand (``NIGHTDESK_NOTEBOOK``, default
../shared/notebook.txt); else what it did, written down once more.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stdout
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# What only the parent needs it imports where it does, for the time that a child takes to begin is measured too.

CHECKOUT = Path(__file__).resolve().parent.parent
NOTEBOOK = Path(os.environ.get("NIGHTDESK_NOTEBOOK", CHECKOUT.parent / "shared" / "notebook.txt"))
NIGHT = date(2026, 11, 21)
TARGET, FILTER = "NGC5949", "R"
PLACE = Path("processed", TARGET, FILTER)


# What one run does, in a process of its own: the imports, then the computation.


def notebook_way() -> Any:
    """Import what the notebook imports; its cells, with postISR holding the corrected frame."""
    import glob

    import numpy as np
    import pandas as pd
    from astropy.io import fits

    if not NOTEBOOK.is_file():
        return like_the_notebook
    cells = _cells()
    space: dict[str, Any] = {"os": os, "glob": glob, "Path": Path, "np": np, "pd": pd, "fits": fits}

    def compute() -> None:
        for cell in cells:
            exec(compile(cell, "notebook", "exec"), space)

    return compute


def like_the_notebook() -> None:
    """Do what its description says where it is not at hand: three folders of products, a cube, two medians."""
    import numpy as np
    import pandas as pd
    from astropy.io import fits

    bias = fits.getdata(Path("calibs", "bias2x2.fits"))
    flat = fits.getdata(Path("calibs", f"{FILTER}flatnorm2x2.fits"))
    for step in ("postISR", "shifted", "combined"):
        (PLACE / step).mkdir(exist_ok=True)

    def write(step: str, name: str, data: Any, noise: Any, header: Any) -> None:
        hdus = fits.HDUList([fits.PrimaryHDU(data, header=header), fits.ImageHDU(noise, header=header)])
        hdus.writeto(PLACE / step / name, overwrite=True)

    for path in (PLACE / "raws").glob("*.fits"):
        raw = fits.open(path)
        header = raw[0].header
        electrons = (raw[0].data.astype("f8") - bias) * header["EGAIN"]
        corrected = electrons / flat * (10.0 ** ((0.0547 * header["AIRMASS"]) / 2.5))
        write("postISR", path.name, corrected, electrons, header)
    rows = pd.read_csv(Path("xys", TARGET, FILTER, "xy.csv"))
    for name, x, y in zip(rows["fname"], rows["x"], rows["y"], strict=True):
        hdus = fits.open(PLACE / "postISR" / f"{name}.fits")
        move = int(rows["x"][0] - x), int(rows["y"][0] - y)
        rolled = [
            np.roll(np.roll(hdu.data.astype("f8"), move[0], axis=1), move[1], axis=0) for hdu in (hdus[0], hdus[1])
        ]
        write("shifted", f"{name}.fits", rolled[0], rolled[1], hdus[0].header)
    paths = list((PLACE / "shifted").glob("*.fits"))
    cubes = [np.zeros((*bias.shape, len(paths))) for _ in range(2)]
    for number, path in enumerate(paths):
        hdus = fits.open(path)
        for cube, hdu in zip(cubes, hdus, strict=True):
            cube[:, :, number] = hdu.data.astype("f8")
    write("combined", "combined.fits", np.median(cubes[0], 2), np.median(cubes[1], 2) / len(paths), hdus[0].header)


def _cells() -> list[str]:
    """Return the notebook's code cells, ISR to combination, without the text and output between them."""
    cells: list[list[str]] = []
    for line in NOTEBOOK.read_text().splitlines():
        if line.startswith("In ["):
            cells.append([])
        elif cells and not line.startswith("processed/"):
            cells[-1].append(line)
    sources = []
    for lines in cells:
        while lines:  # what follows a cell is not Python
            try:
                compile("\n".join(lines), "cell", "exec")
                break
            except SyntaxError:
                lines.pop()
        source = "\n".join(lines)
        if "fits.PrimaryHDU" in source or "scifiles = glob" in source or source.strip().startswith("obj ="):
            sources.append(source.replace("hdu_sci = fits.PrimaryHDU(data,", "hdu_sci = fits.PrimaryHDU(intrinsic,"))
    return sources


def ours(profile: str, *, plain: bool = False) -> Any:
    """Import what the fused pass needs; all steps from raws to the stack and its manifest, without a picture."""
    from nightdesk.garbage import collect_rarely

    collect_rarely()  # as the command does
    from nightdesk.group import Group
    from nightdesk.science import compiled
    from nightdesk.settings import default_settings
    from nightdesk.steps import reduce

    if compiled.available() == plain:
        sys.exit(f"The compiled loops are {'used' if plain else 'not there'}, so this would be another way's figure.")
    keep = "all" if profile.endswith("products") else "stack"
    settings = default_settings(Path.cwd())
    products = settings.products.model_copy(update={"keep": keep})
    settings = settings.model_copy(update={"profile": profile.split()[0], "products": products})

    def compute() -> None:
        reduce.run(settings, Group(NIGHT, TARGET, FILTER), pictures=False)

    return compute


def ccdproc_way() -> Any:
    """Import ccdproc; bias, gain and flat for each frame, an integer shift, and its combiner with default options."""
    import ccdproc  # type: ignore[import-untyped,unused-ignore]
    import numpy as np
    import pandas as pd
    from astropy import units as u
    from astropy.io import fits
    from astropy.nddata import CCDData

    def compute() -> None:
        bias = CCDData(fits.getdata(Path("calibs", "bias2x2.fits")).astype("f8"), unit="adu")
        flat = CCDData(fits.getdata(Path("calibs", f"{FILTER}flatnorm2x2.fits")).astype("f8"), unit="")
        rows = pd.read_csv(Path("xys", TARGET, FILTER, "xy.csv"))
        frames = []
        for name, x, y in zip(rows["fname"], rows["x"], rows["y"], strict=True):
            with fits.open(PLACE / "raws" / f"{name}.fits") as hdus:
                header, data = hdus[0].header, hdus[0].data.astype("f8")
            ccd = ccdproc.subtract_bias(CCDData(data, unit="adu"), bias)
            ccd = ccdproc.gain_correct(ccd, header["EGAIN"] * u.electron / u.adu)
            ccd = ccdproc.flat_correct(ccd, flat)
            ccd = ccd.multiply(10.0 ** (0.0547 * header["AIRMASS"] / 2.5))
            move = int(rows["x"][0] - x), int(rows["y"][0] - y)
            frames.append(CCDData(np.roll(ccd.data, move, axis=(1, 0)), unit=u.electron))
        ccdproc.combine(frames, method="median").write(Path("ccdproc.fits"), overwrite=True)

    return compute


SIRIL = """\
requires 1.0.0
cd processed/NGC5949/R/raws
convert light -out={place}/siril
cd {place}/siril
preprocess light -bias={place}/calibs/bias2x2.fits -flat={place}/calibs/Rflatnorm2x2.fits
stack pp_light med -nonorm -out={place}/siril
close
"""


def siril_way() -> Any:
    """Let Siril calibrate and stack: float32, without a shift, an extinction or a variance."""

    def compute() -> None:
        script = Path("stack.ssf")
        script.write_text(SIRIL.format(place=Path.cwd()))
        subprocess.run(["siril-cli", "-d", ".", "-s", str(script)], check=True, capture_output=True)
        if not Path("siril.fit").is_file():
            sys.exit("Siril made no stack.")

    return compute


def disk_alone(products: int = 0) -> Any:
    """Import numpy; read every raw and write as many bytes as a stack has, and so many products of each frame.

    A product is on the disk before the next is written, as ours are. What is written is sent on its way at once, and
    let go of when it is there, also as ours is: files that stay in memory cost the system more than the disk does,
    where each of their pages is new to it.
    """
    import numpy as np

    step = 1 << 21

    def compute() -> None:
        planes = b""
        for path in sorted((PLACE / "raws").glob("*.fits")):
            content = path.read_bytes()
            planes = planes or np.zeros(len(content), np.float64).tobytes()  # of two bytes each count becomes sixteen
            for number in range(products):
                with Path(f"{path.stem}.{number}.bin").open("wb", buffering=0) as stream:
                    for first in range(0, len(planes), step):
                        stream.write(planes[first : first + step])
                        os.posix_fadvise(stream.fileno(), first, step, os.POSIX_FADV_DONTNEED)
                    os.fsync(stream.fileno())
                    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        Path("written.bin").write_bytes(planes)

    return compute


PLAIN = "ours, plain numpy"
WAYS: dict[str, Callable[[], Any]] = {
    "reading and writing alone": disk_alone,
    "the same, every product kept": lambda: disk_alone(products=3),
    "the notebook": notebook_way,
    "ccdproc": ccdproc_way,
    "Siril (no shift, no variance)": siril_way,
    "ours, compiled": lambda: ours("notebook"),
    PLAIN: lambda: ours("notebook", plain=True),
    "ours, standard profile": lambda: ours("standard"),
    "ours, every product kept": lambda: ours("notebook products"),
    "ours, standard profile, every product kept": lambda: ours("standard products"),
}


def run_child(way: str) -> None:
    """Do one way here and now; print its figures."""
    compute: Callable[[], None] = WAYS[way]()
    started = time.perf_counter()
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        compute()
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1e3
    print(json.dumps({"computation": time.perf_counter() - started, "peak": peak}))


# The turns


def measure(way: str, night: Path) -> dict[str, float]:
    """Run one way in a process of its own, in a fresh copy of the night (links to its files)."""
    import tempfile

    with tempfile.TemporaryDirectory(dir=night.parent) as folder:
        root = Path(folder, "night")
        shutil.copytree(night, root, copy_function=os.link)
        environment = os.environ | {"NIGHTDESK_COMPILED": "0" if way == PLAIN else "1"}
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(Path(__file__).resolve()), "--child", way],
            cwd=root,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        whole = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{way}: {done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {"whole": whole} | figures


def spread(values: list[float]) -> str:
    """Return a median, with least and most."""
    import statistics

    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def table(runs: dict[str, list[dict[str, float]]]) -> list[str]:
    """Return the rows of one night's table."""
    import statistics

    lines = [
        "| way | whole process, s | computation, s | peak, MB | the notebook's whole over it | computation over it |",
        "|---|---|---|---|---|---|",
    ]
    base = runs["the notebook"]
    for way, turns in runs.items():
        ratios = [
            spread([b[key] / t[key] for b, t in zip(base, turns, strict=True)]) for key in ("whole", "computation")
        ]
        times = [spread([turn[key] for turn in turns]) for key in ("whole", "computation")]
        peak = statistics.median(turn["peak"] for turn in turns)
        lines.append(f"| {way} | {times[0]} | {times[1]} | {peak:.0f} | {ratios[0]} | {ratios[1]} |")
    return lines


def siril_version() -> str:
    """Return what Siril says of itself."""
    if not shutil.which("siril-cli"):
        return "Siril not installed, not measured"
    return subprocess.run(["siril-cli", "--version"], capture_output=True, text=True, check=False).stdout.strip()


def machine() -> list[str]:
    """Return what was measured on and with."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    names = ("numpy", "astropy", "scipy", "pandas", "ccdproc")
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"{name} not installed")
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    return [
        f"{model}, {os.cpu_count()} processors, {platform.system()} {platform.release()}, Python "
        f"{platform.python_version()}; {', '.join(versions)}, {siril_version()}.",
        f"Load of the computer at the end (1, 5, 15 minutes): {load}. Above {os.cpu_count()} the seconds are those of "
        "a shared machine, and only the ratios mean something.",
    ]


def main() -> None:
    """Measure, and write the page."""
    if sys.argv[1:2] == ["--child"]:
        run_child(sys.argv[2])
        return
    import argparse
    import tempfile
    from importlib.util import find_spec

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[3, 10, 30, 100])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--large", type=int, default=4096, help="width of one more night of 10 frames; 0: none")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--nights", type=Path, help="where simulated nights are kept for the next time")
    parser.add_argument("--out", type=Path, default=CHECKOUT / "docs" / "benchmarks.md")
    options = parser.parse_args()
    there = {"ccdproc": bool(find_spec("ccdproc")), "Siril (no shift, no variance)": bool(shutil.which("siril-cli"))}
    ways = [way for way in WAYS if there.get(way, True)]
    nights = [(frames, options.size) for frames in options.frames] + ([(10, options.large)] if options.large else [])
    nights.sort(key=lambda night: night[0] * night[1] ** 2)
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for frames, size in nights:
            night = simulated(options.nights or Path(scratch), frames, size)
            runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
            for turn in range(options.turns):
                for way in ways[turn % len(ways) :] + ways[: turn % len(ways)]:
                    runs[way].append(measure(way, night))
                    print(f"{frames} x {size}: {way}: {runs[way][-1]}", flush=True)
            lines += ["", f"## {frames} frames of {size} x {size}, {options.turns} turns", "", *table(runs)]
            # After each night: the longest come last, and who does not wait for them has the others.
            options.out.write_text("\n".join([HEAD.strip(), "", *machine(), *lines, ""]))


def simulated(place: Path, frames: int, size: int) -> Path:
    """Return a simulated night, made if it is not there yet.

    By a process of its own: a child's peak of memory, as the system tells it, is never below its parent's.
    """
    night = place / f"{frames}x{size}"
    if not (night / "calibs").is_dir():
        command = [
            *(Path(sys.executable).with_name("nightdesk"), "simulate", night, "--notebook-place"),
            *("--target", TARGET, "--filter", FILTER, "--night", NIGHT, "--frames", frames, "--size", f"{size}x{size}"),
        ]
        subprocess.run(list(map(str, command)), check=True)
    shutil.rmtree(night / "truth", ignore_errors=True)
    return night


HEAD = """
# How fast

Written by `make bench`, which anyone can run again (tools/bench.py). From raws (uint16) to the stack with its variance,
in a process of its own; medians, with least and most in brackets. "Ours" includes what the notebook does not do: the
search for the group on disk, checks of every header, checksums of all inputs and the manifest. What is drawn and
measured for the web pages is left out on both sides. The stack in the notebook profile is the notebook's to the last
bit.

"Every product kept" writes three products of each frame, each of them on the disk (fsync) before it gets its name; the
notebook writes two, and leaves it to the system when they get there. "The same, every product kept" is what the disk
alone takes for as many bytes, written and let go of in the same way. docs/decisions/0008 says where the rest goes.
"""


if __name__ == "__main__":
    main()
