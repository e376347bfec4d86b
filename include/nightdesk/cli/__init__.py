"""The command `nightdesk`: reduce by hand, see what there is, build masters, configure, simulate a night."""

from nightdesk.cli import config, deep, groups, masters, reduce, simulate  # isort: skip
from nightdesk.cli.base import app

__all__ = ["app", "config", "deep", "groups", "masters", "reduce", "simulate"]
