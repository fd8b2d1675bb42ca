"""Memory that windows are read into: fresh memory costs as much as the octets in it."""

from __future__ import annotations

import threading
import weakref
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Memory(Protocol):
    """Where a window may be read into."""

    def take(self, octets: int) -> NDArray[np.uint8]:
        """Memory of at least that many octets."""


class OneWindow:
    """The same memory for every window: each takes that of the one before."""

    def __init__(self) -> None:
        self._data = np.empty(0, np.uint8)

    def take(self, octets: int) -> NDArray[np.uint8]:
        """Memory of at least that many octets."""
        if len(self._data) < octets:
            self._data = np.empty(octets, np.uint8)
        return self._data


class LentWindows:
    """Memory of its own for every window, for as long as anything uses it; then another window's."""

    def __init__(self) -> None:
        self._free: list[NDArray[np.uint8]] = []

    def take(self, octets: int) -> NDArray[np.uint8]:
        """Memory of that many octets."""
        piece = self._free.pop() if self._free else None
        if piece is None or len(piece) < octets:
            piece = np.empty(octets, np.uint8)
        lent = np.frombuffer(piece.data, np.uint8, octets)
        # No view of the piece, of which views of it would be views, too: while there is any, this one lives.
        weakref.finalize(lent, self._free.append, piece).atexit = False
        return lent


class _Spare(threading.local):
    def __init__(self) -> None:
        self.pieces: list[NDArray[np.uint8]] = []


_spare = _Spare()


class ManyWindows:
    """Memory of its own for every window, until the end of a ``with`` block: what is read there must not be used later.

    Pieces of ``size`` octets are kept for the next such block of this thread; as many as there were in the last one.
    Smaller windows (after damage there may be thousands) get memory that is theirs alone.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken: list[NDArray[np.uint8]] = []
        self._free: list[NDArray[np.uint8]] = []

    def __enter__(self) -> ManyWindows:
        self._free, _spare.pieces = _spare.pieces, []
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _spare.pieces, self._taken, self._free = self._taken, [], []

    def take(self, octets: int) -> NDArray[np.uint8]:
        """Memory of at least that many octets."""
        if not self._size // 2 < octets <= self._size:
            return np.empty(octets, np.uint8)
        piece = self._free.pop() if self._free else None
        if piece is None or len(piece) != self._size:
            piece = np.empty(self._size, np.uint8)
        self._taken.append(piece)
        return piece
