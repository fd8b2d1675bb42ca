"""Link-layer headers: what a LINKTYPE_ value says about the first octets of a packet.

Formats: www.tcpdump.org/linktypes.html and the pages that it names.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.layers import ethertype, wlan
from pcap2arrow.layers.dissection import Dissection, Headers, Next, Rows
from pcap2arrow.numbers import AddressFamily, EtherType, LinkType

ETHERNET = np.dtype(
    {
        "names": ["destination", "source", "type"],
        "formats": [">u8", ">u8", ">u2"],  # an address is the upper 48 bits of its word
        "offsets": [0, 6, 12],
        "itemsize": 14,
    }
)
FAMILY = np.dtype({"names": ["little", "big"], "formats": ["<u4", ">u4"], "offsets": [0, 0], "itemsize": 4})
SLL = np.dtype(
    [("type", ">u2"), ("hardware", ">u2"), ("address_len", ">u2"), ("address", "V8"), ("protocol", ">u2")]
)
SLL2 = np.dtype(
    [
        ("protocol", ">u2"),
        ("reserved", ">u2"),
        ("interface", ">u4"),
        ("hardware", ">u2"),
        ("type", "u1"),
        ("address_len", "u1"),
        ("address", "V8"),
    ]
)
SLL_LLC = 4
"""Protocol word of a Linux cooked header that says that LLC follows."""

CISCO_HDLC = np.dtype([("address", "u1"), ("control", "u1"), ("protocol", ">u2")])
OVER_CISCO_HDLC = (EtherType.IPV4, EtherType.IPV6, EtherType.MPLS, EtherType.MPLS_MULTICAST)

FRAMING = np.dtype([("address_control", ">u2")])
OCTET = np.dtype([("octet", "u1")])

ETHERTYPE_OF_FAMILY = np.zeros(32, np.uint16)
for _family in AddressFamily:
    ETHERTYPE_OF_FAMILY[_family] = EtherType.IPV4 if _family == AddressFamily.INET else EtherType.IPV6


def link(d: Dissection, link_types: NDArray[np.uint16]) -> None:
    """The link-layer header of every packet; packets of link types that are not decoded stay as they are."""
    for link_type, layer in LAYERS.items():
        rows = np.flatnonzero(link_types == link_type)
        if rows.size:
            layer(d, rows)


def ethernet(d: Dissection, rows: Rows) -> None:
    """Ethernet (IEEE 802.3, 3.1.1)."""
    headers = d.read(rows, ETHERNET)
    d.put_values(headers, 6, eth_dst=headers["destination"] >> 16)
    d.put_values(headers, 12, eth_src=headers["source"] >> 16)
    types = headers["type"]
    d.put_values(headers, 14, eth_type=types)
    ethertype.step_type_or_length(d, headers, ETHERNET.itemsize, types)


def null(d: Dissection, rows: Rows) -> None:
    """BSD loopback: an address family in the byte order of the machine that captured, taken as the likelier
    of two.

    libpcap takes it in the byte order of the file and does not know Linux's number for IPv6.
    """
    headers = d.read(rows, FAMILY)
    little = headers["little"]
    swapped = little > 0xFFFF
    family = np.where(swapped, headers["big"], little)
    d.irregular[rows] |= swapped | (family == AddressFamily.INET6_LINUX)
    _step_family(d, headers, family)


def loop(d: Dissection, rows: Rows) -> None:
    """OpenBSD loopback: an address family in network byte order."""
    headers = d.read(rows, FAMILY)
    family = headers["big"]
    d.irregular[rows] |= family == AddressFamily.INET6_LINUX
    _step_family(d, headers, family)


def _step_family(d: Dissection, headers: Headers, family: NDArray[np.uint32]) -> None:
    types = ETHERTYPE_OF_FAMILY.take(np.where(family < ETHERTYPE_OF_FAMILY.size, family, 0))
    ethertype.step_ethertype(d, headers, FAMILY.itemsize, types)


def raw(d: Dissection, rows: Rows) -> None:
    """IP of either version without a link-layer header."""
    headers = d.read(rows, OCTET)
    types = ethertype.step_version(d, headers, 0)
    d.irregular[rows] |= types == 0


def ipv4(d: Dissection, rows: Rows) -> None:
    """IPv4 without a link-layer header."""
    d.network_type[rows] = EtherType.IPV4
    d.next[rows] = Next.IPV4


def ipv6(d: Dissection, rows: Rows) -> None:
    """IPv6 without a link-layer header."""
    d.network_type[rows] = EtherType.IPV6
    d.next[rows] = Next.IPV6


def linux_sll(d: Dissection, rows: Rows) -> None:
    """Linux "cooked" capture, version 1."""
    headers = d.read(rows, SLL)
    d.put(headers, sll_pkttype="type")
    _step_sll(d, headers)


def linux_sll2(d: Dissection, rows: Rows) -> None:
    """Linux "cooked" capture, version 2."""
    headers = d.read(rows, SLL2)
    d.put(headers, sll_pkttype="type")
    _step_sll(d, headers)


def _step_sll(d: Dissection, headers: Headers) -> None:
    protocol, size = headers["protocol"], headers.fields.dtype.itemsize
    ethertype.step_ethertype(d, headers, size, protocol)
    d.next[headers.rows[(protocol == SLL_LLC) & (headers.room >= size)]] = Next.LLC


def cisco_hdlc(d: Dissection, rows: Rows) -> None:
    """Cisco HDLC (RFC 1547, 4.3.1).  IP and MPLS follow; its protocol 0x8035 is SLARP, not RARP."""
    headers = d.read(rows, CISCO_HDLC)
    protocol = headers["protocol"]
    ethertype.step_ethertype(d, headers, CISCO_HDLC.itemsize, protocol)
    d.next[rows[~np.isin(protocol, OVER_CISCO_HDLC)]] = Next.NOTHING


def ppp(d: Dissection, rows: Rows) -> None:
    """PPP in HDLC-like framing (RFC 1662), PPP without framing, or Cisco HDLC, as the first two octets say.

    libpcap takes the first for granted.
    """
    headers = d.read(rows, FRAMING)
    framing = headers["address_control"]
    framed = framing == 0xFF03
    cisco = np.isin(framing, (0x0F00, 0x8F00)) & (headers.room >= 2)
    d.irregular[rows[~framed]] = True
    d.step(headers, np.where(framed, 2, 0), Next.PPP)
    if cisco.any():
        cisco_hdlc(d, rows[cisco])


def ppp_with_direction(d: Dissection, rows: Rows) -> None:
    """PPP behind an octet that says who sent it."""
    d.step(d.read(rows, OCTET), 1, Next.PPP)
    ppp(d, rows)


LAYERS: dict[LinkType, Callable[[Dissection, Rows], None]] = {
    LinkType.ETHERNET: ethernet,
    LinkType.NULL: null,
    LinkType.LOOP: loop,
    LinkType.RAW: raw,
    LinkType.RAW_BSD: raw,
    LinkType.RAW_OPENBSD: raw,
    LinkType.IPV4: ipv4,
    LinkType.IPV6: ipv6,
    LinkType.LINUX_SLL: linux_sll,
    LinkType.LINUX_SLL2: linux_sll2,
    LinkType.PPP: ppp,
    LinkType.PPP_HDLC: ppp,
    LinkType.PPP_WITH_DIR: ppp_with_direction,
    LinkType.CISCO_HDLC: cisco_hdlc,
    LinkType.IEEE802_11: wlan.mac,
    LinkType.IEEE802_11_RADIOTAP: wlan.radiotap,
}
"""How the packets of each link type begin."""
