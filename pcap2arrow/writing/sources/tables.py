"""Tables of packets that a program made, as an export takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from pcap2arrow import schema
from pcap2arrow.errors import ExportError
from pcap2arrow.savefile.blocks import Interface
from pcap2arrow.writing.records.packets import COLUMNS, Packets, for_all, packets_of_table
from pcap2arrow.writing.records.selection import Wanted
from pcap2arrow.writing.records.traits import Traits

_NEEDED = ("time", "caplen", "frame_len", "link_type", "header", "rest")


def split_by_link_type(table: pa.Table) -> tuple[Callable[[Any], Packets], Traits]:
    """The packets of a table, given the numbers of interfaces, and their traits: one interface per link type."""
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        raise ExportError(f"the table has no column {', '.join(missing)}: a capture can't be written from it")
    link_types, interface = np.unique(table["link_type"].to_numpy(), return_inverse=True)
    columns = {name: table[name] for name in table.column_names if name in COLUMNS}
    columns["interface_id"] = pa.chunked_array([pa.array(interface.astype(np.uint16))])
    columns.setdefault(
        "frame_number", pa.chunked_array([pa.array(np.arange(1, len(table) + 1, dtype=np.uint64))])
    )
    for name in COLUMNS:
        kind = schema.arrow_type(schema.by_name()[name].kind)
        columns[name] = (
            columns[name].cast(kind) if name in columns else pa.chunked_array([pa.nulls(len(table), kind)])
        )
    whole = pa.table({name: columns[name] for name in COLUMNS})
    time = whole["time"].drop_null().cast(pa.int64()).to_numpy()
    caplen = whole["caplen"].to_numpy()
    traits = Traits(
        interfaces=tuple(Interface(0, int(link_type), 0) for link_type in link_types),
        used=frozenset(range(len(link_types))),
        blocks=(),
        fcs_present=False,
        max_caplen=int(caplen.max(initial=0)),
        least=int(time.min()) if len(time) else None,
        greatest=int(time.max()) if len(time) else None,
        finer=bool((time % 1000).any()),
    )
    return lambda numbers: packets_of_table(whole, numbers, for_all(len(whole)), Wanted()), traits
