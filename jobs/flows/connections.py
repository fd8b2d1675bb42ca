"""Exporting whole connections."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from jobs.export import FilteredExport
from pcap2arrow.errors import UsageError
from pcap2arrow.savefile.source import STANDARD_INPUT
from pcap2arrow.schema import polars_schema

if TYPE_CHECKING:
    from queries.filters.compiled import Filter
    from queries.flows.selection import ConnectionSelection
    from queries.streams.reading import Reading


def export_connections(
    sources: Sequence[str],
    target: str,
    *,
    chosen: Filter | None = None,
    flows: Collection[str] = (),
    **settings: Any,
) -> FilteredExport:
    """Write every packet of each connection in which ``chosen`` selects one, or of those Community IDs.

    The sources are read twice: to find the connections, and to write their packets, as :func:`pcap2arrow.export` does
    with its settings.  In memory are connections, not packets.

    Raises FilterError where the filter means nothing on any packet, and UsageError where sources can't be read twice.
    """
    from jobs.count import filter_warnings
    from pcap2arrow.writing.api import export

    if STANDARD_INPUT in sources:
        raise UsageError("-: whole connections need sources that can be read twice")
    selection, reading = _selection(sources, chosen, flows)
    report = export(sources, target, selection=selection, **settings)
    tally = None if reading.selection is None else reading.selection.tally
    warnings = () if tally is None else tuple(filter_warnings([chosen], tally))  # type: ignore[list-item]
    return FilteredExport({0: report}, (*warnings, *reading.warnings), tuple(reading.errors))


def _selection(
    sources: Sequence[str], chosen: Filter | None, flows: Collection[str]
) -> tuple[ConnectionSelection, Reading]:
    import polars as pl

    from queries.flows.packets import COLUMNS, flow_columns, is_flow
    from queries.flows.selection import ConnectionSelection, chosen_connections, digest
    from queries.streams.packets import PLACE, TURN
    from queries.streams.reading import CHOSEN, OF_FRAGMENTS, Reading, parts

    reading = Reading(columns=COLUMNS, chosen=chosen, where=is_flow(), views=True, flagged=True)
    more = {CHOSEN: pl.lit(False), OF_FRAGMENTS: pl.lit(None, pl.UInt64)}
    order = {TURN: pl.lit(0, dtype=pl.Int64), PLACE: pl.lit(0, dtype=pl.UInt32)}
    empty = flow_columns(polars_schema().to_frame().with_columns(**more, **order), *more)
    digests, fragments = [empty], [empty]
    for part in parts(sources, reading):
        for frame in part():
            packets = flow_columns(frame, *more)
            digests.append(digest(packets))
            fragments.append(packets.filter(pl.col(OF_FRAGMENTS).is_not_null()))
    if reading.selection is not None and (refusal := reading.selection.tally.refusal(0)) is not None:
        raise refusal
    of_connections = chosen_connections(digests, flows)
    return ConnectionSelection(of_connections, pl.concat(fragments)), reading
