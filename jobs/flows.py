"""Connections of datasets and captures."""

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

FORMATS = (".parquet", ".csv", ".ndjson", ".jsonl")
"""Endings of files that connections can be written to."""


@dataclass(frozen=True, slots=True)
class Flows:
    """The connections table, what users should know of the filter, and what was wrong in captures."""

    connections: pl.DataFrame
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


def flows(
    sources: Iterable[str | os.PathLike[str]], *, chosen: Filter | None = None, defrag: bool = True
) -> Flows:
    """The connections of all sources together: of TCP, UDP and ICMP; ``chosen`` selects packets first.

    With ``defrag``, fragments count as the packet that they make, which is of the frame that completes it.

    Raises FilterError where the filter means nothing on any packet, and errors of sources.
    """
    import polars as pl

    from jobs.count import filter_warnings
    from pcap2arrow.reading.api import polars_schema
    from queries.flows.buckets import Buckets
    from queries.flows.connections import connections_table
    from queries.flows.packets import COLUMNS, by_connection, flow_columns, is_flow
    from queries.streams.packets import PLACE, TURN
    from queries.streams.reading import Reading, parts

    reading = Reading(columns=COLUMNS, chosen=chosen, where=is_flow(), defrag=defrag)
    empty = polars_schema().to_frame().select(COLUMNS)
    order = {TURN: pl.lit(0, dtype=pl.Int64), PLACE: pl.lit(0, dtype=pl.UInt32)}
    buckets = Buckets()
    buckets.add(flow_columns(empty.with_columns(**order)))
    for part in parts(sources, reading):
        for frame in part():
            buckets.add(flow_columns(frame))
    warnings: tuple[str, ...] = ()
    if reading.selection is not None:
        refusal = reading.selection.tally.refusal(0)
        if refusal is not None:
            raise refusal
        warnings = tuple(filter_warnings(reading.selection.filters, reading.selection.tally))
    table = connections_table(by_connection(group) for group in buckets.groups())
    return Flows(table, (*warnings, *reading.warnings), tuple(reading.errors))


def check_target(path: str) -> None:
    """Refuse a file whose ending says no format.  Raises UsageError."""
    if Path(path).suffix not in FORMATS:
        raise UsageError(f"{path}: expected a file that ends with {', '.join(FORMATS)}")


def write_flows(connections: pl.DataFrame, path: str) -> None:
    """Write the table in the format that the file's ending says; in text, durations are seconds.

    Raises UsageError for another ending, ExportError where the file can't be written.
    """
    import polars as pl

    check_target(path)
    target = Path(path)
    try:
        if target.suffix == ".parquet":
            connections.write_parquet(target)
            return
        durations = pl.col("duration", "handshake_rtt").dt.total_nanoseconds() / 1e9
        readable = connections.with_columns(durations)
        if target.suffix == ".csv":
            readable.write_csv(target)
        else:
            readable.write_ndjson(target)
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}") from error
