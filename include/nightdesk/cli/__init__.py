"""The command `nightdesk`: reduce by hand, see what there is, build masters, configure, simulate a night."""

from nightdesk.garbage import collect_rarely

collect_rarely()

from nightdesk.cli import config, deep, groups, masters, reduce, simulate  # noqa: E402 isort: skip
from nightdesk.cli.base import app  # noqa: E402

__all__ = ["app", "config", "deep", "groups", "masters", "reduce", "simulate"]
