"""Streams of segments whose octets were not read: where each octet belongs, and which have to be looked at.

Headers alone tell almost all of streams.  Octets are needed where segments overlap, for these may contradict each other
(:class:`~queries.streams.assembly.Crowd`), and of flows in which a segment may repeat what a closed stream said; and to
be written to files.  They are asked for all at once, part by part of the sources, and read once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pcap2arrow.arrays import gather
from pcap2arrow.writing.target import failing_as
from queries.filters.machine.frames import Slices
from queries.streams.assembly import Assembly, Crowd, lay_out
from queries.streams.bucket import Bucket
from queries.streams.ended import ends
from queries.streams.follow import Followed, follow_at_once
from queries.streams.packets import AT, LENGTH, PART, Packets, grouped, sorted_by_order
from queries.streams.rules import Rules
from queries.streams.shifts import Shifts
from queries.streams.spill import Piece, read_pieces

Ints = NDArray[np.int64]

WRITTEN = np.dtype(
    [
        ("part", "<u4"),
        ("at", "<u8"),
        ("skipped", "<u4"),
        ("length", "<u4"),
        ("stream", "<u4"),
        ("offset", "<u8"),
    ]
)
"""Octets to be written: ``length`` of a packet's, without the first ``skipped`` ones, at ``offset`` of ``stream``."""

ASKED = np.dtype([("part", "<u4"), ("at", "<u8"), ("length", "<u4")])
"""Octets to be looked at: all that a packet carried."""


@dataclass(frozen=True, slots=True)
class Questions:
    """What is to be known of octets of a bucket: of segments that overlap, and of flows that were left (a frame).

    ``asked``, of type :data:`ASKED`, are those of a crowd, then those of the frame's rows, in the order in which they
    are read, and ``place`` says which of them is which.  ``ended`` has the places where the bucket's streams ended, if
    that decides what becomes of other flows, and was not told yet.
    """

    crowd: Crowd
    left: pl.DataFrame
    ended: pl.DataFrame | None
    asked: NDArray[np.void]
    place: Ints

    def conflicts(self, octets: NDArray[np.uint8]) -> Ints:
        """The streams that contradict themselves; ``octets`` are those asked for, one after another."""
        return self.crowd.conflicts(self._slices(octets).take(self.place[: len(self.crowd)]))

    @property
    def left_octets(self) -> int:
        """How many octets the packets of the flows that were left carried."""
        return int(self.left[LENGTH].sum()) if len(self.left) else 0

    def left_payload(self, octets: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """These octets, one after another."""
        left = self._slices(octets).take(self.place[len(self.crowd) :])
        return Slices.of_arrow(gather([left.data], 0, left.starts, left.ends - left.starts)).data

    def _slices(self, octets: NDArray[np.uint8]) -> Slices:
        ends = np.cumsum(self.asked["length"], dtype=np.int64)
        return Slices(octets, ends - self.asked["length"], ends)


def follow_apart(
    pieces: Sequence[Piece], schema: pl.Schema, rules: Rules, shifts: Shifts | None = None
) -> tuple[Bucket, Questions]:
    """The streams of a bucket as far as headers tell them, and what is left to be known.

    In the bucket no stream contradicts itself, and flows that need a look at their octets are not there.
    """
    table, lengths = sorted_by_order(*read_pieces(pieces, schema, shifts))
    packets, followed, left = _followed(table, lengths, rules)
    assembly, crowd = lay_out(followed.writes, len(followed.streams), rules)
    bucket = Bucket(packets, followed, assembly, rules)
    ended = ends(packets, followed.streams) if rules.as_tcpflow else None
    return bucket, _questions(packets, crowd, table[_left(packets, left)], ended)


def left_with_octets(
    table: pl.DataFrame, payload: Slices, rules: Rules
) -> tuple[pl.DataFrame, pl.DataFrame, NDArray[np.uint8]]:
    """Of a frame of segments and what these carried the packets of flows that need a look at their octets.

    With the places where other streams end, and these octets, one after another.
    """
    table, payload = sorted_by_order(table, payload)
    packets, followed, left = _followed(table, payload, rules)
    rows = _left(packets, left)
    chosen = payload.take(rows)
    lengths = chosen.ends - chosen.starts
    octets = Slices.of_arrow(gather([chosen.data], 0, chosen.starts, lengths)).data
    found = table[rows].with_columns(pl.Series(LENGTH, lengths.astype(np.uint32)))
    return found, ends(packets, followed.streams), octets


def _followed(table: pl.DataFrame, payload: Slices, rules: Rules) -> tuple[Packets, Followed, Ints]:
    packets = grouped(table, payload)
    pair = table["flow_hash"].to_numpy()[packets.order[packets.bounds[:-1]]] & ~np.uint64(1)
    return packets, *follow_at_once(packets, rules, pair)


def _left(packets: Packets, flows: Ints) -> Ints:
    """The rows of some flows in the order of the whole."""
    is_left = np.zeros(packets.flows, np.bool_)
    is_left[flows] = True
    return np.sort(packets.order[np.repeat(is_left, np.diff(packets.bounds))])


def _questions(packets: Packets, crowd: Crowd, left: pl.DataFrame, ended: pl.DataFrame | None) -> Questions:
    asked = np.empty(len(crowd) + len(left), ASKED)
    rows = packets.order[crowd.row]
    for name, column in (("part", PART), ("at", AT), ("length", LENGTH)):
        asked[name][: len(crowd)] = packets.table[column].to_numpy()[rows]
        asked[name][len(crowd) :] = left[column].to_numpy()
    return questions(crowd, left, asked, ended)


def questions(
    crowd: Crowd, left: pl.DataFrame, asked: NDArray[np.void], ended: pl.DataFrame | None = None
) -> Questions:
    """Questions, with what is asked of type :data:`ASKED`, in the order of those who ask."""
    order = np.lexsort((asked["at"], asked["part"]))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return Questions(crowd, left, ended, asked.take(order), place)


def bucket_of_left(
    asked: Sequence[Questions], octets: NDArray[np.uint8], rules: Rules, elsewhere: pl.DataFrame | None
) -> Bucket | None:
    """The streams of flows that were left of some buckets, if there are any; with what their packets carried.

    ``elsewhere`` has the places where all other streams ended, in order: for tcpflow they decide what becomes of these.
    """
    left = [each.left for each in asked if len(each.left)]
    if not left:
        return None
    table = pl.concat(left)
    ends = np.cumsum(table[LENGTH].to_numpy(), dtype=np.int64)
    payload = Slices(octets, ends - table[LENGTH].to_numpy(), ends)
    return Bucket.of_table(table, payload, rules, ended=elsewhere)


def written(bucket: Bucket) -> NDArray[np.void]:
    """What is to be written to the files of a bucket's streams, of type :data:`WRITTEN`, sorted by part."""
    rows = bucket.packets.order[bucket.assembly.row]
    part, at = (bucket.packets.table[name].to_numpy()[rows] for name in (PART, AT))
    return to_be_written(bucket.assembly, part, at)


def to_be_written(assembly: Assembly, part: NDArray[np.uint32], at: NDArray[np.uint64]) -> NDArray[np.void]:
    """The same of an assembly, with where the octets of the packet are that each piece is from."""
    found = np.empty(len(part), WRITTEN)
    found["part"], found["at"] = part, at
    found["skipped"], found["length"] = assembly.skipped, assembly.end - assembly.start
    found["stream"], found["offset"] = assembly.stream, assembly.start
    return found.take(np.argsort(part, kind="stable"))


@dataclass(frozen=True, slots=True)
class Records:
    """An array in a file, sorted by ``part``; ``parts`` are (part, its first item, the one behind its last)."""

    path: str
    parts: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, found: NDArray[np.void], path: str) -> Records:
        """Write an array that is sorted by part."""
        with failing_as(path):
            found.tofile(path)
        part = found["part"]
        marks = np.flatnonzero(part[1:] != part[:-1]) + 1
        firsts = [0, *marks.tolist()] if len(part) else []
        stops = [*marks.tolist(), len(part)]
        return cls(path, tuple((int(part[a]), a, b) for a, b in zip(firsts, stops, strict=False)))

    def read(self, part: int, kind: np.dtype) -> NDArray[np.void]:
        """The items of a part."""
        for number, first, stop in self.parts:
            if number == part:
                return np.fromfile(self.path, kind, stop - first, offset=first * kind.itemsize)
        return np.empty(0, kind)

    def remove(self) -> None:
        """Delete the file."""
        Path(self.path).unlink()
