"""Captures that lie: lengths, options, interfaces, resolutions, depths; with what must be left of each."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests import blocks
from tests.blocks import enhanced_packet, interface_description, pcap_header, pcap_record, section_header

FRAME = bytes.fromhex("020000000010 020000000001 0800") + bytes(46)
HUGE = (0x7FFFFFFF, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Crafted:
    """A hostile capture, and what must be left of it.

    ``packets`` is how many must be found, at least that many where there is damage, None where the file can't
    be read at all.  ``damage_at`` is the offset that the report must name, None where all is odd but whole.
    """

    name: str
    data: bytes
    packets: int | None
    damage_at: int | None = None


def _pcap(*records: bytes, snap_length: int = 262_144) -> bytes:
    return b"".join([pcap_header("<", snap_length=snap_length), *records])


def _record(number: int = 0, frame: bytes = FRAME, **fields: int) -> bytes:
    return pcap_record("<", frame, seconds=1_700_000_000 + number, **fields)  # type: ignore[arg-type]


def _pcapng(*parts: bytes) -> bytes:
    return b"".join([section_header("<"), interface_description("<"), *parts])


def _packet(number: int = 0, frame: bytes = FRAME, **fields: int) -> bytes:
    ticks = (1_700_000_000 + number) * 10**6
    return enhanced_packet("<", frame, ticks=ticks, **fields)  # type: ignore[arg-type]


def _many(count: int) -> list[bytes]:
    return [_record(number) for number in range(count)]


_FILE_HEADER, _RECORD = 24, 16 + len(FRAME)
_NG_HEAD = len(_pcapng())
_NG_PACKET = len(_packet())


def pcap_lengths() -> list[Crafted]:
    """Lengths in pcap headers that can't be, and odd ones that can."""
    first_bad = _FILE_HEADER + _RECORD
    cases = [
        Crafted(f"pcap-caplen-{length:#x}", _pcap(_record(), _record(caplen=length)), 1, first_bad)
        for length in (262_145, *HUGE)
    ]
    cases += [
        Crafted(f"pcap-snap-length-{length:#x}", _pcap(*_many(3), snap_length=length), 3)
        for length in (0, *HUGE)
    ]
    good_after_bad = _pcap(*_many(2), _record(caplen=2**31 - 1), *_many(30))
    return [
        *cases,
        Crafted("pcap-good-after-bad", good_after_bad, 32, _FILE_HEADER + 2 * _RECORD),
        Crafted("pcap-caplen-above-snap-length", _pcap(_record(frame=bytes(1500)), snap_length=64), 1),
        Crafted("pcap-caplen-above-frame-len", _pcap(_record(frame=bytes(100), frame_len=1)), 1),
        Crafted("pcap-largest-caplen", _pcap(_record(frame=bytes(262_144))), 1),
        Crafted("pcap-sub-seconds", _pcap(_record(fraction=2**32 - 1)), 1),
        Crafted("pcap-cut-record-header", _pcap(_record(), _record()[:9]), 1, first_bad),
        Crafted("pcap-cut-packet", _pcap(_record(), _record()[:-1]), 1, first_bad),
        Crafted("pcap-cut-file-header", _pcap()[:23], None),
        Crafted("pcap-version", pcap_header("<", version=(3, 0)) + _record(), None),
        Crafted("pcap-later-minor-version", pcap_header("<", version=(2, 5)) + _record(), 1, 0),
        Crafted("pcap-no-packets", _pcap(), 0),
        Crafted("pcap-garbage", _pcap(b"\xff" * (1 << 20)), 0, _FILE_HEADER),
        Crafted("pcap-empty-records", _pcap(bytes(16 * 100_000)), 100_000),
        Crafted("pcap-bad-between-good", _bad_between_good(300), 300 * 20, _FILE_HEADER + 20 * _RECORD),
    ]


def _bad_between_good(count: int) -> bytes:
    """Damage again and again, each after twenty good records."""
    return _pcap(*([*_many(20), b"\xff" * 37] * count))


def pcapng_blocks() -> list[Crafted]:
    """Blocks whose lengths, options or references lie."""
    odd_lengths = [
        Crafted(
            f"pcapng-block-length-{length:#x}",
            _pcapng(
                _packet(), blocks.block("<", 6, bytes(40), length=length), *[_packet(n) for n in range(9)]
            ),
            10,
            _NG_HEAD + _NG_PACKET,
        )
        for length in (0, 8, 13, 0x7FFFFFFC, 0xFFFFFFFC, 0xFFFFFFFF)
    ]
    second = _NG_HEAD + _NG_PACKET
    overrun = interface_description("<", tail=struct.pack("<HH", 2, 0xFFF0) + b"name")
    trailer = blocks.block("<", 6, _packet()[8:-4], trailer=99)
    bad_section = section_header("<")[:-4] + bytes(4) + interface_description("<")
    huge_offset = section_header("<") + _interface_with(14, struct.pack("<q", 2**62))
    simple = blocks.simple_packet("<", FRAME, frame_len=len(FRAME))
    resolutions = [
        Crafted(
            f"pcapng-tsresol-{value:#x}",
            section_header("<") + _interface_with(9, bytes([value])) + _packet(),
            1,
        )
        for value in (0x7F, 0xFF, 0xBF, 19, 20, 0)
    ]
    return [
        *odd_lengths,
        *resolutions,
        Crafted("pcapng-trailer", _pcapng(_packet(), trailer, *[_packet(n) for n in range(9)]), 10, second),
        Crafted("pcapng-caplen-above-block", _pcapng(_packet(), _packet(caplen=4000), _packet()), 2, second),
        Crafted("pcapng-caplen-huge", _pcapng(_packet(), _packet(caplen=2**32 - 1), _packet()), 2, second),
        Crafted("pcapng-interface-77", _pcapng(_packet(), _packet(interface=77), _packet()), 2, second),
        Crafted("pcapng-no-interface", section_header("<") + _packet(), 0, len(section_header("<"))),
        Crafted(
            "pcapng-option-overrun", section_header("<") + overrun + _packet(), 1, len(section_header("<"))
        ),
        Crafted(
            "pcapng-offset", section_header("<") + _interface_with(14, b"\xff" * 7 + b"\x7f") + _packet(), 1
        ),
        Crafted("pcapng-short-options", section_header("<") + _interface_with(9, b"") + _packet(), 1),
        Crafted("pcapng-only-a-section", section_header("<"), 0),
        Crafted("pcapng-cut-section", section_header("<")[:20], 0, 0),
        Crafted("pcapng-bad-first-section", bad_section + _pcapng(_packet()) + _pcapng(_packet()), 2, 0),
        Crafted("pcapng-simple-packet-and-offset", huge_offset + simple, 1),
        Crafted("pcapng-byte-order", b"\x0a\x0d\x0d\x0a" + bytes(24), None),
        Crafted("pcapng-version", section_header("<", version=(2, 0)) + _packet(), None),
        Crafted("pcapng-many-sections", _pcapng(_packet()) * 1_000, 1_000),
    ]


def _interface_with(code: int, value: bytes) -> bytes:
    return interface_description("<", tail=blocks.options("<", [(code, value)]))


def floods() -> list[Crafted]:
    """More of something than anybody needs."""
    interfaces = section_header("<") + interface_description("<") * 200_000
    ethernet = FRAME[:12]
    ipv6 = struct.pack(">IHBB", 6 << 28, 60_000, 0, 64) + bytes(32)
    deep = {
        "vlan": ethernet + b"\x81\x00\x00\x01" * 5_000,
        "mpls": ethernet + b"\x88\x47" + b"\x00\x01\x00\x40" * 5_000,
        "ipv6-extensions": ethernet + b"\x86\xdd" + ipv6 + bytes(8 * 8_000),
    }
    return [
        Crafted("pcapng-200000-interfaces", interfaces, 0, len(section_header("<")) + 20 * 65_536),
        *(Crafted(f"pcap-deep-{name}", _pcap(_record(frame=frame)), 1) for name, frame in deep.items()),
    ]


def crafted() -> list[Crafted]:
    """All of them."""
    return [*pcap_lengths(), *pcapng_blocks(), *floods()]
