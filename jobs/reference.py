"""The reference of the packet table, from its definition."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from pcap2arrow.schema import COLUMNS, VERSION


def column_records() -> list[dict[str, Any]]:
    """Columns as dicts: ``name``, ``type``, ``nullable``, ``group``, ``unit``, ``wireshark``, ``doc``."""
    return [
        {
            "name": column.name,
            "type": column.kind,
            "nullable": column.nullable,
            "group": column.group,
            "unit": column.unit or None,
            "wireshark": column.wireshark.split(),
            "doc": column.doc,
        }
        for column in COLUMNS
    ]


def reference_lines() -> Iterator[str]:
    """The columns by group: name, type, unit, meaning, and the Wireshark fields with the same value."""
    wide = max(len(column.name) for column in COLUMNS)
    yield f"Packet table, version {VERSION}: one row per packet; null where a header is absent or cut."
    yield "time is timestamp[ns, UTC], binary is large_binary; Wireshark's name for a column is in brackets."
    for group, columns in groupby(COLUMNS, key=lambda column: column.group):
        yield f"\n{group}"
        for column in columns:
            fields = f" [{column.wireshark}]" if column.wireshark else ""
            yield f"  {column.name:{wide}}  {column.kind:6}  {column.unit:6}  {column.doc}{fields}"
