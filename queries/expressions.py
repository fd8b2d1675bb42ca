"""``queries.pcap_filter``: filter expressions as expressions of Polars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from pcap2arrow import schema
from pcap2arrow.errors import FilterError
from queries.filters.columns import ETHERNET, ColumnPlan
from queries.filters.compiled import Filter, compile_filter
from queries.filters.verdicts import HEAD_COLUMNS, OCTET_COLUMNS, table_verdicts

if TYPE_CHECKING:
    from queries.filters.language.names import Names


def pcap_filter(
    expression: str,
    *,
    link_type: int | None = None,
    names: Names | None = None,
    netmask: int = 0,
    columns: Sequence[str] | None = None,
) -> pl.Expr:
    """An expression of pcap-filter(7) for ``filter`` on a packet table: true for the packets that libpcap selects.

    The verdicts are those of ``tcpdump -O -r``.  It reads the columns that the filter needs, among them the octets of
    frames, unless ``link_type`` says what all packets are of and columns tell everything there.  ``names`` are from
    :func:`queries.read_names`; ``netmask`` is what ``ip broadcast`` goes by; ``columns`` are those to read, if not all
    that may be needed are there.  Link type NULL is read as from little-endian captures.  Raises FilterError where the
    expression is wrong; where it is wrong for every link type that comes, when the query runs.

    >>> packets = pcap2arrow.scan("dataset")                                                      # doctest: +SKIP
    >>> packets.filter(queries.pcap_filter("tcp port 443", link_type=1)).select(pl.len()).collect()  # doctest: +SKIP
    """
    chosen = compile_filter(expression, names=names, netmask=netmask)
    if link_type is not None:
        chosen.for_link_type(link_type)
    wanted = columns if columns is not None else _columns(chosen, link_type)

    def verdicts(packets: pl.Series) -> pl.Series:
        return table_verdicts(chosen, packets.struct.unnest())

    return pl.struct(*wanted).map_batches(verdicts, return_dtype=pl.Boolean, is_elementwise=True)


def filter_columns(
    expression: str, *, link_type: int | None = None, names: Names | None = None, netmask: int = 0
) -> list[str]:
    """The columns of the packet table that :func:`pcap_filter` reads."""
    return _columns(compile_filter(expression, names=names, netmask=netmask), link_type)


def _plan(chosen: Filter) -> ColumnPlan | None:
    try:
        return chosen.for_link_type(ETHERNET).columns
    except FilterError:
        return None


def _columns(chosen: Filter, link_type: int | None) -> list[str]:
    needed = {"link_type", "irregular", *OCTET_COLUMNS}
    if link_type in (None, ETHERNET):
        plan = _plan(chosen)
        if plan is not None:
            needed |= plan.columns
            if plan.complete and link_type is not None:
                needed -= set(OCTET_COLUMNS) - set(HEAD_COLUMNS)
    return [column.name for column in schema.COLUMNS if column.name in needed]
