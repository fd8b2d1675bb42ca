"""Protocol numbers that code is generated for; EtherTypes, LLC service access points and PPP's numbers."""

from __future__ import annotations

from typing import Final

IP: Final = 0x0800
ARP: Final = 0x0806
RARP: Final = 0x8035
IP6: Final = 0x86DD
ATALK: Final = 0x809B
AARP: Final = 0x80F3
IPX: Final = 0x8137
DECNET: Final = 0x6003
VLAN_TAGS: Final = (0x8100, 0x88A8, 0x9100)
MPLS: Final = 0x8847
PPPOE_DISCOVERY: Final = 0x8863
PPPOE_SESSION: Final = 0x8864
BRIDGED_ETHERNET: Final = 0x6558
_XNS: Final = 0x0600

LARGEST_LENGTH: Final = 1500
"""Greater numbers in Ethernet's type field are EtherTypes; no number up to here is one, but some are LLC's."""

LLC_IP: Final = 0x06
LLC_STP: Final = 0x42
LLC_IPX: Final = 0xE0
LLC_NETBEUI: Final = 0xF0
LLC_ISO: Final = 0xFE
LLC_BOTH_POINTS: Final = frozenset((LLC_ISO, LLC_IP, LLC_NETBEUI))
"""Those that both service access points of a frame are compared with."""

PPP_IP: Final = 0x21
PPP_COMPRESSED_IP: Final = (0x2D, 0x2F)
PPP_MPLS: Final = 0x0281
_PPP_NUMBERS: Final = {
    IP: PPP_IP,
    IP6: 0x57,
    DECNET: 0x27,
    ATALK: 0x29,
    _XNS: 0x25,
    LLC_ISO: 0x23,
    LLC_STP: 0x31,
    LLC_IPX: 0x2B,
}


def ppp_number(protocol: int) -> int:
    """PPP's number of a protocol; numbers that it knows none for are taken for PPP's own."""
    return _PPP_NUMBERS.get(protocol, protocol)


IP_PROTOCOLS: Final = {
    "tcp": (6, None),
    "udp": (17, None),
    "sctp": (132, None),
    "icmp": (1, "ip"),
    "igmp": (2, "ip"),
    "igrp": (9, "ip"),
    "pim": (103, None),
    "vrrp": (112, "ip"),
    "carp": (112, "ip"),
    "ah": (51, None),
    "esp": (50, None),
    "icmp6": (58, "ip6"),
}
"""Names of protocols that an IP header tells: number, and which IP header, None: either one."""

OSI_ISIS: Final = 0x83

ISIS_PACKETS: Final = {
    "l1": (26, 24, 18, 15, 17),
    "l2": (27, 25, 20, 16, 17),
    "iih": (17, 15, 16),
    "lsp": (18, 20),
    "snp": (27, 26, 24, 25),
    "csnp": (24, 25),
    "psnp": (26, 27),
}
"""Names of kinds of IS-IS packets, with the types that they stand for, in the order that they are asked for."""
