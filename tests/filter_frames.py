"""Frames for random filters: every header that a filter may ask for, some of them broken, cut at every octet."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import polars as pl
import pyarrow as pa

from tests.joined import Joined, Kind
from tests.oracles import frames
from tests.oracles.frames import DATA, IPV4, IPV6, MAC, Network, ethernet, ipv4, ipv6, snap, tags, udp

ETHERNET = 1

_LLC = (
    "42 42 03 00",  # spanning tree
    "fe fe 03 83 1b 01 00 0f",  # IS-IS: hello of a LAN, level 1
    "fe fe 03 83 1b 01 00 14",  # link state, level 2
    "fe fe 03 83 1b 01 00 1b",  # partial sequence numbers, level 2
    "fe fe 03 83 1b 01 00 19",
    "fe fe 03 81 00 00",  # CLNP
    "fe fe 03 82 00 00",  # ES-IS
    "e0 e0 03 ff ff",  # IPX
    "ff ff 00 1e",  # IPX without LLC
    "f0 f1 02 04",  # NetBEUI, information
    "f0 f0 01 05",  # receiver ready
    "f0 f0 09 01",  # reject
    "f0 f0 05 00",  # receiver not ready
    "aa aa 03 08 00 07 80 9b",  # AppleTalk
    "aa aa 03 00 00 00 80 f3",
    "aa aa 03 00 00 00 81 37",
    "04 04 7f",
    "04 04 af 81",
    "04 04 e3",
)
_ETHERTYPES = (0x809B, 0x80F3, 0x6001, 0x6002, 0x6003, 0x6004, 0x6007, 0x8137, 0x88CC, 0x9000, 0x0600)
_PROTOCOLS = (9, 50, 51, 103, 108, 112, 4, 41, 94)


def _networks() -> Iterator[Network]:
    """What an EtherType or a protocol's number may lead to."""
    yield from frames.networks()
    yield from frames.malformed_networks()
    for number in _PROTOCOLS:
        header = frames.authentication(6) + frames.tcp() if number == 51 else b"\x21\x01" + DATA
        yield Network(f"ipv4 {number}", IPV4, ipv4(header, number))
        yield Network(f"ipv6 {number}", IPV6, ipv6(header, number))
    yield Network("ipv4 chain that leads back", IPV4, ipv4(b"\x33\x03" + bytes(30), 51))
    yield Network("ipv6 chain that leads back", IPV6, ipv6(b"\x33\x08" + bytes(30), 51))
    yield from _geneve()


def _geneve() -> Iterator[Network]:
    """GENEVE (RFC 8926) with options or without, over Ethernet or not, with tags inside."""
    inner = Network("", IPV4, ipv4(frames.tcp(), 6))
    for options in (0, 1, 2):
        for name, kind, payload in (
            ("ethernet", 0x6558, ethernet(inner)),
            ("vlan", 0x6558, ethernet(list(tags(inner))[1])),
            ("mpls", 0x8847, b"\xfe\xdc\xb1\x40" + inner.octets),
            ("ip", IPV4, inner.octets),
            ("ip6", IPV6, ipv6(udp(), 17)),
        ):
            header = struct.pack(">BBHI", options, 0, kind, 0x1234 << 8) + bytes(4 * options)
            datagram = udp(header + payload, ports=(50000, 6081))
            yield Network(f"geneve {name}", IPV4, ipv4(datagram, 17, options=bytes(4 * options)))
            yield Network(f"geneve {name}", IPV6, ipv6(datagram, 17))


def _ppp(n: Network) -> bytes:
    return frames.ppp_protocol(n.ethertype) + n.octets if n.ethertype in (IPV4, IPV6) else b"\xc0\x21" + DATA


def _pflog(n: Network) -> bytes:
    names = b"eth0".ljust(16, b"\0") + b"foo".ljust(16, b"\0")
    family = 2 if n.ethertype == IPV4 else 24
    head = struct.pack(">BBBB32sIIIIIIB3x", 61, family, 1, 0, names, 3, 5, 0, 0, 0, 0, 1)
    return head + n.octets


_LINKS: dict[int, Callable[[Network], bytes]] = {
    6: lambda n: b"\x10\x40" + MAC + snap(n),
    7: lambda n: b"\x1a\x02" + (b"\xd4" if n.ethertype == IPV4 else b"\xd5") + bytes(3) + n.octets,
    8: lambda n: b"\x01" + bytes(15) + n.octets,
    10: lambda n: b"\x50" + MAC + snap(n),
    16: lambda n: bytes(5) + b"\x21" + bytes(18) + n.octets,
    51: lambda n: b"\x11\x00\x00\x01\x00\x20" + _ppp(n),
    99: lambda n: bytes(6) + struct.pack(">H", n.ethertype) + bytes(36) + n.octets,
    100: snap,
    107: lambda n: b"\x18\x41\x03\xcc" + n.octets,
    109: lambda n: struct.pack("<I", 2 if n.ethertype == IPV4 else 24) + bytes(8) + n.octets,
    117: _pflog,
    119: lambda n: b"\0\0\0\x44\x00\x00\x00\x90" + bytes(136) + frames.wlan(n),
    122: lambda n: MAC + bytes(4) + snap(n),
    123: lambda n: b"\x02\x00\x00\x05" + snap(n),
    129: lambda n: b"\x1a\x02\0\0" + (b"\xd4" if n.ethertype == IPV4 else b"\xd6") + bytes(3) + n.octets,
    138: lambda n: bytes(16) + struct.pack(">H", n.ethertype) + n.octets,
    163: lambda n: b"\x80\x21\x10\x01\0\0\0\x40" + bytes(56) + frames.wlan(n),
    166: lambda n: b"\x01\x03" + _ppp(n),
    178: lambda n: b"\x4d\x47\x43\x80" + ethernet(n),
    182: lambda n: b"\xc0\x01\x18\x41\x03\xcc" + n.octets,
    192: lambda n: struct.pack("<BBHI", 0, 0, 8, 105) + frames.wlan(n),
    226: lambda n: b"\x01" + (b"\x02" if n.ethertype == IPV4 else b"\x1a") + bytes(22) + n.octets,
    240: lambda n: bytes(4) + ethernet(n),
    241: lambda n: bytes(12) + ethernet(n),
}
"""Link types whose headers :mod:`tests.oracles.frames` does not build."""

_NOISY = (19, 114, 130, 135, 137, 139, 140, 143, 147, 164, 167, 181, 187, 197, 220, 227, 239, 246)
"""Link types of which noise is enough."""


def by_link_type(random: Random) -> dict[int, list[bytes]]:
    """Whole frames of every link type, some with an octet changed."""
    found: dict[int, list[bytes]] = defaultdict(list)
    for _, built in (*frames.frames(), *frames.malformed_frames()):
        found[built.link_type].append(built.data)
    for network in _networks():
        for link_type, build in _LINKS.items():
            found[link_type].append(build(network))
        found[ETHERNET] += [ethernet(tagged) for tagged in tags(network)]
    found[ETHERNET] += [
        MAC + struct.pack(">H", len(llc) + 20) + llc + DATA for llc in map(bytes.fromhex, _LLC)
    ]
    found[ETHERNET] += [MAC + struct.pack(">H", ethertype) + DATA for ethertype in _ETHERTYPES]
    found[104] += [b"\x0f\x00\xfe\xfe\x03\x83" + DATA, b"\x0f\x00\x88\x47\xfe\xdc\xb1\x40" + DATA]
    found[123] += [bytes([kind, random.choice((0, 1)), 0, random.randrange(24)]) + DATA for kind in range(16)]
    for link_type in _NOISY:
        found[link_type] = [_noise(random) for _ in range(30)]
    for built_frames in found.values():
        changed = random.sample(built_frames, min(len(built_frames), 200))
        built_frames += [_changed(random, frame) for frame in changed]
        built_frames += [_noise(random) for _ in range(5)]
    return found


def _noise(random: Random) -> bytes:
    """Octets of which some lead to headers of IP."""
    words = (
        b"\x08\x00",
        b"\x86\xdd",
        b"\x45\x00",
        b"\x60\x00",
        b"\xaa\xaa",
        b"\x00\x06",
        b"\xff\xff",
        b"\x00\x00",
    )
    return b"".join(random.choice(words) if random.random() < 0.4 else random.randbytes(2) for _ in range(40))


def _changed(random: Random, frame: bytes) -> bytes:
    place = random.randrange(min(len(frame), 60))
    octet = random.choice((0, 1, frame[place] ^ 1 << random.randrange(8), 255, random.randrange(256)))
    return frame[:place] + bytes([octet]) + frame[place + 1 :]


_MOST = 130
"""No frame is longer: what follows is payload."""

_SNAP_LENGTHS = 3


@dataclass(frozen=True, slots=True)
class Set:
    """Packets of a link type, in a few captures and one table.

    ``packets`` are the octets that libpcap sees of each, with its length on the wire; ``whole`` the frames uncut.
    """

    captures: list[Joined]
    table: pl.DataFrame
    packets: list[tuple[bytes, int]]
    whole: list[bytes]


def packet_set(frames_of_type: Sequence[bytes], kind: Kind, folder: Path, random: Random) -> Set:
    """Some frames, cut after every octet, and whole in captures whose snap lengths cut them."""
    whole = [frame[:_MOST] for frame in frames_of_type]
    cuts = [frame for frame in whole for _ in range(len(frame) + 1)]
    cut = [frame[:length] for frame in whole for length in range(len(frame) + 1)]
    limits = sorted(random.sample(range(1, 100), _SNAP_LENGTHS))
    captures = [
        _capture(replace(kind, snap_length=limit), octets, of, folder, random)
        for limit, octets, of in [(kind.snap_length, cut, cuts), *((limit, whole, whole) for limit in limits)]
    ]
    return Set(
        captures,
        pl.concat([capture.table for capture in captures]),
        [capture.packet(number) for capture in captures for number in range(len(capture))],
        cuts + _SNAP_LENGTHS * whole,
    )


def _capture(
    kind: Kind, octets: Sequence[bytes], whole: Sequence[bytes], folder: Path, random: Random
) -> Joined:
    lengths = [_on_wire(random, *packet) for packet in zip(octets, map(len, whole), strict=True)]
    path = folder / f"{kind.link_type}-{kind.snap_length}-{random.randrange(1 << 32)}.pcap"
    return Joined(kind, path, pa.array(octets, pa.large_binary()), np.array(lengths, np.uint32))


def _on_wire(random: Random, octets: bytes, length: int) -> int:
    """A length on the wire: mostly the frame's, else that captured, or one that can't be."""
    return random.choice((length, length, length, len(octets), random.choice((0, 60, 1500, 2**32 - 1))))
