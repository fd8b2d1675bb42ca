"""What happened on connections, as letters: the history of Zeek's conn.log."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl

from queries.flows.packets import TCP, UDP
from queries.flows.runs import Runs
from queries.flows.sequences import WAY
from queries.streams.packets import ACK, FIN, RST, SYN

_FLIPPED = "^"
_SMALL = np.uint8(ord("a") - ord("A"))
_POWERS = [10**exponent for exponent in range(20)]
_LETTER, _WINDOW, _REPEATED, _ACKED_GAP, _GAP = range(5)
"""The order of what one packet tells: of gaps it may show one that it acknowledges, and one before it."""


def histories(letters: pl.LazyFrame) -> pl.DataFrame:
    """The ``history`` of each ``connection`` of TCP and UDP, as Zeek's documentation of conn.log has it.

    Letters are in capitals for the originator: ``S`` SYN, ``H`` SYN and ACK, ``F`` FIN, ``R`` RST, where their sequence
    number is not that of the one before; once each way ``A`` an ACK alone, ``D`` octets, ``I`` FIN and RST together,
    ``Q`` SYN with one of these; and the first, the tenth, the hundredth time ``T`` octets sent again, ``W`` a window of
    0, ``G`` a gap.  ``^`` comes first where the first packet was an answer.  There is no ``C``: checksums are not
    looked at.  Of UDP there is ``D``.

    ``letters`` are those of :func:`of_flags`, and of what is :func:`counted`: capitals, as numbers of ASCII.
    """
    found = letters.collect()
    connection, row, rank, letter = (
        found[name].to_numpy() for name in ("connection", "row", "rank", "letter")
    )
    is_small = ~found["orig"].to_numpy() & (letter != ord(_FLIPPED))
    order = np.lexsort((rank, row, connection))
    written = (letter + _SMALL * is_small)[order].tobytes().decode("ascii")
    of_letter = connection[order]
    starts = np.flatnonzero(np.append(True, of_letter[1:] != of_letter[:-1])[: len(order)])
    bounds = pairwise([*starts.tolist(), len(order)])
    history = [written[first:stop] for first, stop in bounds]
    return pl.DataFrame(
        {"connection": of_letter[starts], "history": history}, schema_overrides={"history": pl.String}
    )


def of_flags(table: pl.DataFrame) -> pl.LazyFrame:
    """Letters that packets have for their flags, with :data:`WAY`, ``row`` and ``rank``.

    ``table`` has packets with ``connection``, ``orig``, and their ``row`` in it; those of a connection follow each
    other.
    """
    shown = table.lazy()
    return pl.concat([_once(shown), _changing(shown), _flipped(shown)])


def counted(letter: str, found: pl.LazyFrame, before: pl.DataFrame | None = None) -> pl.LazyFrame:
    """Letters of what counts the first, the tenth, the hundredth time, as those of :func:`of_flags`.

    These are ``W`` of :func:`closed_windows`, ``T`` of segments sent again, or ``G`` of gaps, with whether the packet
    that shows one has ``acked`` it.  ``before`` says of each way how many ``times`` there were before.
    """
    times = pl.int_range(1, pl.len() + 1).over(WAY)
    if before is not None:
        found = found.join(before.lazy(), on=WAY, how="left")
        times += pl.col("times").fill_null(0)
    of_gap = pl.when("acked").then(_ACKED_GAP).otherwise(_GAP) if letter == "G" else None
    rank = of_gap if of_gap is not None else pl.lit(_WINDOW if letter == "W" else _REPEATED)
    return found.sort("row").filter(times.is_in(_POWERS)).select(_event(letter, rank))


def _bits() -> pl.Expr:
    """How many of SYN, FIN and RST are set."""
    return pl.sum_horizontal((pl.col("tcp_flags") & bit != 0).cast(pl.UInt8) for bit in (SYN, FIN, RST))


def _event(letter: str | pl.Expr, rank: int | pl.Expr) -> tuple[pl.Expr, ...]:
    named = _ascii(letter) if isinstance(letter, str) else letter
    ranked = pl.lit(rank) if isinstance(rank, int) else rank
    return *map(pl.col, WAY), pl.col("row").cast(pl.Int64), ranked.alias("rank"), named.alias("letter")


def _ascii(letter: str) -> pl.Expr:
    return pl.lit(ord(letter), pl.UInt8)


def _once(shown: pl.LazyFrame) -> pl.LazyFrame:
    """What counts the first time only."""
    flags, is_tcp = pl.col("tcp_flags"), pl.col("l4_proto") == TCP
    several = pl.when(flags & (FIN | RST) == FIN | RST).then(_ascii("I")).otherwise(_ascii("Q"))
    letter = (
        pl.when(pl.col("l4_proto") == UDP).then(_ascii("D"))
        .when(is_tcp & (_bits() > 1)).then(several)
        .when(is_tcp & (_bits() == 0) & (pl.col("payload_len") > 0)).then(_ascii("D"))
        .when(is_tcp & (_bits() == 0) & (flags & ACK != 0)).then(_ascii("A"))
    )  # fmt: skip
    found = shown.select(*WAY, "row", letter=letter).filter(pl.col("letter").is_not_null())
    first = found.group_by(*WAY, "letter").agg(pl.col("row").min())
    return first.select(_event(pl.col("letter"), _LETTER))


def _changing(shown: pl.LazyFrame) -> pl.LazyFrame:
    """What counts where its sequence number is another one than before; that of FIN is behind the octets."""
    flags = pl.col("tcp_flags")
    letter = (
        pl.when(flags & (SYN | ACK) == SYN | ACK).then(_ascii("H"))
        .when(flags & SYN != 0).then(_ascii("S"))
        .when(flags & FIN != 0).then(_ascii("F"))
        .otherwise(_ascii("R"))
    )  # fmt: skip
    ends = pl.when(flags & FIN != 0).then("payload_len").otherwise(0).cast(pl.Int64)
    number = (pl.col("tcp_seq").cast(pl.Int64) + ends) % (1 << 32)
    found = (
        shown.filter(pl.col("l4_proto") == TCP, _bits() == 1)
        .select(*WAY, "row", letter=letter, number=number)
        .sort(*WAY, "letter", maintain_order=True)
        .collect()
    )
    number_ = found["number"].to_numpy()
    is_new = number_ != Runs.of(found, (*WAY, "letter")).before(number_, -1)
    return found.lazy().filter(pl.Series(is_new)).select(_event(pl.col("letter"), _LETTER))


def closed_windows(table: pl.DataFrame) -> pl.LazyFrame:
    """Windows of 0 that tell something: not those of SYN and RST, after a RST, or after the other side's FIN."""
    flags = pl.col("tcp_flags")
    of_tcp = table.lazy().filter(pl.col("l4_proto") == TCP)
    resets = of_tcp.filter(flags & RST != 0).group_by(WAY).agg(reset=pl.col("row").min())
    ends = (
        of_tcp.filter(flags & FIN != 0).group_by("connection", ~pl.col("orig")).agg(ended=pl.col("row").min())
    )
    closed = of_tcp.filter(pl.col("tcp_window") == 0, flags & (SYN | RST) == 0).select(*WAY, "row")
    told = closed.join(resets, on=WAY, how="left").join(ends, on=WAY, how="left")
    return told.filter(
        (pl.col("reset").is_null() | (pl.col("row") < pl.col("reset"))),
        (pl.col("ended").is_null() | (pl.col("row") < pl.col("ended"))),
    ).select(*WAY, "row")


def _flipped(shown: pl.LazyFrame) -> pl.LazyFrame:
    """Connections whose first packet was from the responder."""
    goes_on = pl.col("connection") == pl.col("connection").shift(1)
    first = shown.filter(~goes_on.fill_null(False), pl.col("l4_proto") == TCP)
    return first.filter(~pl.col("orig")).select(_event(_FLIPPED, -1))
