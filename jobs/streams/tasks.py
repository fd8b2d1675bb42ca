"""What workers do for streams: part packets into buckets, then put the streams of each bucket together.

Tasks can run anywhere that reaches the sources and the folders; what they return is short, never packets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from jobs.streams.contents import NOTHING, Contents, Found
from jobs.streams.ended import Elsewhere
from pcap2arrow.errors import DatasetError, FormatError, LimitError, SourceError
from pcap2arrow.writing.target import failing_as
from queries.streams.bucket import Bucket
from queries.streams.files import HASHES, StreamFiles
from queries.streams.in_turn import Taker, hand_over
from queries.streams.long import LongBucket
from queries.streams.naming import Template
from queries.streams.octets import of_spill
from queries.streams.packets import PART, located, segments
from queries.streams.partial import OCTETS, OctetsTable, Partial, write_partial
from queries.streams.reading import Part, Reading
from queries.streams.rules import Rules
from queries.streams.spill import Parting, Piece, Spill, in_time_order, memory, parted_again, read_located
from queries.streams.writelog import WriteLog

if TYPE_CHECKING:
    from pcap2arrow.conversion.placed import Unit
    from queries.select import Tally

SOURCE_ERRORS = FormatError, SourceError, LimitError, DatasetError
"""What is wrong with one source, and leaves others alone."""

SHARE = 4
"""What part of the packets that memory has room for are followed at once of a connection that it has no room for."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What is made of streams: files in ``folder``, the tables that are named, hashes; ``temporary`` is for the rest.

    ``contents`` are looked for in them.  ``report`` is where tcpflow's report goes, if it is wanted, and with ``index``
    files have indexes, as tcpflow's.  Where names have to wait for all streams (``final`` is False), files have numbers
    for the time being; where what is looked for needs them, all streams are put together ``at_once``.
    """

    temporary: str
    folder: str | None
    tables: tuple[str, ...]
    template: Template
    hashes: bool
    contents: Contents
    report: str | None
    index: bool = False

    @property
    def final(self) -> bool:
        """Whether streams have their names before all buckets are done."""
        return self.template.is_of_flow or self.at_once

    @property
    def at_once(self) -> bool:
        """Whether there is but one bucket."""
        return bool(self.contents) and not self.template.is_of_flow

    def number(self, bucket: str, stream: int) -> str:
        """What a file is called until it has its name."""
        return f"{bucket}.{stream}"

    def numbers(self, name: str, bucket: Bucket, given: Mapping[int, str] | None) -> Mapping[int, str]:
        """What files of a bucket's streams are called for the time being, unless names are ``given``."""
        return given or {each: self.number(name, each) for each in bucket.opened().tolist()}

    def describe(
        self,
        bucket: Bucket,
        given: Mapping[int, str] | None,
        stem: str,
        found: Found = NOTHING,
        digests: Sequence[str | None] | None = None,
    ) -> None:
        """Write what the report says of a bucket's streams, whose names these are, and indexes, as they are wanted."""
        if self.report is not None:
            from jobs.streams.report import write_objects

            assert given is not None
            write_objects(bucket, given, self.folder, found.findings(self.folder, digests), stem)
        if self.index:
            from jobs.streams.report import write_indexes

            assert given is not None and self.folder is not None
            write_indexes(bucket, given, self.folder)


@dataclass(frozen=True, slots=True)
class Parted:
    """Packets in buckets, of so many octets of sources; what was wrong in these, what a filter saw, and ``warnings``.

    ``fragments`` are held back: frames, or files of them.  ``after`` is the number of a part that was read alone, and
    what is left of its unit.
    """

    pieces: tuple[Piece, ...]
    fragments: tuple[str | pl.DataFrame, ...]
    octets: int
    errors: tuple[str, ...]
    tally: Tally | None
    warnings: tuple[str, ...] = ()
    after: tuple[int, Unit] | None = None


def part_packets(
    parts: Sequence[tuple[int, Part]],
    begin: Callable[[], Reading],
    parting: Parting,
    path: str | None,
    rules: Rules,
    columns: tuple[str, ...],
) -> Parted:
    """Part the TCP packets of some parts, which have numbers, into buckets: in memory, or in a new file."""
    reading = begin()
    with Spill(parting, None if path is None else Path(path)) as spill:
        for number, part in parts:
            try:
                for frame in part.frames(reading):
                    _add(frame, number, reading, rules, columns, spill)
            except SOURCE_ERRORS as error:
                reading.errors.append(str(error))
    tally = None if reading.selection is None else reading.selection.tally
    octets = sum(part.octets or 0 for _, part in parts)
    after = (parts[0][0], reading.after) if len(parts) == 1 and reading.after is not None else None
    told = tuple(reading.errors), tally, tuple(reading.warnings), after
    return Parted(tuple(spill.pieces), tuple(_fragments(reading, path)), octets, *told)


def _add(
    frame: pl.DataFrame, number: int, reading: Reading, rules: Rules, columns: tuple[str, ...], spill: Spill
) -> None:
    if reading.apart:
        found = located(frame, rules).with_columns(pl.lit(number, pl.UInt32).alias(PART)).select(columns)
        if len(found):
            spill.add_apart(found)
        return
    found = segments(frame, rules).select(columns)
    if len(found):
        spill.add(found)


def _fragments(reading: Reading, path: str | None) -> Iterator[str | pl.DataFrame]:
    """Fragments that were held back, in files beside ``path``."""
    released = () if reading.fragments is None else reading.fragments.release()
    for number, held in enumerate(released):
        if path is None:
            yield held
        else:
            file = f"{path}.{number}.fragments"
            with failing_as(file), Path(file).open("wb") as target:
                held.write_ipc(target)
            yield file


def put_together(
    name: str,
    pieces: Sequence[Piece],
    schema: pl.Schema,
    rules: Rules,
    outputs: Outputs,
    most: int,
    elsewhere: Elsewhere | None = None,
) -> list[Partial]:
    """Write the streams of a bucket; of one that takes more memory than ``most``, part by part.

    For tcpflow's rules it takes to know when streams of others ended, if there are others.
    """
    ended = None if elsewhere is None else elsewhere.read()
    found = []
    for number, some in enumerate(_fitting(pieces, schema, rules, outputs, name, most)):
        stem = f"{name}-{number}"
        if memory(some) <= most or rules.as_tcpflow or outputs.contents:
            found.append(write_bucket(stem, Bucket.of_pieces(some, schema, rules, ended=ended), outputs))
        else:
            found.append(_write_long(stem, some, schema, rules, outputs, most))
    return found


def _fitting(
    pieces: Sequence[Piece], schema: pl.Schema, rules: Rules, outputs: Outputs, name: str, most: int
) -> Iterator[Sequence[Piece]]:
    if rules.as_tcpflow or outputs.at_once or memory(pieces) <= most or len(pieces) == 0:
        yield pieces
        return
    path = Path(outputs.temporary, f"{name}.again")
    yield from parted_again(pieces, schema, path, most)
    path.unlink()


def write_bucket(name: str, bucket: Bucket, outputs: Outputs) -> Partial:
    """Write the streams of a bucket: files and tables."""
    given = bucket.names(outputs.template) if outputs.final else None
    if outputs.folder is not None:
        bucket.write_files(outputs.numbers(name, bucket, given), Path(outputs.folder))
    digests = bucket.digests() if outputs.hashes else {}
    made: dict[str, pl.DataFrame] = {}
    found = NOTHING
    if outputs.contents and given is not None:
        found = outputs.contents.look_into(bucket, given, outputs.folder)
        if outputs.tables:
            made = found.tables(bucket, given, bucket.streams_table(given, digests))
    stem = str(Path(outputs.temporary, name))
    partial_ = write_partial(bucket, stem, outputs.tables, given=given, digests=digests, made=made)
    outputs.describe(bucket, given, stem, found, digests.get("md5"))
    return replace(partial_, warnings=found.warnings)


def _write_long(
    name: str, pieces: Sequence[Piece], schema: pl.Schema, rules: Rules, outputs: Outputs, most: int
) -> Partial:
    """Write streams of connections that memory has no room for, whose pieces are in one file."""
    rows = max(most // SHARE // (memory(pieces) // sum(piece.rows for piece in pieces)), 1)
    sources = {0: partial(of_spill, pieces[0].path)}
    stem = str(Path(outputs.temporary, name))
    frames = in_time_order(pieces, lambda piece: read_located(piece, schema), rows)
    with WriteLog(Path(f"{stem}.log")) as log:
        long = LongBucket.of_frames(frames, rules, log, rows, sources)
        bucket = long.bucket()
        given = bucket.names(outputs.template) if outputs.final else None
        count = len(bucket.followed.streams)
        digests: dict[str, list[str | None]] = {kind: [None] * count for kind in HASHES if outputs.hashes}
        with ExitStack() as opened:
            table = OctetsTable(stem, count) if OCTETS in outputs.tables else None
            files = None if outputs.folder is None else StreamFiles(Path(outputs.folder), rules.gaps)
            for each in (table, files):
                if each is not None:
                    opened.enter_context(each)
            taker = Taker(outputs.numbers(name, bucket, given), files, table, digests)
            conflicts = hand_over(long, sources, taker)
        return write_partial(
            long.bucket(conflicts),
            stem,
            outputs.tables,
            given=given,
            digests=digests,
            segments=long.segments(),
            rows_of_octets=None if table is None else table.counts,
        )
