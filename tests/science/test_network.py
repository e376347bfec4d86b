"""The networks that the compiled loops have in their source are those of numpy's way."""

from tools import networks


def test_the_source_has_the_steps_of_today() -> None:
    assert networks.HEADER.read_text() == networks.as_c(), "run: python tools/networks.py"
