"""Write ``sample.pcapng``: what one host sees while it fetches a page over IPv4 and over IPv6.

Run ``python examples/make_sample.py`` to write it beside this script, or name another place.  The result is
the same every time.  Addresses and names are those set aside for documentation (RFC 5737, RFC 3849,
RFC 2606), times run over a midnight, and all checksums are right.
"""

from __future__ import annotations

import ipaddress
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START = 1_714_607_999_250_000_000  # 2024-05-01 23:59:59.25 UTC, in nanoseconds
ROUTER_MAC, HOST_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000010")
HOST, ROUTER, RESOLVER, SERVER = "192.0.2.10", "192.0.2.1", "192.0.2.53", "198.51.100.80"
HOST6, ROUTER6, SERVER6 = "2001:db8::10", "2001:db8::1", "2001:db8:80::80"
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
FIN, SYN, PSH, ACK = 1, 2, 8, 16


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame, how long after the one before it came, and a comment for its block."""

    gap_ns: int
    data: bytes
    comment: str = ""


def checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071)."""
    words: tuple[int, ...] = struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def with_checksum(segment: bytes, at: int, pseudo_header: bytes = b"") -> bytes:
    """The segment with its checksum filled in at offset ``at``, where it holds zero."""
    return segment[:at] + struct.pack(">H", checksum(pseudo_header + segment)) + segment[at + 2 :]


def ethernet(payload: bytes, ethertype: int, *, outgoing: bool, vlan: int | None = None) -> bytes:
    """An Ethernet frame between host and router; received ones are padded to the minimum of 60 octets."""
    addresses = ROUTER_MAC + HOST_MAC if outgoing else HOST_MAC + ROUTER_MAC
    tag = b"" if vlan is None else struct.pack(">HH", 0x8100, vlan)
    frame = addresses + tag + struct.pack(">H", ethertype) + payload
    return frame if outgoing else frame.ljust(60, b"\0")


def ipv4(
    source: str, target: str, protocol: int, payload: bytes, *, identity: int, fragment: int = 0
) -> bytes:
    """An IPv4 packet; ``fragment`` is the word of flags and offset."""
    addresses = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(target).packed
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), identity, fragment, 64, protocol, 0)
    return with_checksum(head + addresses, 10) + payload


def ipv6(source: str, target: str, protocol: int, payload: bytes, *, hop_limit: int = 64) -> bytes:
    """An IPv6 packet."""
    head = struct.pack(">IHBB", 6 << 28 | 0x12345, len(payload), protocol, hop_limit)
    return head + ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(target).packed + payload


def pseudo_header(source: str, target: str, protocol: int, length: int) -> bytes:
    """What the checksums of TCP, UDP and ICMPv6 cover beside the segment (RFC 9293, RFC 8200)."""
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(target).packed
    numbers = struct.pack(">BBH", 0, protocol, length)
    return addresses + (numbers if len(addresses) == 8 else struct.pack(">II", length, protocol))


def udp(source: str, target: str, ports: tuple[int, int], payload: bytes) -> bytes:
    """A UDP datagram."""
    datagram = struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload
    return with_checksum(datagram, 6, pseudo_header(source, target, UDP, len(datagram)))


def address_resolution() -> Iterator[Frame]:
    """The host asks for the router's MAC address: ARP, then neighbour discovery."""
    host, router = ipaddress.IPv4Address(HOST).packed, ipaddress.IPv4Address(ROUTER).packed
    head = struct.pack(">HHBB", 1, 0x0800, 6, 4)
    request = head + struct.pack(">H", 1) + HOST_MAC + host + bytes(6) + router
    reply = head + struct.pack(">H", 2) + ROUTER_MAC + router + HOST_MAC + host
    broadcast = b"\xff" * 6 + HOST_MAC + struct.pack(">H", 0x0806) + request
    yield Frame(0, broadcast, "Who has the router's address?")
    yield Frame(312_417, ethernet(reply, 0x0806, outgoing=False))

    target = ipaddress.IPv6Address(ROUTER6).packed
    group = "ff02::1:ff00:1"
    solicitation = struct.pack(">BBHI", 135, 0, 0, 0) + target + b"\x01\x01" + HOST_MAC
    advertisement = struct.pack(">BBHI", 136, 0, 0, 0xE0000000) + target + b"\x02\x01" + ROUTER_MAC
    asked = icmpv6_packet(HOST6, group, solicitation, hop_limit=255)
    answered = icmpv6_packet(ROUTER6, HOST6, advertisement, hop_limit=255)
    multicast = bytes.fromhex("3333ff000001") + HOST_MAC + struct.pack(">H", 0x86DD)
    yield Frame(1_204_003, multicast + asked)
    yield Frame(298_771, ethernet(answered, 0x86DD, outgoing=False))


def icmpv6_packet(source: str, target: str, message: bytes, *, hop_limit: int = 64) -> bytes:
    """An ICMPv6 message in its packet."""
    filled = with_checksum(message, 2, pseudo_header(source, target, ICMPV6, len(message)))
    return ipv6(source, target, ICMPV6, filled, hop_limit=hop_limit)


def name_lookup(identity: int, record_type: int, address: bytes) -> Iterator[Frame]:
    """A DNS question for the server's name, and its answer."""
    name = b"\3www\7example\3com\0"
    question = name + struct.pack(">HH", record_type, 1)
    answer = struct.pack(">HHHIH", 0xC00C, record_type, 1, 300, len(address)) + address
    query = struct.pack(">HHHHHH", identity, 0x0100, 1, 0, 0, 0) + question
    response = struct.pack(">HHHHHH", identity, 0x8180, 1, 1, 0, 0) + question + answer
    port = 40_000 + record_type
    asked = udp(HOST, RESOLVER, (port, 53), query)
    answered = udp(RESOLVER, HOST, (53, port), response)
    yield Frame(
        2_000_119, ethernet(ipv4(HOST, RESOLVER, UDP, asked, identity=identity), 0x0800, outgoing=True)
    )
    yield Frame(
        18_345_902, ethernet(ipv4(RESOLVER, HOST, UDP, answered, identity=identity), 0x0800, outgoing=False)
    )


@dataclass(slots=True)
class Connection:
    """One TCP connection from the host to a server: keeps the sequence numbers of both sides."""

    host: str
    server: str
    port: int
    sent: int
    received: int
    identity: int = 0x1000
    clock: int = 1000

    def segment(self, flags: int, payload: bytes = b"", *, outgoing: bool, advance: bool = True) -> bytes:
        """The next segment of one side as a frame; ``advance=False`` leaves the sequence number as it was."""
        self.identity += 1
        self.clock += 7
        ports = (self.port, 80) if outgoing else (80, self.port)
        numbers = (self.sent, self.received) if outgoing else (self.received, self.sent)
        acknowledged = numbers[1] if flags & ACK else 0
        stamp = struct.pack(">BBII", 8, 10, self.clock, self.clock - 7 if flags & ACK else 0)
        size_and_sack = struct.pack(">BBHBB", 2, 4, 1440, 4, 2)
        options = size_and_sack + stamp + b"\1\3\3\7" if flags & SYN else b"\1\1" + stamp
        offset = (20 + len(options)) // 4
        head = struct.pack(">HHIIHHHH", *ports, numbers[0], acknowledged, offset << 12 | flags, 501, 0, 0)
        octets = head + options + payload
        source, target = (self.host, self.server) if outgoing else (self.server, self.host)
        octets = with_checksum(octets, 16, pseudo_header(source, target, TCP, len(octets)))
        if advance:
            self._advance(len(payload) + bool(flags & (SYN | FIN)), outgoing=outgoing)
        if ":" in source:
            return ethernet(ipv6(source, target, TCP, octets), 0x86DD, outgoing=outgoing)
        packet = ipv4(source, target, TCP, octets, identity=self.identity, fragment=0x4000)
        return ethernet(packet, 0x0800, outgoing=outgoing)

    def _advance(self, octets: int, *, outgoing: bool) -> None:
        if outgoing:
            self.sent = (self.sent + octets) % 2**32
        else:
            self.received = (self.received + octets) % 2**32


def page_over_http(connection: Connection, *, lost: bool) -> Iterator[Frame]:
    """A connection that fetches one page; with ``lost`` one segment of the answer is sent twice."""
    page = b"<!doctype html><title>Example</title><p>" + b"All packets are equal. " * 120
    request = b"GET / HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: sample\r\nAccept: */*\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
    answer += f"Content-Length: {len(page)}\r\nConnection: close\r\n\r\n".encode() + page

    yield Frame(1_500_233, connection.segment(SYN, outgoing=True), f"Connection to {connection.server}")
    yield Frame(24_118_904, connection.segment(SYN | ACK, outgoing=False))
    yield Frame(51_207, connection.segment(ACK, outgoing=True))
    yield Frame(211_345, connection.segment(PSH | ACK, request, outgoing=True))
    yield Frame(25_002_118, connection.segment(ACK, outgoing=False))
    for at in range(0, len(answer), 1200):
        part = answer[at : at + 1200]
        if lost and at == 1200:
            again = connection.segment(PSH | ACK, part, outgoing=False, advance=False)
            yield Frame(402_771, again, "This segment comes once more")
        yield Frame(402_771, connection.segment(PSH | ACK, part, outgoing=False))
        yield Frame(38_102, connection.segment(ACK, outgoing=True))
    yield Frame(1_100_090, connection.segment(FIN | ACK, outgoing=False))
    yield Frame(220_416, connection.segment(FIN | ACK, outgoing=True))
    yield Frame(24_870_225, connection.segment(ACK, outgoing=False))


def pings() -> Iterator[Frame]:
    """Echo requests and replies in VLAN 42, over both versions of IP."""
    for number in range(1, 4):
        body = struct.pack(">HH", 7, number) + bytes(range(0x10, 0x30))
        for kind, outgoing in ((8, True), (0, False)):
            message = with_checksum(struct.pack(">BBH", kind, 0, 0) + body, 2)
            ends = (HOST, SERVER) if outgoing else (SERVER, HOST)
            packet = ipv4(*ends, ICMP, message, identity=0x2000 + number)
            yield Frame(150_000_731, ethernet(packet, 0x0800, outgoing=outgoing, vlan=42))
        for kind, outgoing in ((128, True), (129, False)):
            ends = (HOST6, SERVER6) if outgoing else (SERVER6, HOST6)
            packet = icmpv6_packet(*ends, struct.pack(">BBH", kind, 0, 0) + body)
            yield Frame(12_000_408, ethernet(packet, 0x86DD, outgoing=outgoing, vlan=42))


def fragments() -> Iterator[Frame]:
    """One UDP datagram (syslog) in two IPv4 fragments."""
    text = b"<14>May  2 00:00:00 host sample: " + b"a line that is too long for one packet; " * 40
    datagram = udp(HOST, SERVER, (514, 514), text)
    more, last = datagram[:1480], datagram[1480:]
    first = ipv4(HOST, SERVER, UDP, more, identity=0x3001, fragment=0x2000)
    second = ipv4(HOST, SERVER, UDP, last, identity=0x3001, fragment=1480 // 8)
    yield Frame(5_000_017, ethernet(first, 0x0800, outgoing=True), "First fragment")
    yield Frame(9_004, ethernet(second, 0x0800, outgoing=True))


def conversation() -> Iterator[Frame]:
    """All frames of the sample, in order."""
    yield from address_resolution()
    yield from name_lookup(0x4D01, 1, ipaddress.IPv4Address(SERVER).packed)
    yield from name_lookup(0x4D02, 28, ipaddress.IPv6Address(SERVER6).packed)
    over4 = Connection(HOST, SERVER, 50_001, sent=1_000_000_001, received=4_294_966_000)
    yield from page_over_http(over4, lost=True)
    yield from pings()
    yield from fragments()
    yield from page_over_http(Connection(HOST6, SERVER6, 50_002, sent=7, received=9_000_000), lost=False)


def block(kind: int, body: bytes) -> bytes:
    """A block of a little-endian pcapng file."""
    body += bytes(-len(body) % 4)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def options(*values: tuple[int, bytes]) -> bytes:
    """A list of options with its end; empty without values."""
    encoded = [
        struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4) for code, value in values
    ]
    return b"".join([*encoded, bytes(4)]) if values else b""


def pcapng(frames: Iterator[Frame]) -> bytes:
    """The capture: one section, one Ethernet interface with nanoseconds, names, and the packets."""
    section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + options((4, b"make_sample.py"))
    interface = struct.pack("<HHI", 1, 0, 262144) + options((2, b"eth0"), (9, b"\x09"))
    names = b"".join(
        struct.pack("<HH", kind, len(record)) + record + bytes(-len(record) % 4)
        for kind, record in (
            (1, ipaddress.IPv4Address(SERVER).packed + b"www.example.com\0"),
            (2, ipaddress.IPv6Address(SERVER6).packed + b"www.example.com\0"),
        )
    )
    blocks = [block(0x0A0D0D0A, section), block(1, interface), block(4, names + bytes(4))]
    time = START
    for frame in frames:
        time += frame.gap_ns
        size = len(frame.data)
        head = struct.pack("<IIIII", 0, time >> 32, time & 0xFFFFFFFF, size, size)
        comment = [(1, frame.comment.encode())] if frame.comment else []
        blocks.append(block(6, head + frame.data + bytes(-size % 4) + options(*comment)))
    return b"".join(blocks)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("sample.pcapng")
    target.write_bytes(pcapng(conversation()))
