"""Connections and TCP streams of packet tables that fit in memory, for notebooks and scripts.

What does not fit is for :mod:`jobs.flows.api` and :mod:`jobs.streams.api`, which give the same answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import polars as pl

from pcap2arrow.errors import UsageError
from pcap2arrow.schema import polars_schema

if TYPE_CHECKING:
    from queries.streams.bucket import Bucket
    from queries.streams.reading import Reading
    from queries.streams.rules import Overlap

OCTETS_SCHEMA = {"stream": pl.UInt64, "offset": pl.UInt64, "octets": pl.Binary}
"""Columns of :func:`stream_octets`."""

_LONGEST_RUN = 1 << 30


def connections(packets: pl.LazyFrame) -> pl.DataFrame:
    """The connections of a packet table: of TCP, UDP and ICMP, a row each, as ``pcap2arrow flows`` lists them.

    See :func:`~queries.flows.connections.connections_table` for the columns.  Fragments are put together first.
    Captures count in the order of their ``capture_id``.  Raises UsageError where the table lacks a column.

    >>> pcap2arrow.scan("dataset").pcap.filter("tcp port 443").pcap.connections()                    # doctest: +SKIP
    """
    from queries.flows.connections import connections_table, summed
    from queries.flows.packets import COLUMNS, by_connection, flow_columns, is_flow
    from queries.streams.reading import Reading

    frames = _frames(packets, Reading(columns=COLUMNS, where=is_flow()))
    return connections_table([summed(by_connection(pl.concat([flow_columns(each) for each in frames])))])


def tcp_streams(
    packets: pl.LazyFrame, *, overlap: Overlap = "last", limit: int | None = None, hashes: bool = False
) -> pl.DataFrame:
    """The TCP streams of a packet table, a row each, as ``pcap2arrow streams --tables`` writes them.

    See :func:`~queries.streams.tables.streams_table` for the columns, and :class:`~queries.streams.rules.Rules` for
    ``overlap`` and ``limit`` (octets of each stream); ``hashes`` adds MD5 and SHA-256.  Raises UsageError where the
    table lacks a column.
    """
    from queries.streams.naming import Template

    bucket = _bucket(packets, overlap, limit)
    return bucket.streams_table(bucket.names(Template()), bucket.digests() if hashes else {})


def tcp_segments(
    packets: pl.LazyFrame, *, overlap: Overlap = "last", limit: int | None = None
) -> pl.DataFrame:
    """Which packet gave which octets of TCP streams: a row per segment with anything in it.

    ``stream`` is the number of :func:`tcp_streams`; see :func:`~queries.streams.tables.segments_table` for the columns.
    Offsets against times are a time-sequence graph.  Raises UsageError where the table lacks a column.
    """
    return _bucket(packets, overlap, limit).segments_table()


def stream_octets(
    packets: pl.LazyFrame, *, overlap: Overlap = "last", limit: int | None = None
) -> pl.DataFrame:
    """What the TCP streams of a packet table carried: a row per run without a hole.

    ``stream`` is the number of :func:`tcp_streams`, ``offset`` that of the run in the stream, ``octets`` the run, of
    at most 1 GiB.  Nothing stands for what is missing.  Raises UsageError where the table lacks a column.

    >>> web = pcap2arrow.scan("dataset").pcap.filter("tcp port 80")                                  # doctest: +SKIP
    >>> web.pcap.stream_octets().filter(pl.col("octets").bin.starts_with(b"HTTP/"))                   # doctest: +SKIP
    """
    bucket = _bucket(packets, overlap, limit)
    frames = [
        pl.DataFrame({"stream": stream, "offset": offset, "octets": pl.Series(octets)})
        for stream, offset, octets in bucket.runs(_LONGEST_RUN)
    ]
    empty = pl.DataFrame(schema=OCTETS_SCHEMA)
    return pl.concat([empty, *(frame.cast(OCTETS_SCHEMA) for frame in frames)])  # type: ignore[arg-type]


def _bucket(packets: pl.LazyFrame, overlap: Overlap, limit: int | None) -> Bucket:
    from queries.streams.bucket import Bucket
    from queries.streams.packets import is_tcp, segments
    from queries.streams.reading import Reading
    from queries.streams.rules import Rules

    rules = Rules(overlap=overlap, limit=limit)
    frames = _frames(packets, Reading(where=is_tcp(rules), of_tcp=True))
    return Bucket.of([segments(frame, rules) for frame in frames], rules)


def _frames(packets: pl.LazyFrame, reading: Reading) -> Iterable[pl.DataFrame]:
    """Frames of the packets that a reading wants, at least one; no others are collected but fragments."""
    from queries.streams.packets import PLACE, TURN
    from queries.streams.reading import columns_read, of_table

    columns = columns_read(reading)
    missing = [name for name in columns if name not in packets.collect_schema()]
    if missing:
        raise UsageError(
            f"expected a packet table with the columns {', '.join(missing)}, which this one lacks"
        )
    assert reading.where is not None
    wanted = packets.filter(reading.where | pl.col("frag_key").is_not_null()).select(columns).collect()
    yield (
        polars_schema()
        .to_frame()
        .select(reading.columns)
        .with_columns(pl.lit(0, pl.Int64).alias(TURN), pl.lit(0, pl.UInt32).alias(PLACE))
    )
    yield from of_table(wanted, reading)
