"""Which packets of a table filters select: by columns where they tell, by octets where they don't."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import polars as pl

from pcap2arrow.errors import FilterError, UsageError
from pcap2arrow.schema import IRREGULAR_HEAD
from pcap2arrow.turns import settle_polars
from queries.filters.columns import ColumnPlan
from queries.filters.compiled import HOST_ORDER_LINK_TYPES, Filter, LinkFilter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_IRREGULAR, _HEAD, _LENGTH = "irregular", "irregular_head", "frame_len"
_UNLIMITED = (1 << 32) - 1
_FEW = 1 << 15

HEAD_COLUMNS = (_HEAD, _LENGTH)
"""Columns that octets are loaded from where others tell everything of regular frames."""

OCTET_COLUMNS = ("header", "rest", "filter_len", *HEAD_COLUMNS)
"""Columns that octets are loaded from."""


class Packets(Protocol):
    """Packets of one link type, whose columns are read when they are asked for."""

    def values(self, expressions: Mapping[str, pl.Expr]) -> pl.DataFrame:
        """The values of expressions of columns for all packets, under their names.

        What they have in common is evaluated once.
        """

    def some(self, columns: Sequence[str], rows: pl.Series, where: pl.Expr | None) -> pl.DataFrame:
        """Those columns of the packets ``rows`` (ascending), which are also those for which ``where`` is true."""

    @property
    def has_heads(self) -> bool:
        """Whether the first octets of irregular packets are apart."""

    def __len__(self) -> int: ...


def no_octets() -> UsageError:
    """The error for a table without the columns that a filter needs."""
    return UsageError(
        "the filter must look at octets of frames, but they were not stored: convert with --frames stored"
    )


@dataclass(frozen=True, slots=True)
class TablePackets:
    """Packets in memory."""

    table: pl.DataFrame

    def values(self, expressions: Mapping[str, pl.Expr]) -> pl.DataFrame:
        """The values of expressions of columns for all packets, under their names."""
        return self.table.lazy().select(**expressions).collect()

    def some(self, columns: Sequence[str], rows: pl.Series, where: pl.Expr | None) -> pl.DataFrame:
        """Those columns of some packets.  Raises UsageError where the table has no octets."""
        if not set(columns) <= set(self.table.columns):
            raise no_octets()
        return self.table.select(columns)[rows]

    @property
    def has_heads(self) -> bool:
        """Whether the first octets of irregular packets are apart."""
        return _HEAD in self.table.columns

    def __len__(self) -> int:
        return len(self.table)


def verdicts(
    filters: Sequence[LinkFilter], packets: Packets, *, may_be_irregular: bool = True
) -> list[pl.Series]:
    """For every filter, which packets it selects (Boolean, no nulls); all packets are of the filters' link type.

    ``may_be_irregular`` is False where it is known that no packet is.  Raises UsageError where octets are needed, and
    there are none.
    """
    plans = [None if _is_constant(each) else each.columns for each in filters]
    asked = {str(place): plan.expression for place, plan in enumerate(plans) if plan}
    names = set().union(*(plan.columns for plan in plans if plan))
    mark = _HEAD if packets.has_heads else _IRREGULAR
    has_heads = bool(names) and may_be_irregular
    if has_heads:
        asked |= {name: pl.col(name) for name in {mark} | ({_LENGTH} & names)}
    table = packets.values(asked) if asked else pl.DataFrame()
    told = {place: table[str(place)] for place, plan in enumerate(plans) if plan}
    if has_heads:
        heads = _Heads(packets, table, mark)
        for place, answer in heads.verdicts({place: filters[place] for place in told}).items():
            told[place] = _scattered(told[place], heads.rows, answer)
    answers = []
    for place, (each, plan) in enumerate(zip(filters, plans, strict=True)):
        if _is_constant(each):
            answers.append(pl.repeat(each.accepts_everything, len(packets), eager=True, dtype=pl.Boolean))
        elif plan is None:
            rows = pl.int_range(len(packets), eager=True, dtype=pl.UInt32)
            answers.append(_series(_run(each, packets, rows, None)))
        else:
            answers.append(told[place] if plan.complete else _by_octets(each, plan, told[place], packets))
    return answers


def _is_constant(chosen: LinkFilter) -> bool:
    """Whether there is nothing to look at."""
    return chosen.accepts_everything or chosen.accepts_nothing


def _scattered(answers: pl.Series, rows: pl.Series, values: pl.Series) -> pl.Series:
    return answers.clone().scatter(rows, values)


def _series(flags: NDArray[np.bool_]) -> pl.Series:
    """The flags as a series; of few without what Polars loads to take arrays of NumPy."""
    return pl.Series(flags.tolist() if len(flags) < _FEW else flags, dtype=pl.Boolean)


def _by_octets(chosen: LinkFilter, plan: ColumnPlan, answers: pl.Series, packets: Packets) -> pl.Series:
    """The verdicts, those that are null found by the packets' octets: they are of regular packets."""
    rows = answers.is_null().arg_true()
    if not len(rows):
        return answers
    where = ~pl.col(_IRREGULAR) & plan.expression.is_null()
    return _scattered(answers, rows, _series(_run(chosen, packets, rows, where)))


def _run(chosen: LinkFilter, packets: Packets, rows: pl.Series, where: pl.Expr | None) -> NDArray[np.bool_]:
    from queries.filters.machine.frames import Frames, Slices
    from queries.filters.machine.run import run

    table = packets.some(["header", "filter_len", _LENGTH], rows, where)

    def rest(again: NDArray[np.int64]) -> Slices:
        return Slices.of_polars(packets.some(["rest"], rows, where)["rest"][again])

    return run(chosen.plan, Frames.of_polars(table["header"], table["filter_len"], table[_LENGTH], rest=rest))


class _Heads:
    """The irregular packets, told by ``mark``: a column of their first octets, or one of Booleans."""

    def __init__(self, packets: Packets, table: pl.DataFrame, mark: str) -> None:
        self._packets = packets
        self._apart = mark == _HEAD
        is_irregular = table[mark].is_not_null() if self._apart else table[mark]
        self.rows = is_irregular.arg_true()
        self._where = pl.col(_HEAD).is_not_null() if self._apart else pl.col(_IRREGULAR)
        self._octets = table[mark].filter(is_irregular) if self._apart else None
        self._lengths = table[_LENGTH].filter(is_irregular) if _LENGTH in table.columns else None

    def verdicts(self, filters: Mapping[int, LinkFilter]) -> dict[int, pl.Series]:
        """The filters' verdicts on the irregular packets, under the numbers of the filters; none without packets."""
        if not len(self.rows):
            return {}
        if self._octets is None:
            self._octets = self._whole()
        if self._lengths is None and any(each.reads_length for each in filters.values()):
            self._lengths = self._read([_LENGTH])[_LENGTH]
        told = self._told(filters)
        rest = {number: each for number, each in filters.items() if number not in told}
        return told | (self._run(rest, self._octets) if rest else {})

    def _told(self, filters: Mapping[int, LinkFilter]) -> dict[int, pl.Series]:
        """Verdicts by expressions, which spare the import of NumPy; where that is there, the machine is faster."""
        if "numpy" in sys.modules:
            return {}
        assert self._octets is not None
        are_whole = not self._apart or self._octets.bin.size().max() < IRREGULAR_HEAD  # type: ignore[operator]
        plans = {number: each.heads for number, each in filters.items()}
        asked = {
            str(number): plan.expression
            for number, plan in plans.items()
            if plan and (are_whole or plan.tells_all)
        }
        columns = [self._octets.alias(_HEAD), *([] if self._lengths is None else [self._lengths])]
        table = TablePackets(pl.DataFrame(columns)).values(asked)
        return {number: table[str(number)] for number in filters if str(number) in asked}

    def _run(self, filters: Mapping[int, LinkFilter], head: pl.Series) -> dict[int, pl.Series]:
        import numpy as np

        from queries.filters.machine.frames import Frames, Slices
        from queries.filters.machine.run import run

        settle_polars()
        octets = Slices.of_polars(head)
        length = octets.ends - octets.starts
        limit = np.where(length < IRREGULAR_HEAD, length, _UNLIMITED) if self._apart else length
        wire_length = length if self._lengths is None else self._lengths.to_numpy()

        def rest(again: NDArray[np.int64]) -> Slices:
            return Slices.of_polars(self._whole()[again].bin.slice(IRREGULAR_HEAD))

        frames = Frames(octets, limit.astype(np.uint32), wire_length.astype(np.uint32), rest)
        return {number: _series(run(each.plan, frames)) for number, each in filters.items()}

    def _whole(self) -> pl.Series:
        """What libpcap sees of the packets."""
        frame = pl.col("header") + pl.col("rest")
        return (
            self._read(["header", "rest", "filter_len"])
            .select(frame.bin.slice(0, pl.col("filter_len")))
            .to_series()
        )

    def _read(self, columns: Sequence[str]) -> pl.DataFrame:
        return self._packets.some(columns, self.rows, self._where)


def table_verdicts(chosen: Filter, table: pl.DataFrame, *, big_endian: Collection[int] = ()) -> pl.Series:
    """Which rows of a packet table a filter selects (Boolean, no nulls), whatever link types they are of.

    ``big_endian`` are the ``capture_id`` of captures in that byte order, which matters for link type NULL.  Raises
    FilterError where the expression is wrong for every link type in the table; of others it selects nothing.
    """
    parts: list[tuple[pl.Expr, LinkFilter]] = []
    errors: list[FilterError] = []
    link_types = table["link_type"].unique().sort().to_list()
    for link_type in link_types:
        for scope, swapped in _scopes(link_type, big_endian):
            try:
                parts.append((scope, chosen.for_link_type(link_type, big_endian=swapped)))
            except FilterError as error:
                errors.append(error)
    if errors and not parts:
        raise errors[0]
    if len(link_types) == 1 and len(parts) == 1:
        return verdicts([parts[0][1]], TablePackets(table))[0]
    result = pl.repeat(False, len(table), eager=True, dtype=pl.Boolean)
    for scope, compiled in parts:
        rows = table.select(scope.arg_true()).to_series()
        if len(rows):
            result = _scattered(result, rows, verdicts([compiled], TablePackets(table[rows]))[0])
    return result


def _scopes(link_type: int, big_endian: Collection[int]) -> list[tuple[pl.Expr, bool]]:
    """Parts of a link type's packets that filters read in different ways: which, and whether big-endian."""
    of_type = pl.col("link_type") == link_type
    if not big_endian or link_type not in HOST_ORDER_LINK_TYPES:
        return [(of_type, False)]
    swapped = pl.col("capture_id").is_in(sorted(big_endian))
    return [(of_type & ~swapped, False), (of_type & swapped, True)]
