"""Functions of users, found by their names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module

from jobs.own_process import show_pandas
from pcap2arrow.errors import UsageError

Function = Callable[[bytes], object]
"""A function over the octets of a stream."""


def load_function(name: str, *, path: str | None = None) -> Function:
    """The function that ``module:function`` names; ``path`` is a folder that modules are looked for in first.

    They are also looked for in the current folder.  Raises UsageError where there is none, or its module fails.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise UsageError(f"{name}: expected a function as MODULE:FUNCTION")
    show_pandas()
    before = list(sys.path)
    sys.path[:0] = [path, ""] if path else [""]
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:  # whatever a module does when it is loaded
        raise UsageError(f"{name}: {type(error).__name__}: {error}") from error
    finally:
        sys.path[:] = before
    if not callable(found):
        raise UsageError(f"{name}: expected a function, found {type(found).__name__}")
    function: Function = found
    return function
