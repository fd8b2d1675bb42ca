"""Hypothesis strategies for frames: plausible headers in any stack, cut or padded, and plain noise."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

LINK_TYPES = (
    1,
    0,
    9,
    12,
    14,
    50,
    51,
    101,
    104,
    105,
    107,
    108,
    113,
    127,
    147,
    204,
    228,
    229,
    276,
    9999,
    65535,
)
"""Ethernet, the other decoded link types, and some that are not decoded."""

_ETHERTYPES = (0x0800, 0x86DD, 0x0806, 0x8035, 0x8847, 0x8864, 0x88CC, 0x0600, 0x05DC, 0x0026)
_TAGS = (0x8100, 0x88A8, 0x9100)


def noise(max_size: int = 64) -> st.SearchStrategy[bytes]:
    """Random octets, now and then a long run of one octet."""
    runs = st.builds(lambda octet, size: bytes([octet]) * size, st.integers(0, 255), st.integers(0, 3000))
    return st.one_of(st.binary(max_size=max_size), st.binary(max_size=max_size), runs)


@st.composite
def _transport(draw: st.DrawFn) -> tuple[int, bytes]:
    """A protocol number and a transport header with some payload."""
    protocol = draw(st.sampled_from((6, 6, 17, 17, 1, 2, 58, 132, 47, 50, 4, 253)))
    ports = draw(st.tuples(st.integers(0, 65535), st.sampled_from((53, 80, 443, 2152, 4789, 6081))))
    payload = draw(noise(32))
    if protocol == 6:
        option_octets = draw(st.binary(max_size=12))
        option_octets += bytes(-len(option_octets) % 4)
        offset = draw(st.sampled_from((5 + len(option_octets) // 4,) * 6 + (0, 4, 15)))
        numbers = draw(st.tuples(*[st.integers(0, 2**32 - 1)] * 2))
        flags = draw(st.integers(0, 4095))
        header = struct.pack(">HHIIHHHH", *ports, *numbers, offset << 12 | flags, 8192, 0, 0)
        return protocol, header + option_octets + payload
    if protocol == 17:
        length = draw(st.sampled_from((8 + len(payload),) * 4 + (0, 7, 65535)))
        return protocol, struct.pack(">HHHH", *ports, length, 0) + payload
    return protocol, payload


@st.composite
def ipv4_packets(draw: st.DrawFn) -> bytes:
    """An IPv4 packet: options, fragments, and lengths that are right, 0, too small or too large."""
    protocol, segment = draw(_transport())
    header_options = bytes(draw(st.sampled_from((0, 0, 0, 4, 40))))
    words = draw(st.sampled_from((5 + len(header_options) // 4,) * 6 + (0, 4, 15)))
    true_length = 20 + len(header_options) + len(segment)
    length = draw(st.sampled_from((true_length,) * 4 + (0, 19, true_length - 1, 65535)))
    fragment = draw(st.sampled_from((0, 0, 0, 0x4000, 0x2000, 0x2001, 0x1FFF, 0x8000)))
    addresses = draw(st.binary(min_size=8, max_size=8))
    first = draw(st.sampled_from((0x40,) * 8 + (0x50, 0x60))) | words
    header = struct.pack(">BBHHHBBH", first, 0, length & 0xFFFF, 7, fragment, 64, protocol, 0)
    return header + addresses + header_options + segment


@st.composite
def ipv6_packets(draw: st.DrawFn) -> bytes:
    """An IPv6 packet with up to twenty extension headers, which is deeper than any reader has to follow."""
    protocol, segment = draw(_transport())
    extensions = draw(st.lists(st.sampled_from((0, 43, 44, 60, 51, 135)), max_size=3))
    if extensions and draw(st.integers(0, 3)) == 0:
        extensions = (extensions * 20)[:20]
    chain = [*extensions, protocol]
    body = b"".join(struct.pack(">BBHI", after, 0, 0, 0) for after in chain[1:]) + segment
    length = draw(st.sampled_from((len(body),) * 4 + (0, 65535)))
    addresses = draw(st.binary(min_size=32, max_size=32))
    return struct.pack(">IHBB", 6 << 28 | 0xABCDE, length & 0xFFFF, chain[0], 64) + addresses + body


def _arp_packet(addresses: bytes) -> bytes:
    return struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + addresses


@st.composite
def ethernet_frames(draw: st.DrawFn) -> bytes:
    """An Ethernet frame: tags, labels, IP, ARP or noise; some are padded, some cut."""
    kind = draw(st.sampled_from(("ipv4", "ipv4", "ipv6", "arp", "mpls", "pppoe", "other")))
    if kind == "ipv4":
        ethertype, body = 0x0800, draw(ipv4_packets())
    elif kind == "ipv6":
        ethertype, body = 0x86DD, draw(ipv6_packets())
    elif kind == "arp":
        ethertype, body = 0x0806, _arp_packet(draw(st.binary(min_size=20, max_size=20)))
    elif kind == "mpls":
        labels = draw(st.lists(st.integers(0, 0xFFFFF), min_size=1, max_size=3))
        bottom = [0] * (len(labels) - 1) + [1]
        stack = [label << 12 | last << 8 | 64 for label, last in zip(labels, bottom, strict=True)]
        ethertype, body = 0x8847, struct.pack(f">{len(stack)}I", *stack) + draw(ipv4_packets())
    elif kind == "pppoe":
        inner = draw(ipv4_packets())
        ethertype, body = 0x8864, struct.pack(">BBHHH", 0x11, 0, 9, len(inner) + 2, 0x0021) + inner
    else:
        ethertype, body = draw(st.sampled_from(_ETHERTYPES)), draw(noise())
    tags = draw(st.lists(st.tuples(st.sampled_from(_TAGS), st.integers(0, 4095)), max_size=3))
    stack_of_tags = b"".join(struct.pack(">HH", tag, vlan) for tag, vlan in tags)
    addresses = draw(st.binary(min_size=12, max_size=12))
    frame = addresses + stack_of_tags + struct.pack(">H", ethertype) + body
    return draw(_cut_or_padded(frame))


@st.composite
def _cut_or_padded(draw: st.DrawFn, frame: bytes) -> bytes:
    fate = draw(st.sampled_from(("whole", "whole", "padded", "cut")))
    if fate == "padded":
        return frame + bytes(draw(st.integers(0, 50)))
    return frame[: draw(st.integers(0, len(frame)))] if fate == "cut" else frame


def frames(link_type: int) -> st.SearchStrategy[bytes]:
    """Frames for a link type: mostly plausible ones where the link type is simple, and noise."""
    ip = st.one_of(ipv4_packets(), ipv6_packets())
    plausible: dict[int, st.SearchStrategy[bytes]] = {
        1: ethernet_frames(),
        0: ip.map(lambda packet: struct.pack("<I", 2) + packet),
        108: ip.map(lambda packet: struct.pack(">I", 24) + packet),
        9: ip.map(lambda packet: b"\xff\x03\x00\x21" + packet),
        104: ip.map(lambda packet: b"\x0f\x00\x08\x00" + packet),
        113: ip.map(lambda packet: bytes(14) + b"\x08\x00" + packet),
        276: ip.map(lambda packet: b"\x08\x00" + bytes(18) + packet),
    }
    plausible.update(dict.fromkeys((12, 14, 101, 228, 229), ip))
    return st.one_of(plausible.get(link_type, noise()), plausible.get(link_type, noise()), noise())
