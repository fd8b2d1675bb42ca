"""Streams put together: tables of what they are made of and of what is missing, and their octets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.arrays import gather
from queries.streams.follow import Followed
from queries.streams.overlap import pieces
from queries.streams.packets import Packets
from queries.streams.rules import Rules

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Assembly:
    """Pieces of streams, by stream, then by place; arrays have a value per piece.

    The octets from ``start`` to ``end`` of stream ``stream`` are those of packet ``row`` from ``skipped`` on.  The
    other arrays have a value per stream: its ``size`` (the end of its last octet), ``missing`` octets in it, and
    whether there is a ``conflict``: segments that overlap and differ.  Stream s has the pieces
    ``bounds[s] : bounds[s + 1]``.
    """

    stream: Ints
    start: Ints
    end: Ints
    row: Ints
    skipped: Ints
    bounds: Ints
    size: Ints
    missing: Ints
    conflict: NDArray[np.bool_]


def assemble(packets: Packets, followed: Followed, rules: Rules) -> Assembly:
    """Decide which segment each octet of each stream is taken from."""
    writes, count = followed.writes, len(followed.streams)
    ends = np.zeros(count, np.int64)
    kept = writes.length > 0
    np.maximum.at(ends, writes.stream[kept], (writes.place + writes.length)[kept])
    base = np.cumsum(ends) - ends
    found = pieces(base[writes.stream] + writes.place, writes.length, rules.overlap)
    stream = writes.stream[found.segment]
    start, end = found.start - base[stream], found.end - base[stream]
    conflict = np.zeros(count, np.bool_)
    assembly = Assembly(
        stream=stream,
        start=start,
        end=end,
        row=writes.row[found.segment],
        skipped=start - writes.place[found.segment],
        bounds=np.searchsorted(stream, np.arange(count + 1)),
        size=ends,
        missing=ends - np.bincount(stream, end - start, count).astype(np.int64),
        conflict=conflict,
    )
    return assembly


def octets(packets: Packets, assembly: Assembly, pieces: slice) -> pa.Buffer:
    """The octets of some pieces, one after another."""
    length = (assembly.end - assembly.start)[pieces]
    start = packets.payload.starts[assembly.row[pieces]] + assembly.skipped[pieces]
    data = gather([packets.payload.data], 0, start, length).buffers()[2]
    return data if data is not None else pa.py_buffer(b"")
