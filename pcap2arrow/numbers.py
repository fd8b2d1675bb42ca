"""Assigned numbers that the packet table and its decoder speak of.

Sources: the registries of tcpdump.org (LINKTYPE_ values), IEEE (EtherTypes) and IANA (PPP protocols, IP
protocols, TCP options, ports).  The enumerations hold what the decoder knows by name; columns may hold any
other number.
"""

from __future__ import annotations

from enum import IntEnum


class LinkType(IntEnum):
    """LINKTYPE_ values of the link-layer headers that are decoded (www.tcpdump.org/linktypes.html)."""

    NULL = 0
    ETHERNET = 1
    PPP = 9
    RAW_BSD = 12
    RAW_OPENBSD = 14
    PPP_HDLC = 50
    RAW = 101
    CISCO_HDLC = 104
    IEEE802_11 = 105
    LOOP = 108
    LINUX_SLL = 113
    IEEE802_11_RADIOTAP = 127
    PPP_WITH_DIR = 204
    IPV4 = 228
    IPV6 = 229
    LINUX_SLL2 = 276


class EtherType(IntEnum):
    """EtherTypes (IEEE 802 numbers); a word below 1536 is no EtherType but, up to 1500, an 802.3 length."""

    IPV4 = 0x0800
    ARP = 0x0806
    DECNET = 0x6003
    RARP = 0x8035
    APPLETALK = 0x809B
    VLAN = 0x8100
    IPX = 0x8137
    IPV6 = 0x86DD
    MPLS = 0x8847
    MPLS_MULTICAST = 0x8848
    PPPOE_DISCOVERY = 0x8863
    PPPOE_SESSION = 0x8864
    VLAN_SERVICE = 0x88A8
    VLAN_9100 = 0x9100


LEAST_ETHERTYPE = 1536
"""The least EtherType (IEEE 802.3, 3.2.6)."""

LARGEST_802_3_LENGTH = 1500
"""The greatest length that an 802.3 frame has in the place of an EtherType."""


class PPPProtocol(IntEnum):
    """PPP protocol numbers that stand for a network protocol."""

    IPV4 = 0x0021
    DECNET = 0x0027
    APPLETALK = 0x0029
    IPX = 0x002B
    IPV6 = 0x0057
    MPLS = 0x0281
    MPLS_MULTICAST = 0x0283


class AddressFamily(IntEnum):
    """Address families of the NULL and LOOP link types: IPv6 has another number on each system."""

    INET = 2
    INET6_LINUX = 10
    INET6_BSD = 24
    INET6_FREEBSD = 28
    INET6_DARWIN = 30


class IPProtocol(IntEnum):
    """IP protocols and IPv6 extension headers."""

    HOP_BY_HOP = 0
    ICMP = 1
    IGMP = 2
    IPV4 = 4
    TCP = 6
    UDP = 17
    IPV6 = 41
    ROUTING = 43
    FRAGMENT = 44
    GRE = 47
    AH = 51
    ICMPV6 = 58
    NO_NEXT_HEADER = 59
    DESTINATION_OPTIONS = 60
    ETHERIP = 97
    L2TP = 115
    SCTP = 132
    MPLS = 137


class TCPOption(IntEnum):
    """TCP option kinds (RFC 9293, RFC 7323, RFC 2018)."""

    END = 0
    NOP = 1
    MSS = 2
    WINDOW_SCALE = 3
    SACK_PERMITTED = 4
    TIMESTAMP = 8


class TunnelPort(IntEnum):
    """UDP ports of the tunnels that run over UDP."""

    L2TP = 1701
    GTP_U = 2152
    VXLAN = 4789
    GENEVE = 6081


class Tunnel(IntEnum):
    """Values of the column ``tunnel``: what kind of tunnel starts after the outermost headers.

    The first group is told by ``l4_proto``, the second by UDP port and the tunnel's own header; the rules
    stand in :mod:`pcap2arrow.layers.tunnel`.  Numbers are never given a new meaning.
    """

    GRE = 1
    IPV4 = 2
    IPV6 = 3
    ETHERIP = 4
    L2TPV3 = 5
    MPLS = 6

    VXLAN = 16
    GENEVE = 17
    GTP_U = 18
    L2TP = 19
