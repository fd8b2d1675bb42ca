"""Frames built from the format descriptions, for tests: every link type, tag, network and transport header.

They share nothing with the decoder but the knowledge of the formats.  Numbers are made of different octets,
so that a field that is read at a wrong place shows; checksums are such numbers too, not right.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.oracles.reader import Packet

IPV4, ARP, RARP, IPV6 = 0x0800, 0x0806, 0x8035, 0x86DD
MPLS, PPPOE_DISCOVERY, PPPOE = 0x8847, 0x8863, 0x8864
SNAP = b"\xaa\xaa\x03\x00\x00\x00"
DATA = bytes(range(0x60, 0x74))


@dataclass(frozen=True, slots=True)
class Network:
    """A network header with all that follows it, and its EtherType."""

    name: str
    ethertype: int
    octets: bytes


def packet(link_type: int, data: bytes, *, frame_len: int | None = None, fcs_len: int = 0) -> Packet:
    """A captured packet of these octets."""
    whole = len(data) if frame_len is None else frame_len
    return Packet(
        interface=0,
        link_type=link_type,
        fcs_len=fcs_len,
        ticks=0,
        time=0,
        frame_len=whole,
        data=data,
        record_offset=0,
    )


def ipv4(
    payload: bytes,
    protocol: int,
    *,
    options: bytes = b"",
    flags_offset: int = 0x4000,
    length: int | None = None,
    first: int | None = None,
) -> bytes:
    """RFC 791."""
    header_len = 20 + len(options)
    return (
        struct.pack(
            ">BBHHHBBH4s4s",
            0x40 | header_len // 4 if first is None else first,
            0xB9,
            header_len + len(payload) if length is None else length,
            0x1F2E,
            flags_offset,
            61,
            protocol,
            0xC1C2,
            bytes([192, 0, 2, 33]),
            bytes([198, 51, 100, 7]),
        )
        + options
        + payload
    )


def ipv6(payload: bytes, next_header: int, *, length: int | None = None, first: int = 0x6B954321) -> bytes:
    """RFC 8200."""
    source, destination = (
        bytes.fromhex("20010db8a1b2c3d4e5f60718293a4b5c"),
        bytes.fromhex("ff0e" + "5d" * 13 + "09"),
    )
    plen = len(payload) if length is None else length
    return struct.pack(">IHBB", first, plen, next_header, 58) + source + destination + payload


def tcp(
    payload: bytes = DATA, *, options: bytes = b"", flags: int = 0x018, header_len: int | None = None
) -> bytes:
    """RFC 9293."""
    octets = 20 + len(options) if header_len is None else header_len
    word = octets // 4 << 12 | flags
    return (
        struct.pack(">HHIIHHHH", 40001, 8443, 0x91A2B3C4, 0x81726354, word, 64240, 0xC3C4, 0)
        + options
        + payload
    )


def udp(
    payload: bytes = DATA, *, ports: tuple[int, int] = (40002, 40003), length: int | None = None
) -> bytes:
    """RFC 768."""
    return struct.pack(">HHHH", *ports, 8 + len(payload) if length is None else length, 0xC5C6) + payload


def sctp() -> bytes:
    """RFC 9260: the common header and a cookie-ack chunk."""
    return struct.pack(">HHII", 40004, 40005, 0x71829304, 0xC7C8C9CA) + bytes([11, 0, 0, 4])


def icmp(kind: int, code: int = 0, payload: bytes = DATA) -> bytes:
    """RFC 792, RFC 4443."""
    return struct.pack(">BBHHH", kind, code, 0xCBCC, 0x0A0B, 0x0C0D) + payload


def igmp(kind: int = 0x16) -> bytes:
    """RFC 2236."""
    return struct.pack(">BBH4s", kind, 0, 0xCDCE, bytes([224, 0, 1, 9]))


def arp(opcode: int = 1, *, hardware: int = 1, hardware_len: int = 6) -> bytes:
    """RFC 826, over IPv4."""
    sender, target = bytes(range(1, hardware_len + 1)), bytes(range(0x31, 0x31 + hardware_len))
    head = struct.pack(">HHBBH", hardware, IPV4, hardware_len, 4, opcode)
    return head + sender + bytes([192, 0, 2, 40]) + target + bytes([192, 0, 2, 41])


def extension(next_header: int, units: int = 0) -> bytes:
    """An IPv6 extension header that holds padding (PadN)."""
    return bytes([next_header, units, 1, 4 + 8 * units]) + bytes(4 + 8 * units)


def routing(next_header: int) -> bytes:
    """A routing header of type 253, one for experiments, with no segments left."""
    return bytes([next_header, 0, 253, 0, 0, 0, 0, 0])


def fragment(next_header: int, offset: int, *, more: bool) -> bytes:
    """RFC 8200, 4.5; the offset is in octets."""
    return struct.pack(">BBHI", next_header, 0, offset | more, 0xB1B2B3B4)


def authentication(next_header: int) -> bytes:
    """RFC 4302, with 12 octets of check value."""
    return bytes([next_header, 4, 0, 0]) + struct.pack(">II", 0x101, 7) + bytes(12)


MSS, NOP, WSCALE, SACK_OK = b"\x02\x04\x05\xb4", b"\x01", b"\x03\x03\x07", b"\x04\x02"
TIMESTAMP = b"\x08\x0a\x11\x22\x33\x44\x55\x66\x77\x88"
TCP_OPTIONS = {
    "linux syn": MSS + SACK_OK + TIMESTAMP + NOP + WSCALE,
    "windows syn": MSS + NOP + WSCALE + NOP + NOP + SACK_OK,
    "usual": NOP + NOP + TIMESTAMP,
    "usual and sack": NOP + NOP + TIMESTAMP + NOP + NOP + b"\x05\x0a" + bytes(8),
    "two of a kind": MSS + b"\x02\x04\x01\x02" + TIMESTAMP + b"\x08\x0a" + bytes(8) + NOP + NOP,
    "ended": b"\x00\x02\x04\x05",
    "padded": WSCALE + b"\x00",
    "unknown": b"\xfe\x04\x12\x34" + MSS,
    "only nop": NOP * 40,
}
MALFORMED_TCP_OPTIONS = {
    "wrong length": b"\x02\x05\x05\xb4\x00" + WSCALE,
    "overlong": NOP + NOP + b"\x08\x20",
    "length 0": b"\x02\x00\x05\xb4",
    "length 1": b"\x05\x01\x02\x04",
    "no length": NOP + NOP + NOP + b"\x02",
}


def transports() -> Iterator[tuple[str, int, bytes]]:
    """Transport headers that are as they should be: name, IP protocol, octets."""
    yield "tcp", 6, tcp()
    yield "tcp syn", 6, tcp(b"", flags=0x0C2)
    yield "tcp all flags", 6, tcp(flags=0xFFF)
    for name, options in TCP_OPTIONS.items():
        yield f"tcp options {name}", 6, tcp(options=options)
    yield "udp", 17, udp()
    yield "udp empty", 17, udp(b"")
    yield "sctp", 132, sctp()
    yield "igmp", 2, igmp()
    yield "esp", 50, bytes.fromhex("00000101000000070102030405060708")
    yield "protocol 253", 253, DATA


def tunnels() -> Iterator[tuple[str, int, bytes]]:
    """Headers of tunnels: name, IP protocol, octets."""
    inner = ipv4(udp(), 17)
    ethernet = bytes(range(12)) + struct.pack(">H", IPV4) + inner
    yield "gre", 47, struct.pack(">HH", 0, IPV4) + inner
    yield "ipip", 4, inner
    yield "6in4", 41, ipv6(udp(), 17)
    yield "etherip", 97, b"\x30\x00" + ethernet
    yield "vxlan", 17, udp(b"\x08\x00\x00\x00\x00\x12\x34\x00" + ethernet, ports=(50000, 4789))
    yield "geneve", 17, udp(b"\x00\x00\x65\x58\x00\x12\x34\x00" + ethernet, ports=(50000, 6081))
    yield "gtp", 17, udp(struct.pack(">BBHI", 0x30, 255, len(inner), 0x1234) + inner, ports=(2152, 2152))
    yield "gtp echo", 17, udp(struct.pack(">BBHI", 0x32, 1, 4, 0) + bytes(4), ports=(2152, 2152))
    yield "l2tp", 17, udp(struct.pack(">HHH", 2, 11, 12) + b"\xff\x03\x00\x21" + inner, ports=(1701, 1701))


def networks() -> Iterator[Network]:
    """Network headers with what they carry, all as they should be."""
    for name, protocol, octets in (
        *transports(),
        ("icmp", 1, icmp(8)),
        ("icmp error", 1, icmp(3, 3, ipv4(udp(), 17))),
    ):
        yield Network(f"ipv4 {name}", IPV4, ipv4(octets, protocol))
    for name, protocol, octets in (*transports(), ("icmpv6", 58, icmp(128)), ("none", 59, b"")):
        yield Network(f"ipv6 {name}", IPV6, ipv6(octets, protocol))
    yield Network("ipv4 options", IPV4, ipv4(tcp(), 6, options=b"\x94\x04\x00\x00" + NOP * 8))
    yield Network("ipv4 first fragment", IPV4, ipv4(udp(), 17, flags_offset=0x2000))
    yield Network("ipv4 later fragment", IPV4, ipv4(DATA, 17, flags_offset=0x20B9))
    yield Network("ipv4 last fragment", IPV4, ipv4(DATA, 6, flags_offset=0x00B9))
    yield Network("ipv6 hop by hop", IPV6, ipv6(extension(6) + tcp(), 0))
    chain = (
        extension(60, 1)
        + extension(43)
        + routing(44)
        + fragment(51, 0, more=True)
        + authentication(6)
        + tcp()
    )
    yield Network("ipv6 chain", IPV6, ipv6(chain, 0))
    yield Network("ipv6 first fragment", IPV6, ipv6(fragment(17, 0, more=True) + udp(), 44))
    yield Network("ipv6 later fragment", IPV6, ipv6(fragment(17, 1448, more=True) + DATA, 44))
    yield Network("ipv6 atomic fragment", IPV6, ipv6(fragment(17, 0, more=False) + udp(), 44))
    yield Network("arp", ARP, arp())
    yield Network("arp reply", ARP, arp(2))
    yield Network("arp short", ARP, arp(1, hardware=7, hardware_len=1))
    yield Network("rarp", RARP, arp(3))


def malformed_networks() -> Iterator[Network]:
    """Network headers with a fault in them or behind them."""
    yield Network("ipv4 version 5", IPV4, ipv4(tcp(), 6, first=0x55))
    yield Network("ipv4 short header", IPV4, ipv4(tcp(), 6, first=0x44))
    yield Network("ipv4 length below header", IPV4, ipv4(tcp(), 6, length=19))
    yield Network("ipv4 length in transport", IPV4, ipv4(tcp(), 6, length=33))
    yield Network("ipv6 version 4", IPV6, ipv6(tcp(), 6, first=0x40000000))
    yield Network("ipv6 length in extension", IPV6, ipv6(extension(6) + tcp(), 0, length=5))
    yield Network("ipv6 fragment of a fragment", IPV6, ipv6(fragment(44, 0, more=True) * 2 + udp(), 44))
    yield Network("tcp short header", IPV4, ipv4(tcp(header_len=16), 6))
    yield Network("tcp header behind the end", IPV4, ipv4(tcp(b"", header_len=60), 6))
    for name, options in MALFORMED_TCP_OPTIONS.items():
        yield Network(f"tcp options {name}", IPV4, ipv4(tcp(options=options), 6))
    yield Network("udp short length", IPV4, ipv4(udp(length=7), 17))
    yield Network("icmp short", IPV4, ipv4(b"\x08\x00\x00\x00", 1))


def tags(network: Network) -> Iterator[Network]:
    """The same behind the headers that an EtherType may lead to."""
    word = struct.pack(">H", network.ethertype)

    def tagged(name: str, ethertype: int, octets: bytes) -> Network:
        return Network(f"{name} {network.name}", ethertype, octets + network.octets)

    yield network
    yield tagged("vlan", 0x8100, b"\x65\x43" + word)
    yield tagged("qinq", 0x88A8, b"\x20\x07\x81\x00\x0f\xff" + word)
    yield tagged("three vlans", 0x9100, b"\x20\x07\x88\xa8\x00\x08\x81\x00\x00\x09" + word)
    llc = snap(network)
    yield Network(f"vlan llc {network.name}", 0x8100, struct.pack(">HH", 9, len(llc)) + llc)
    if network.ethertype in (IPV4, IPV6):
        yield tagged("mpls", MPLS, b"\xfe\xdc\xb1\x40")
        yield tagged("two labels", MPLS, b"\x12\x34\x50\x40\xfe\xdc\xb1\x3f")
        yield tagged("vlan mpls", 0x8100, b"\x00\x05\x88\x47\x00\x01\x01\x40")
        ppp = ppp_protocol(network.ethertype) + network.octets
        pppoe = b"\x11\x00" + struct.pack(">HH", 0xABCD, len(ppp)) + ppp
        yield Network(f"pppoe {network.name}", PPPOE, pppoe)
        yield Network(f"vlan pppoe {network.name}", 0x8100, b"\x00\x06\x88\x64" + pppoe)


def ppp_protocol(ethertype: int) -> bytes:
    """PPP's protocol field for an EtherType."""
    return {IPV4: b"\x00\x21", IPV6: b"\x00\x57", MPLS: b"\x02\x81"}[ethertype]


MAC = b"\x02\x01\x03\x05\x07\x09" + b"\x02\x11\x13\x15\x17\x19"


def ethernet(n: Network) -> bytes:
    """Ethernet II."""
    return MAC + struct.pack(">H", n.ethertype) + n.octets


def snap(n: Network) -> bytes:
    """LLC and SNAP."""
    return SNAP + struct.pack(">H", n.ethertype) + n.octets


def ethernet_snap(n: Network) -> bytes:
    """IEEE 802.3 with LLC and SNAP, padded to 60 octets."""
    body = snap(n)
    return (MAC + struct.pack(">H", len(body)) + body).ljust(60, b"\xee")


MESH = b"\x05\x01"
"""QoS control of a frame with mesh control."""


def wlan(n: Network, *, first: int = 0x08, flags: int = 0x01, extra: bytes = b"") -> bytes:
    """An 802.11 data frame."""
    addresses = MAC + b"\x02\x21\x23\x25\x27\x29"
    return bytes([first, flags, 0x2C, 0]) + addresses + b"\x30\x12" + extra + snap(n)


def radiotap(frame: bytes, present: int, fields: bytes) -> bytes:
    """A radiotap header with one word of present bits before a frame."""
    return struct.pack("<BBHI", 0, 0, 8 + len(fields), present) + fields + frame


def _sll(protocol: int) -> bytes:
    return struct.pack(">HHH8sH", 4, 1, 6, MAC[:8], protocol)


def _family(value: int, order: str) -> bytes:
    return struct.pack(order + "I", value)


LINKS: dict[str, tuple[int, Callable[[Network], bytes]]] = {
    "ethernet": (1, ethernet),
    "ethernet snap": (1, ethernet_snap),
    "sll": (113, lambda n: _sll(n.ethertype) + n.octets),
    "sll llc": (113, lambda n: _sll(4) + snap(n)),
    "sll2": (276, lambda n: struct.pack(">HHIHBB8s", n.ethertype, 0, 3, 1, 2, 6, MAC[:8]) + n.octets),
    "wlan": (105, wlan),
    "wlan qos": (105, lambda n: wlan(n, first=0x88, flags=0x02, extra=b"\x05\x00")),
    "wlan four addresses": (105, lambda n: wlan(n, flags=0x03, extra=MAC[3:9])),
    "wlan qos ht": (105, lambda n: wlan(n, first=0x88, flags=0x81, extra=b"\x05\x00\x01\x02\x03\x04")),
    "wlan mesh": (105, lambda n: wlan(n, first=0x88, flags=0x03, extra=MAC[3:9] + MESH + b"\0" + bytes(5))),
    "wlan mesh to a group": (
        105,
        lambda n: wlan(n, first=0x88, flags=0x02, extra=MESH + b"\x01" + bytes(11)),
    ),
    "radiotap mesh": (
        127,
        lambda n: radiotap(
            wlan(n, first=0x88, flags=0x03, extra=MAC[3:9] + MESH + b"\x02" + bytes(17)), 0, b""
        ),
    ),
    "radiotap": (127, lambda n: radiotap(wlan(n), 0, b"")),
    "radiotap fcs": (127, lambda n: radiotap(wlan(n) + b"\xde\xad\xbe\xef", 3, bytes(8) + b"\x10")),
    "radiotap padded": (127, lambda n: radiotap(wlan(n, first=0x88, extra=b"\x05\0\0\0"), 2, b"\x20")),
    "radiotap two words": (127, lambda n: radiotap(wlan(n) + bytes(4), 1 << 31 | 2, b"\0\0\0\0\x10")),
}
"""Link types whose header names an EtherType."""

IP_LINKS: dict[str, tuple[int, Callable[[Network], bytes]]] = {
    "null": (0, lambda n: _family(2 if n.ethertype == IPV4 else 30, "<") + n.octets),
    "null swapped": (0, lambda n: _family(2 if n.ethertype == IPV4 else 24, ">") + n.octets),
    "null freebsd": (0, lambda n: _family(2 if n.ethertype == IPV4 else 28, "<") + n.octets),
    "loop": (108, lambda n: _family(2 if n.ethertype == IPV4 else 24, ">") + n.octets),
    "raw": (101, lambda n: n.octets),
    "raw bsd": (12, lambda n: n.octets),
    "raw openbsd": (14, lambda n: n.octets),
    "ppp": (9, lambda n: b"\xff\x03" + ppp_protocol(n.ethertype) + n.octets),
    "ppp unframed": (9, lambda n: ppp_protocol(n.ethertype) + n.octets),
    "ppp compressed": (9, lambda n: b"\xff\x03" + ppp_protocol(n.ethertype)[1:] + n.octets),
    "ppp hdlc": (50, lambda n: b"\xff\x03" + ppp_protocol(n.ethertype) + n.octets),
    "ppp direction": (204, lambda n: b"\x01\xff\x03" + ppp_protocol(n.ethertype) + n.octets),
    "ppp cisco": (50, lambda n: struct.pack(">BBH", 0x0F, 0, n.ethertype) + n.octets),
    "cisco hdlc": (104, lambda n: struct.pack(">BBH", 0x8F, 0, n.ethertype) + n.octets),
}
"""Link types that carry IP of either version."""


def frames() -> Iterator[tuple[str, Packet]]:
    """Frames without a fault: every link type with every network header, and Ethernet with every tag and
    tunnel."""
    for network in networks():
        for name, (link_type, build) in LINKS.items():
            yield f"{name} {network.name}", packet(link_type, build(network))
        if network.ethertype in (IPV4, IPV6):
            for name, (link_type, build) in IP_LINKS.items():
                yield f"{name} {network.name}", packet(link_type, build(network))
            link_type = 228 if network.ethertype == IPV4 else 229
            yield network.name, packet(link_type, network.octets)
        for tagged in tags(network):
            yield f"ethernet {tagged.name}", packet(1, ethernet(tagged))
    for name, protocol, octets in tunnels():
        yield f"ethernet ipv4 {name}", packet(1, ethernet(Network(name, IPV4, ipv4(octets, protocol))))
        yield f"ethernet ipv6 {name}", packet(1, ethernet(Network(name, IPV6, ipv6(octets, protocol))))
    yield from other_frames()


def other_frames() -> Iterator[tuple[str, Packet]]:
    """Frames without a fault that carry no IP."""
    yield (
        "pppoe discovery",
        packet(1, MAC + b"\x88\x63\x11\x09\x00\x00\x00\x04\x01\x01\x00\x00".ljust(46, b"\0")),
    )
    yield "stp", packet(1, MAC + b"\x00\x26\x42\x42\x03" + bytes(43))
    yield "llc information frame", packet(1, MAC + b"\x00\x08\xf0\xf1\x02\x04" + bytes(42))
    yield "lldp", packet(1, MAC + b"\x88\xcc\x02\x07\x04" + MAC[:6] + b"\x00\x00")
    yield "wlan beacon", packet(105, b"\x80\x00\x00\x00" + MAC + MAC[:6] + b"\x10\x00" + bytes(12))
    for subtype in (8, 9, 10, 11, 14, 15):
        yield f"wlan control {subtype}", packet(105, bytes([subtype << 4 | 4, 0, 1, 0]) + MAC + bytes(6))
    for subtype in (12, 13):
        yield f"wlan control {subtype}", packet(105, bytes([subtype << 4 | 4, 0, 1, 0]) + MAC[:6])
    yield "wlan null function", packet(105, b"\x48\x01\x00\x00" + MAC + MAC[:6] + b"\x10\x00")
    yield "wlan encrypted", packet(105, b"\x08\x41\x00\x00" + MAC + MAC[:6] + b"\x10\x00" + bytes(range(40)))


def malformed_frames() -> Iterator[tuple[str, Packet]]:
    """Frames with a fault in a header."""
    for network in malformed_networks():
        yield f"ethernet {network.name}", packet(1, ethernet(network))
        if network.ethertype == IPV4:
            yield f"sll {network.name}", packet(113, LINKS["sll"][1](network))
            yield f"ipv4 {network.name}", packet(228, network.octets)
    yield "radiotap short", packet(127, struct.pack("<BBHI", 0, 0, 7, 0) + bytes(30))
    yield "raw version 7", packet(101, b"\x75" + bytes(30))
