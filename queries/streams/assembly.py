"""Streams put together: which segment each octet is from, what is missing, and what contradicts itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pcap2arrow.arrays import gather
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
    """Decide which segment each octet of each stream is taken from."""
    writes, count = followed.writes, len(followed.streams)
    size = np.zeros(count, np.int64)
    kept = writes.length > 0
    np.maximum.at(size, writes.stream[kept], (writes.place + writes.length)[kept])
    base = np.cumsum(size) - size
    begins = base[writes.stream] + writes.place
    found = pieces(begins, writes.length, rules.overlap)
    stream = writes.stream[found.segment]
    conflict = np.zeros(count, np.bool_)
    conflict[writes.stream[_contradicted(packets, writes, begins, found)]] = True
    start = found.start - base[stream]
    return Assembly(
        stream=stream,
        start=start,
        end=found.end - base[stream],
        row=writes.row[found.segment],
        skipped=start - writes.place[found.segment],
        bounds=np.searchsorted(stream, np.arange(count + 1)),
        size=size,
        conflict=conflict,
    )


def _contradicted(packets: Packets, writes: Writes, begins: Ints, found: Pieces) -> Ints:
    """The segments that say something else than what was taken at their places.

    Those that overlap others without a difference are all equal to that, so that nothing else needs to be compared.
    """
    crowded = found.crowded
    if not len(crowded):
        return crowded
    source = packets.payload.starts[writes.row]
    begin, length = begins[crowded], writes.length[crowded]
    first = np.searchsorted(found.end, begin, side="right")
    stop = np.searchsorted(found.start, begin + length)
    crossed = np.zeros(len(found) + 1, np.int64)
    np.add.at(crossed, first, 1)
    np.add.at(crossed, stop, -1)
    shared = np.cumsum(crossed[:-1]) > 0
    start, end = found.start[shared], found.end[shared]
    segment = found.segment[shared]
    taken = _gathered(packets.payload.data, source[segment] + start - begins[segment], end - start)
    held = np.append(0, np.cumsum(end - start))
    at = (np.cumsum(shared) - 1)[first]
    content = np.frombuffer(taken.buffers()[2], np.uint8)
    there = _gathered(content, held[at] + begin - start[at], length)
    said = _gathered(packets.payload.data, source[crowded], length)
    differ: NDArray[np.bool_] = ~pc.equal(there, said).to_numpy(zero_copy_only=False)
    return crowded[differ]


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
