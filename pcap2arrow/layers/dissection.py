"""The state of decoding a chunk: how far each packet is decoded, and the columns found so far.

A layer is a plain function ``layer(dissection, rows)``: it reads the headers that start where decoding
stands in the packets ``rows``, puts their fields into columns and steps over them, which says what comes
next in each packet.

Three habits keep the layers short.  A header is gathered in one piece for all packets that have it, cut or
not (:data:`~pcap2arrow.layers.chunk.PAD` makes that safe).  :attr:`Headers.room` says how many of its
octets are really there, and a field counts only if its last octet is among them.  A malformed header is
treated as one that is cut after the faulty field, so that nothing behind a fault is believed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcap2arrow import schema
from pcap2arrow.layers.chunk import Chunk, Decoded, Values

Rows = NDArray[np.intp]
"""Packets of a chunk, as ascending indices."""

Mask = NDArray[np.bool_]

MAX_DEPTH = 16
"""Longest chain of headers between link and network header, and of IPv6 extension headers, that is
followed."""

UNBOUNDED = np.int64(1 << 32)
"""Length for a header that gives none: what is captured bounds what follows."""

COLUMN_TYPES = {c.name: np.dtype(c.kind) for c in schema.COLUMNS if c.kind not in ("binary", "time")}


READ_AGAIN = frozenset({
    "ip_version", "ip_src", "ip_dst", "ipv6_src_hi", "ipv6_src_lo", "ipv6_dst_hi", "ipv6_dst_lo", "ip_len", "src_port",
    "dst_port",
})  # fmt: skip
"""Columns that layers below the one that finds them need."""


class Next:
    """What stands where decoding of a packet has come to; in the order in which a packet's headers come.

    Plain numbers, because NumPy widens arrays of small numbers that meet a member of an enumeration.
    """

    NOTHING = 0  # that is decoded, or that can be trusted

    LLC = 1
    VLAN = 2
    MPLS = 3
    PPPOE = 4
    PPP = 5

    ARP = 6
    IPV4 = 7
    IPV6 = 8
    IPV6_EXTENSION = 9

    PAYLOAD = 10  # of IP, with no header in front of it that is still to come
    OTHER_TRANSPORT = 11  # a header that is not decoded
    TCP = 12
    UDP = 13
    SCTP = 14
    ICMP = 15
    IGMP = 16


class Headers:
    """Headers of one kind: the packets that have one, and what is read of it.

    ``rows`` are the packets, ``at`` is where their headers start in the data, ``room`` how many octets from
    there on may be believed, ``fields`` the headers as a structured array.  Where ``room`` is short, what
    ``fields`` has beyond it is arbitrary.
    """

    __slots__ = ("_count", "_least_room", "_present", "at", "fields", "room", "rows")

    def __init__(
        self, rows: Rows, at: NDArray[np.int64], room: NDArray[np.int64], fields: NDArray[Any], count: int
    ) -> None:
        self.rows = rows
        self.at = at
        self.room = room
        self.fields = fields
        self._count = count
        self._present: dict[int, Mask] = {}
        self._least_room = int(room.min(initial=UNBOUNDED))

    def __getitem__(self, field: str) -> NDArray[Any]:
        """Values of a field, in native byte order and contiguous."""
        column: NDArray[Any] = self.fields[field]
        return column.astype(column.dtype.newbyteorder("="))

    def where(self, chosen: Mask) -> Headers:
        """The headers for which ``chosen`` is true."""
        if chosen.all():
            return self
        keep = np.flatnonzero(chosen)
        fields = opaque(self.fields).take(keep).view(self.fields.dtype)
        return Headers(self.rows.take(keep), self.at.take(keep), self.room.take(keep), fields, self._count)

    def fault(self, found: Mask, octets: int) -> None:
        """Believe only the first ``octets`` octets of the headers for which ``found`` is true.

        ``found`` must follow from the first ``octets + 1`` octets, so that a header cut there says no more.
        """
        if found.any():
            self.room = np.where(found, np.minimum(self.room, octets), self.room)
            self._least_room = min(self._least_room, octets)
            self._present.clear()

    def has(self, octets: int) -> Mask | None:
        """For each header: are its first ``octets`` octets there?  None: in all of them."""
        return None if octets <= self._least_room else self.room >= octets

    def present(self, octets: int) -> Mask:
        """For each packet of the chunk: are the first ``octets`` octets of such a header there?"""
        enough = self.has(octets)
        key = 0 if enough is None else octets
        mask = self._present.get(key)
        if mask is None:
            mask = np.zeros(self._count, np.bool_)
            mask[self.rows] = True if enough is None else enough
            self._present[key] = mask
        return mask


def opaque(fields: NDArray[Any]) -> NDArray[Any]:
    """The same items without fields: NumPy copies each of them in one move, but a structured one by field."""
    return fields.view(f"V{fields.dtype.itemsize}")


class Dissection:
    """A chunk of packets on its way through the layers.

    ``at`` is where the next header of each packet starts in ``data``, ``limit`` the first octet behind what
    it may use (the end of what is captured without the FCS, or of what IP's length covers), ``next`` what
    it is (a :class:`Next`).  ``network_type`` is 0 where no EtherType of the network layer is known.
    ``protocol`` is the protocol of the transport header; ``endpoints_known`` is true where addresses,
    protocol and ports are known.  Only ``columns`` are found, and :data:`READ_AGAIN` (None: all that there are).
    """

    def __init__(self, chunk: Chunk, columns: Collection[str] | None = None) -> None:
        self._columns = None if columns is None else READ_AGAIN.union(columns)
        self.count = chunk.start.size
        self.data = np.ascontiguousarray(chunk.data)
        self.start = chunk.start
        self.frame_len = np.maximum(chunk.frame_len, chunk.caplen).astype(np.int64)
        self.at = self.start.copy()
        self.limit = self.start + chunk.caplen
        if chunk.fcs_len.any():
            self.limit = np.minimum(self.limit, self.start + np.maximum(self.frame_len - chunk.fcs_len, 0))
        self.next = np.zeros(self.count, np.uint8)
        self.irregular = np.zeros(self.count, np.bool_)
        self.network_type = np.zeros(self.count, np.uint16)
        self.vlan_depth = np.zeros(self.count, np.uint8)
        self.mpls_depth = np.zeros(self.count, np.uint8)
        self.protocol = np.zeros(self.count, np.uint8)
        self.endpoints_known = np.zeros(self.count, np.bool_)
        self._values: dict[str, NDArray[Any]] = {}
        self._masks: dict[str, tuple[Mask, ...]] = {}

    def wants(self, *columns: str) -> bool:
        """Whether any of these columns is to be found."""
        return self._columns is None or not self._columns.isdisjoint(columns)

    def rows(self, what: int) -> Rows:
        """Packets where ``what`` comes next."""
        return np.flatnonzero(self.next == what)

    def read(self, rows: Rows, layout: np.dtype[Any]) -> Headers:
        """The headers that come next in the packets ``rows``."""
        at = self.at.take(rows)
        return Headers(rows, at, self.limit.take(rows) - at, self.gather(at, layout), self.count)

    def gather(self, at: NDArray[np.int64], layout: np.dtype[Any]) -> NDArray[Any]:
        """What stands at each place ``at`` of the data, as ``layout``."""
        size = layout.itemsize
        places = max(self.data.size - size + 1, 0)
        # Overlapping windows, which have no fields for the reason given at `opaque`.
        windows: NDArray[Any] = np.ndarray((places,), dtype=f"V{size}", buffer=self.data, strides=(1,))
        return windows[at].view(layout)

    def step(self, headers: Headers, size: int | NDArray[Any], following: int | NDArray[Any]) -> None:
        """Step over headers of ``size`` octets; ``following`` comes next.  A cut one ends the decoding."""
        whole = headers.room >= size
        if whole.all():
            self.at[headers.rows] = headers.at + size
            self.next[headers.rows] = following
        else:
            self.at[headers.rows] = headers.at + np.minimum(headers.room, size)
            self.next[headers.rows] = np.where(whole, following, Next.NOTHING)
            self.irregular[headers.rows[~whole]] = True

    def stop(self, rows: Rows) -> None:
        """End decoding of malformed packets before what comes next in them."""
        self.next[rows] = Next.NOTHING
        self.irregular[rows] = True

    def bound(self, headers: Headers, size: NDArray[Any]) -> None:
        """What follows in these packets ends at most ``size`` octets behind the start of their headers."""
        self.limit[headers.rows] = np.minimum(self.limit.take(headers.rows), headers.at + size)

    def put(self, headers: Headers, **fields: str) -> None:
        """Columns from fields of headers: ``put(headers, ip_ttl="ttl")``."""
        places = headers.fields.dtype.fields
        assert places is not None
        for column, field in fields.items():
            if not self.wants(column):
                continue
            kind, offset = places[field][:2]
            self.put_values(headers, offset + kind.itemsize, **{column: headers.fields[field]})

    def put_values(self, headers: Headers, octets: int, **columns: NDArray[Any]) -> None:
        """Columns from values, one per header, that follow from the first ``octets`` octets of each."""
        if not self.wants(*columns):
            return
        enough, mask = headers.has(octets), headers.present(octets)
        for column, values in columns.items():
            if not self.wants(column):
                continue
            if enough is not None:
                values = np.where(enough, values, 0)
            if headers.rows.size == self.count and column not in self._values:
                self._values[column] = values.astype(COLUMN_TYPES[column])
                self._masks[column] = (mask,)
            else:
                self._scatter(column, headers.rows, values, mask)

    def put_rows(self, rows: Rows, **columns: NDArray[Any]) -> None:
        """Columns from values, one for each of ``rows``; where a packet occurs twice, the last one counts."""
        if rows.size and self.wants(*columns):
            mask = np.zeros(self.count, np.bool_)
            mask[rows] = True
            for column, values in columns.items():
                self._scatter(column, rows, values, mask)

    def put_chunk(self, mask: Mask, **columns: NDArray[Any]) -> None:
        """Columns from values for every packet of the chunk; null where ``mask`` is false."""
        for column, values in columns.items():
            if not self.wants(column):
                continue
            self._values[column] = (values * mask).astype(COLUMN_TYPES[column])
            self._masks[column] = (mask,)

    def _scatter(self, column: str, rows: Rows, values: NDArray[Any], mask: Mask) -> None:
        if column not in self._values:
            self._values[column] = np.zeros(self.count, COLUMN_TYPES[column])
        self._values[column][rows] = values.astype(COLUMN_TYPES[column])
        self._masks[column] = (*self._masks.get(column, ()), mask)

    def found(self, column: str) -> NDArray[Any] | None:
        """Values of a column so far, 0 where it is null; None where it is null everywhere."""
        return self._values.get(column)

    def values(self, column: str, rows: Rows) -> NDArray[Any]:
        """Values of a column so far in the packets ``rows``, 0 where it is null."""
        values = self._values.get(column)
        return np.zeros(rows.size, COLUMN_TYPES[column]) if values is None else values.take(rows)

    def decoded(self, payload_len: NDArray[np.int64]) -> Decoded:
        """All columns, and the length of the headers."""
        validity = _Validity()
        columns = {}
        for name, values in self._values.items():
            valid = validity.of(self._masks[name])
            if valid is None or valid.any():
                columns[name] = Values(values, valid)
        columns["irregular"] = Values(self.irregular, None)
        columns["payload_len"] = Values(payload_len.astype(np.uint32), None)
        return Decoded(columns, (self.at - self.start).astype(np.uint32))


class _Validity:
    """Makes one mask of those of a column's parts, and one object of equal masks."""

    def __init__(self) -> None:
        self._by_parts: dict[tuple[int, ...], Mask | None] = {}
        self._by_count: dict[int, list[Mask]] = {}

    def of(self, parts: tuple[Mask, ...]) -> Mask | None:
        """Where any of ``parts`` is true; None if everywhere."""
        key = tuple(map(id, parts))
        if key not in self._by_parts:
            mask = parts[0] if len(parts) == 1 else np.logical_or.reduce(parts)
            self._by_parts[key] = self._shared(mask)
        return self._by_parts[key]

    def _shared(self, mask: Mask) -> Mask | None:
        count = int(np.count_nonzero(mask))
        if count == mask.size:
            return None
        known = self._by_count.setdefault(count, [])
        for other in known:
            if np.array_equal(mask, other):
                return other
        known.append(mask)
        return mask


def table(size: int, entries: Iterable[tuple[int, int]], default: int = 0) -> NDArray[np.uint8]:
    """Lookup table of ``size`` numbers below 256: ``entries`` are pairs (index, number)."""
    found = np.full(size, default, np.uint8)
    for index, number in entries:
        found[index] = number
    return found
