"""Records of a window to rows of the packet table."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow import schema
from pcap2arrow.arrays import Bitmaps, numbers, slices
from pcap2arrow.conversion.placed import Placed, record_extra
from pcap2arrow.layers import decode
from pcap2arrow.layers.chunk import Chunk, Decoded, Values
from pcap2arrow.numbers import IPProtocol
from pcap2arrow.savefile.batch import Records

_OF_IRREGULAR = {"irregular", "irregular_head"}

_NULLS = 1 << 16


def packet_rows(
    placed: Placed,
    *,
    capture_id: int,
    bytes_stored: bool = True,
    views: bool = False,
    only: Collection[str] | None = None,
) -> pa.RecordBatch:
    """The packet table's rows for those records, of schema :func:`schema.arrow_schema` with the same options.

    With ``views`` no frame is copied: their octets are those of the records' window, and count as long as it does.
    Of the schema's columns ``only`` some may be asked for; others are not worked out.
    """
    records = placed.records
    wanted = schema.arrow_schema(bytes_stored=bytes_stored, views=views)
    if only is not None:
        wanted = pa.schema([field for field in wanted if field.name in only], wanted.metadata)
        only = {*only, "irregular", "ip_proto"} if _OF_IRREGULAR.intersection(only) else only
    decoded = decode(
        Chunk(
            data=records.data,
            start=records.packet,
            caplen=records.caplen,
            frame_len=records.frame_len,
            link_type=records.link_type,
            fcs_len=records.fcs_len,
        ),
        only,
    )
    irregular = _irregular(decoded, records)
    columns = decoded.columns | _record_columns(placed, capture_id)
    columns["irregular"] = Values(irregular, None)
    octets = _octets(records, decoded.header_len.astype(np.int64), irregular, wanted.names)
    bitmaps = Bitmaps()
    arrays = []
    for field in wanted:
        if field.name in octets:
            array = octets[field.name]
            arrays.append(array if array.type == field.type else array.cast(field.type))
        elif field.name in columns:
            column = columns[field.name]
            arrays.append(numbers(column.values, column.valid, field.type, bitmaps))
        else:
            arrays.append(_nulls(field.type, -(-len(placed) // _NULLS) * _NULLS)[: len(placed)])
    return pa.RecordBatch.from_arrays(arrays, schema=wanted)


@cache
def _nulls(kind: pa.DataType, rows: int) -> pa.Array:
    """An array of nulls, the same one for all columns that are null throughout."""
    return pa.nulls(rows, kind)


def _record_columns(placed: Placed, capture_id: int) -> dict[str, Values]:
    """Columns that the record gives, not its packet."""
    records = placed.records
    same = records.time_valid & (records.time == placed.order)
    columns = {
        "capture_id": Values(np.full(len(records), capture_id, dtype=np.uint64), None),
        "frame_number": Values(placed.frame_number, None),
        "link_type": Values(records.link_type, None),
        "time": Values(records.time, records.time_valid),
        "order_time": Values(placed.order, placed.order_valid & ~same),
        "caplen": Values(records.caplen, None),
        "filter_len": Values(records.filter_len, None),
        "frame_len": Values(records.frame_len, None),
        "record_offset": Values(placed.offset, None),
        "time_raw": Values(records.time_raw, records.time_raw_needed),
    }
    if records.interface is not None:
        columns["interface_id"] = Values(records.interface, None)
    return columns


def _octets(
    records: Records, header_len: NDArray[np.int64], irregular: NDArray[np.bool_], names: Collection[str]
) -> dict[str, pa.Array]:
    """Those of the columns of octets that are named."""
    packet, caplen = records.packet, records.caplen.astype(np.int64)
    found = {}
    if "header" in names:
        found["header"] = slices(records.data, packet, header_len)
    if "rest" in names:
        found["rest"] = slices(records.data, packet + header_len, caplen - header_len)
    if "irregular_head" in names:
        head = np.minimum(records.filter_len, schema.IRREGULAR_HEAD).astype(np.int64)
        found["irregular_head"] = slices(records.data, packet, np.where(irregular, head, 0), irregular)
    if "record_extra" in names:
        found["record_extra"] = record_extra(records)
    return found


def _irregular(decoded: Decoded, records: Records) -> NDArray[np.bool_]:
    """Frames whose columns may differ from what libpcap reads: also where it sees less, and IPv6 fragments.

    It looks for the protocol of these in the fragment header, which has no column.
    """
    irregular: NDArray[np.bool_] = decoded.columns["irregular"].values | (
        decoded.header_len > records.filter_len
    )
    version, protocol = decoded.columns.get("ip_version"), decoded.columns.get("ip_proto")
    if version is not None and protocol is not None:
        irregular |= (version.values == 6) & (protocol.values == IPProtocol.FRAGMENT.value)
    return irregular
