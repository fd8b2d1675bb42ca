"""Where TCP segments of connections lie among each other, as their sequence numbers say."""

from __future__ import annotations

import polars as pl

from queries.flows.packets import TCP
from queries.streams.packets import ACK, FIN, RST, SYN

WAY = ("connection", "orig")
"""A direction of a connection."""

_WORD, _HALF = 1 << 32, 1 << 31


def placed_segments(table: pl.DataFrame) -> pl.DataFrame:
    """TCP segments that have octets, and the first SYN, each way of each connection in the order of their places.

    ``table`` has packets with :data:`WAY` and their ``row`` in it.  ``place`` counts octets from the start of the first
    segment that came, ``end`` is behind the segment's last one.  ``repeated`` tells that an earlier segment reached as
    far, ``gap`` how many octets are missing before it.  ``base`` is the sequence number of place 0.
    """
    flags = pl.col("tcp_flags")
    opens = (pl.col("length") == 0).cum_sum().over(WAY) == 1
    syn = (flags & SYN != 0).cast(pl.Int64)
    placed = (
        table.lazy()
        .filter(pl.col("l4_proto") == TCP, (pl.col("payload_len") > 0) | (flags & (SYN | FIN | RST) == SYN))
        .select(
            *WAY,
            "row",
            pl.col("payload_len").cast(pl.Int64).alias("length"),
            start=pl.col("tcp_seq").cast(pl.Int64) + syn,
        )
        .filter((pl.col("length") > 0) | opens)
        .with_columns(place=_steps("start").cum_sum().over(WAY), base=pl.col("start").first().over(WAY))
        .with_columns(end=pl.col("place") + pl.col("length"))
        .with_columns(known=pl.col("end").cum_max().shift(1).over(WAY))
        .with_columns(repeated=(pl.col("length") > 0) & (pl.col("end") <= pl.col("known")))
        .sort(*WAY, "place", maintain_order=True)
        .with_columns(before=pl.col("end").cum_max().shift(1).over(WAY))
        .with_columns(gap=(pl.col("place") - pl.col("before")).clip(0).fill_null(0))
    )
    return placed.select(*WAY, "row", "length", "place", "end", "base", "repeated", "gap").collect()


def counted(placed: pl.DataFrame) -> pl.DataFrame:
    """For each way: ``octets`` from the first to the last, those ``missed`` among them, and segments ``repeated``."""
    return placed.group_by(WAY).agg(
        (pl.col("end").max() - pl.col("place").min()).cast(pl.UInt64).alias("octets"),
        pl.col("gap").sum().cast(pl.UInt64).alias("missed"),
        pl.col("repeated").sum().cast(pl.UInt64),
    )


def gap_rows(table: pl.DataFrame, placed: pl.DataFrame) -> pl.DataFrame:
    """A row per gap, of :data:`WAY`: the ``row`` of the packet that shows it, and whether it is one ``acked``.

    That packet is the first one of the other side that acknowledges an octet of the gap, without such a packet the
    segment behind the gap.
    """
    gaps = placed.lazy().filter(pl.col("gap") > 0).with_columns(start=pl.col("place") - pl.col("gap") + 1)
    bases = gaps.select(*WAY, "base").unique()
    acks = (
        table.lazy()
        .filter(pl.col("l4_proto") == TCP, pl.col("tcp_flags") & ACK != 0)
        .select(
            "connection", ~pl.col("orig"), pl.col("row").alias("shown"), ack=pl.col("tcp_ack").cast(pl.Int64)
        )
        .join(bases, on=WAY, maintain_order="left")
        .with_columns(first=_signed(pl.col("ack").first() - pl.col("base").first()).over(WAY))
        .with_columns(place=(pl.col("first") + _steps("ack").cum_sum()).cum_max().over(WAY))
        .select(*WAY, "shown", "place")
        .sort("place", "shown")
    )
    found = gaps.sort("start").join_asof(
        acks, left_on="start", right_on="place", by=WAY, strategy="forward", check_sortedness=False
    )
    acked = pl.col("shown").is_not_null().alias("acked")
    return found.select(*WAY, pl.coalesce("shown", "row").alias("row"), acked).collect()


def _steps(column: str) -> pl.Expr:
    """How far each sequence number is behind the one before it of the same way."""
    return _signed(pl.col(column).diff().fill_null(0).over(WAY))


def _signed(difference: pl.Expr) -> pl.Expr:
    """A difference of sequence numbers (RFC 9293, 3.4)."""
    return (difference + _HALF) % _WORD - _HALF
