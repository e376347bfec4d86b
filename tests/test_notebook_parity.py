"""The notebook profile gives what the notebook gave, to the last bit.

The notebook itself is not part of this repository. It lies beside the folder of real frames that the environment
variable NIGHTDESK_REAL_DATA names (default: ``../shared/data`` beside the checkout), as ``notebook.txt``. Its cells are
executed as they stand, in a data root, with one change: where it computed the extinction-corrected frame and saved the
uncorrected one, the corrected one is saved too, in ``extinction``, and shifted and combined are made from that.

Where the notebook is not at hand, the arithmetic written down once more in this file stands in for it; where it is, the
two are held against each other.

No shim is needed for the installed numpy: `np.roll` takes the notebook's one-element arrays, also of decimals, and
truncates each shift by ``int()``.
"""

from __future__ import annotations

import ast
import csv
import gc
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from nightdesk.cli import app
from nightdesk.group import Group
from nightdesk.science.notebook import correct
from nightdesk.settings import Data, Settings
from nightdesk.simulate import simulate
from nightdesk.steps import reduce
from tests.real_data import REAL_DATA, absent

NOTEBOOK = REAL_DATA.parent / "notebook.txt"
needs_notebook = pytest.mark.skipif(
    not NOTEBOOK.is_file(),
    reason=absent(NOTEBOOK),
)

TARGET, FILTER, NIGHT, COEFFICIENT = "NGC5949", "R", date(2026, 11, 21), 0.0547
STEPS = ("postISR", "extinction", "shifted")
Planes = tuple[np.ndarray, np.ndarray]
Moves = list[tuple[str, str]]

POSITIONS: dict[str, Moves] = {
    "integer": [("60", "50"), ("63", "45"), ("52", "58"), ("60", "51"), ("64", "50")],
    # Differences on both sides of a whole number, and some that only look whole: 60.37 - 57.37 is 2.9999...
    "decimal": [("60.37", "50.1"), ("57.37", "53.9"), ("64.369999", "48.2"), ("58.4", "50.0"), ("60.38", "41.10")],
    "mixed": [
        ("60", "50.5"),
        ("61.5", "50"),
        ("58.999999999999999", "52"),
        ("60", "48.5000000000000001"),
        ("71", "33.3"),
    ],
    "exponents": [
        ("6.0e1", "50"),
        ("060", "5.1E+01"),
        ("59.99999999999999999", "50"),
        ("+61", "49.7"),
        ("63.", "50.30"),
    ],
}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames where the notebook had them: uint16 with BZERO, float32 masters, 118 x 104 pixels.

    A row is darker than the bias, so that the notebook's variance is negative there; the airmasses are such that
    another order of the same multiplications would show in the last bit.
    """
    root = tmp_path_factory.mktemp("night")
    simulate(root, targets=(TARGET,), filters=(FILTER,), nights=(NIGHT,), frames=5, size=(118, 104), place="processed")
    for raw, airmass in zip(raws_of(root), touchy_airmasses(), strict=False):
        with fits.open(raw, mode="update", memmap=False) as hdus:
            hdus[0].header["AIRMASS"] = airmass
            hdus[0].data[7] = 3
        assert (fits.getheader(raw)["BITPIX"], fits.getheader(raw)["BZERO"]) == (16, 32768)
    assert fits.getdata(root / "calibs" / "bias2x2.fits").dtype.newbyteorder("=").name == "float32"
    return root


def touchy_airmasses() -> Iterator[float]:
    """Airmasses at which 10^(k X / 2.5) is not 10^(0.4 k X) to the last bit."""
    for thousandths in range(1001, 2500):
        airmass = thousandths / 1000
        if 10.0 ** ((COEFFICIENT * airmass) / 2.5) != 10.0 ** (0.4 * COEFFICIENT * airmass):
            yield airmass


def raws_of(root: Path) -> Iterator[Path]:
    return iter(sorted((root / "processed" / TARGET / FILTER / "raws").glob("*.fits")))


@dataclass(frozen=True)
class DataRoot:
    """A root with raws, masters and a sidecar, in which something can be reduced."""

    path: Path

    @property
    def products(self) -> Path:
        return self.path / "processed" / TARGET / FILTER

    def planes(self) -> dict[str, Planes]:
        """SCI and VAR of every product, by its path."""
        found = {}
        for step in (*STEPS, "combined"):
            for path in sorted((self.products / step).glob("*.fits")):
                with fits.open(path) as hdus:
                    assert len(hdus) == 2
                    assert hdus[0].data.dtype == hdus[1].data.dtype == np.dtype(">f8")
                    found[f"{step}/{path.name}"] = (np.array(hdus[0].data), np.array(hdus[1].data))
        return found


MakeRoot = Callable[[str, Moves], DataRoot]


@pytest.fixture
def make_root(simulated: Path, tmp_path: Path) -> MakeRoot:
    """Return a function that makes a fresh root with these positions, its raws and masters linked from the night."""

    def make(name: str, moves: Moves) -> DataRoot:
        root = tmp_path / name
        for path in [*raws_of(simulated), *(simulated / "calibs").iterdir()]:
            link = root / path.relative_to(simulated)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
        sidecar = root / "xys" / TARGET / FILTER / "xy.csv"
        sidecar.parent.mkdir(parents=True)
        rows = [f"{raw.stem},{x},{y}" for raw, (x, y) in zip(raws_of(simulated), moves, strict=True)]
        sidecar.write_text("\n".join(["fname,x,y", *rows]) + "\n")
        return DataRoot(root)

    return make


def by_command(root: DataRoot) -> None:
    arguments = ["reduce", str(root.path), "--target", TARGET, "--filter", FILTER, "--profile", "notebook"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output


def by_step(root: DataRoot) -> None:
    settings = Settings(profile="notebook", data=Data(root=root.path))
    assert "is done: 5 frames" in reduce.run(settings, Group(NIGHT, TARGET, FILTER))


class NotebookCells:
    """The notebook's cells, executed in a data root."""

    def __init__(self, text: str) -> None:
        blocks = text.split("\nIn [")[1:]
        self.cells = {int(block.partition("]")[0]): _code(block.partition(":")[2]) for block in blocks}

    def reduce(self, root: DataRoot) -> None:
        """Run it from raws to stack, with the one named change."""
        names: dict[str, Any] = {}
        with _in_folder(root.path):
            for number in (1, 2, 3, 4):
                self._run(self.cells[number], names)
            self._run(_Changed({"postISR": "extinction"}, {"data": "intrinsic"}).visit(self.cells[4]), names)
            self._run(_Changed({"postISR": "extinction"}, {}).visit(self.cells[5]), names)
            self._run(self.cells[6], names)
            names.clear()
            gc.collect()  # the notebook closes no file

    @staticmethod
    def _run(code: ast.Module, names: dict[str, Any]) -> None:
        exec(compile(ast.fix_missing_locations(code), str(NOTEBOOK), "exec"), names)


def _code(block: str) -> ast.Module:
    """Return the statements of a cell: the longest beginning that is Python, without what the cell shows."""
    lines = block.splitlines()
    for end in range(len(lines), -1, -1):
        try:
            module = ast.parse("\n".join(lines[:end]))
        except SyntaxError:
            continue
        shown = [node for node in module.body if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call)]
        module.body = [node for node in module.body if node not in shown]
        return module
    raise AssertionError("no beginning of nothing is Python")


class _Changed(ast.NodeTransformer):
    """A copy of a cell with other texts, and other names for what is written as the primary image."""

    def __init__(self, texts: Mapping[str, str], images: Mapping[str, str]) -> None:
        self.texts, self.images = texts, images

    def visit_Module(self, node: ast.Module) -> ast.Module:
        copy = ast.parse(ast.unparse(node))
        self.generic_visit(copy)
        return copy

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant(self.texts.get(node.value, node.value) if isinstance(node.value, str) else node.value)

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "PrimaryHDU":
            first = node.args[0]
            assert isinstance(first, ast.Name)
            node.args[0] = ast.Name(self.images.get(first.id, first.id), ast.Load())
        return node


@contextmanager
def _in_folder(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.chdir(before)


def written_once_more(root: DataRoot) -> dict[str, Planes]:
    """The notebook's arithmetic, by its description alone: calibrate, correct, roll, two medians."""
    bias = fits.getdata(root.path / "calibs" / "bias2x2.fits").astype(float)
    flat = fits.getdata(root.path / "calibs" / f"{FILTER}flatnorm2x2.fits").astype(float)
    planes: dict[str, Planes] = {}
    with (root.path / "xys" / TARGET / FILTER / "xy.csv").open() as stream:
        rows = [
            (row["fname"], _as_pandas_reads(row["x"]), _as_pandas_reads(row["y"])) for row in csv.DictReader(stream)
        ]
    _, x_reference, y_reference = rows[0]
    for name, x, y in rows:
        with fits.open(root.products / "raws" / f"{name}.fits") as hdus:
            raw, gain, airmass = hdus[0].data.astype(float), hdus[0].header["EGAIN"], hdus[0].header["AIRMASS"]
        electrons = (raw - bias) * gain
        flattened = electrons / flat
        corrected = flattened * 10.0 ** ((COEFFICIENT * airmass) / 2.5)
        dx, dy = int(x_reference - x), int(y_reference - y)
        planes[f"postISR/{name}.fits"] = flattened, electrons
        planes[f"extinction/{name}.fits"] = corrected, electrons
        planes[f"shifted/{name}.fits"] = _wrapped(corrected, dx, dy), _wrapped(electrons, dx, dy)
    shifted = [both for path, both in planes.items() if path.startswith("shifted/")]
    planes["combined/combined.fits"] = (
        _middle([data for data, _ in shifted]),
        _middle([variance for _, variance in shifted]) / len(shifted),
    )
    return planes


def _as_pandas_reads(text: str) -> float:
    """`pandas.read_csv`'s default conversion, which is not `float`: it may differ in the last bit."""
    from io import StringIO

    import pandas as pd

    return float(pd.read_csv(StringIO(f"v\n{text}\n"))["v"].iloc[0])


def _wrapped(image: np.ndarray, dx: int, dy: int) -> np.ndarray:
    ny, nx = image.shape
    return image[np.ix_((np.arange(ny) - dy) % ny, (np.arange(nx) - dx) % nx)]


def _middle(images: list[np.ndarray]) -> Any:
    """The median of an odd number of images."""
    assert len(images) % 2
    return np.sort(np.stack(images), axis=0)[len(images) // 2]


def assert_same_bits(found: Mapping[str, Planes], wanted: Mapping[str, Planes]) -> None:
    assert found.keys() == wanted.keys()
    assert len(found) == 16, "5 frames in each of three folders, and the stack"
    for path, planes in wanted.items():
        for which, one, other in zip(("SCI", "VAR"), found[path], planes, strict=True):
            different = np.count_nonzero(one.astype(float).view("u8") != other.astype(float).view("u8"))
            assert not different, f"{path} {which}: {different} of {one.size} pixels differ"


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("how", [by_command, by_step], ids=["command", "step"])
def test_the_profile_is_bit_for_bit_what_the_description_says(
    make_root: MakeRoot, positions: str, how: Callable[[DataRoot], None]
) -> None:
    root = make_root("ours", POSITIONS[positions])
    how(root)
    assert_same_bits(root.planes(), written_once_more(root))


@needs_notebook
@pytest.mark.parametrize("positions", POSITIONS)
def test_the_profile_is_bit_for_bit_the_notebook_itself(make_root: MakeRoot, positions: str) -> None:
    theirs, ours = make_root("theirs", POSITIONS[positions]), make_root("ours", POSITIONS[positions])
    NotebookCells(NOTEBOOK.read_text()).reduce(theirs)
    by_command(ours)
    wanted = theirs.planes()
    assert_same_bits(wanted, written_once_more(theirs))
    assert_same_bits(ours.planes(), wanted)


@needs_notebook
def test_headers_keep_what_the_notebooks_readers_look_for(make_root: MakeRoot) -> None:
    theirs, ours = make_root("theirs", POSITIONS["integer"]), make_root("ours", POSITIONS["integer"])
    NotebookCells(NOTEBOOK.read_text()).reduce(theirs)
    by_step(ours)
    for path in [f"{step}/r0743054.fits" for step in STEPS]:
        for hdu in (0, 1):
            wanted = fits.getheader(theirs.products / path, hdu)
            found = fits.getheader(ours.products / path, hdu)
            for key in ("OBJECT", "FILTER", "EGAIN", "AIRMASS", "EXPTIME", "DATE-OBS", "CRPIX1", "BITPIX", "NAXIS1"):
                assert found[key] == wanted[key], f"{path}[{hdu}] {key}"


@needs_notebook
def test_the_notebooks_check(capsys: pytest.CaptureFixture[str]) -> None:
    NotebookCells._run(NotebookCells(NOTEBOOK.read_text()).cells[10], {})
    assert capsys.readouterr().out.strip() == "22821.310206385726"


def test_20927_at_airmass_1_72() -> None:
    assert correct(20927, 1.72, 0.0547).item() == 22821.310206385726


def test_a_flat_with_zeros_and_an_even_number_of_frames(make_root: MakeRoot) -> None:
    """Nothing guards the division; infinities and NaN go where the notebook let them go."""
    root = make_root("ours", POSITIONS["integer"])
    flat_path = root.path / "calibs" / f"{FILTER}flatnorm2x2.fits"
    flat, header = fits.getdata(flat_path, header=True)
    flat[10, 10:14], flat[20, 20] = 0.0, -1.0
    flat_path.unlink()
    fits.writeto(flat_path, flat, header)
    next(raws_of(root.path)).unlink()
    sidecar = root.path / "xys" / TARGET / FILTER / "xy.csv"
    sidecar.write_text("\n".join(line for line in sidecar.read_text().splitlines() if "r0743053" not in line))
    settings = Settings(profile="notebook", data=Data(root=root.path))
    assert "4 frames" in reduce.run(settings, Group(NIGHT, TARGET, FILTER))
    shifted = [planes[0] for path, planes in root.planes().items() if path.startswith("shifted/")]
    combined, variance = root.planes()["combined/combined.fits"]
    assert not np.isfinite(shifted[0]).all()
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(combined, np.median(np.stack(shifted, axis=2), 2))
    assert np.isfinite(variance).all()
    assert (variance < variance.max()).any()
