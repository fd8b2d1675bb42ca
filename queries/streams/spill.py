"""Segments parted by flow into buckets, each small enough for memory: kept there, or in temporary files meanwhile.

Both directions of a connection are in one bucket.  Which one, only this job knows: a key is drawn for each, so that
nobody can send packets that all land in the same one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Protocol, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.arrays import gather
from pcap2arrow.writing.target import failing_as
from queries.filters.machine.frames import Slices
from queries.merging import as_arrow
from queries.streams.octets import fill
from queries.streams.packets import AT, LENGTH, PART, PAYLOAD, before, in_order, least_of
from queries.streams.shifts import Shifts

_WORD = (1 << 64) - 1
ROW = 200
"""Octets that a packet takes beside its payload while its stream is put together, about."""


_TOGETHER = 1 << 18
"""Rows that are parted at once, or more."""

_MOST_ROWS = 1 << 16
"""Rows of a piece at most."""

_ALIGNED = 64
"""Octets that a table begins at a multiple of, as Arrow has it in memory: files are mapped."""

_FINE = 64
"""Buckets that one is parted into again, at least: only long connections remain large."""


@dataclass(frozen=True, slots=True)
class Parting:
    """How flows are parted: into so many ``buckets``, by a ``key`` of 64 bits."""

    buckets: int
    key: int

    @classmethod
    def into(cls, buckets: int) -> Parting:
        """A parting into so many buckets, with a key of its own."""
        return cls(buckets, int.from_bytes(os.urandom(8), "little"))

    def numbers(self, table: pl.DataFrame) -> NDArray[np.uint16]:
        """The bucket of each packet, the same for both directions."""
        if self.buckets == 1:
            return np.zeros(len(table), np.uint16)
        both = self._mixed(table, "src") + self._mixed(table, "dst")
        return (_scattered(both) % np.uint64(self.buckets)).astype(np.uint16)

    def _mixed(self, table: pl.DataFrame, side: str) -> NDArray[np.uint64]:
        """A number for each endpoint that tells nothing without the key."""
        four = table[f"ip_{side}"].fill_null(0).to_numpy().astype(np.uint64)
        found = _scattered((four << np.uint64(16) | table[f"{side}_port"].to_numpy()) ^ np.uint64(self.key))
        for turn, half in enumerate((table[f"ipv6_{side}_lo"], table[f"ipv6_{side}_hi"]), 1):
            rows = half.is_not_null().arg_true().to_numpy()
            key = np.uint64(self.key * (2 * turn + 1) & _WORD)
            found[rows] = _scattered((found[rows] + key) ^ half.gather(rows).to_numpy())
        return found


def _scattered(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each bit of a number changes half of the bits of the result: the last step of SplitMix64."""
    numbers = (numbers ^ numbers >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ numbers >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return numbers ^ numbers >> np.uint64(31)


@dataclass(frozen=True, slots=True)
class Piece:
    """Segments of one bucket, from one frame: in memory, or at ``offset`` of the file ``path``.

    ``rows`` of a table take ``of_table`` octets there, and what they carried follows in ``octets`` more.  ``least`` is
    where the first of them stands in the order of the whole.
    """

    bucket: int
    rows: int
    octets: int
    least: tuple[int, int, int]
    path: str = ""
    offset: int = 0
    of_table: int = 0
    held: tuple[pl.DataFrame, NDArray[np.uint8]] | None = None

    @property
    def memory(self) -> int:
        """Octets that it takes to put its streams together, about."""
        return self.rows * ROW + self.octets

    def read(self, payload: NDArray[np.uint8]) -> pa.Table:
        """Its table; what the segments carried is put into ``payload``, as long as it has to be."""
        if self.held is not None:
            table, octets = self.held
            payload[:] = octets
            return as_arrow(table)
        if len(payload):
            with Path(self.path).open("rb", buffering=0) as file:
                file.seek(self.offset + self.of_table)
                fill(file, payload)
        return self._mapped()

    def located(self) -> pl.DataFrame:
        """Its table, if it is in a file; what the segments carried is at :data:`~queries.streams.packets.AT` there."""
        table = pl.from_arrow(self._mapped())
        assert isinstance(table, pl.DataFrame)
        ends = self.offset + self.of_table + pl.col(LENGTH).cast(pl.UInt64).cum_sum()
        return table.with_columns((ends - pl.col(LENGTH)).alias(AT), pl.lit(0, pl.UInt32).alias(PART))

    def _mapped(self) -> pa.Table:
        with pa.memory_map(self.path) as file:
            file.seek(self.offset)
            return pa.ipc.open_stream(file).read_all()


class Spill:
    """What is parted into buckets: a context in which segments are added, to a new file if ``path`` says one."""

    def __init__(self, parting: Parting, path: Path | None) -> None:
        self.pieces: list[Piece] = []
        self._waiting: list[pl.DataFrame] = []
        self._parting = parting
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Spill:
        if self._path is not None:
            with failing_as(self._path):
                self._file = self._path.open("xb", buffering=0)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                self._part_waiting()
        finally:
            if self._file is not None:
                self._file.close()

    def add(self, segments: pl.DataFrame) -> None:
        """Add a frame of :func:`~queries.streams.packets.segments`: it is copied."""
        numbers = self._parting.numbers(segments)
        order = np.argsort(numbers, kind="stable")
        known = _without_nulls(segments)
        ordered = known if self._parting.buckets == 1 else known[order]
        payload = Slices.of_arrow(ordered[PAYLOAD].to_arrow())
        self._add(ordered.drop(PAYLOAD), payload, numbers[order])

    def add_apart(self, segments: pl.DataFrame) -> None:
        """Add a frame of :func:`~queries.streams.packets.located`, whose octets are elsewhere.

        Small frames wait for others: each piece costs as much as thousands of its rows.
        """
        self._waiting.append(segments)
        if sum(map(len, self._waiting)) >= _TOGETHER:
            self._part_waiting()

    def _part_waiting(self) -> None:
        if not self._waiting:
            return
        segments = pl.concat(self._waiting)
        self._waiting = []
        numbers = self._parting.numbers(segments)
        order = np.argsort(numbers, kind="stable")
        ordered = _without_nulls(segments)[order]
        for bucket, first, stop in _stretches(numbers[order]):
            self._keep(bucket, ordered[first:stop], np.empty(0, np.uint8))

    def add_again(self, table: pl.DataFrame, payload: Slices) -> None:
        """Add segments that were in a bucket of another parting."""
        numbers = self._parting.numbers(table)
        order = np.argsort(numbers, kind="stable")
        chosen = payload.take(order)
        octets = gather([payload.data], 0, chosen.starts, chosen.ends - chosen.starts)
        self._add(table[order], Slices.of_arrow(octets), numbers[order])

    def _add(self, table: pl.DataFrame, payload: Slices, numbers: NDArray[np.uint16]) -> None:
        """Add what is sorted by bucket, its octets one after another."""
        lengths = (payload.ends - payload.starts).astype(np.uint32)
        table = table.with_columns(pl.Series(LENGTH, lengths))
        for bucket, first, stop in _stretches(numbers):
            octets = payload.data[payload.starts[first] : payload.ends[stop - 1]]
            self._keep(bucket, table[first:stop], octets)

    def _keep(self, bucket: int, table: pl.DataFrame, octets: NDArray[np.uint8]) -> None:
        known = bucket, len(table), len(octets), least_of(table)
        if self._file is None:
            self.pieces.append(Piece(*known, held=(table, octets)))
            return
        with failing_as(str(self._path)):
            begin = self._file.seek(-self._file.tell() % _ALIGNED, os.SEEK_CUR)
            table.write_ipc_stream(self._file)
            self.pieces.append(Piece(*known, str(self._path), begin, self._file.tell() - begin))
            _write(self._file, octets.data)


def _stretches(numbers: NDArray[np.uint16]) -> Iterator[tuple[int, int, int]]:
    """Of sorted numbers each one, with its first place and the one behind its last; of many, some after others."""
    marks = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist(), len(numbers)]
    for first, stop in pairwise(marks):
        for at in range(first, stop, _MOST_ROWS):
            yield int(numbers[first]), at, min(at + _MOST_ROWS, stop)


def _without_nulls(table: pl.DataFrame) -> pl.DataFrame:
    """Without columns of nothing but nulls."""
    return table[[each.name for each in table if each.name == PAYLOAD or each.null_count() < len(each)]]


def _write(file: IO[bytes], octets: memoryview) -> None:
    while octets:
        octets = octets[file.write(octets) :]


def memory(pieces: Iterable[Piece]) -> int:
    """Octets that it takes to put streams of these pieces together, about."""
    return sum(piece.memory for piece in pieces)


def read_pieces(
    pieces: Sequence[Piece], schema: pl.Schema, shifts: Shifts | None = None
) -> tuple[pl.DataFrame, Slices]:
    """Segments of pieces, in their order: a table of those columns, and what they carried.

    Of octets that are elsewhere only the lengths are right, and ``shifts`` may be to be made good.
    """
    data = np.empty(sum(piece.octets for piece in pieces), np.uint8)
    tables, at = [], 0
    for piece in pieces:
        tables.append(piece.read(data[at : at + piece.octets]))
        at += piece.octets
    table = pl.from_arrow(pa.concat_tables(tables, promote_options="default"), rechunk=True)
    assert isinstance(table, pl.DataFrame)
    ends = np.cumsum(table[LENGTH].to_numpy(), dtype=np.int64)
    payload = Slices(data, ends - table[LENGTH].to_numpy(), ends)
    complete = _complete(table, schema)
    return (complete if shifts is None else shifts.of(complete)), payload


def read_located(piece: Piece, schema: pl.Schema) -> pl.DataFrame:
    """Segments of a piece that is in a file: a table of those columns, with where there is what they carried."""
    where = {LENGTH: pl.UInt32(), PART: pl.UInt32(), AT: pl.UInt64()}
    return _complete(piece.located(), pl.Schema({**schema, **where}))


def _complete(table: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    missing = [pl.lit(None, kind).alias(name) for name, kind in schema.items() if name not in table.columns]
    return table.with_columns(missing).select(schema.names())


def parted_again(pieces: Sequence[Piece], schema: pl.Schema, path: Path, limit: int) -> Iterator[list[Piece]]:
    """The pieces of a bucket that takes more memory than ``limit``, parted into smaller ones, to a new file.

    One flow alone is not parted any more, however much it is.
    """
    with Spill(Parting.into(-(-memory(pieces) * 2 // limit)), path) as spill:
        for piece in pieces:
            spill.add_again(*read_pieces([piece], schema))
    yield from _by_bucket(spill.pieces)


def parted_again_apart(
    pieces: Sequence[Piece], schema: pl.Schema, path: Path, limit: int, shifts: Shifts | None
) -> Iterator[list[Piece]]:
    """The same of segments whose octets are elsewhere: what still takes more than ``limit`` are long connections."""
    with Spill(Parting.into(max(-(-memory(pieces) * 2 // limit), _FINE)), path) as spill:
        for piece in pieces:
            spill.add_apart(read_pieces([piece], schema, shifts)[0])
    together: list[Piece] = []
    for some in _by_bucket(spill.pieces):
        if memory(some) > limit:
            yield some
            continue
        if memory([*together, *some]) > limit:
            yield together
            together = []
        together += some
    if together:
        yield together


def _by_bucket(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    buckets: dict[int, list[Piece]] = {}
    for piece in pieces:
        buckets.setdefault(piece.bucket, []).append(piece)
    return (some for _, some in sorted(buckets.items()))


class _Ordered(Protocol):
    @property
    def least(self) -> tuple[int, int, int]: ...


_Pieces = TypeVar("_Pieces", bound=_Ordered)


def in_time_order(
    pieces: Sequence[_Pieces], read: Callable[[_Pieces], pl.DataFrame], rows: int
) -> Iterator[pl.DataFrame]:
    """Packets of pieces in the order of the whole, about so many at a time.

    Pieces say where the ``least`` of their packets stands in it.  In memory are, beside the packets of a frame, pieces
    that others which are not read yet may lie in the midst of.
    """
    ahead = sorted(pieces, key=lambda piece: piece.least)
    waiting: list[pl.DataFrame] = []
    for number, piece in enumerate(ahead, 1):
        waiting.append(read(piece))
        if sum(map(len, waiting)) < rows and number < len(ahead):
            continue
        together = in_order(waiting)
        ready = len(together) if number == len(ahead) else before(together, ahead[number].least)
        if ready:
            yield together[:ready]
        waiting = [together[ready:]]
