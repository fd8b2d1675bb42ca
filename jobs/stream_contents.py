"""What streams carry: HTTP, and what a function of the user's makes of it; all at once, in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.functions import load_function
from jobs.streams import StreamsReport, make_empty, make_folder
from pcap2arrow.times import EVER, TimeRange

if TYPE_CHECKING:
    import polars as pl

    from queries.filters.compiled import Filter
    from queries.streams.bucket import Bucket
    from queries.streams.naming import Template
    from queries.streams.rules import Rules


@dataclass(frozen=True, slots=True)
class Contents:
    """What is looked for in streams: HTTP, and what a function says that is named as ``module:function``."""

    with_http: bool = False
    function: str | None = None


def write_contents(
    sources: Iterable[str | os.PathLike[str]],
    contents: Contents,
    rules: Rules,
    chosen: Filter | None,
    times: TimeRange,
    template: Template,
    *,
    hashes: bool,
    folder: str | None,
    tables: str | None,
) -> StreamsReport:
    """Write streams and what is looked for in them; see :func:`~jobs.streams.write_streams`."""
    called = None if contents.function is None else load_function(contents.function)
    for made, make in ((folder, make_empty), (tables, make_folder)):
        if made is not None:
            make(made)
    read = read_bucket(sources, rules=rules, chosen=chosen, times=times)
    bucket = read.bucket
    if bucket is None:
        return StreamsReport(warnings=read.warnings, errors=read.errors)
    names = bucket.names(template)
    path = None if folder is None else Path(folder)
    if path is not None:
        bucket.write_files(names, path)
    streams = bucket.streams_table(names, hashes=hashes)
    more: dict[str, pl.DataFrame] = {}
    warnings: list[str] = []
    if contents.with_http:
        from queries.http.bodies import Rules as HttpRules
        from queries.http.bodies import bodies
        from queries.http.transactions import transactions_table

        found = bodies(bucket, names, HttpRules(as_tcpflow=rules.as_tcpflow), folder=path)
        more["http"] = transactions_table(bucket, found, names)
        warnings += found.warnings
    if called is not None:
        from queries.streams.mapping import mapped

        said = mapped(bucket, names, called, title=contents.function or "")
        streams = said.column(streams)
        warnings += said.warnings
    if tables is not None:
        _write_tables(bucket, {"streams": streams, **more}, Path(tables))
    return _report(streams, read, warnings)


@dataclass(frozen=True, slots=True)
class Read:
    """The TCP packets of sources and their streams (None without any), and what was wrong."""

    bucket: Bucket | None
    warnings: tuple[str, ...]
    errors: tuple[str, ...]


def read_bucket(
    sources: Iterable[str | os.PathLike[str]],
    *,
    rules: Rules,
    chosen: Filter | None = None,
    times: TimeRange = EVER,
    shift: int = 0,
    finishing: Iterable[str | os.PathLike[str]] = (),
) -> Read:
    """Read all TCP packets of sources, those that ``chosen`` and ``times`` select, into memory, and follow them.

    Their times become ``shift`` seconds later.  Those of ``finishing`` come last: they finish streams, but begin none.

    Raises FilterError where the filter means nothing on any packet, UsageError, and errors of sources.
    """
    import polars as pl

    from jobs.count import checked_filter
    from queries.streams.bucket import Bucket
    from queries.streams.packets import is_tcp, segments
    from queries.streams.reading import Reading, parts

    defrag = rules.defrag and not rules.as_tcpflow
    reading = Reading(chosen=chosen, where=is_tcp(rules), defrag=defrag, of_tcp=True, times=times)
    shifted = pl.col("time") + pl.duration(seconds=shift) if shift else pl.col("time")
    frames, later = (
        [segments(frame, rules).with_columns(shifted) for part in parts(group, reading) for frame in part()]
        for group in (sources, finishing)
    )
    warnings = checked_filter(chosen, [] if reading.selection is None else [reading.selection.tally])
    bucket = Bucket.finished(frames, later, rules) if frames or later else None
    return Read(bucket, (*warnings, *reading.warnings), tuple(reading.errors))


def _write_tables(bucket: Bucket, tables: dict[str, pl.DataFrame], folder: Path) -> None:
    """Write tables, which appear together.  Raises ExportError."""
    import pyarrow.parquet as pq

    from pcap2arrow.writing.target import open_target

    others = {"segments": bucket.segments_table(), "gaps": bucket.gaps_table()}
    with ExitStack() as appearing:
        for name, table in (tables | others).items():
            file, _ = appearing.enter_context(open_target(folder / f"{name}.parquet"))
            pq.write_table(table.to_arrow(), file, compression="zstd")


def _report(streams: pl.DataFrame, read: Read, warnings: Iterable[str]) -> StreamsReport:
    return StreamsReport(
        streams=len(streams),
        files=streams["name"].count(),
        octets=int(streams["octets"].sum()),
        missing=int(streams["missing"].sum()),
        conflicts=int(streams["conflict"].sum()),
        warnings=(*read.warnings, *warnings),
        errors=read.errors,
    )
