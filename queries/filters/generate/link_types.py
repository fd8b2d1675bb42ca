"""What libpcap 1.10.3 knows of each link type: where its fields and payload are, and how it tells what it carries.

Numbers are those of savefiles (LINKTYPE_), with those that several numbers stand for made one.
"""

from __future__ import annotations

from dataclasses import dataclass

UNSET = 0xFFFF_FFFF
"""An offset that the link type has not; libpcap calculates with it all the same."""


@dataclass(frozen=True, slots=True)
class LinkType:
    """A link type; ``family`` says how protocols are told, offsets count octets from ``header_at`` or the payload.

    ``type_at`` is where the protocol's number is, ``payload_at`` where the payload (or its LLC header) starts, with
    the network header ``network_at`` further on, ``llc_network_at`` where an LLC header without SNAP stands before it.
    """

    number: int
    name: str
    family: str
    header_at: int = 0
    type_at: int = UNSET
    payload_at: int = UNSET
    network_at: int = UNSET
    llc_network_at: int = UNSET

    @property
    def is_ethernet(self) -> bool:
        """Whether there is an Ethernet header."""
        return self.family == "ethernet"

    @property
    def is_wlan(self) -> bool:
        """Whether there is an 802.11 header."""
        return self.family == "wlan"


_TABLE = """
number family     type payload net llc name
     1 ethernet     12      14   0   3 Ethernet
   240 ethernet     16      18   0   3 Ethernet with Hilscher netANALYZER pseudo-header
   241 ethernet     24      26   0   3 Ethernet with Hilscher netANALYZER pseudo-header and with preamble and SFD
     0 loopback      0       4   0   0 BSD loopback
   108 loopback      0       4   0   0 OpenBSD loopback
   109 loopback      0      12   0   0 OpenBSD encapsulated IP
    12 raw           -       0   0   0 Raw IP
     8 raw           -      16   0   0 SLIP
    15 raw           -      24   0   0 BSD/OS SLIP
   228 ipv4          -       0   0   0 Raw IPv4
   229 ipv6          -       0   0   0 Raw IPv6
   113 sll          14      16   0   0 Linux cooked v1
   276 ethertype     0      20   0   0 Linux cooked v2
     9 ppp           2       4   0   0 PPP
    50 ppp           2       4   0   0 PPP over serial
    51 ppp           6       8   0   0 PPPoE
   166 ppp           2       4   0   0 PPP for pppd, with direction flag
    16 ppp-bsdos     5      24   0   0 BSD/OS PPP
   104 hdlc          2       4   0   0 Cisco HDLC
   112 hdlc          2       4   0   0 DLT 112
   105 wlan         24       0   8   3 802.11
   119 wlan         24       0   8   3 802.11 plus Prism header
   127 wlan         24       0   8   3 802.11 plus radiotap header
   163 wlan         24       0   8   3 802.11 plus AVS radio information header
   192 wlan         24       0   8   3 Per-Packet Information
     6 llc          14      14   8   3 Token ring
    10 llc          13      13   8   3 FDDI
    11 llc           0       0   8   3 RFC 1483 LLC-encapsulated ATM
    19 llc           0       0   8   3 Linux Classical IP over ATM
   122 llc          16      16   8   3 RFC 2625 IP-over-Fibre Channel
   123 sunatm        4       4   8   3 Sun raw ATM
   107 frelay        -       0   0   0 Frame Relay
   182 mfr           -       0   4   0 FRF.16 Frame Relay
     7 arcnet        2       6   0   0 BSD ARCNET
   129 arcnet        4       8   0   0 Linux ARCNET
   114 localtalk     -       0   0   0 Localtalk
   117 pflog         0       0   0   0 OpenBSD pflog file
   226 ipnet         1      24   0   - Solaris ipnet
    99 ethertype     6      44   0   0 Symantec Firewall
   138 ethertype    16      18   0   0 Apple IP-over-IEEE 1394
   165 bacnet        -       -   -   - BACnet MS/TP
   130 juniper       4       4   0   - Juniper Multi-Link PPP
   131 juniper       4       4   0   - Juniper Multi-Link Frame Relay
   132 juniper       6       -   -   - Juniper Encryption Services PIC
   133 juniper       6      12   0   - Juniper GGSN PIC
   134 juniper       4       4   0   - Juniper FRF.16 Frame Relay
   135 juniper       8       8   0  10 Juniper ATM2 PIC
   136 juniper      12       -   -   - Juniper Advanced Services PIC
   137 juniper       4       4   0  10 Juniper ATM1 PIC
   164 juniper      12      12   0   - Juniper Passive Monitor PIC
   167 juniper      16      14  18  21 Juniper PPPoE
   168 juniper       4       6   0   - Juniper PPPoE/ATM
   178 juniper      16      14  18  21 Juniper Ethernet
   179 juniper       4       4   0   - Juniper PPP
   180 juniper       4       4   0   - Juniper Frame Relay
   181 juniper       4       4   0   - Juniper C-HDLC
   183 juniper      18       -   -   - Juniper Voice PIC
   194 juniper       8       -   -   - Juniper Integrated Service Module
   200 juniper      18       -   -   - Juniper Secure Tunnel
   232 juniper       8       -   -   - Juniper Virtual Server
   233 juniper       8       -   -   - Juniper SRX E2E
   234 juniper       8       -   -   - Juniper Fibre Channel
   238 juniper       8       -   -   - Juniper ATM CEMIC
   139 MTP2          -       -   -   - SS7 MTP2 with Pseudo-header
   140 MTP2          -       -   -   - SS7 MTP2
   197 ERF           -       -   -   - Endace ERF header
   246 PFSYNC        -       4   0   0 Packet filter state syncing
   144 IrDA          -       -   -   - Linux IrDA
   143 DOCSIS        -       -   -   - DOCSIS
   177 LAPD          -       -   -   - Linux vISDN LAPD
   186 USB           -       -   -   - USB with FreeBSD header
   189 USB           -       -   -   - USB with Linux header
   220 USB           -       -   -   - USB with padded Linux header
   249 USB           -       -   -   - USB with USBPcap header
   187 Bluetooth     -       -   -   - Bluetooth HCI UART transport layer
   201 Bluetooth     -       -   -   - Bluetooth HCI UART transport layer plus pseudo-header
   227 CAN           -       -   -   - CAN-bus with SocketCAN headers
   239 NFLOG         -       -   -   - Linux netfilter log messages
"""

_SYNONYMS = {101: 12, 14: 12, 100: 11, 102: 15, 103: 16, 106: 19}
_LEAST_WITHOUT_TABLE = 104
_GREATEST = 289


def link_type(number: int) -> LinkType | None:
    """The link type of that number in a savefile, None where libpcap knows none.

    Of those that are not in the table only octets and lengths can be asked for; their ``family`` is empty.
    """
    number = _SYNONYMS.get(number, number)
    if number in LINK_TYPES:
        return LINK_TYPES[number]
    if _LEAST_WITHOUT_TABLE <= number <= _GREATEST:
        return LinkType(number, f"DLT {number}", "")
    return None


def _rows() -> dict[int, LinkType]:
    header_at = {240: 4, 241: 12}
    rows = {}
    for line in _TABLE.strip().splitlines()[1:]:
        number, family, *offsets, name = line.split(maxsplit=6)
        places = (UNSET if offset == "-" else int(offset) for offset in offsets)
        rows[int(number)] = LinkType(int(number), name, family, header_at.get(int(number), 0), *places)
    return rows


LINK_TYPES = _rows()
"""Link types by number."""

ETHERNET, PPP = LINK_TYPES[1], LINK_TYPES[9]
