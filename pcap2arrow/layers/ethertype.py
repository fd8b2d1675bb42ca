"""Headers that end in an EtherType, and those that one leads to before the network header.

VLAN tags (IEEE 802.1Q, QinQ), LLC and SNAP (IEEE 802.2), PPPoE (RFC 2516), PPP (RFC 1661) and MPLS (RFC
3032) may follow each other; :func:`walk` follows them until a network header or something unknown comes
next.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.layers.dissection import MAX_DEPTH, Dissection, Headers, Next, Rows, table
from pcap2arrow.numbers import LARGEST_802_3_LENGTH, LEAST_ETHERTYPE, EtherType, PPPProtocol

VLAN = np.dtype([("tag", ">u2"), ("type", ">u2")])
MPLS = np.dtype([("entry", ">u4")])
PPPOE = np.dtype([("version_type", "u1"), ("code", "u1"), ("session", ">u2"), ("length", ">u2")])
PPP = np.dtype([("protocol", ">u2")])
LLC = np.dtype(
    {
        "names": ["dsap", "ssap", "control", "control_organisation", "type"],
        "formats": ["u1", "u1", "<u2", ">u4", ">u2"],
        "offsets": [0, 1, 2, 2, 6],
        "itemsize": 8,
    }
)
"""LLC and, behind a control field of one octet, SNAP's organisation (24 bits) and type."""

ENCAPSULATED_ETHERNET = (0x000000, 0x0000F8)
"""SNAP organisations whose types are EtherTypes: RFC 1042, and IEEE 802.1H for bridges."""

VERSION = np.dtype([("version", "u1")])

NEXT_OF_ETHERTYPE = table(
    1 << 16,
    [
        (EtherType.IPV4, Next.IPV4),
        (EtherType.IPV6, Next.IPV6),
        (EtherType.ARP, Next.ARP),
        (EtherType.RARP, Next.ARP),
        (EtherType.VLAN, Next.VLAN),
        (EtherType.VLAN_SERVICE, Next.VLAN),
        (EtherType.VLAN_9100, Next.VLAN),
        (EtherType.MPLS, Next.MPLS),
        (EtherType.MPLS_MULTICAST, Next.MPLS),
        (EtherType.PPPOE_DISCOVERY, Next.PPPOE),
        (EtherType.PPPOE_SESSION, Next.PPPOE),
    ],
)

ETHERTYPE_OF_PPP = np.zeros(1 << 16, np.uint16)
for _protocol in PPPProtocol:
    ETHERTYPE_OF_PPP[_protocol] = EtherType[_protocol.name]

ETHERTYPE_OF_VERSION = np.zeros(16, np.uint16)
ETHERTYPE_OF_VERSION[4] = EtherType.IPV4
ETHERTYPE_OF_VERSION[6] = EtherType.IPV6


def step_ethertype(
    d: Dissection, headers: Headers, size: int | NDArray[np.int64], types: NDArray[np.uint16]
) -> None:
    """Step over headers that say that ``types`` follow; a number that is no EtherType means nothing known."""
    known = np.where((headers.room >= size) & (types >= LEAST_ETHERTYPE), types, 0)
    d.network_type[headers.rows] = known
    d.step(headers, size, NEXT_OF_ETHERTYPE.take(known))


def step_type_or_length(d: Dissection, headers: Headers, size: int, words: NDArray[np.uint16]) -> None:
    """Step over headers that end in an EtherType or in an 802.3 length, which LLC follows (802.3, 3.2.6)."""
    step_ethertype(d, headers, size, words)
    is_length = (words < LEAST_ETHERTYPE) & (headers.room >= size)
    if is_length.any():
        headers, lengths = headers.where(is_length), words[is_length].astype(np.int64)
        d.next[headers.rows] = Next.LLC
        d.bound(headers, size + lengths)
        d.stop(headers.rows[lengths > LARGEST_802_3_LENGTH])


def step_version(d: Dissection, headers: Headers, size: int) -> NDArray[np.uint16]:
    """Step over headers that are followed by IP of whatever version its first nibble says.

    Returns the EtherTypes, 0 where the nibble is another one.
    """
    nibble = d.gather(headers.at + np.minimum(size, headers.room), VERSION)["version"] >> 4
    types = ETHERTYPE_OF_VERSION.take(nibble)
    step_ethertype(d, headers, size, np.where(headers.room > size, types, 0))
    d.stop(headers.rows[headers.room <= size])
    return types


def walk(d: Dissection) -> None:
    """Follow the headers between link layer and network layer, at most :data:`MAX_DEPTH` of a kind."""
    layers = ((Next.LLC, llc), (Next.VLAN, vlan), (Next.PPPOE, pppoe), (Next.PPP, ppp), (Next.MPLS, mpls))
    for _ in range(MAX_DEPTH):
        if not _pending(d).any():
            break
        for what, layer in layers:
            rows = d.rows(what)
            if rows.size:
                layer(d, rows)
    else:
        too_deep = np.flatnonzero(_pending(d))
        d.network_type[too_deep] = d.vlan_depth[too_deep] = d.mpls_depth[too_deep] = 0
        d.stop(too_deep)
    d.put_chunk(d.network_type != 0, network_type=d.network_type)
    if d.vlan_depth.any():
        d.put_chunk(d.vlan_depth != 0, vlan_depth=d.vlan_depth)
    if d.mpls_depth.any():
        d.put_chunk(d.mpls_depth != 0, mpls_depth=d.mpls_depth)


def _pending(d: Dissection) -> NDArray[np.bool_]:
    return (d.next >= Next.LLC) & (d.next < Next.ARP)


def vlan(d: Dissection, rows: Rows) -> None:
    """VLAN tags of whatever EtherType."""
    headers = d.read(rows, VLAN)
    outer = headers.where(d.vlan_depth[rows] == 0)
    d.put_values(outer, 2, vlan_id=outer["tag"] & 0x0FFF)
    d.vlan_depth[rows] = np.where(headers.room >= 4, d.vlan_depth[rows] + 1, 0)
    step_type_or_length(d, headers, 4, headers["type"])


def mpls(d: Dissection, rows: Rows) -> None:
    """MPLS label stack entries; the last one is followed by what its first nibble says."""
    headers = d.read(rows, MPLS)
    outer = headers.where(d.mpls_depth[rows] == 0)
    d.put_values(outer, 3, mpls_label=outer["entry"] >> 12)
    d.mpls_depth[rows] = np.where(headers.room >= 4, d.mpls_depth[rows] + 1, 0)
    d.network_type[rows] = 0
    last = headers["entry"] & 0x100 != 0
    d.step(headers, 4, np.where(last, Next.NOTHING, Next.MPLS))
    bottom = headers.where(last & (headers.room >= 4))
    if bottom.rows.size:
        step_version(d, bottom, 4)


def pppoe(d: Dissection, rows: Rows) -> None:
    """PPPoE headers; PPP follows in a session, nothing that is decoded in discovery."""
    headers = d.read(rows, PPPOE)
    d.put(headers, pppoe_session_id="session")
    session = d.network_type[rows] == EtherType.PPPOE_SESSION
    d.network_type[rows[session]] = 0
    d.bound(headers, headers["length"].astype(np.int64) + PPPOE.itemsize)
    d.step(headers, PPPOE.itemsize, np.where(session, Next.PPP, Next.NOTHING))


def ppp(d: Dissection, rows: Rows) -> None:
    """PPP protocol fields, of one octet where it is odd (RFC 1661, 6.5), which libpcap doesn't know."""
    headers = d.read(rows, PPP)
    protocol = headers["protocol"]
    short = protocol & 0x100 != 0
    size = np.where(short, 1, 2)
    d.irregular[rows[short]] = True
    step_ethertype(d, headers, size, ETHERTYPE_OF_PPP.take(np.where(short, protocol >> 8, protocol)))


def llc(d: Dissection, rows: Rows) -> None:
    """LLC headers (IEEE 802.2), and SNAP, which leads to an EtherType where its organisation is 0.

    Novell's raw 802.3 frames, IPX at once with a checksum of 0xffff, have no such header.
    """
    headers = d.read(rows, LLC)
    d.network_type[rows] = 0
    dsap, ssap, control = headers["dsap"], headers["ssap"], headers["control"]
    headers.fault((dsap == 0xFF) & ((ssap == 0xFF) | (headers.room < 2)), 0)
    d.put(headers, llc_dsap="dsap", llc_ssap="ssap")
    unnumbered = control & 3 == 3
    for octets, chosen, values in ((3, unnumbered, control & 0xFF), (4, ~unnumbered, control)):
        frames = headers.where(chosen)
        if frames.rows.size:
            d.put_values(frames, octets, llc_control=values[chosen])
    d.step(headers, np.where(unnumbered, 3, 4), Next.NOTHING)
    is_snap = (dsap == 0xAA) & (ssap == 0xAA) & (control & 0xFF == 3)
    if is_snap.any():
        snap = headers.where(is_snap)
        ethernet = np.isin(snap["control_organisation"] & 0xFFFFFF, ENCAPSULATED_ETHERNET)
        step_ethertype(d, snap, 8, np.where(ethernet, snap["type"], 0))
