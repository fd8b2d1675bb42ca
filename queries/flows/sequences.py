"""Where TCP segments of connections lie among each other, as their sequence numbers say."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from queries.flows.packets import TCP, Ints
from queries.flows.runs import Runs
from queries.streams.packets import ACK, FIN, RST, SYN

WAY = ("connection", "orig")
"""A direction of a connection."""

_WORD, _HALF = 1 << 32, 1 << 31
_EARLIER = -1
"""The row of what stands for earlier packets."""

_NOWHERE = np.iinfo(np.int64).min
"""The place before that of a way's first segment."""


def placed_segments(table: pl.DataFrame) -> pl.DataFrame:
    """TCP segments that have octets, and the first SYN, each way of each connection in the order of their places.

    They are those of :func:`arrived`, with ``gap``: how many octets are missing before each.
    """
    return with_gaps(arrived(table).drop("start").sort(*WAY, "place", maintain_order=True))


def arrived(table: pl.DataFrame, before: pl.DataFrame | None = None) -> pl.DataFrame:
    """TCP segments that have octets, and the first SYN, each way of each connection in the order of their coming.

    ``table`` has packets with :data:`WAY` and their ``row`` in it.  ``place`` counts octets from the start of the first
    segment that came, ``end`` is behind the segment's last one.  ``repeated`` tells that an earlier segment reached as
    far.  ``base`` is the sequence number of place 0.  ``before`` is what :func:`reached` says of earlier segments.
    """
    segments = _segments(table)
    if (
        before is not None
    ):  # a segment that stands for all earlier ones; its length tells of the first SYN only
        with_syn = (~pl.col("with_syn")).cast(pl.Int64)
        earlier = before.with_columns(row=pl.lit(_EARLIER, pl.Int64), length=with_syn)
        segments = pl.concat(
            [earlier.select(*segments.columns, "place", "base", "end"), segments], how="diagonal"
        )
    segments = _with_one_syn(segments.sort(WAY, maintain_order=True))
    runs = Runs.of(segments, WAY)
    row, start, length = (segments[name].to_numpy() for name in ("row", "start", "length"))
    place, base = runs.sums(_signed(runs.differences(start))), runs.first(start)
    end = place + length
    if before is not None:
        is_earlier = row == _EARLIER
        known = [segments[name].fill_null(0).to_numpy() for name in ("place", "base", "end")]
        place += runs.first(known[0])
        base = np.where(runs.first(is_earlier), runs.first(known[1]), base)
        end = np.where(is_earlier, known[2], place + length)
    repeated = (length > 0) & (end <= runs.before(runs.greatest(end), _NOWHERE))
    found = segments.select(*WAY, "row", "length", "start").with_columns(
        pl.Series("place", place),
        pl.Series("end", end),
        pl.Series("base", base),
        pl.Series("repeated", repeated),
    )
    return found if before is None else found.filter(pl.Series(~is_earlier))


def _segments(table: pl.DataFrame) -> pl.DataFrame:
    """TCP segments with octets or SYN, and the sequence number of their first octet."""
    flags = pl.col("tcp_flags")
    return (
        table.lazy()
        .filter(pl.col("l4_proto") == TCP, (pl.col("payload_len") > 0) | (flags & (SYN | FIN | RST) == SYN))
        .select(
            *WAY,
            pl.col("row").cast(pl.Int64),
            pl.col("payload_len").cast(pl.Int64).alias("length"),
            start=pl.col("tcp_seq").cast(pl.Int64) + (flags & SYN != 0).cast(pl.Int64),
        )
        .collect()
    )


def _with_one_syn(segments: pl.DataFrame) -> pl.DataFrame:
    """Segments by way, of those without octets each way the first alone."""
    runs = Runs.of(segments, WAY)
    is_empty = segments["length"].to_numpy() == 0
    return segments.filter(pl.Series(~is_empty | (runs.sums(is_empty.astype(np.int64)) == 1)))


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
    ordered = stretches.sort(*WAY, "place", "row")
    known = _known(ordered)
    opens = ordered["place"].to_numpy() > known
    return (
        ordered.lazy()
        .group_by(pl.lit(pl.Series("stretch", np.cumsum(opens))), maintain_order=True)
        .agg(pl.col(*WAY, "place").first(), pl.col("end").max(), pl.col("row").first())
        .drop("stretch")
        .collect()
    )


def _known(ordered: pl.DataFrame) -> Ints:
    """Where those before each stretch of a way end, in the order of their places; :data:`_NOWHERE` of the first."""
    runs = Runs.of(ordered, WAY)
    return runs.before(runs.greatest(ordered["end"].to_numpy()), _NOWHERE)


COVERED = pl.Schema({
    "connection": pl.Int64(), "orig": pl.Boolean(), "place": pl.Int64(), "end": pl.Int64(), "row": pl.Int64(),
})  # fmt: skip
"""Columns of :func:`covered`."""


def with_gaps(ordered: pl.DataFrame) -> pl.DataFrame:
    """Segments, or stretches, each way in the order of their places, with the ``gap`` before each."""
    known = _known(ordered)
    gap = np.where(known == _NOWHERE, 0, np.maximum(ordered["place"].to_numpy() - known, 0))
    return ordered.with_columns(pl.Series("gap", gap))


def octets(placed: pl.DataFrame) -> pl.DataFrame:
    """For each way: ``octets`` from the first to the last, those ``missed`` among them, and segments ``repeated``."""
    return placed.group_by(WAY).agg(
        (pl.col("end").max() - pl.col("place").min()).cast(pl.UInt64).alias("octets"),
        pl.col("gap").sum().cast(pl.UInt64).alias("missed"),
        pl.col("repeated").sum().cast(pl.UInt64),
    )


def gap_rows(placed: pl.DataFrame, acks: pl.DataFrame) -> pl.DataFrame:
    """A row per gap, of :data:`WAY`: the ``row`` of the packet that shows it, and whether it is one ``acked``.

    That packet is the first one of the other side that acknowledges an octet of the gap, without such a packet the
    segment behind the gap.  ``acks`` are those of :func:`acknowledged`.
    """
    gaps = placed.lazy().filter(pl.col("gap") > 0).with_columns(gap_start=pl.col("place") - pl.col("gap") + 1)
    bases = gaps.select(*WAY, "base").unique()
    places = (
        acks.lazy()
        .join(bases, on=WAY, maintain_order="left")
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


def acknowledged(table: pl.DataFrame, before: pl.DataFrame | None = None) -> pl.DataFrame:
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
        .collect()
    )
    if before is not None:
        acks = pl.concat([before.with_columns(row=pl.lit(_EARLIER, pl.Int64)), acks], how="diagonal")
    acks = acks.sort(WAY, maintain_order=True)
    runs = Runs.of(acks, WAY)
    ack = acks["ack"].to_numpy()
    at, first = runs.sums(_signed(runs.differences(ack))), runs.first(ack)
    top = at
    if before is not None:
        is_earlier = acks["row"].to_numpy() == _EARLIER
        known = [acks[name].fill_null(0).to_numpy() for name in ("at", "first", "top")]
        at = at + runs.first(known[0])
        first = np.where(runs.first(is_earlier), runs.first(known[1]), first)
        top = np.where(is_earlier, known[2], at)
    top = runs.greatest(top)
    low = pl.Series("low", runs.before(top, _NOWHERE)).replace(_NOWHERE, None)
    found = acks.select(*WAY, "row", "ack").with_columns(
        pl.Series("at", at), pl.Series("first", first), low, pl.Series("top", top)
    )
    return found if before is None else found.filter(pl.Series(~is_earlier))


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


_Difference = TypeVar("_Difference", pl.Expr, NDArray[np.int64])


def _signed(difference: _Difference) -> _Difference:
    """A difference of sequence numbers (RFC 9293, 3.4)."""
    return (difference + _HALF) % _WORD - _HALF
