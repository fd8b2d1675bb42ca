"""Octets of both capture formats, written field by field: what tests build captures from.

``order`` is ``"<"`` or ``">"``, the byte order of the numbers.  Nothing is checked: any value goes.
"""

from __future__ import annotations

import struct

PCAP_MICROSECONDS, PCAP_NANOSECONDS, PCAP_KUZNETZOV = 0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34

SECTION_HEADER = 0x0A0D0D0A
INTERFACE_DESCRIPTION = 1
PACKET = 2
SIMPLE_PACKET = 3
NAME_RESOLUTION = 4
INTERFACE_STATISTICS = 5
ENHANCED_PACKET = 6
DECRYPTION_SECRETS = 10
CUSTOM, CUSTOM_NOT_COPIED = 0xBAD, 0x40000BAD

UNKNOWN_SECTION_LENGTH = 2**64 - 1


def pcap_header(
    order: str,
    *,
    magic: int = PCAP_MICROSECONDS,
    version: tuple[int, int] = (2, 4),
    thiszone: int = 0,
    sigfigs: int = 0,
    snap_length: int = 262144,
    link_word: int = 1,
) -> bytes:
    """The 24 octets that a pcap file begins with."""
    return struct.pack(order + "IHHiIII", magic, *version, thiszone, sigfigs, snap_length, link_word)


def pcap_record(
    order: str,
    data: bytes,
    *,
    seconds: int = 0,
    fraction: int = 0,
    caplen: int | None = None,
    frame_len: int | None = None,
    swapped: bool = False,
    kuznetzov: bytes = b"",
) -> bytes:
    """A record: header, then ``data``; ``swapped`` writes the wire length first, as old versions do."""
    caplen = len(data) if caplen is None else caplen
    frame_len = caplen if frame_len is None else frame_len
    lengths = (frame_len, caplen) if swapped else (caplen, frame_len)
    return struct.pack(order + "IIII", seconds, fraction, *lengths) + kuznetzov + data


def padded(data: bytes, filler: bytes = b"\0\0\0") -> bytes:
    """``data`` filled up to a multiple of four octets."""
    return data + filler[: -len(data) % 4]


def option(order: str, code: int, value: bytes, filler: bytes = b"\0\0\0") -> bytes:
    """One option of a pcapng block."""
    return struct.pack(order + "HH", code, len(value)) + padded(value, filler)


def options(order: str, values: list[tuple[int, bytes]], *, end: bool = True) -> bytes:
    """A list of options, with ``opt_endofopt`` at its end unless there is none or ``end`` is false."""
    encoded = b"".join(option(order, code, value) for code, value in values)
    return encoded + option(order, 0, b"") if values and end else encoded


def block(
    order: str, kind: int, body: bytes, *, length: int | None = None, trailer: int | None = None
) -> bytes:
    """A pcapng block around ``body``; ``length`` and ``trailer`` replace the true lengths."""
    body = padded(body)
    length = len(body) + 12 if length is None else length
    trailer = length if trailer is None else trailer
    return struct.pack(order + "II", kind, length) + body + struct.pack(order + "I", trailer)


def section_header(
    order: str,
    *,
    version: tuple[int, int] = (1, 0),
    section_length: int = UNKNOWN_SECTION_LENGTH,
    tail: bytes = b"",
) -> bytes:
    """A section header block; ``tail`` holds its options."""
    body = struct.pack(order + "IHHQ", 0x1A2B3C4D, *version, section_length)
    return block(order, SECTION_HEADER, body + tail)


def interface_description(
    order: str, *, link_type: int = 1, reserved: int = 0, snap_length: int = 0, tail: bytes = b""
) -> bytes:
    """An interface description block."""
    body = struct.pack(order + "HHI", link_type, reserved, snap_length)
    return block(order, INTERFACE_DESCRIPTION, body + tail)


def enhanced_packet(
    order: str,
    data: bytes,
    *,
    interface: int = 0,
    ticks: int = 0,
    caplen: int | None = None,
    frame_len: int | None = None,
    filler: bytes = b"\0\0\0",
    tail: bytes = b"",
) -> bytes:
    """An enhanced packet block; ``filler`` gives the padding, ``tail`` the options."""
    caplen = len(data) if caplen is None else caplen
    frame_len = caplen if frame_len is None else frame_len
    fixed = struct.pack(order + "IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, caplen, frame_len)
    return block(order, ENHANCED_PACKET, fixed + padded(data, filler) + tail)


def obsolete_packet(
    order: str,
    data: bytes,
    *,
    interface: int = 0,
    drops: int = 0xFFFF,
    ticks: int = 0,
    frame_len: int | None = None,
    filler: bytes = b"\0\0\0",
    tail: bytes = b"",
) -> bytes:
    """The packet block that the enhanced one replaced."""
    frame_len = len(data) if frame_len is None else frame_len
    words = (interface, drops, ticks >> 32, ticks & 0xFFFFFFFF, len(data), frame_len)
    return block(order, PACKET, struct.pack(order + "HHIIII", *words) + padded(data, filler) + tail)


def simple_packet(order: str, data: bytes, *, frame_len: int, filler: bytes = b"\0\0\0") -> bytes:
    """A simple packet block: no interface, no time, no captured length."""
    return block(order, SIMPLE_PACKET, struct.pack(order + "I", frame_len) + padded(data, filler))
