"""Blocks of a pcapng that are no packets, written anew in little-endian order.

Source: draft-ietf-opsawg-pcapng, sections 3 and 4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from pcap2arrow.savefile.blocks import INTERFACE, NAMES, SECRETS, SECTION_HEADER, Interface
from pcap2arrow.savefile.pcap import ByteOrder
from pcap2arrow.savefile.pcapng import options

CUSTOM_TO_COPY = 0xBAD
_WORDS_OF_OPTIONS = {2: "I", 4: "Q", 5: "Q", 6: "I"}
"""Options of a packet block whose value is one number: flags, drop count, packet id, queue."""

_WORDS_OF_INTERFACE = {8: "Q", 14: "q"}
_TIME_OPTIONS = {9, 14}  # if_tsresol, if_tsoffset: an export writes nanoseconds
_CUSTOM_OPTIONS = {2988, 2989, 19372, 19373}
_FCS_LEN = 13


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _turned(code: int, value: bytes, order: ByteOrder, words: dict[int, str]) -> bytes:
    """An option's value with its numbers in little-endian order."""
    if order == "<":
        return value
    kind = "I" if code in _CUSTOM_OPTIONS else words.get(code)
    if kind is None or len(value) < struct.calcsize(kind):
        return value
    size = struct.calcsize(kind)
    return value[:size][::-1] + value[size:]


def little_endian_options(octets: bytes, order: ByteOrder) -> bytes:
    """Options of a packet block, written anew with an end mark; nothing where there are none."""
    turned = (
        (code, _turned(code, value, order, _WORDS_OF_OPTIONS)) for code, value in options(octets, order)
    )
    kept = [_option(code, value) for code, value in turned]
    return b"".join(kept) + (_option(0, b"") if kept else b"")


def block(kind: int, body: bytes) -> bytes:
    """A block with its lengths; the body is padded to 32 bits."""
    body += bytes(-len(body) % 4)
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def section_header() -> bytes:
    """A little-endian section header of unknown length."""
    return block(SECTION_HEADER, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface_block(
    interface: Interface, described: tuple[bytes, ByteOrder] | None, *, snap_length: int
) -> bytes:
    """A description of an interface whose time stamps are nanoseconds, with the options of its own description."""
    kept: list[tuple[int, bytes]] = []
    if described is not None:
        octets, order = described
        for code, value in options(octets[16:-4], order):
            if code not in _TIME_OPTIONS:
                kept.append((code, _turned(code, value, order, _WORDS_OF_INTERFACE)))
    elif interface.fcs_len:
        kept.append((_FCS_LEN, bytes([interface.fcs_len])))
    kept.append((9, b"\x09"))
    body = struct.pack("<HHI", interface.link_type, 0, snap_length)
    return block(INTERFACE, body + b"".join(_option(*pair) for pair in kept) + _option(0, b""))


def companion_blocks(blocks: Iterable[tuple[bytes, ByteOrder]]) -> list[bytes]:
    """Names, secrets, and custom blocks that may be copied, in little-endian order."""
    return [written for octets, order in blocks if (written := _companion(octets, order)) is not None]


def _companion(octets: bytes, order: ByteOrder) -> bytes | None:
    (kind,) = struct.unpack_from(order + "I", octets)
    if kind not in (NAMES, SECRETS, CUSTOM_TO_COPY):
        return None
    if order != ">":
        return octets
    body = octets[8:-4]
    if kind == CUSTOM_TO_COPY:
        return block(kind, body[:4][::-1] + body[4:])
    if kind == SECRETS:
        return block(kind, body[:4][::-1] + body[4:8][::-1] + body[8:])
    return block(kind, _names(body))


def _names(body: bytes) -> bytes:
    """Records of a name resolution block in little-endian order; what follows their end mark is left out."""
    written, at = [], 0
    while at + 4 <= len(body):
        kind, length = struct.unpack_from(">HH", body, at)
        if kind == 0 or at + 4 + length > len(body):
            break
        written.append(_option(kind, body[at + 4 : at + 4 + length]))
        at += 4 + (length + 3 & ~3)
    return b"".join(written) + _option(0, b"")
