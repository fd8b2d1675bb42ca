"""An independent reader of captures for the tests: one packet after another, from the format descriptions.

It shares nothing with the package, so that a mistake made there is not made here again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

PCAP_MAGICS = {
    # magic as a number in the file's byte order: (units per second, octets of a record header)
    0xA1B2C3D4: (10**6, 16),
    0xA1B23C4D: (10**9, 16),
    0xA1B2CD34: (10**6, 24),
}
SECTION_HEADER = 0x0A0D0D0A
LARGEST_PACKET = 1 << 27


class DamageError(Exception):
    """The capture breaks its format at ``offset``; the packets before were yielded."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"offset {offset}: {reason}")
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Packet:
    """One captured packet, as its record says.

    ``interface`` counts over all sections of the capture (None: pcap).  ``ticks`` is the time stamp as
    written (pcap: seconds << 32 | sub-seconds; None: a simple packet block), ``time`` the same in
    nanoseconds since 1970, rounded down.  ``record_offset`` is where the record or block starts.
    ``fcs_len`` is the octets of FCS that the capture promises at the end of each whole frame.
    """

    interface: int | None
    link_type: int
    fcs_len: int
    ticks: int | None
    time: int | None
    frame_len: int
    data: bytes
    record_offset: int

    @property
    def caplen(self) -> int:
        return len(self.data)


def packets(path: Path) -> Iterator[Packet]:
    """Packets of an uncompressed pcap or pcapng capture; raises :class:`DamageError` where it can't go on."""
    data = path.read_bytes()
    if len(data) < 4:
        raise DamageError(0, "too short for a magic number")
    if struct.unpack_from(">I", data)[0] == SECTION_HEADER:
        yield from _pcapng(data)
    else:
        yield from _pcap(data)


def whole_packets(path: Path) -> list[Packet]:
    """Packets before the first damage, if there is any."""
    found = []
    try:
        for packet in packets(path):
            found.append(packet)
    except DamageError:
        pass
    return found


def _pcap(data: bytes) -> Iterator[Packet]:
    for order in "<>":
        known = PCAP_MAGICS.get(struct.unpack_from(order + "I", data)[0])
        if known is not None:
            break
    else:
        raise DamageError(0, "no magic number of a capture")
    units, header_len = known
    if len(data) < 24:
        raise DamageError(0, "file header is cut")
    major, minor, _, _, _, link_word = struct.unpack_from(order + "HHiIII", data, 4)
    if (major, minor) != (543, 0) and not (major == 2 and minor <= 4):
        raise DamageError(4, f"version {major}.{minor}")
    if link_word & 0x03FF0000:
        raise DamageError(20, f"reserved bits in the link-type word {link_word:#x}")
    fcs_len = (link_word >> 28) * 2 if link_word & 0x04000000 else 0
    at = 24
    while at < len(data):
        if at + header_len > len(data):
            raise DamageError(at, "record header is cut")
        seconds, fraction, caplen, frame_len = struct.unpack_from(order + "IIII", data, at)
        if major == 543 or minor < 3 or (minor == 3 and caplen > frame_len):
            caplen, frame_len = frame_len, caplen
        if caplen > LARGEST_PACKET:
            raise DamageError(at, f"captured length {caplen}")
        start = at + header_len
        if start + caplen > len(data):
            raise DamageError(at, "packet is cut")
        yield Packet(
            interface=None,
            link_type=link_word & 0xFFFF,
            fcs_len=fcs_len,
            ticks=seconds << 32 | fraction,
            time=seconds * 10**9 + fraction * (10**9 // units),
            frame_len=frame_len,
            data=data[start : start + caplen],
            record_offset=at,
        )
        at = start + caplen


@dataclass(frozen=True, slots=True)
class _Interface:
    number: int
    link_type: int
    snap_len: int
    units: int
    offset: int
    fcs_len: int


def _pcapng(data: bytes) -> Iterator[Packet]:
    at, order, count = 0, "<", 0
    interfaces: list[_Interface] = []
    while at < len(data):
        if at + 12 > len(data):
            raise DamageError(at, "block is cut")
        if data[at : at + 4] == struct.pack(">I", SECTION_HEADER):
            order = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}.get(data[at + 8 : at + 12], "")
            if not order or at + 16 > len(data):
                raise DamageError(at, "no byte-order magic")
            version = struct.unpack_from(order + "HH", data, at + 12)
            if version not in ((1, 0), (1, 2)):
                raise DamageError(at, f"version {version}")
            interfaces = []
        kind, length = struct.unpack_from(order + "II", data, at)
        if length < 12 or length % 4 or at + length > len(data):
            raise DamageError(at, f"block of {length} octets")
        if struct.unpack_from(order + "I", data, at + length - 4)[0] != length:
            raise DamageError(at, "the two lengths of a block differ")
        body = data[at + 8 : at + length - 4]
        try:
            if kind == 1:
                interfaces.append(_interface(body, order, count))
                count += 1
            elif kind in (2, 3, 6):
                yield _packet(kind, body, order, interfaces, at)
        except (struct.error, IndexError) as error:
            raise DamageError(at, f"block of type {kind}: {error}") from error
        at += length


def _interface(body: bytes, order: str, number: int) -> _Interface:
    link_type, _, snap_len = struct.unpack_from(order + "HHI", body)
    units, offset, fcs_len, at = 10**6, 0, 0, 8
    while at + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, at)
        value = body[at + 4 : at + 4 + length]
        if code == 0:
            break
        if code == 9:
            units = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
        elif code == 13:
            fcs_len = value[0]
        elif code == 14:
            offset = struct.unpack(order + "q", value)[0]
        at += 4 + (length + 3) // 4 * 4
    return _Interface(number, link_type, snap_len, units, offset, fcs_len)


def _packet(kind: int, body: bytes, order: str, interfaces: list[_Interface], at: int) -> Packet:
    if kind == 3:  # simple packet block: interface 0, no time, no captured length
        interface, start, ticks = interfaces[0], 4, None
        (frame_len,) = struct.unpack_from(order + "I", body)
        caplen = min(frame_len, interface.snap_len or frame_len, len(body) - start)
    else:  # enhanced packet block, or the obsolete packet block with its 16-bit interface number
        index, high, low, caplen, frame_len = struct.unpack_from(
            order + ("IIIII" if kind == 6 else "HxxIIII"), body
        )
        interface, start, ticks = interfaces[index], 20, high << 32 | low
    if start + caplen > len(body):
        raise DamageError(at, f"captured length {caplen} in a block of {len(body) + 12}")
    time = None
    if ticks is not None:
        time = int(Fraction(ticks * 10**9, interface.units) // 1) + interface.offset * 10**9
    return Packet(
        interface=interface.number,
        link_type=interface.link_type,
        fcs_len=interface.fcs_len,
        ticks=ticks,
        time=time,
        frame_len=frame_len,
        data=body[start : start + caplen],
        record_offset=at,
    )
