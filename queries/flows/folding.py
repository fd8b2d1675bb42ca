"""Connections of more packets than memory has room for, summed up in the order of time, some packets at a time.

What goes on from one frame of packets to the next are sums, the few packets that give letters of histories, and what
places segments and ACKs among those before them.  Of octets it is known which stretches came; of ACKs only those are
kept that go beyond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import numpy as np
import polars as pl
from numpy.typing import NDArray

from queries.flows.connections import begun, first_back, shown, telling, totals, with_octets
from queries.flows.early import EarlyAcks
from queries.flows.history import closed_windows, counted, histories, of_flags
from queries.flows.packets import KEY, Initial, by_ends, renewals
from queries.flows.sequences import (
    ACKNOWLEDGED,
    COVERED,
    REACHED,
    WAY,
    acknowledged,
    arrived,
    covered,
    gap_rows,
    last_acknowledged,
    reached,
    still_telling,
    with_gaps,
)
from queries.streams.packets import FIN, RST

_OF_WAY = {"connection": pl.Int64(), "orig": pl.Boolean()}
_LETTERS = pl.Schema({**_OF_WAY, "row": pl.Int64(), "rank": pl.Int32(), "letter": pl.UInt8()})
_INITIAL = ("initial_a", "initial_b")


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of connections; frames have the column ``connection``, most of them also ``orig``.

    ``kept`` are packets that tell more than numbers, ``totals`` sums over all; ``ways`` are those of
    :func:`~queries.flows.sequences.reached`, ``stretches`` those of :func:`~queries.flows.sequences.covered`;
    ``acked`` is the last ACK, and ``acks`` are those that may tell of gaps.  ``windows`` counts those closed, and
    ``letters`` are of what counts.
    """

    kept: pl.DataFrame
    totals: pl.DataFrame
    ways: pl.DataFrame
    stretches: pl.DataFrame
    acked: pl.DataFrame
    acks: pl.DataFrame
    windows: pl.DataFrame
    letters: pl.DataFrame

    @classmethod
    def nothing(cls, table: pl.DataFrame) -> _Known:
        """Of no packets; ``table`` has some."""
        none = table.clear()
        return cls(
            none,
            none.group_by("connection").agg(*totals()),
            REACHED.to_frame(),
            COVERED.to_frame(),
            ACKNOWLEDGED.to_frame().select(*WAY, "ack", "at", "first", "top"),
            ACKNOWLEDGED.to_frame(),
            pl.DataFrame(schema={**_OF_WAY, "times": pl.Int64()}),
            _LETTERS.to_frame(),
        )

    def of(self, connections: pl.Series, *, others: bool = False) -> _Known:
        """The same of these connections alone, or of all ``others``."""
        here = pl.col("connection").is_in(connections.implode())
        return _Known(*(getattr(self, each.name).filter(~here if others else here) for each in fields(self)))

    def with_more(self, table: pl.DataFrame, first: int, early: EarlyAcks) -> _Known:
        """The same with packets that have ``row`` numbers from ``first`` on, each behind those before it.

        ACKs are ``early`` where no segment of their way is there yet.
        """
        together = pl.concat([self.kept, table]).sort("connection", maintain_order=True)
        segments = arrived(table, self.ways)
        ways = reached(segments, self.ways)
        stretches = covered(pl.concat([self.stretches, segments.select(COVERED.names())]))
        acks = acknowledged(table, self.acked)
        farther = acks.filter(pl.col("low").is_null() | (pl.col("top") > pl.col("low")))
        closed = closed_windows(together).filter(pl.col("row") >= first).collect()
        repeated = segments.filter("repeated").select(*WAY, "row")
        letters = pl.concat([
            counted("W", closed.lazy(), self.windows),
            counted("T", repeated.lazy(), self.ways.select(*WAY, times=pl.col("repeated").cast(pl.Int64))),
        ])  # fmt: skip
        return _Known(
            _kept(together),
            _added(self.totals, table.group_by("connection").agg(*totals()), ["connection"]),
            ways,
            stretches,
            last_acknowledged(acks, self.acked),
            still_telling(pl.concat([self.acks, early.take(farther, ways)]), stretches, ways),
            _added(self.windows, closed.group_by(WAY).agg(times=pl.len().cast(pl.Int64)), WAY),
            pl.concat([self.letters, letters.cast(_LETTERS).collect()]),
        )

    def summed(self) -> pl.DataFrame:
        """A row per connection; see :func:`~queries.flows.connections.summed`."""
        placed = with_gaps(self.stretches).join(self.ways.select(*WAY, "base", "repeated"), on=WAY)
        counts = placed.group_by(WAY).agg(
            (pl.col("end").max() - pl.col("place").min()).cast(pl.UInt64).alias("octets"),
            pl.col("gap").sum().cast(pl.UInt64).alias("missed"),
            pl.col("repeated").first(),
        )
        gaps = gap_rows(placed.select(*WAY, "row", "place", "gap", "base"), self.acks)
        letters = [of_flags(self.kept), self.letters.lazy(), counted("G", gaps.lazy())]
        history = histories(pl.concat([each.cast(_LETTERS) for each in letters]))
        together = begun(self.kept).join(self.totals, on="connection", maintain_order="left")
        return shown(with_octets(together, counts).join(history, on="connection", how="left"))


def _kept(packets: pl.DataFrame) -> pl.DataFrame:
    """Packets that stand for all: those that give letters, and the first ones of each kind."""
    letters = of_flags(packets).select("row").collect().to_series()
    flags = pl.col("tcp_flags")
    closes = [(flags & bit != 0) & ((flags & bit != 0).cum_sum().over(WAY) == 1) for bit in (FIN, RST)]
    return packets.filter(
        pl.col("row").is_in(letters.implode()) | telling(packets) | pl.any_horizontal(closes)
    )


def _added(known: pl.DataFrame, more: pl.DataFrame, by: Iterable[str]) -> pl.DataFrame:
    """Sums of both by some columns; flags hold where they do of either, and the later time counts."""
    merged = []
    for name, kind in known.schema.items():
        column = pl.col(name)
        if name not in by:
            is_flag = kind == pl.Boolean
            merged.append(column.any() if is_flag else column.max() if kind.is_temporal() else column.sum())
    return pl.concat([known, more.select(known.columns)]).group_by(by, maintain_order=True).agg(merged)


class Folding:
    """Sums packets of :func:`~queries.flows.packets.flow_columns` up, frame by frame, each after those before it.

    Connections are ``given`` away once others are between their endpoints, or all packets were taken.  Of what there
    is much nevertheless, about so many ``rows`` are in memory, others in files that begin with ``path``.
    """

    def __init__(self, path: str, rows: int, give: Callable[[pl.DataFrame], object]) -> None:
        self._early = EarlyAcks(path, rows)
        self._give = give
        self._known: _Known | None = None
        self._ends: pl.DataFrame | None = None
        self._begun = 0
        self._rows = 0

    def take(self, packets: pl.DataFrame) -> None:
        """Sum up the next packets, in the order of the whole, at least one."""
        table = self._with_direction(self._with_connection(packets))
        known = self._known or _Known.nothing(table)
        known = known.with_more(table, self._rows, self._early)
        self._rows += len(table)
        assert self._ends is not None
        going_on = self._ends["connection"]
        if known.totals["connection"].is_in(going_on.implode()).all():
            self._known = known
        else:
            self._give(known.of(going_on, others=True).summed())
            self._known = known.of(going_on)

    def finish(self) -> None:
        """Give away all that is left, once all packets were taken, of which there was one."""
        assert self._known is not None
        self._give(self._known.summed())

    def _with_connection(self, packets: pl.DataFrame) -> pl.DataFrame:
        """Packets by the numbers of their connections, and their own."""
        ordered, starts = by_ends(packets)
        pairs = ordered.select(KEY).filter(starts)
        if self._ends is None:
            nothing = [pl.lit(None, pl.Int64).alias(name) for name in ("connection", *_INITIAL)]
            self._ends = pairs.clear().with_columns(nothing)
        known = pairs.join(self._ends, on=KEY, how="left", maintain_order="left")
        initial: list[Initial] = [list(each) for each in known.select(_INITIAL).iter_rows()]
        is_new = starts.copy()
        is_new[starts] = known["connection"].is_null().to_numpy()
        is_new[renewals(ordered, starts, initial)] = True
        begins = np.flatnonzero(starts | is_new)
        number = self._begun + np.cumsum(is_new) - 1
        number[starts & ~is_new] = known["connection"].to_numpy()[~is_new[starts]]
        self._begun += int(is_new.sum())
        connection = np.repeat(number[begins], np.diff(np.append(begins, len(ordered))))
        self._go_on(pairs, connection, starts, initial)
        return ordered.with_columns(
            pl.Series("connection", connection), row=pl.int_range(pl.len()) + self._rows
        )

    def _go_on(
        self,
        pairs: pl.DataFrame,
        connection: NDArray[np.int64],
        starts: NDArray[np.bool_],
        initial: list[Initial],
    ) -> None:
        """Note which connections go on between endpoints, and their initial sequence numbers."""
        assert self._ends is not None
        last = np.append(np.flatnonzero(starts)[1:], len(starts)) - 1
        numbers = pl.DataFrame(initial, schema=dict.fromkeys(_INITIAL, pl.Int64()), orient="row")
        now = pairs.with_columns(pl.Series("connection", connection[last]), *numbers)
        self._ends = pl.concat([self._ends.join(now, on=KEY, how="anti"), now])

    def _with_direction(self, packets: pl.DataFrame) -> pl.DataFrame:
        """Packets with whether they are from their connection's originator."""
        table = packets.with_columns(orig_back=first_back().over("connection"))
        if self._known is not None:
            of_kept = self._known.kept.group_by("connection").agg(pl.col("orig_back").first().alias("known"))
            found = table.join(of_kept, on="connection", how="left", maintain_order="left")
            table = found.with_columns(orig_back=pl.coalesce("known", "orig_back")).drop("known")
        return table.with_columns(orig=pl.col("back") == pl.col("orig_back"))
