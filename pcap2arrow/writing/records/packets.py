"""Packets as an export takes them: from the packet table, or straight from a capture's records."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.arrays import gather, values
from pcap2arrow.savefile.blocks import PACKET_START, SIMPLE_PACKET
from pcap2arrow.writing.records.blocks import little_endian_options
from pcap2arrow.writing.records.pieces import Octets
from pcap2arrow.writing.records.selection import Chosen, Wanted

if TYPE_CHECKING:
    from pcap2arrow.conversion.placed import Placed

COLUMNS = [
    "frame_number", "interface_id", "time", "order_time", "caplen", "frame_len", "header", "rest", "record_extra",
]  # fmt: skip
"""Columns of a packet table that a capture is written from."""

BEFORE_ANY_TIME = np.iinfo(np.int64).min
_NANOS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Packets:
    """Packets as columns of one length.

    ``order`` is the greatest time so far in the capture (int64 nanoseconds, :data:`BEFORE_ANY_TIME` before the
    first); ``time`` is 0 where ``timed`` is False, and ``carried`` how many of its seconds the record of a pcap has
    written as sub-seconds; ``interface`` counts from 0 in the export; ``header`` and ``rest`` are the frame, of which
    ``caplen`` octets are written; ``options`` those of its pcapng block, little-endian, without an end mark of their
    own.  ``chosen`` says for which captures the packets are, one column each; without columns they are for all.
    """

    number: NDArray[np.int64]
    order: NDArray[np.int64]
    time: NDArray[np.int64]
    timed: NDArray[np.bool_]
    carried: NDArray[np.int64]
    interface: NDArray[np.int64]
    caplen: NDArray[np.int64]
    frame_len: NDArray[np.int64]
    header: Octets
    rest: Octets
    options: Octets
    chosen: Chosen

    def __len__(self) -> int:
        return len(self.order)

    @classmethod
    def _of(cls, columns: list[Any]) -> Packets:
        return cls(*columns)

    def _columns(self) -> list[Any]:
        return [getattr(self, field.name) for field in fields(self)]

    def take(self, rows: NDArray[Any] | slice) -> Packets:
        """Some of the packets."""
        return self._of([c.take(rows) if isinstance(c, Octets) else c[rows] for c in self._columns()])

    @classmethod
    def concat(cls, parts: list[Packets]) -> Packets:
        """The packets of all parts."""
        columns = zip(*(part._columns() for part in parts), strict=True)
        return cls._of([Octets.concat(c) if isinstance(c[0], Octets) else np.concatenate(c) for c in columns])


def needed_columns(wanted: Wanted, *, interfaces: int) -> list[str]:
    """Columns of a dataset's packets that an export reads; what others hold is known, or not asked for.

    ``interfaces`` is how many the capture has.
    """
    return [
        *("frame_number", "time", "order_time", "frame_len", "header", "rest"),
        *(["interface_id"] if interfaces > 1 or wanted.as_seen else []),
        *(["record_extra"] if wanted.is_pcapng else []),
        *(["filter_len", "time_raw"] if wanted.as_seen else []),
    ]


def for_all(rows: int) -> Chosen:
    """That many packets which are for every capture."""
    return np.empty((rows, 0), np.bool_)


def packets_of_table(table: pa.Table, numbers: NDArray[np.int64], chosen: Chosen, wanted: Wanted) -> Packets:
    """The rows of a packet table that are chosen; ``numbers`` maps interfaces to those of the export.

    The table has :data:`COLUMNS` or :func:`needed_columns`.
    """
    there = set(table.column_names)
    (time, timed), (order, ordered) = values(table["time"]), values(table["order_time"])
    header, rest = Octets.column(table["header"]), Octets.column(table["rest"])
    caplen = table["caplen"].to_numpy().astype(np.int64) if "caplen" in there else header.length + rest.length
    interface, is_pcapng = (
        values(table["interface_id"])
        if "interface_id" in there
        else (np.zeros(len(table), np.uint16), np.zeros(len(table), np.bool_))
    )
    carried = np.zeros(len(table), np.int64)
    if wanted.as_seen:
        raw, is_raw = values(table["time_raw"])
        carried = _carried(time, raw, is_raw & ~is_pcapng)  # a pcapng's are ticks
    whole = Packets(
        number=table["frame_number"].to_numpy().astype(np.int64),
        order=np.where(ordered, order, np.where(timed, time, BEFORE_ANY_TIME)),
        time=time,
        timed=timed,
        carried=carried,
        interface=numbers[interface],
        caplen=table["filter_len"].to_numpy().astype(np.int64) if wanted.as_seen else caplen,
        frame_len=table["frame_len"].to_numpy().astype(np.int64),
        header=header,
        rest=rest,
        options=_options(table["record_extra"], caplen) if wanted.is_pcapng else Octets.empty(len(table)),
        chosen=chosen,
    )
    rows = rows_of(chosen)
    return whole if rows is None else whole.take(rows)


def packets_of_records(placed: Placed, numbers: NDArray[np.int64], chosen: Chosen, wanted: Wanted) -> Packets:
    """The same of a window's records; octets are copied out of the window."""
    from pcap2arrow.conversion.placed import record_extra

    rows = rows_of(chosen)
    if rows is not None:
        placed, chosen = placed.rows(rows), chosen[rows]
    records = placed.records
    time = np.where(records.time_valid, records.time, 0)
    caplen = records.caplen.astype(np.int64)
    written = records.filter_len.astype(np.int64) if wanted.as_seen else caplen
    is_carried = records.time_raw_needed & (records.interface is None)
    interface = 0 if records.interface is None else records.interface
    return Packets(
        number=placed.frame_number.astype(np.int64),
        order=np.where(placed.order_valid, placed.order, BEFORE_ANY_TIME),
        time=time,
        timed=records.time_valid,
        carried=_carried(time, records.time_raw, is_carried)
        if wanted.as_seen
        else np.zeros(len(placed), np.int64),
        interface=np.broadcast_to(numbers[interface], len(placed)),
        caplen=written,
        frame_len=records.frame_len.astype(np.int64),
        header=Octets.column(gather([records.data], 0, records.packet, written)),
        rest=Octets.empty(len(placed)),
        options=_options(record_extra(records), caplen) if wanted.is_pcapng else Octets.empty(len(placed)),
        chosen=chosen,
    )


def rows_of(chosen: Chosen) -> NDArray[np.intp] | None:
    """The packets that are for any capture; None where all are."""
    if not chosen.shape[1]:
        return None
    wanted = chosen.any(axis=1)
    return None if wanted.all() else np.flatnonzero(wanted)


def _carried(
    time: NDArray[np.int64], raw: NDArray[np.uint64], is_raw: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Seconds of a pcap's time that its record has as sub-seconds; ``raw`` is seconds << 32 | sub-seconds."""
    return np.where(is_raw, time // _NANOS - (raw >> np.uint64(32)).astype(np.int64), 0)


def _options(extra: pa.ChunkedArray | pa.Array, caplen: NDArray[np.int64]) -> Octets:
    """Options of packet blocks; those of big-endian sections are turned, one by one: they are few."""
    octets = Octets.column(extra)
    if extra.null_count == len(extra):
        return octets
    rows = np.flatnonzero(octets.length)
    first, last = octets.octet(rows, 0), octets.octet(rows, 3)
    big = np.zeros(len(octets), np.bool_)
    big[rows] = first == 0
    kind = np.zeros(len(octets), np.int64)
    kind[rows] = np.where(first == 0, last, first)
    head = np.select([kind == number for number in PACKET_START], list(PACKET_START.values()), 0)
    skip = np.where(kind == SIMPLE_PACKET, octets.length, head + (-caplen % 4))
    result = octets.cut(skip, octets.length - skip - 4)
    turned = np.flatnonzero(big & (result.length > 0))
    if not len(turned):
        return result
    values = [little_endian_options(octets, ">") for octets in result.take(turned).to_bytes()]
    return result.replaced(turned, Octets.of(values))
