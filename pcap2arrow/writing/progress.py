"""How far an export is, in octets of what it reads."""

from __future__ import annotations

import threading
from collections.abc import Callable

Watch = Callable[[int, int | None], object]
"""Is told how many octets are read, and of how many: None where that is not known."""


def unwatched(done: int, total: int | None) -> None:
    """Nobody watches."""


class Meter:
    """Adds up what threads read, and tells who watches."""

    def __init__(self, sizes: list[int | None], watch: Watch) -> None:
        known = [size for size in sizes if size is not None]
        self._total = sum(known) if len(known) == len(sizes) else None
        self._done, self._lock, self._watch = 0, threading.Lock(), watch

    def add(self, octets: int) -> None:
        """Tell of octets that were read."""
        with self._lock:
            self._done += octets
            self._watch(self._done, self._total)
