"""``pcap2arrow.scan``, ``read_capture`` and ``info``: datasets and captures as tables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pcap2arrow import schema
from pcap2arrow.conversion.capture import capture_row, scan_alone
from pcap2arrow.conversion.options import OnError, Options
from pcap2arrow.dataset.api import is_dataset
from pcap2arrow.dataset.log import open_dataset
from pcap2arrow.dataset.snapshot import whole_files
from pcap2arrow.errors import Pcap2ArrowError
from pcap2arrow.inputs import Input, find_captures
from pcap2arrow.reading import extensions
from pcap2arrow.reading.capture import read_tables
from pcap2arrow.savefile.reader import read_header
from pcap2arrow.savefile.source import open_source
from pcap2arrow.urls import polars_options
from pcap2arrow.writing.sources.stored import capture_row as stored_row

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


def scan(source: str | os.PathLike[str], *, version: int | None = None) -> pl.LazyFrame:
    """The packet table of a dataset or capture, lazily: only the columns and row groups that a query needs are read.

    Columns and types are those of :func:`pcap2arrow.schema.arrow_schema`; a column that was not stored is null.  Rows
    of a capture are in its order; those of a dataset are not sorted.  ``version`` asks for an older state of a
    dataset.  Raises SourceError or DatasetError where there is nothing to read, FormatError where it is no capture.

    >>> pcap2arrow.scan("dataset").select(pl.len(), pl.sum("caplen")).collect()                    # doctest: +SKIP
    """
    import polars as pl

    extensions.load()
    if not is_dataset(source):
        return _scan_capture(os.fspath(source))
    dataset = open_dataset(source)
    snapshot = dataset.snapshot(version)
    files = whole_files(snapshot.files("packets"))
    paths = [dataset.path_of(file.path) for file in files]
    if not paths:
        return schema.polars_schema().to_frame().lazy()
    return pl.scan_parquet(
        paths,
        schema=schema.polars_schema(),
        missing_columns="insert",
        extra_columns="ignore",
        hive_partitioning=False,
        glob=False,
        storage_options=polars_options(dataset.url),
    )


def _scan_capture(path: str) -> pl.LazyFrame:
    import polars as pl
    from polars.io.plugins import register_io_source

    with open_source(path) as source:
        read_header(source)

    def batches(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for table in read_tables(path):
            frame = pl.from_arrow(table.select(with_columns) if with_columns is not None else table)
            assert isinstance(frame, pl.DataFrame)
            if left is not None:
                frame = frame.head(left)
                left -= frame.height
            yield frame if predicate is None else frame.filter(predicate)
            if left == 0:
                return

    return register_io_source(batches, schema=schema.polars_schema(), is_pure=True)


def read_capture(
    path: str | os.PathLike[str], *, columns: Sequence[str] | None = None, on_error: OnError = "salvage"
) -> pa.Table:
    """The packet table of one capture, whole in memory, in the capture's order.

    ``path`` is a local path, a URL, or ``-``; compressed or not.  ``columns`` names those wanted, all if None; types
    are those of :func:`pcap2arrow.schema.arrow_schema`, and ``capture_id`` is 0.  Where the capture is damaged, what
    can be read is there, unless ``on_error`` is ``strict``.  Raises SourceError, FormatError.

    >>> pcap2arrow.read_capture("examples/sample.pcapng", columns=["time", "caplen"]).num_rows      # doctest: +SKIP
    """
    import pyarrow as pa

    Options(on_error=on_error)
    wanted = list(columns) if columns is not None else schema.arrow_schema().names
    parts = [table.select(wanted) for table in read_tables(os.fspath(path), on_error=on_error)]
    return pa.concat_tables(parts) if parts else schema.arrow_schema().empty_table().select(wanted)


def info(sources: Iterable[str | os.PathLike[str]] | str | os.PathLike[str]) -> list[dict[str, Any]]:
    """What is known of every capture of the sources, which are datasets or captures (files, folders, globs, URLs).

    One dict per capture with ``name``, ``path``, ``format`` (pcap or pcapng), ``packets``, ``bytes`` (decompressed),
    ``first_ns`` and ``last_ns`` (the first and last record's times, of those that have one), ``min_ns`` and
    ``max_ns`` (the least and greatest time that fits 64 bits): integer nanoseconds since 1970, null without one;
    ``link_types``, ``interfaces`` (dicts; null for pcap), ``complete`` (False where damage was found) and ``error``.
    A capture that can't be read has only ``name``, ``path``, ``complete`` and ``error``, the rest null.
    """
    result: list[dict[str, Any]] = []
    for source in [sources] if isinstance(sources, str | os.PathLike) else sources:
        if is_dataset(source):
            dataset = open_dataset(source)
            result += [_summary(stored_row(dataset, live)) for live in dataset.snapshot().ordered()]
        else:
            result += [capture_info(found) for found in find_captures([source]).captures]
    return result


def capture_info(found: Input) -> dict[str, Any]:
    """What :func:`info` tells of a capture, by reading it."""
    options = Options()
    try:
        scanned = scan_alone(found, options)
    except Pcap2ArrowError as error:
        return _summary({"name": found.name, "path": found.path, "complete": False, "error": str(error)})
    return _summary(capture_row(scanned.plan, found, scanned.stamp, options))


def _summary(row: dict[str, Any]) -> dict[str, Any]:
    def integer(key: str) -> int | None:
        return None if row.get(key) is None else int(row[key])

    return {
        "name": row["name"],
        "path": row["path"],
        "format": row.get("format"),
        "packets": row.get("packets"),
        "bytes": row.get("size"),
        "first_ns": integer("first_ns"),
        "last_ns": integer("last_ns"),
        "min_ns": integer("min_time"),
        "max_ns": integer("max_time"),
        "link_types": row.get("link_types"),
        "interfaces": row.get("interfaces"),
        "complete": row["complete"],
        "error": row["error"],
    }
