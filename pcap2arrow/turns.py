"""Threads of one process: how soon they take turns, and what they must not do first at once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SWITCH_SECONDS = 0.0005
_LOCK = threading.Lock()


@contextmanager
def quick_turns() -> Iterator[None]:
    """Let threads take turns sooner, for the length of a ``with`` block.

    A task is thousands of short NumPy calls that release the interpreter's lock; with Python's own interval of 5 ms
    a thread waits for it longer than it works.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def settle_polars() -> None:
    """Have Polars know NumPy, before several threads give it arrays.

    Loaded before NumPy, Polars has a stand-in for it, which becomes NumPy when it is first used.  Two threads that are
    first at once get a TypeError: the stand-in's own ``_globals`` is by then ``numpy._globals``.
    """
    import numpy as np
    import polars as pl

    with _LOCK:
        pl.Series(np.empty(0))
