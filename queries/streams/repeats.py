"""Whether packets repeat what a stream said that ended, where neither their octets nor those of the stream are held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from queries.streams.octets import Source, read_some
from queries.streams.overlap import pieces
from queries.streams.packets import AT, PART, Packets
from queries.streams.rules import Overlap
from queries.streams.tracking import Track
from queries.streams.writelog import WriteLog

Ints = NDArray[np.int64]

_FEW, _MANY = 8, 1 << 10
"""Packets that are looked at together, at first, and at most."""

_READ = 1 << 24
"""Octets of packets in a row that are read together, about."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Packets of a flow that may repeat something: their numbers there, ascending, and rows of ``packets``."""

    packets: Packets
    number: Ints
    row: Ints


@dataclass(frozen=True, slots=True)
class _Ahead:
    """Octets of packets in a row that were read together: of each those from ``start`` on, by ascending ``key``."""

    key: NDArray[np.bytes_]
    start: Ints
    octets: NDArray[np.uint8]

    def places(self, part: NDArray[np.uint32], at: NDArray[np.uint64]) -> Ints | None:
        """Where the octets of some packets begin, None if any of these is not there."""
        key = _key(part, at)
        place = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        return self.start[place] if np.array_equal(self.key[place], key) else None


@dataclass(slots=True)
class Repeats:
    """Reads octets from parts of the sources once more, for some packets at a time."""

    sources: Mapping[int, Source]
    log: WriteLog
    overlap: Overlap
    _candidates: Candidates | None = None
    _known: dict[tuple[int, int], bool] = field(default_factory=dict)
    _asked: int = -1
    _count: int = _FEW
    _ahead: _Ahead | None = None

    def offer(self, candidates: Candidates) -> None:
        """From now on these are asked for."""
        self._candidates = candidates
        self._known.clear()
        self._ahead = None

    def says(self, track: Track, stream: int, extents: Sequence[np.void], number: int) -> bool:
        """Whether a stream that ended, whose notes are all there, says what the packet with this number does."""
        if (stream, number) not in self._known:
            self._count = min(self._count * 2, _MANY) if stream == self._asked else _FEW
            self._asked = stream
            self._look(track, stream, extents, number)
        return self._known[stream, number]

    def _look(self, track: Track, stream: int, extents: Sequence[np.void], number: int) -> None:
        found, seen = self._candidates, track.seen
        assert found is not None and seen is not None
        first = int(np.searchsorted(found.number, number))
        numbers, row = (each[first : first + self._count] for each in (found.number, found.row))
        length = found.packets.length[row]
        initial = np.uint32((track.initial + 1) % (1 << 32))
        start = track.origin + (found.packets.seq[row] - initial).astype(np.int64)
        self._known.update(((stream, each), False) for each in numbers.tolist())
        there = [
            count > 0 and seen.has(place, place + count)
            for place, count in zip(start.tolist(), length.tolist(), strict=True)
        ]
        rows = np.flatnonzero(there)
        if len(rows):
            self._read_ahead(found, first)
            row, start, length = row[rows], start[rows], length[rows]
            said = self._said(found.packets, row, length)
            told = self._told(extents, start, length)
            ends = np.cumsum(length)
            differ = np.add.reduceat(said != told, ends - length) > 0
            self._known.update(((stream, each), True) for each in numbers[rows[~differ]].tolist())

    def _read_ahead(self, found: Candidates, first: int) -> None:
        """Read octets of a candidate and of those behind it, unless they are there."""
        part, at = _whereabouts(found.packets, found.row[first : first + 1])
        if self._ahead is not None and self._ahead.places(part, at) is not None:
            return
        length = found.packets.length[found.row[first:]]
        stop = first + max(int(np.searchsorted(np.cumsum(length), _READ)), 1)
        row, length = found.row[first:stop], length[: stop - first]
        part, at = _whereabouts(found.packets, row)
        octets = read_some(self.sources, part, at, np.zeros(len(row), np.int64), length)
        order = np.lexsort((at, part))
        key = _key(part, at)[order]
        self._ahead = _Ahead(key, (np.cumsum(length) - length)[order], octets)

    def _said(self, packets: Packets, row: Ints, length: Ints) -> NDArray[np.uint8]:
        """What packets carried."""
        return self._read(*_whereabouts(packets, row), np.zeros(len(row), np.int64), length)

    def _told(self, extents: Sequence[np.void], start: Ints, length: Ints) -> NDArray[np.uint8]:
        """What a stream has at these places, of which it lacks none."""
        notes = self.log.reaching(extents, int(start.min()), int((start + length).max()))
        known = pieces(notes["place"], notes["length"].astype(np.int64), self.overlap)
        first = np.searchsorted(known.end, start, side="right")
        count = np.searchsorted(known.start, start + length) - first
        asker = np.repeat(np.arange(len(start)), count)
        piece = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - first, count)
        begin = np.maximum(known.start[piece], start[asker])
        end = np.minimum(known.end[piece], (start + length)[asker])
        chosen = notes[known.segment[piece]]
        return self._read(chosen["part"], chosen["at"], begin - chosen["place"], end - begin)

    def _read(
        self, part: NDArray[np.uint32], at: NDArray[np.uint64], skipped: Ints, length: Ints
    ) -> NDArray[np.uint8]:
        """The same as :func:`~queries.streams.octets.read_some`, of what was read ahead if that has all."""
        ahead = self._ahead
        places = None if ahead is None else ahead.places(part, at)
        if ahead is None or places is None:
            return read_some(self.sources, part, at, skipped, length)
        begin = places + skipped - np.cumsum(length) + length
        octets: NDArray[np.uint8] = ahead.octets[np.arange(length.sum()) + np.repeat(begin, length)]
        return octets


def _whereabouts(packets: Packets, row: Ints) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
    part, at = (packets.table[name].to_numpy()[packets.order[row]] for name in (PART, AT))
    return part, at


def _key(part: NDArray[np.uint32], at: NDArray[np.uint64]) -> NDArray[np.bytes_]:
    """Octets that tell packets apart, in the order of parts and of places in these."""
    packed = np.empty(len(part), [("part", ">u4"), ("at", ">u8")])
    packed["part"], packed["at"] = part, at
    return packed.view("S12")
