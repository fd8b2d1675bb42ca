"""TCP streams of datasets and captures, as files and as tables."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pcap2arrow.errors import ExportError, UsageError

if TYPE_CHECKING:
    import polars as pl

    from queries.filters.compiled import Filter
    from queries.streams.bucket import Bucket
    from queries.streams.naming import Template
    from queries.streams.rules import Rules

TABLES = ("streams", "segments", "gaps")
"""Tables that can be written, each to a Parquet file of its name."""


@dataclass(frozen=True, slots=True)
class StreamsReport:
    """What was found: ``streams`` (``files`` of them with octets), their ``octets``, how many are ``missing``.

    ``conflicts`` is how many streams contradict themselves.  ``warnings`` are of the filter, ``errors`` of captures.
    """

    streams: int = 0
    files: int = 0
    octets: int = 0
    missing: int = 0
    conflicts: int = 0
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


def write_streams(
    sources: Iterable[str | os.PathLike[str]],
    *,
    rules: Rules,
    folder: str | None = None,
    tables: str | None = None,
    template: Template | None = None,
    chosen: Filter | None = None,
    hashes: bool = False,
) -> StreamsReport:
    """Write the TCP streams of sources: a file each to ``folder``, and :data:`TABLES` to the folder ``tables``.

    Folders are made; ``folder`` has to be empty.  ``chosen`` selects packets first.  ``hashes`` puts MD5 and SHA-256
    into the table of streams.  Raises FilterError where the filter means nothing on any packet, UsageError, and errors
    of sources and targets.
    """
    from queries.streams.naming import Template

    if folder is not None:
        _make_folder(folder)
    read = read_bucket(sources, rules=rules, chosen=chosen)
    bucket = read.bucket
    if bucket is None:
        return StreamsReport(warnings=read.warnings, errors=read.errors)
    names = bucket.names(template or Template())
    if folder is not None:
        bucket.write_files(names, Path(folder))
    streams = bucket.streams_table(names, hashes=hashes)
    if tables is not None:
        _write_tables(bucket, streams, Path(tables))
    return _report(streams, read)


@dataclass(frozen=True, slots=True)
class Read:
    """The TCP packets of sources and their streams (None without any), and what was wrong."""

    bucket: Bucket | None
    warnings: tuple[str, ...]
    errors: tuple[str, ...]


def read_bucket(
    sources: Iterable[str | os.PathLike[str]], *, rules: Rules, chosen: Filter | None = None, shift: int = 0
) -> Read:
    """Read all TCP packets of sources, those that ``chosen`` selects, and follow them.

    Their times become ``shift`` seconds later.

    Raises FilterError where the filter means nothing on any packet, UsageError, and errors of sources.
    """
    import polars as pl

    from jobs.count import filter_warnings
    from queries.streams.bucket import Bucket
    from queries.streams.packets import is_tcp, segments
    from queries.streams.reading import Reading, parts

    reading = Reading(chosen=chosen, where=is_tcp(rules), defrag=rules.defrag and not rules.as_tcpflow)
    frames = [segments(frame, rules) for part in parts(sources, reading) for frame in part()]
    if shift:
        later = pl.col("time") + pl.duration(seconds=shift)
        frames = [frame.with_columns(later) for frame in frames]
    warnings: tuple[str, ...] = ()
    if reading.selection is not None:
        refusal = reading.selection.tally.refusal(0)
        if refusal is not None:
            raise refusal
        warnings = tuple(filter_warnings(reading.selection.filters, reading.selection.tally))
    return Read(Bucket.of(frames, rules) if frames else None, warnings, tuple(reading.errors))


def _make_folder(folder: str) -> None:
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise UsageError(f"{folder}: expected a new or empty folder for the streams")
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}: expected a folder for the streams") from error


def _write_tables(bucket: Bucket, streams: pl.DataFrame, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        streams.write_parquet(folder / "streams.parquet")
        bucket.segments_table().write_parquet(folder / "segments.parquet")
        bucket.gaps_table().write_parquet(folder / "gaps.parquet")
    except OSError as error:
        raise ExportError(f"{folder}: {error.strerror}") from error


def _report(streams: pl.DataFrame, read: Read) -> StreamsReport:
    return StreamsReport(
        streams=len(streams),
        files=streams["name"].count(),
        octets=int(streams["octets"].sum()),
        missing=int(streams["missing"].sum()),
        conflicts=int(streams["conflict"].sum()),
        warnings=read.warnings,
        errors=read.errors,
    )
