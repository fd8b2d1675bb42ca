"""IEEE 802.11 frames, with or without a radiotap header (www.radiotap.org) before them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.layers.dissection import MAX_DEPTH, Dissection, Headers, Mask, Next, Rows, table

RADIOTAP = np.dtype([("version", "u1"), ("pad", "u1"), ("length", "<u2"), ("present", "<u4")])
PRESENT = np.dtype([("present", "<u4")])
OCTET = np.dtype([("octet", "u1")])
MAC = np.dtype(
    {
        "names": ["control", "flags", "address_1", "address_2"],
        "formats": ["u1", "u1", ">u8", ">u8"],  # an address is the upper 48 bits of its word
        "offsets": [0, 1, 4, 10],
        "itemsize": 18,
    }
)
SNAP = np.dtype([("llc_organisation", ">u8")])

HAS_TSFT, HAS_FLAGS, HAS_MORE = 1, 2, 1 << 31
"""Bits of a radiotap ``present`` word."""

FCS_AT_END, PADDED = 0x10, 0x20
"""Bits of radiotap's flags: the frame ends in its FCS; the MAC header is padded to a multiple of four
octets."""

FCS_LEN = 4

MANAGEMENT, CONTROL, DATA = 0, 1, 2
FROM_DS, TO_AND_FROM_DS, PROTECTED, ORDER = 0x02, 0x03, 0x40, 0x80
"""Bits of the second octet of the frame control field."""

NO_BODY, QOS = 4, 8
"""Bits of the subtype of data frames."""

QOS_CONTROL = np.dtype([("first", "u1"), ("second", "u1")])

AGGREGATED, WITH_MESH_CONTROL = 0x80, 0x01
"""Bits of the first octet of QoS control (the body is an A-MSDU) and of its second one."""

MESH_CONTROL, EXTENDED = 6, 0x03
"""Octets of mesh control without further addresses; how many of these there are, in its first octet: 0 to 2."""

ETHERNET_IN_SNAP = 0xAAAA03000000
"""LLC of SNAP and organisation 0: an EtherType follows (RFC 1042)."""

CONTROL_WITH_TRANSMITTER = table(16, [(subtype, 1) for subtype in (2, 4, 5, 8, 9, 10, 11, 14, 15)])
"""Subtypes of control frames with a second address (IEEE 802.11-2020, 9.3.1); CTS, Ack and others have
one."""


def radiotap(d: Dissection, rows: Rows) -> None:
    """Radiotap headers, then 802.11 frames."""
    headers = d.read(rows, RADIOTAP)
    length = headers["length"].astype(np.int64)
    headers.fault(headers["version"] != 0, 0)
    headers.fault(length < RADIOTAP.itemsize, 4)
    flags = _radiotap_flags(d, headers, length)
    end = d.frame_len.take(rows) - np.where(flags & FCS_AT_END != 0, FCS_LEN, 0)
    d.bound(headers, np.maximum(end, length))
    d.step(headers, np.maximum(length, RADIOTAP.itemsize), Next.NOTHING)
    whole = headers.room >= length
    mac(d, rows[whole], padded=(flags & PADDED != 0)[whole])


def _radiotap_flags(d: Dissection, headers: Headers, length: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The flags field of each radiotap header, 0 where there is none."""
    first = headers["present"]
    words, more = np.ones(first.size, np.int64), first & HAS_MORE != 0
    for _ in range(MAX_DEPTH):
        if not more.any():
            break
        words += more
        more &= d.gather(headers.at + 4 * words, PRESENT)["present"] & HAS_MORE != 0
    place = 4 + 4 * words
    # Fields are aligned to their size, from the header's start on; TSFT, the one before the flags, has 8
    # octets.
    place = np.where(first & HAS_TSFT != 0, (place + 7) // 8 * 8 + 8, place)
    found = (first & HAS_FLAGS != 0) & ~more & (place < np.minimum(length, headers.room))
    return np.where(found, d.gather(headers.at + place, OCTET)["octet"], 0)


def mac(d: Dissection, rows: Rows, *, padded: Mask | None = None) -> None:
    """802.11 MAC headers (IEEE 802.11-2020, 9.2 and 9.3); LLC follows in data frames.

    It does not in those without a body, encrypted ones and A-MSDUs; mesh control (9.2.4.8.3) stands before it in
    those of a mesh.  ``padded`` says of which frames the header is padded to a multiple of four octets.
    """
    headers = d.read(rows, MAC)
    control, flags = headers["control"], headers["flags"]
    kind, subtype = control >> 2 & 3, control >> 4
    headers.fault(control & 3 != 0, 0)  # a protocol version that is none
    headers.fault(kind > DATA, 2)
    with_transmitter = (kind != CONTROL) | (CONTROL_WITH_TRANSMITTER.take(subtype) != 0)
    senders = headers.where(with_transmitter)
    d.put_values(headers, 1, wlan_fc_type_subtype=kind << 4 | subtype)
    d.put(headers, wlan_flags="flags")
    d.put_values(headers, 10, wlan_ra=headers["address_1"] >> 16)
    d.put_values(senders, 16, wlan_ta=senders["address_2"] >> 16)

    is_data = kind == DATA
    four_addresses = is_data & (flags & TO_AND_FROM_DS == TO_AND_FROM_DS)
    qos = is_data & (subtype & QOS != 0)
    ht_control = (qos | (kind == MANAGEMENT)) & (flags & ORDER != 0)
    qos_at = 24 + 6 * four_addresses
    size = qos_at + 2 * qos + 4 * ht_control
    size = np.where(kind == CONTROL, np.where(with_transmitter, 16, 10), size)
    if padded is not None:
        size = np.where(padded, (size + 3) // 4 * 4, size)
    qos_control = d.gather(headers.at + qos_at, QOS_CONTROL)
    aggregated = qos & (qos_control["first"] & AGGREGATED != 0)
    with_llc = is_data & (subtype & NO_BODY == 0) & (flags & PROTECTED == 0) & ~aggregated
    in_mesh = with_llc & qos & (flags & FROM_DS != 0) & (qos_control["second"] & WITH_MESH_CONTROL != 0)
    mesh_control = _mesh_control(d, headers.at + size, in_mesh & (headers.room > size))
    size += mesh_control
    d.step(headers, size, np.where(with_llc, np.uint8(Next.LLC), np.uint8(Next.NOTHING)))
    as_expected = ~four_addresses & ~ht_control & (mesh_control == 0)
    expected = with_llc & as_expected & (True if padded is None else ~padded)
    _mark_unexpected(d, headers.where(is_data), size[is_data], expected[is_data])


def _mesh_control(d: Dissection, at: NDArray[np.int64], in_mesh: Mask) -> NDArray[np.int64]:
    """Octets of mesh control at each place, 0 where there is none: in other frames its bit is reserved."""
    length = np.zeros(at.size, np.int64)
    frames = np.flatnonzero(in_mesh)
    flags = d.gather(at[frames], OCTET)["octet"]
    length[frames] = np.where(flags < EXTENDED, MESH_CONTROL + 6 * flags.astype(np.int64), 0)
    return length


def _mark_unexpected(d: Dissection, headers: Headers, size: NDArray[np.int64], expected: Mask) -> None:
    """Mark data frames as irregular in which libpcap reads an EtherType that is none, or elsewhere.

    libpcap knows neither a fourth address nor HT or mesh control, and rounds another length for padding.  It takes
    the body of every data frame for LLC and SNAP, and of these it looks at the type alone.
    """
    body = headers.room - size
    start = d.gather(headers.at + np.minimum(size, headers.room), SNAP)["llc_organisation"]
    expected = expected & (start >> 16 == ETHERNET_IN_SNAP) & (body >= SNAP.itemsize)
    d.irregular[headers.rows[~expected & (body > 0)]] = True
