"""The pcapng format: sections, interfaces, and packet blocks as columns.

Source: draft-ietf-opsawg-pcapng; what is refused follows libpcap 1.10.3 (``sf-pcapng.c``) and Wireshark 4.0, which,
other than libpcap, reads several sections and interfaces of different link types.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.savefile.batch import PAD, Gap, Records
from pcap2arrow.savefile.blocks import (
    ENHANCED_PACKET,
    INTERFACE,
    OLD_PACKET,
    SECTION_HEADER,
    SIMPLE_PACKET,
    Interface,
    starts_section,
)
from pcap2arrow.savefile.pcap import ByteOrder, effective_snap_length, max_caplen
from pcap2arrow.savefile.ticks import is_exact, to_nanoseconds
from pcap2arrow.savefile.walk import Octets, Positions, words

_KNOWN_BLOCKS = np.array(
    [SECTION_HEADER, 1, 2, 3, 4, 5, 6, 9, 10, 0xBAD, 0x40000BAD], dtype=np.int64
)  # 9: systemd journal; the last two: custom blocks

_LIKE: dict[ByteOrder, re.Pattern[bytes]] = {
    "<": re.compile(rb"\x06\0\0\0(?s:...)\0"),
    ">": re.compile(rb"\0\0\0\x06\0"),
}
"""What enhanced packet blocks begin with."""

MAX_BLOCK = 1 << 27
"""No block that is longer is believed: room for the largest packet of any link type, and its options."""

MAX_INTERFACES = 1 << 16


@dataclass(frozen=True, slots=True)
class SectionState:
    """What must be known to read on in the middle of a pcapng: the current section and every interface so far.

    ``first`` is the number, in ``interfaces``, of the current section's first interface; ``supported`` is False
    inside a section of another major version, whose blocks are passed over.
    """

    order: ByteOrder = "<"
    section: int = -1
    first: int = 0
    interfaces: tuple[Interface, ...] = ()
    supported: bool = True


@dataclass(frozen=True, slots=True)
class BlockFraming:
    """Framing of the blocks of one section: it stops at the next section header, which may turn the byte order.

    The trailer of a block counts where the window holds it: the :data:`PAD` octets at the window's end are none.
    """

    order: ByteOrder
    min_length: int = 12
    length_at: int = 4
    length_more: int = 0

    def lengths(self, data: Octets, at: Positions) -> Positions:
        """Length of the block at each position; 0 for a section header, a bad length, or a trailer that differs."""
        length = words(data, at + 4, self.order)
        good = (length >= 12) & (length <= MAX_BLOCK) & (length & 3 == 0)
        good &= words(data, at, self.order) != SECTION_HEADER
        trailer = np.where(good, at + length - 4, at)
        inside = trailer <= len(data) - PAD - 4
        good &= ~inside | (words(data, np.where(inside, trailer, at), self.order) == length)
        return np.where(good, length, 0)

    def length(self, data: Octets, at: int) -> int:
        """The same for one position."""
        kind, length = struct.unpack_from(self.order + "II", data.data, at)
        if kind == SECTION_HEADER or not 12 <= length <= MAX_BLOCK or length & 3:
            return 0
        end = at + length
        if end <= len(data) - PAD and struct.unpack_from(self.order + "I", data.data, end - 4)[0] != length:
            return 0
        return int(length)

    def plausible(self, data: Octets, at: Positions) -> NDArray[np.bool_]:
        """Whether a block of a well-known type may begin there (its lengths are compared by :meth:`lengths`)."""
        result: NDArray[np.bool_] = data[at + (7 if self.order == "<" else 4)] <= MAX_BLOCK >> 24
        index = np.flatnonzero(result)
        here = at[index]
        result[index] = np.isin(words(data, here, self.order), _KNOWN_BLOCKS) & (self.lengths(data, here) > 0)
        return result

    def likeness(self, data: Octets, at: int) -> tuple[re.Pattern[bytes], int]:
        """A pattern for enhanced packet blocks, which begin with it."""
        return _LIKE[self.order], 0


def open_section(head: bytes, state: SectionState) -> tuple[SectionState, tuple[str, str]]:
    """State after a section header block with these first 16 octets, and what is wrong with it (expected, found)."""
    order = starts_section(head) or state.order
    major, minor = struct.unpack_from(order + "HH", head, 12)
    supported = major == 1 and minor in (0, 2)
    wrong = ("", "") if supported else ("pcapng version 1.0 or 1.2", f"{major}.{minor}")
    return SectionState(order, state.section + 1, len(state.interfaces), state.interfaces, supported), wrong


def options(body: bytes, order: ByteOrder) -> Iterator[tuple[int, bytes]]:
    """Options (code, value) of a block up to the end mark; ends early, without error, where one overruns."""
    at = 0
    while at + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, at)
        if code == 0 or at + 4 + length > len(body):
            return
        yield code, body[at + 4 : at + 4 + length]
        at += 4 + (length + 3 & ~3)


def options_overrun(body: bytes, order: ByteOrder) -> bool:
    """Whether an option of the block claims more octets than the block has."""
    read = sum(4 + (len(value) + 3 & ~3) for _, value in options(body, order))
    return read + 4 <= len(body) and struct.unpack_from(order + "H", body, read)[0] != 0


def parse_interface(block: bytes, state: SectionState) -> Interface:
    """The interface that an interface description block defines."""
    link_type, _, snap_length = struct.unpack_from(state.order + "HHI", block, 8)
    interface = Interface(state.section, link_type, snap_length)
    for code, value in options(block[16:-4], state.order):
        if code == 2:
            interface = replace(interface, name=value.rstrip(b"\0").decode(errors="replace"))
        elif code == 9 and len(value) >= 1:
            interface = replace(interface, resolution=value[0])
        elif code == 13 and len(value) >= 1:
            interface = replace(interface, fcs_len=value[0])
        elif code == 14 and len(value) >= 8:
            interface = replace(interface, time_offset=struct.unpack_from(state.order + "q", value)[0])
    return interface


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of one section, told apart: ``records`` of packets, ``gaps`` of everything else, ``state`` after them."""

    records: Records
    gaps: tuple[Gap, ...]
    state: SectionState


def read_blocks(data: Octets, start: Positions, state: SectionState, *, base: int) -> Blocks:
    """Tell apart the blocks that start at those positions of ``data``, none of them a section header.

    ``base`` is the capture's offset of ``data[0]``.
    """
    words = np.ndarray((len(data) - 27,), dtype="V28", buffer=data, strides=(1,))[start]
    head = words.view(state.order + "u4").reshape(-1, 7)
    kind, length = head[:, 0], head[:, 1].astype(np.int64)
    simple, old = kind == SIMPLE_PACKET, kind == OLD_PACKET
    is_packet = (kind == ENHANCED_PACKET) | simple | old
    gaps: dict[int, Gap] = {}
    if not state.supported:
        is_packet[:] = False
    interfaces = list(state.interfaces)
    defined = np.zeros(len(start), dtype=np.int64)
    for row in np.flatnonzero(~is_packet):
        at, octets, wrong = int(start[row]), int(length[row]), ("", "")
        if not state.supported:
            gaps[at] = Gap(
                base + at, octets, "damage", int(kind[row]), "a section of version 1.0 or 1.2", "another"
            )
            continue
        if kind[row] == INTERFACE:
            before = len(interfaces)
            wrong = _define(bytes(data[at : at + octets]), state, interfaces)
            defined[row] = len(interfaces) - before
        gaps[at] = Gap(base + at, octets, "block", int(kind[row]), *wrong)
    known = len(state.interfaces) - state.first + np.cumsum(defined)
    state = replace(state, interfaces=tuple(interfaces)) if len(interfaces) > len(state.interfaces) else state
    rows = np.flatnonzero(is_packet)
    packets = _packets(data, start[rows], head[rows], known[rows], state)
    for row in np.flatnonzero(~packets.sound):
        at, number = int(start[rows[row]]), int(packets.interface[row])
        expected, found = "a packet that fits its block", f"{packets.caplen[row]} octets"
        if number >= known[rows[row]]:
            expected, found = "a defined interface", f"number {number}"
        gaps[at] = Gap(base + at, int(packets.length[row]), "damage", int(kind[rows[row]]), expected, found)
    return Blocks(_as_records(data, packets, state), tuple(gaps[at] for at in sorted(gaps)), state)


def _define(block: bytes, state: SectionState, interfaces: list[Interface]) -> tuple[str, str]:
    """Append the interface that the block defines; the result is what is wrong with it (expected, found)."""
    if len(block) < 20:
        return "an interface description of at least 20 octets", str(len(block))
    if len(interfaces) >= MAX_INTERFACES:
        return f"at most {MAX_INTERFACES} interfaces", "more"
    interfaces.append(parse_interface(block, state))
    if options_overrun(block[16:-4], state.order):
        return "options inside the block", "one that overruns it"
    return "", ""


@dataclass(frozen=True, slots=True)
class _Packets:
    start: Positions
    head_len: NDArray[np.int64]
    length: NDArray[np.int64]
    interface: NDArray[np.int64]
    ticks: NDArray[np.uint64]
    timed: NDArray[np.bool_]
    caplen: NDArray[np.int64]
    frame_len: NDArray[np.int64]
    enhanced: NDArray[np.bool_]
    sound: NDArray[np.bool_]


def _packets(
    data: Octets, start: Positions, head: NDArray[np.uint32], known: Positions, state: SectionState
) -> _Packets:
    """Fields of packet blocks; ``sound`` is False where the packet does not fit or its interface is unknown."""
    kind, length = head[:, 0], head[:, 1].astype(np.int64)
    simple, old = kind == SIMPLE_PACKET, kind == OLD_PACKET
    interface = head[:, 2].astype(np.int64)
    halves = np.where(old, interface, 0).astype(np.uint32)
    interface[old] = (halves >> 16 if state.order == ">" else halves & 0xFFFF)[old]
    interface[simple] = 0
    frame_len = np.where(simple, head[:, 2], head[:, 6]).astype(np.int64)
    links, snaps = _per_interface(state, "link_type"), _per_interface(state, "snap_length")
    number = np.minimum(interface, max(len(links) - 1, 0))
    most = np.array([max_caplen(int(link)) for link in links] or [0])
    snap_length = np.where(snaps == 0, most, snaps) if len(snaps) else most
    in_block = np.where(
        simple, np.minimum(np.minimum(frame_len, snap_length[number]), length - 16), head[:, 5]
    )
    head_len = np.where(simple, 12, 28).astype(np.int64)
    caplen = in_block.astype(np.int64)
    sound = (caplen >= 0) & (caplen <= length - head_len - 4) & (interface < known) & (caplen <= most[number])
    ticks = head[:, 3].astype(np.uint64) << np.uint64(32) | head[:, 4].astype(np.uint64)
    return _Packets(
        start, head_len, length, interface, ticks, ~simple, caplen, frame_len, kind == ENHANCED_PACKET, sound
    )


def _per_interface(state: SectionState, name: str) -> NDArray[np.int64]:
    return np.array(
        [getattr(interface, name) for interface in state.interfaces[state.first :]], dtype=np.int64
    )


def _as_records(data: Octets, packets: _Packets, state: SectionState) -> Records:
    keep = packets.sound
    interface, ticks, timed = packets.interface[keep], packets.ticks[keep], packets.timed[keep]
    start, caplen, length = packets.start[keep], packets.caplen[keep], packets.length[keep]
    packet = start + packets.head_len[keep]
    time = np.zeros(len(start), dtype=np.int64)
    fits = np.zeros(len(start), dtype=np.bool_)
    exact = np.zeros(len(start), dtype=np.bool_)
    section = state.interfaces[state.first :]
    for number in np.unique(interface):
        which = interface == number
        units = {"resolution": section[number].resolution, "offset": section[number].time_offset}
        time[which], fits[which] = to_nanoseconds(ticks[which], **units)
        exact[which] = is_exact(section[number].resolution)
    snaps = np.array([effective_snap_length(i.snap_length, i.link_type) for i in section] or [0])
    timed_and_fits = timed & fits
    return Records(
        data=data,
        start=start,
        packet=packet,
        length=length,
        caplen=caplen.astype(np.uint32),
        frame_len=packets.frame_len[keep].astype(np.uint32),
        filter_len=np.minimum(caplen, snaps[interface]).astype(np.uint32),
        link_type=_lookup(state, "link_type", interface).astype(np.uint16),
        fcs_len=_lookup(state, "fcs_len", interface).astype(np.uint8),
        interface=(interface + state.first).astype(np.uint16),
        time=np.where(timed_and_fits, time, 0),
        time_valid=timed_and_fits,
        time_raw=ticks,
        time_raw_needed=timed & ~(exact & fits),
        verbatim=~packets.enhanced[keep] | ~_is_bare(data, packet + caplen, start + length - 4),
    )


def _lookup(state: SectionState, name: str, interface: NDArray[np.int64]) -> NDArray[np.int64]:
    values = _per_interface(state, name)
    return values[interface] if len(values) else interface


def _is_bare(data: Octets, end: Positions, trailer: Positions) -> NDArray[np.bool_]:
    """Whether nothing but fewer than four zero octets stands between a packet's end and its block's trailer."""
    padding = trailer - end
    bare: NDArray[np.bool_] = padding < 4
    for k in range(3):
        bare &= (padding <= k) | (data[end + k] == 0)
    return bare
