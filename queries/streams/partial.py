"""Tables of streams bucket by bucket, and how they become those of the whole.

A bucket numbers its streams from 0 in the order of their first packets.  In the tables of the whole all streams are
numbered so, and rows of a stream keep their order.  No more is in memory at once than batches of rows and a few numbers
of each stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import IO, Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.writing.ahead import ahead
from pcap2arrow.writing.target import failing_as
from queries.merging import ORDER, Cursor, as_arrow, read_written, write_frames
from queries.streams.bucket import Bucket
from queries.streams.naming import Template, names
from queries.streams.tables import connections as connections_of
from queries.streams.tables import naming_columns

Ints = NDArray[np.int64]

STREAMS, SEGMENTS, GAPS, OCTETS, HTTP = "streams", "segments", "gaps", "octets", "http"
MANY = 1 << 28
"""Octets that are missing, or that a file system takes for files: it is worth a word."""

_KEYS, _NAMING = "keys", "naming"
_SIZE = "size"  # octets of a stream
_REPEATED = {"capture_id", "src", "dst", "closed"}
READ_OCTETS = 1 << 20
"""Octets in a row of their table, at most."""
_OF_A_ROW = 32  # what it takes beside them
_MANY_ROWS = 1 << 18
_WRITTEN = {STREAMS: 1 << 16, OCTETS: 8 << 20}
"""Rows of a table that are written at once, of octets these themselves, where they are not :data:`_MANY_ROWS`."""
_WRITTEN_ALONE, _ROWS_ALONE = 16 << 20, 1 << 16
"""The same of one stream that is more: octets of its rows, or rows."""


@dataclass(frozen=True, slots=True)
class Partial:
    """Tables of a bucket with so many ``streams``, in files that begin with ``stem``; what they say in all.

    ``gaps`` is how many there are where more octets are missing than :data:`MANY`, else 0.  ``contradictory`` are
    streams of which the table does not know yet that they contradict themselves.  ``warnings`` are of what was looked
    for in streams.
    """

    stem: str
    streams: int
    files: int = 0
    octets: int = 0
    missing: int = 0
    conflicts: int = 0
    packets: int = 0
    gaps: int = 0
    contradictory: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()

    def path(self, table: str) -> str:
        """The file of a table."""
        return f"{self.stem}.{table}"


def write_partial(
    bucket: Bucket,
    stem: str,
    wanted: Iterable[str],
    *,
    given: Mapping[int, str] | None,
    digests: Mapping[str, Sequence[str | None]] = MappingProxyType({}),
    made: Mapping[str, pl.DataFrame] = MappingProxyType({}),
    segments: Iterable[pl.DataFrame] | None = None,
    rows_of_octets: Ints | None = None,
) -> Partial:
    """Write what the tables ``wanted`` need of a bucket; ``given`` are names of its streams.

    Where these have to wait for other buckets (None), what they are made of is written, too.  Where they are known and
    no table is wanted, nothing is written.  ``digests`` are those of :meth:`~queries.streams.bucket.Bucket.digests`, if
    they are wanted.  ``made`` are tables that are there already, ``segments`` frames of one that memory has no room
    for, and ``rows_of_octets`` are how many each stream has in the table of octets, where that is written.
    """
    opened, count = bucket.opened(), len(bucket.followed.streams)
    gaps = bucket.gaps_table()
    missing = int(gaps["length"].sum())
    result = Partial(
        stem,
        count,
        files=len(opened),
        octets=int(bucket.assembly.octets.sum()),
        missing=missing,
        conflicts=int(bucket.assembly.conflict.sum()),
        packets=int(bucket.followed.streams.packets.sum()),
        gaps=len(gaps) if missing > MANY else 0,
    )
    wanted = list(wanted)
    if not wanted and given is not None:
        return result
    names_ = given if given is not None else dict.fromkeys(opened.tolist(), "")
    connections: list[pl.Series] = []

    def streams() -> Iterator[pl.DataFrame]:
        for frame in [made[STREAMS]] if STREAMS in made else bucket.streams_frames(names_, digests):
            connections.append(frame["connection"])
            yield frame

    written: dict[str, Callable[[], Iterable[pl.DataFrame]]] = {
        STREAMS: streams,
        SEGMENTS: lambda: [bucket.segments_table()] if segments is None else segments,
        GAPS: lambda: [gaps],
    }
    counts: dict[str, Ints] = {}
    for table in wanted:
        if table == HTTP:
            write_frames(result.path(HTTP), [made[HTTP]])
        elif table == OCTETS:
            counts[table] = _write_octets(bucket, stem) if rows_of_octets is None else rows_of_octets
        else:
            counts[table] = _write_frames(written[table](), result.path(table), count)
    if given is None:
        columns = naming_columns(bucket.packets, bucket.followed, opened).drop(ORDER)
        order = _order_columns(bucket, bucket.followed.streams.opening[opened])
        write_frames(result.path(_NAMING), [pl.concat([columns, order], how="horizontal")])
    if STREAMS not in wanted:
        connections.append(pl.Series(connections_of(bucket.packets, bucket.followed)))
    keys = _order_columns(bucket, bucket.followed.streams.first).with_columns(
        pl.concat(connections).alias("connection"),
        pl.Series(_SIZE, bucket.assembly.octets),
        *(pl.Series(*each) for each in counts.items()),
    )
    write_frames(result.path(_KEYS), [keys])
    return result


def _order_columns(bucket: Bucket, rows: Ints) -> pl.DataFrame:
    return bucket.packets.table.select(ORDER)[bucket.packets.order[rows]]


def _write_frames(frames: Iterable[pl.DataFrame], path: str, streams: int) -> Ints:
    """Rows of streams, at least one frame of them; the result says how many a stream has."""
    counts = np.zeros(streams, np.int64)

    def counted() -> Iterator[pl.DataFrame]:
        for frame in frames:
            np.add(
                counts, np.bincount(frame["stream"].to_numpy().astype(np.int64), minlength=streams), counts
            )
            yield frame

    write_frames(path, counted())
    return counts


def _write_octets(bucket: Bucket, stem: str) -> Ints:
    """Runs of octets without a hole, long ones in several rows; the result says how many rows a stream has."""
    with OctetsTable(stem, len(bucket.followed.streams)) as table:
        for rows in bucket.runs(READ_OCTETS):
            table.add(*rows)
    return table.counts


class OctetsTable:
    """The table of octets of a bucket with so many streams: a context in which rows are added, by stream and offset.

    No row has more than :data:`READ_OCTETS`.  ``counts`` are how many rows each stream has.
    """

    def __init__(self, stem: str, streams: int) -> None:
        self.counts = np.zeros(streams, np.int64)
        self._path = f"{stem}.{OCTETS}"

    def __enter__(self) -> OctetsTable:
        self._opened = ExitStack()
        with failing_as(self._path):
            file = self._opened.enter_context(pa.OSFile(self._path, "wb"))
            self._writer = self._opened.enter_context(pa.ipc.new_file(file, OCTETS_SCHEMA))
        return self

    def __exit__(self, *error: object) -> None:
        with failing_as(self._path):
            self._opened.close()

    def add(self, stream: Ints, offset: Ints, octets: pa.LargeBinaryArray) -> None:
        """Add rows behind those before."""
        np.add.at(self.counts, stream, 1)
        rows = [stream.astype(np.uint64), offset.astype(np.uint64), octets]
        with failing_as(self._path):
            self._writer.write_batch(pa.record_batch(rows, schema=OCTETS_SCHEMA))


OCTETS_SCHEMA = pa.schema([("stream", pa.uint64()), ("offset", pa.uint64()), ("octets", pa.large_binary())])
"""Octets of streams: those from ``offset`` on of ``stream``."""


@dataclass(slots=True)
class Whole:
    """Partial tables together, with all streams numbered in the order of their first packets.

    ``numbers`` are those of each bucket's streams, ``connections`` those of their connections; ``names`` of each
    bucket's streams are known where these had to wait for others.
    """

    partials: Sequence[Partial]
    numbers: list[Ints] = field(init=False)
    connections: list[Ints] = field(init=False)
    names: list[dict[int, str]] = field(default_factory=list)
    _keys: list[pl.DataFrame] = field(init=False)

    def __post_init__(self) -> None:
        self._keys = [read_written(each.path(_KEYS)) for each in self.partials]
        self.numbers = _split(_ranks(self._keys), [len(each) for each in self._keys])
        leaders = [
            number[np.unique(keys["connection"].to_numpy(), return_index=True)[1]]
            for number, keys in zip(self.numbers, self._keys, strict=True)
        ]
        known = np.sort(np.concatenate(leaders))
        self.connections = [
            np.searchsorted(known, leader)[keys["connection"].to_numpy()]
            for leader, keys in zip(leaders, self._keys, strict=True)
        ]

    def name(self, template: Template) -> Iterator[tuple[int, int, str]]:
        """Name the streams that have a file, in the order in which they open: (bucket, stream there, name)."""
        frames = []
        for at, partial in enumerate(self.partials):
            naming = read_written(partial.path(_NAMING))
            stream = naming["number"].to_numpy()
            frames.append(
                naming.with_columns(
                    pl.lit(at).alias("bucket"),
                    pl.Series("stream", stream),
                    pl.Series("number", self.numbers[at][stream]),
                    pl.Series("connection", self.connections[at][stream]),
                )
            )
        opened = pl.concat(frames, how="diagonal_relaxed").sort(ORDER)
        self.names = [{} for _ in self.partials]
        for bucket, stream, name in zip(
            opened["bucket"].to_list(), opened["stream"].to_list(), names(opened, template), strict=True
        ):
            self.names[bucket][stream] = name
            yield bucket, stream, name

    def write(self, table: str, file: IO[bytes]) -> None:
        """Write a table of the whole as Parquet."""
        import pyarrow.parquet as pq  # here, for none of the workers writes any

        if table == HTTP:
            pq.write_table(as_arrow(self._transactions()), file, compression="zstd")
            return
        cursors = [Cursor(each.path(table)) for each in self.partials]
        schema = cursors[0].schema
        with pq.ParquetWriter(file, schema, **_settings(schema)) as writer:
            for rows in ahead(self._row_groups(table, cursors)):
                writer.write_table(rows)

    def _row_groups(self, table: str, cursors: list[Cursor]) -> Iterator[pa.Table]:
        """What is written at once of a table, whose rows of each bucket are read one after another."""
        counts = [keys[table].to_numpy() for keys in self._keys]
        if not any(count.any() for count in counts):
            return
        ends = [np.append(0, np.cumsum(count)) for count in counts]
        sizes = np.empty(sum(map(len, counts)), np.int64)
        for number, count, keys in zip(self.numbers, counts, self._keys, strict=True):
            sizes[number] = (
                count if table != OCTETS else keys[_SIZE].to_numpy().astype(np.int64) + count * _OF_A_ROW
            )
        for first, stop in _stretches(sizes, _WRITTEN.get(table, _MANY_ROWS)):
            wanted = []
            for at, number in enumerate(self.numbers):
                a, b = np.searchsorted(number, [first, stop])
                wanted.append(int(ends[at][b] - ends[at][a]))
            yield from self._stretch(table, cursors, wanted)

    def _transactions(self) -> pl.DataFrame:
        """Transactions of all buckets, by their times, then by their connections."""
        frames = []
        sides = "request_stream", "response_stream"
        for number, connection, partial in zip(self.numbers, self.connections, self.partials, strict=True):
            rows = read_written(partial.path(HTTP))
            streams = {name: pl.Series(name, number.astype(np.uint64)).gather(rows[name]) for name in sides}
            either = rows.select(pl.coalesce(sides)).to_series().to_numpy().astype(np.int64)
            frames.append(
                rows.with_columns(
                    *streams.values(), pl.Series("connection", connection[either].astype(np.uint64))
                )
            )
        return pl.concat(frames).sort("time", "connection", maintain_order=True, nulls_last=True)

    def _stretch(self, table: str, cursors: list[Cursor], wanted: list[int]) -> Iterator[pa.Table]:
        """So many more rows of each bucket together; many of one alone some at a time."""
        busy = [at for at, count in enumerate(wanted) if count]
        if len(busy) == 1:
            for rows in _regrouped(cursors[busy[0]].take(wanted[busy[0]]), table):
                yield as_arrow(self._renumbered(table, busy[0], rows))
            return
        frames = [self._renumbered(table, at, rows) for at in busy for rows in cursors[at].take(wanted[at])]
        if frames:
            together = pl.concat(frames)
            order = np.argsort(together["stream"].to_numpy(), kind="stable")
            yield as_arrow(together[order])

    def _renumbered(self, table: str, at: int, rows: pl.DataFrame) -> pl.DataFrame:
        stream = rows["stream"].to_numpy()
        changed = [pl.Series("stream", self.numbers[at][stream].astype(np.uint64))]
        if table == STREAMS:
            changed.append(pl.Series("connection", self.connections[at][stream].astype(np.uint64)))
            if self.partials[at].contradictory:
                conflict = np.isin(stream, self.partials[at].contradictory)
                changed.append(pl.Series("conflict", rows["conflict"].to_numpy() | conflict))
            if self.names:
                known = self.names[at]
                changed.append(pl.Series("name", [known.get(each) for each in stream.tolist()], pl.String))
        return rows.with_columns(changed)


def _regrouped(frames: Iterable[pl.DataFrame], table: str) -> Iterator[pl.DataFrame]:
    """Rows in frames that depend on these rows alone: of so many, or of about so many octets."""
    waiting: list[pl.DataFrame] = []
    held = 0  # what makes a frame full: rows, or octets
    for frame in frames:
        sizes = _weights(frame, table)
        while held + int(sizes.sum()) >= _WRITTEN_ALONE:
            stop = int(np.searchsorted(np.cumsum(sizes), _WRITTEN_ALONE - held)) + 1
            yield pl.concat([*waiting, frame[:stop]])
            waiting, held, frame, sizes = [], 0, frame[stop:], sizes[stop:]
        waiting.append(frame)
        held += int(sizes.sum())
    if held:
        yield pl.concat(waiting)


def _weights(frame: pl.DataFrame, table: str) -> Ints:
    """What each row adds to :data:`_WRITTEN_ALONE`: as much as a row of numbers, or as its octets do."""
    if table != OCTETS:
        return np.full(len(frame), _WRITTEN_ALONE // _ROWS_ALONE)
    of_row = frame["octets"].bin.size().to_numpy().astype(np.int64)
    weights: Ints = np.maximum(of_row, _WRITTEN_ALONE // _ROWS_ALONE)
    return weights


def _settings(schema: pa.Schema) -> dict[str, Any]:
    """Of a Parquet file: numbers as differences from row to row, a third of the time and of the size of any other."""
    repeated = [name for name in schema.names if name in _REPEATED]
    numbers = [
        field.name
        for field in schema
        if (pa.types.is_integer(field.type) or pa.types.is_timestamp(field.type))
        and field.name not in repeated
    ]
    return {
        "compression": "zstd",
        "use_dictionary": repeated,
        "column_encoding": dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
    }


def _ranks(keys: Sequence[pl.DataFrame]) -> Ints:
    """The place of each stream among all."""
    columns = [np.concatenate([each[name].to_numpy() for each in keys]) for name in ORDER]
    order = np.lexsort(columns[::-1])
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def _split(values: Ints, sizes: Sequence[int]) -> list[Ints]:
    return np.split(values, np.cumsum(sizes)[:-1])


def _stretches(sizes: Ints, most: int) -> Iterator[tuple[int, int]]:
    """Streams in a row that are about so large together, as (first, behind the last); one that is more is alone."""
    group = (np.cumsum(sizes) - sizes) // most
    opens = group[1:] != group[:-1]
    opens |= (sizes[1:] > most) | (sizes[:-1] > most)
    marks = [0, *(np.flatnonzero(opens) + 1).tolist(), len(sizes)]
    return ((a, b) for a, b in pairwise(marks) if a < b)
