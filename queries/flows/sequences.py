"""Where TCP segments of connections lie among each other, as their sequence numbers say."""

from __future__ import annotations

import polars as pl

from queries.flows.packets import TCP
from queries.streams.packets import ACK, FIN, RST, SYN

WAY = ("connection", "orig")
"""A direction of a connection."""

_WORD, _HALF = 1 << 32, 1 << 31
_EARLIER = -1
"""The row of what stands for earlier packets."""


def placed_segments(table: pl.DataFrame) -> pl.DataFrame:
    """TCP segments that have octets, and the first SYN, each way of each connection in the order of their places.

    They are those of :func:`arrived`, with ``gap``: how many octets are missing before each.
    """
    placed = (
        arrived(table)
        .sort(*WAY, "place", maintain_order=True)
        .with_columns(before=pl.col("end").cum_max().shift(1).over(WAY))
        .with_columns(gap=(pl.col("place") - pl.col("before")).clip(0).fill_null(0))
    )
    return placed.drop("before", "start").collect()


def arrived(table: pl.DataFrame, before: pl.DataFrame | None = None) -> pl.LazyFrame:
    """TCP segments that have octets, and the first SYN, each way of each connection in the order of their coming.

    ``table`` has packets with :data:`WAY` and their ``row`` in it.  ``place`` counts octets from the start of the first
    segment that came, ``end`` is behind the segment's last one.  ``repeated`` tells that an earlier segment reached as
    far.  ``base`` is the sequence number of place 0.  ``before`` is what :func:`reached` says of earlier segments.
    """
    flags = pl.col("tcp_flags")
    opens = (pl.col("length") == 0).cum_sum().over(WAY) == 1
    syn = (flags & SYN != 0).cast(pl.Int64)
    segments = (
        table.lazy()
        .filter(pl.col("l4_proto") == TCP, (pl.col("payload_len") > 0) | (flags & (SYN | FIN | RST) == SYN))
        .select(
            *WAY,
            pl.col("row").cast(pl.Int64),
            pl.col("payload_len").cast(pl.Int64).alias("length"),
            start=pl.col("tcp_seq").cast(pl.Int64) + syn,
        )
    )
    if (
        before is not None
    ):  # a segment that stands for all earlier ones; its length tells of the first SYN only
        earlier = before.lazy().with_columns(
            row=pl.lit(_EARLIER, pl.Int64), length=(~pl.col("with_syn")).cast(pl.Int64)
        )
        segments = pl.concat([earlier.drop("with_syn", "repeated"), segments], how="diagonal")
    else:
        segments = segments.with_columns(
            pl.lit(None, pl.Int64).alias(name) for name in ("place", "base", "end")
        )
    is_earlier = pl.col("row") == _EARLIER
    return (
        segments.filter((pl.col("length") > 0) | opens)
        .with_columns(
            place=_steps("start").cum_sum().over(WAY) + pl.col("place").first().over(WAY).fill_null(0),
            base=pl.coalesce("base", "start").first().over(WAY),
        )
        .with_columns(end=pl.when(is_earlier).then("end").otherwise(pl.col("place") + pl.col("length")))
        .with_columns(known=pl.col("end").cum_max().shift(1).over(WAY))
        .with_columns(repeated=(pl.col("length") > 0) & (pl.col("end") <= pl.col("known")))
        .filter(~is_earlier)
        .select(*WAY, "row", "length", "start", "place", "end", "base", "repeated")
    )


def reached(segments: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """What has to be known of segments of :func:`arrived`, and of those ``before``, to place those that come next.

    For each way this is where the last one starts and its place, where the farthest one ends, whether there was a SYN
    without octets; and how many were ``repeated``.
    """
    last = segments.select(
        *WAY,
        "start",
        "place",
        "base",
        "end",
        with_syn=pl.col("length") == 0,
        repeated=pl.col("repeated").cast(pl.UInt64),
    )
    return (
        pl.concat([before, last])
        .group_by(WAY, maintain_order=True)
        .agg(
            pl.col("start", "place").last(),
            pl.col("base").first(),
            pl.col("end").max(),
            pl.col("with_syn").any(),
            pl.col("repeated").sum(),
        )
    )


REACHED = pl.Schema({
    "connection": pl.Int64(), "orig": pl.Boolean(), "start": pl.Int64(), "place": pl.Int64(), "base": pl.Int64(),
    "end": pl.Int64(), "with_syn": pl.Boolean(), "repeated": pl.UInt64(),
})  # fmt: skip
"""Columns of :func:`reached`."""


def covered(stretches: pl.DataFrame) -> pl.DataFrame:
    """Stretches of places, each way those that meet or overlap together; ``row`` is of the first that begins there."""
    before = pl.col("end").cum_max().shift(1).over(WAY)
    return (
        stretches.lazy()
        .sort(*WAY, "place", "row")
        .with_columns(opens=before.is_null() | (pl.col("place") > before))
        .group_by(pl.col("opens").cum_sum().alias("stretch"), maintain_order=True)
        .agg(pl.col(*WAY, "place").first(), pl.col("end").max(), pl.col("row").first())
        .drop("stretch")
        .collect()
    )


COVERED = pl.Schema({
    "connection": pl.Int64(), "orig": pl.Boolean(), "place": pl.Int64(), "end": pl.Int64(), "row": pl.Int64(),
})  # fmt: skip
"""Columns of :func:`covered`."""


def with_gaps(stretches: pl.DataFrame) -> pl.DataFrame:
    """Stretches of :func:`covered` with the ``gap`` before each."""
    gap = pl.col("place") - pl.col("end").shift(1).over(WAY)
    return stretches.with_columns(gap=gap.fill_null(0))


def octets(placed: pl.DataFrame) -> pl.DataFrame:
    """For each way: ``octets`` from the first to the last, those ``missed`` among them, and segments ``repeated``."""
    return placed.group_by(WAY).agg(
        (pl.col("end").max() - pl.col("place").min()).cast(pl.UInt64).alias("octets"),
        pl.col("gap").sum().cast(pl.UInt64).alias("missed"),
        pl.col("repeated").sum().cast(pl.UInt64),
    )


def gap_rows(placed: pl.LazyFrame, acks: pl.LazyFrame) -> pl.DataFrame:
    """A row per gap, of :data:`WAY`: the ``row`` of the packet that shows it, and whether it is one ``acked``.

    That packet is the first one of the other side that acknowledges an octet of the gap, without such a packet the
    segment behind the gap.  ``acks`` are those of :func:`acknowledged`.
    """
    gaps = placed.filter(pl.col("gap") > 0).with_columns(gap_start=pl.col("place") - pl.col("gap") + 1)
    bases = gaps.select(*WAY, "base").unique()
    places = (
        acks.join(bases, on=WAY, maintain_order="left")
        .select(
            *WAY,
            pl.col("row").alias("shown"),
            place=_signed(pl.col("first") - pl.col("base")) + pl.col("top"),
        )
        .sort("place", "shown")
    )
    found = gaps.sort("gap_start").join_asof(
        places, left_on="gap_start", right_on="place", by=WAY, strategy="forward", check_sortedness=False
    )
    acked = pl.col("shown").is_not_null().alias("acked")
    return found.select(*WAY, pl.coalesce("shown", "row").alias("row"), acked).collect()


def acknowledged(table: pl.DataFrame | pl.LazyFrame, before: pl.DataFrame | None = None) -> pl.LazyFrame:
    """ACKs by the way whose octets they acknowledge, in the order of their coming.

    ``at`` counts octets of each from the ``first`` number that was acknowledged on that way, ``top`` is where the
    farthest one so far is, ``low`` that before this one (null of the first), and ``ack`` the packet's number itself.
    ``before`` is what :func:`last_acknowledged` says of earlier ones.
    """
    acks = (
        table.lazy()
        .filter(pl.col("l4_proto") == TCP, pl.col("tcp_flags") & ACK != 0)
        .select(
            "connection", ~pl.col("orig"), pl.col("row").cast(pl.Int64), ack=pl.col("tcp_ack").cast(pl.Int64)
        )
    )
    columns = ("at", "first", "top")
    if before is not None:
        acks = pl.concat([before.lazy().with_columns(row=pl.lit(_EARLIER, pl.Int64)), acks], how="diagonal")
    else:
        acks = acks.with_columns(pl.lit(None, pl.Int64).alias(name) for name in columns)
    is_earlier = pl.col("row") == _EARLIER
    return (
        acks.with_columns(
            at=_steps("ack").cum_sum().over(WAY) + pl.col("at").first().over(WAY).fill_null(0),
            first=pl.coalesce("first", "ack").first().over(WAY),
        )
        .with_columns(top=pl.when(is_earlier).then("top").otherwise("at").cum_max().over(WAY))
        .with_columns(low=pl.col("top").shift(1).over(WAY))
        .filter(~is_earlier)
        .select(*WAY, "row", "ack", "at", "first", "low", "top")
    )


def last_acknowledged(acks: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """What has to be known of ACKs of :func:`acknowledged`, and of those ``before``, to place those that come next."""
    together = pl.concat([before, acks.select(before.columns)])
    return together.group_by(WAY, maintain_order=True).agg(
        pl.col("ack", "at").last(), pl.col("first").first(), pl.col("top").max()
    )


ACKNOWLEDGED = pl.Schema({
    "connection": pl.Int64(), "orig": pl.Boolean(), "row": pl.Int64(), "ack": pl.Int64(), "at": pl.Int64(),
    "first": pl.Int64(), "low": pl.Int64(), "top": pl.Int64(),
})  # fmt: skip
"""Columns of :func:`acknowledged`; those of :func:`last_acknowledged` are some of them."""


def still_telling(acks: pl.DataFrame, stretches: pl.DataFrame, bases: pl.DataFrame) -> pl.DataFrame:
    """Without ACKs of octets that all came: no gap will be there for them to acknowledge.

    Columns are those of :func:`acknowledged`; ``stretches`` are those of :func:`covered`, ``bases`` say of each way
    which number its place 0 has.
    """
    shift = _signed(pl.col("first") - pl.col("base"))
    found = (
        acks.lazy()
        .join(bases.lazy().select(*WAY, "base"), on=WAY, how="left", maintain_order="left")
        .with_columns(lowest=pl.col("low") + shift, highest=pl.col("top") + shift)
    )
    known = pl.col("lowest").is_not_null()
    told = (
        found.filter(known)
        .sort("lowest")
        .join_asof(
            stretches.lazy().select(*WAY, "place", "end").sort("place"),
            left_on="lowest",
            right_on="place",
            by=WAY,
            strategy="backward",
            check_sortedness=False,
        )
        .filter(pl.col("end").is_null() | (pl.col("end") < pl.col("highest")))
    )
    return (
        pl.concat([found.filter(~known).select(acks.columns), told.select(acks.columns)])
        .sort("row")
        .collect()
    )


def _steps(column: str) -> pl.Expr:
    """How far each sequence number is behind the one before it of the same way."""
    return _signed(pl.col(column).diff().fill_null(0).over(WAY))


def _signed(difference: pl.Expr) -> pl.Expr:
    """A difference of sequence numbers (RFC 9293, 3.4)."""
    return (difference + _HALF) % _WORD - _HALF
