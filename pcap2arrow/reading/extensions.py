"""Modules that add to Polars, imported once Polars is: other packages name them here, so that nothing loads early."""

from __future__ import annotations

import sys
from importlib import import_module

_waiting: list[str] = []


def add(module: str) -> None:
    """Have a module imported, now if Polars is there already, else by :func:`load`."""
    _waiting.append(module)
    if hasattr(sys.modules.get("polars"), "LazyFrame"):
        load()


def load() -> None:
    """Import the modules that wait."""
    while _waiting:
        import_module(_waiting.pop())
