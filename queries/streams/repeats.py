"""Whether packets repeat what a stream said that ended, where neither their octets nor those of the stream are held."""

from __future__ import annotations

from collections.abc import Mapping
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

_AT_ONCE = 1 << 10
"""Packets that are looked at together: for each look, parts of the sources are read."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Packets of a flow that may repeat something: their numbers there, ascending, and rows of ``packets``."""

    packets: Packets
    number: Ints
    row: Ints


@dataclass(slots=True)
class Repeats:
    """Reads octets from parts of the sources once more, for some packets at a time."""

    sources: Mapping[int, Source]
    log: WriteLog
    overlap: Overlap
    _candidates: Candidates | None = None
    _known: dict[tuple[int, int], bool] = field(default_factory=dict)

    def offer(self, candidates: Candidates) -> None:
        """From now on these are asked for."""
        self._candidates = candidates
        self._known.clear()

    def says(self, track: Track, stream: int, number: int) -> bool:
        """Whether a stream that ended, of which the log has all, says what the packet with this number does."""
        if (stream, number) not in self._known:
            self._look(track, stream, number)
        return self._known[stream, number]

    def _look(self, track: Track, stream: int, number: int) -> None:
        found, seen = self._candidates, track.seen
        assert found is not None and seen is not None
        first = int(np.searchsorted(found.number, number))
        numbers, row = (each[first : first + _AT_ONCE] for each in (found.number, found.row))
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
            row, start, length = row[rows], start[rows], length[rows]
            said = self._said(found.packets, row, length)
            told = self._told(stream, start, length)
            ends = np.cumsum(length)
            differ = np.add.reduceat(said != told, ends - length) > 0
            self._known.update(((stream, each), True) for each in numbers[rows[~differ]].tolist())

    def _said(self, packets: Packets, row: Ints, length: Ints) -> NDArray[np.uint8]:
        """What packets carried."""
        part, at = (packets.table[name].to_numpy()[packets.order[row]] for name in (PART, AT))
        return read_some(self.sources, part, at, np.zeros(len(row), np.int64), length)

    def _told(self, stream: int, start: Ints, length: Ints) -> NDArray[np.uint8]:
        """What a stream has at these places, of which it lacks none."""
        notes = self.log.reaching(stream, int(start.min()), int((start + length).max()))
        known = pieces(notes["place"], notes["length"].astype(np.int64), self.overlap)
        first = np.searchsorted(known.end, start, side="right")
        count = np.searchsorted(known.start, start + length) - first
        asker = np.repeat(np.arange(len(start)), count)
        piece = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - first, count)
        begin = np.maximum(known.start[piece], start[asker])
        end = np.minimum(known.end[piece], (start + length)[asker])
        chosen = notes[known.segment[piece]]
        return read_some(self.sources, chosen["part"], chosen["at"], begin - chosen["place"], end - begin)
