"""How soon threads of this process take turns."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SWITCH_SECONDS = 0.0005


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
