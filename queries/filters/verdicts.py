"""Which packets of a table filters select: by columns where they tell, by octets where they don't."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import polars as pl

from pcap2arrow.errors import FilterError, UsageError
from queries.filters.compiled import HOST_ORDER_LINK_TYPES, Filter, LinkFilter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OCTET_COLUMNS = ("header", "rest", "filter_len", "frame_len")
"""Columns that octets are loaded from."""

_IRREGULAR = "irregular"


class Packets(Protocol):
    """Packets of one link type, whose columns are read when they are asked for."""

    def values(self, columns: Sequence[str]) -> pl.DataFrame:
        """Those columns of all packets."""

    def some(self, columns: Sequence[str], rows: pl.Series, where: pl.Expr | None) -> pl.DataFrame:
        """Those columns of the packets ``rows`` (ascending), which are also those for which ``where`` is true."""

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class TablePackets:
    """Packets in memory."""

    table: pl.DataFrame

    def values(self, columns: Sequence[str]) -> pl.DataFrame:
        """Those columns of all packets."""
        return self.table.select(columns)

    def some(self, columns: Sequence[str], rows: pl.Series, where: pl.Expr | None) -> pl.DataFrame:
        """Those columns of some packets.  Raises UsageError where the table has no octets."""
        missing = [column for column in columns if column not in self.table.columns]
        if missing:
            raise UsageError(
                f"the filter must look at octets, but the table has no {' and '.join(missing)}: "
                "convert with --frames stored"
            )
        return self.table.select(columns)[rows]

    def __len__(self) -> int:
        return len(self.table)


def verdicts(
    filters: Sequence[LinkFilter], packets: Packets, *, may_be_irregular: bool = True
) -> list[pl.Series]:
    """For every filter, which packets it selects (Boolean, no nulls); all packets are of the filters' link type.

    ``may_be_irregular`` is False where it is known that no packet is.
    """
    count = len(packets)
    answers = [_constant(each, count) for each in filters]
    by_columns = {n: f.columns for n, f in enumerate(filters) if answers[n] is None and f.columns is not None}
    if by_columns:
        names = sorted(set().union(*(plan.columns for plan in by_columns.values())))
        table = packets.values([*names, _IRREGULAR] if may_be_irregular else names)
        regular = table.select(plan.regular.alias(str(n)) for n, plan in by_columns.items())
        for n in by_columns:
            answers[n] = regular[str(n)]
        irregular = table[_IRREGULAR].arg_true() if may_be_irregular else pl.Series([], dtype=pl.UInt32)
        if len(irregular):
            careful = table[irregular].select(plan.irregular.alias(str(n)) for n, plan in by_columns.items())
            for n in by_columns:
                answers[n] = _scattered(answers[n], irregular, careful[str(n)])
    for n, each in enumerate(filters):
        answers[n] = _by_octets(each, answers[n], packets, may_be_irregular=may_be_irregular)
    return [answer for answer in answers if answer is not None]


def _constant(chosen: LinkFilter, count: int) -> pl.Series | None:
    """The verdicts of a filter that tests nothing."""
    if chosen.accepts_everything or chosen.accepts_nothing:
        return pl.repeat(chosen.accepts_everything, count, eager=True, dtype=pl.Boolean)
    return None


def _scattered(answers: pl.Series | None, rows: pl.Series, values: pl.Series) -> pl.Series:
    assert answers is not None
    return answers.clone().scatter(rows, values)


def _by_octets(
    chosen: LinkFilter, answers: pl.Series | None, packets: Packets, *, may_be_irregular: bool
) -> pl.Series:
    """The verdicts, those that are null (all, if there are none) found by the packets' octets."""
    if answers is not None and not answers.null_count():
        return answers
    if answers is None:
        rows, where = pl.int_range(len(packets), eager=True, dtype=pl.UInt32), None
    else:
        rows, where = answers.is_null().arg_true(), _unknown(chosen, may_be_irregular=may_be_irregular)
    found = pl.Series(_run(chosen, packets, rows, where), dtype=pl.Boolean)
    return found if answers is None else _scattered(answers, rows, found)


def _unknown(chosen: LinkFilter, *, may_be_irregular: bool) -> pl.Expr:
    assert chosen.columns is not None
    regular = chosen.columns.regular.is_null()
    if not may_be_irregular:
        return regular
    careful = pl.col(_IRREGULAR) & chosen.columns.irregular.is_null()
    return careful if chosen.columns.complete else careful | (~pl.col(_IRREGULAR) & regular)


def _run(chosen: LinkFilter, packets: Packets, rows: pl.Series, where: pl.Expr | None) -> NDArray[np.bool_]:
    from queries.filters.frames import Frames, Slices
    from queries.filters.machine import run

    table = packets.some(["header", "filter_len", "frame_len"], rows, where)

    def rest(again: NDArray[np.int64]) -> Slices:
        return Slices.of_polars(packets.some(["rest"], rows, where)["rest"][again])

    return run(
        chosen.plan, Frames.of_polars(table["header"], table["filter_len"], table["frame_len"], rest=rest)
    )


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
