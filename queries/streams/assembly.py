"""Streams put together: which segment each octet is from, what is missing, and what contradicts itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.arrays import call_function, gather
from queries.filters.machine.frames import Slices
from queries.streams.follow import Followed, Writes
from queries.streams.overlap import Pieces, pieces
from queries.streams.packets import Packets
from queries.streams.rules import Rules

Ints = NDArray[np.int64]

_BUFFER = 1 << 30  # octets; Arrow's views hold places of 31 bits


@dataclass(frozen=True, slots=True)
class Assembly:
    """Pieces of streams, by stream, then by place; arrays have a value per piece.

    The octets from ``start`` to ``end`` of stream ``stream`` are those of packet ``row`` from ``skipped`` on.  The
    other arrays have a value per stream: its ``size`` (the end of its last octet), and whether there is a
    ``conflict``: segments that overlap and differ.  Stream s has the pieces ``bounds[s] : bounds[s + 1]``.
    """

    stream: Ints
    start: Ints
    end: Ints
    row: Ints
    skipped: Ints
    bounds: Ints
    size: Ints
    conflict: NDArray[np.bool_]

    @property
    def octets(self) -> Ints:
        """How many octets of each stream are there."""
        held = np.append(0, np.cumsum(self.end - self.start))
        octets: Ints = held[self.bounds[1:]] - held[self.bounds[:-1]]
        return octets


def assemble(packets: Packets, followed: Followed, rules: Rules) -> Assembly:
    """Decide which segment each octet of each stream is taken from, and find streams that contradict themselves."""
    assembly, crowd = lay_out(followed.writes, len(followed.streams), rules)
    assembly.conflict[crowd.conflicts(packets.payload.take(crowd.row))] = True
    return assembly


def lay_out(writes: Writes, count: int, rules: Rules) -> tuple[Assembly, Crowd]:
    """The same of so many streams without a look at octets, for which no stream contradicts itself yet.

    The other result is what it takes to find out.
    """
    size = np.zeros(count, np.int64)
    kept = writes.length > 0
    np.maximum.at(size, writes.stream[kept], (writes.place + writes.length)[kept])
    base = np.cumsum(size) - size
    begins = base[writes.stream] + writes.place
    found = pieces(begins, writes.length, rules.overlap)
    stream = writes.stream[found.segment]
    start = found.start - base[stream]
    assembly = Assembly(
        stream=stream,
        start=start,
        end=found.end - base[stream],
        row=writes.row[found.segment],
        skipped=start - writes.place[found.segment],
        bounds=np.searchsorted(stream, np.arange(count + 1)),
        size=size,
        conflict=np.zeros(count, np.bool_),
    )
    return assembly, _crowd(writes, begins, found)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Segments that share places with others; arrays have a value per segment.

    Segment k is of packet ``row`` and stream ``stream``, and has ``length`` octets from ``begin`` on, on the line of
    numbers on which ``pieces`` say what was taken.
    """

    stream: Ints
    row: Ints
    begin: Ints
    length: Ints
    pieces: Pieces

    def __len__(self) -> int:
        return len(self.row)

    def conflicts(self, payload: Slices) -> Ints:
        """The streams of segments that say something else than what was taken at their places.

        Segments that overlap others without a difference are all equal to that, so that nothing else needs to be
        compared.  ``payload`` is what each segment's packet carried.
        """
        if not len(self):
            return self.stream
        found = self.pieces
        first = np.searchsorted(found.end, self.begin, side="right")
        stop = np.searchsorted(found.start, self.begin + self.length)
        crossed = np.zeros(len(found) + 1, np.int64)
        np.add.at(crossed, first, 1)
        np.add.at(crossed, stop, -1)
        shared = np.cumsum(crossed[:-1]) > 0
        start, end, segment = found.start[shared], found.end[shared], found.segment[shared]
        taken = _gathered(payload.data, payload.starts[segment] + start - self.begin[segment], end - start)
        held = np.append(0, np.cumsum(end - start))
        at = (np.cumsum(shared) - 1)[first]
        content = np.frombuffer(taken.buffers()[2], np.uint8)
        there = _gathered(content, held[at] + self.begin - start[at], self.length)
        said = _gathered(payload.data, payload.starts, self.length)
        differ = ~call_function("equal", [there, said]).to_numpy(zero_copy_only=False)
        return np.unique(self.stream[differ])


def _crowd(writes: Writes, begins: Ints, found: Pieces) -> Crowd:
    number = np.full(len(writes), -1)
    number[found.crowded] = np.arange(len(found.crowded))
    segment = number[found.segment]
    here = segment >= 0
    nothing = np.empty(0, np.int64)
    return Crowd(
        stream=writes.stream[found.crowded],
        row=writes.row[found.crowded],
        begin=begins[found.crowded],
        length=writes.length[found.crowded],
        pieces=Pieces(found.start[here], found.end[here], segment[here], nothing),
    )


def octets(packets: Packets, assembly: Assembly, pieces: slice) -> pa.Buffer:
    """The octets of some pieces, one after another."""
    start = packets.payload.starts[assembly.row[pieces]] + assembly.skipped[pieces]
    data = _gathered(packets.payload.data, start, (assembly.end - assembly.start)[pieces]).buffers()[2]
    return data if data is not None else pa.py_buffer(b"")


def heads(packets: Packets, assembly: Assembly, streams: Ints, most: int) -> pa.LargeBinaryArray:
    """The first octets of streams that have octets, at most that many of each; of one that lacks its first, none."""
    first = assembly.bounds[streams]
    start = packets.payload.starts[assembly.row[first]] + assembly.skipped[first]
    length = np.where(assembly.start[first] == 0, np.minimum(assembly.end[first], most), 0)
    return _gathered(packets.payload.data, start, length)


def arrivals(assembly: Assembly, streams: Ints, places: Ints) -> Ints:
    """The rows of :class:`Packets` that octets of streams are taken from; of one that is missing, the one before."""
    base = np.cumsum(assembly.size) - assembly.size
    begins = base[assembly.stream] + assembly.start
    found: Ints = assembly.row[np.searchsorted(begins, base[streams] + places, side="right") - 1]
    return found


def _gathered(data: NDArray[np.uint8], start: Ints, length: Ints) -> pa.LargeBinaryArray:
    """The octets ``data[start : start + length]`` of every row."""
    if len(data) <= _BUFFER:
        return gather([data], 0, start, length)
    longest = int(length.max(initial=0))
    buffers = [data[at : at + _BUFFER + longest] for at in range(0, len(data), _BUFFER)]
    return gather(buffers, start // _BUFFER, start % _BUFFER, length)


@dataclass(frozen=True, slots=True)
class Gaps:
    """Octets that are missing: ``length`` of them at ``offset`` of ``stream``; ``at_end`` of those before a FIN."""

    stream: Ints
    offset: Ints
    length: Ints
    at_end: NDArray[np.bool_]


def gaps(followed: Followed, assembly: Assembly, rules: Rules) -> Gaps:
    """What is missing in streams: before and between their octets, and between the last one and FIN.

    What a limit cut off is not missing.
    """
    is_first = np.ones(len(assembly.stream), np.bool_)
    is_first[1:] = assembly.stream[1:] != assembly.stream[:-1]
    before = np.where(is_first, 0, np.roll(assembly.end, 1))
    inner = np.flatnonzero(assembly.start > before)
    end = followed.streams.end
    if rules.limit is not None:
        end = np.minimum(end, rules.limit)
    outer = np.flatnonzero(end > assembly.size)
    stream = np.concatenate([assembly.stream[inner], outer])
    order = np.argsort(stream, kind="stable")
    return Gaps(
        stream[order],
        np.concatenate([before[inner], assembly.size[outer]])[order],
        np.concatenate([(assembly.start - before)[inner], (end - assembly.size)[outer]])[order],
        np.repeat([False, True], [len(inner), len(outer)])[order],
    )
