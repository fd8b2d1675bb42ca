"""Octets of many frames as numbers: windows of frames, of whose ``header`` and ``rest`` loads are made at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from queries.filters.machine.frames import Slices

Selection = slice | NDArray[np.int64]
"""Some rows of a window, each at most once: the slice of all, or their numbers."""

Numbers = NDArray[np.uint32]
"""Values of an operand: one for each row, or a single one for all."""

Flags = NDArray[np.bool_]
_Places = NDArray[np.int64]

_WORDS = {1: "u1", 2: ">u2", 4: ">u4"}


def all_of(made: Flags | None, also_made: Flags | None) -> Flags | None:
    """Where both were made; None is everywhere."""
    if made is None or also_made is None:
        return also_made if made is None else made
    return made & also_made


class Octets:
    """One buffer, read as big-endian words at any place."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self._words: dict[int, NDArray[Any]] = {
            size: np.ndarray((len(data) - size + 1,), kind, data, strides=(1,))
            for size, kind in _WORDS.items()
            if len(data) >= size
        }

    def load(self, starts: _Places, size: int, offset: int = 0) -> Numbers:
        """Words of ``size`` octets ``offset`` after ``starts``, all of which lie within the buffer."""
        if not len(starts):
            return np.empty(0, np.uint32)
        return self._words[size][offset:][starts].astype(np.uint32)


@dataclass(frozen=True, slots=True)
class Part:
    """The octets of a window's rows in one column."""

    octets: Octets
    starts: _Places
    lengths: _Places

    @classmethod
    def of(cls, octets: Octets, slices: Slices, rows: slice) -> Part:
        """Those of some rows of a column, whose buffer ``octets`` is."""
        starts = slices.starts[rows]
        return cls(octets, starts, slices.ends[rows] - starts)


class Window:
    """Some of a set's frames, with what loads need to know of them.

    Without ``rest`` a frame ends with its header, but if it is ``pending``: then loads that lie within ``limits`` but
    after the header are not made, and their rows become ``undecided``.
    """

    def __init__(
        self,
        header: Part,
        rest: Part | None,
        limits: NDArray[np.uint32],
        wire_lengths: NDArray[np.uint32],
        *,
        pending: bool = False,
    ) -> None:
        self._header = header
        self._rest = rest
        self._room = np.minimum(limits, header.lengths)
        self._least_room = int(self._room.min()) if len(self._room) else 0
        self._limits = self._room
        if rest is not None:
            self._limits = np.minimum(limits, header.lengths + rest.lengths)
        elif pending:
            self._limits = limits.astype(np.int64)
        self.wire_lengths = wire_lengths
        self.undecided = np.zeros(len(limits), np.bool_)

    def __len__(self) -> int:
        return len(self.wire_lengths)

    def load(
        self, rows: Selection, offset: int, size: int, index: NDArray[np.integer[Any]] | None = None
    ) -> tuple[Numbers, Flags | None]:
        """Words at ``offset + index`` of the rows' frames, and which of the loads could be made (None: all).

        Where a load could not be made, its value means nothing.
        """
        if index is None and offset + size <= self._least_room:
            return self._header.octets.load(self._header.starts[rows], size, offset), None
        starts, room = self._header.starts[rows], self._room[rows]
        places = np.full(1, offset) if index is None else index.astype(np.int64) + offset
        inside: Flags = places + size <= room
        if inside.all():
            return self._header.octets.load(starts + places, size), None
        places = np.broadcast_to(places, room.shape)
        near = np.flatnonzero(inside)
        values = np.zeros(len(places), np.uint32)
        values[near] = self._header.octets.load(starts[near] + places[near], size)
        far = np.flatnonzero((places + size <= self._limits[rows]) & ~inside)
        if len(far):
            these = np.arange(len(self))[rows][far]
            if self._rest is None:
                self.undecided[these] = True
            else:
                values[far] = _load_far(self._header, self._rest, these, places[far], size)
                inside[far] = True
        return values, inside


def _load_far(header: Part, rest: Part, rows: _Places, places: _Places, size: int) -> Numbers:
    """Words whose last octet at least lies in ``rest``."""
    after = places - header.lengths[rows]
    values = np.empty(len(rows), np.uint32)
    whole, cut = np.flatnonzero(after >= 0), np.flatnonzero(after < 0)
    values[whole] = rest.octets.load(rest.starts[rows[whole]] + after[whole], size)
    values[cut] = _load_straddling(header, rest, rows[cut], places[cut], size)
    return values


def _load_straddling(header: Part, rest: Part, rows: _Places, places: _Places, size: int) -> Numbers:
    values = np.zeros(len(rows), np.uint32)
    for k in range(size):
        after = places + k - header.lengths[rows]
        octets = np.empty(len(rows), np.uint32)
        for part, own, place in ((header, after < 0, places + k), (rest, after >= 0, after)):
            octets[own] = part.octets.load(part.starts[rows[own]] + place[own], 1)
        values = (values << np.uint32(8)) | octets
    return values
