"""Captures to write: which format holds what is to be exported, its headers, and its records."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeGuard, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.errors import ExportError, UsageError
from pcap2arrow.savefile.blocks import ENHANCED_PACKET, INTERFACE, SIMPLE_PACKET, Interface
from pcap2arrow.savefile.pcap import ByteOrder, effective_snap_length
from pcap2arrow.writing.records import blocks
from pcap2arrow.writing.records.packets import Packets
from pcap2arrow.writing.records.pieces import Octets, joined
from pcap2arrow.writing.records.traits import PCAP_END, Traits

Format = Literal["auto", "pcap", "nspcap", "pcapng", "original"]
_Written = Literal["pcap", "nspcap", "pcapng"]
_TICKS: dict[str, int] = {"pcap": 10**6, "nspcap": 10**9}
MAGIC = {"pcap": 0xA1B2C3D4, "nspcap": 0xA1B23C4D}
"""First word of a pcap, by the name of its format."""

_PCAP_HEAD = 16
_SIMPLE_HEAD, _BLOCK_HEAD = 12, 28
_NANOS = 1_000_000_000
_PCAP_TIMES = range(1 << 32)


def check_format(name: str) -> None:
    """Raise UsageError unless that is a format."""
    if name not in get_args(Format):
        raise UsageError(f"format: expected one of {', '.join(get_args(Format))}, found {name!r}")


class UnkeptError(Exception):
    """A capture does not say enough in its header, or has packets that are not what it said."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How an export is written: its ``format``, its ``preamble`` up to the first record, and the interface numbers.

    ``numbers`` maps, per capture, its interfaces to those of the export; ``first_snap_length`` is that of the first
    one.  ``cut`` is what packets are cut to, None if they are not.
    """

    format: _Written
    preamble: bytes
    numbers: tuple[NDArray[np.int64], ...]
    first_snap_length: int
    cut: int | None


def plan_layout(captures: Sequence[Traits], wanted: Format, *, snap_length: int | None) -> Layout:
    """The layout of an export of those captures, in their order.

    ``auto`` is pcap, with nanoseconds only if a time stamp needs them, or pcapng where link types or interfaces differ
    or a time does not fit.  Raises ExportError where the wanted format can't hold the captures.
    """
    used = [
        interface
        for capture in captures
        for k, interface in enumerate(capture.interfaces)
        if k in capture.used
    ]
    used = used or [interface for capture in captures[:1] for interface in capture.interfaces[:1]]
    kinds = set(map(_kind, used))
    fits = all(
        capture.least is None
        or capture.greatest is None
        or (capture.least >= 0 and capture.greatest < PCAP_END)
        for capture in captures
    )
    if wanted == "auto":
        finer = any(capture.finer for capture in captures)
        wanted = "pcapng" if len(kinds) > 1 or not fits or not used else "nspcap" if finer else "pcap"
    if wanted == "pcapng":
        return _pcapng(captures, snap_length)
    link_types = sorted({interface.link_type for interface in used})
    if len(link_types) > 1:
        raise ExportError(
            f"a pcap holds one link type, not {', '.join(map(str, link_types))}: write a pcapng"
        )
    assert wanted in ("pcap", "nspcap")
    return _pcap(captures, used, wanted, snap_length)


def is_promised(promises: Sequence[Traits | None]) -> TypeGuard[Sequence[Traits]]:
    """Whether captures let expect what :func:`plan_layout` needs: each does, and all are of one kind."""
    kinds = {_kind(interface) for each in promises if each for interface in each.interfaces}
    return all(promises) and len(kinds) == 1


def is_kept(packets: Packets, promised: Traits) -> bool:
    """Whether packets of a capture are such that the layout planned for what was promised is right."""
    time = packets.time
    return bool((packets.caplen <= promised.longest).all()) and time.min() >= 0 and time.max() < PCAP_END


def _kind(interface: Interface) -> tuple[int, int, str | None]:
    return interface.link_type, interface.fcs_len, interface.name


def _greatest_snap_length(
    captures: Sequence[Traits], interfaces: Sequence[Interface], cut: int | None
) -> int:
    lengths = [effective_snap_length(interface.snap_length, interface.link_type) for interface in interfaces]
    greatest = max([*lengths, *(capture.max_caplen for capture in captures), 1])
    return greatest if cut is None else min(greatest, cut)


def _pcap(
    captures: Sequence[Traits], used: Sequence[Interface], name: Literal["pcap", "nspcap"], cut: int | None
) -> Layout:
    word = used[0].link_type if used else 1
    lengths = {interface.fcs_len for interface in used}
    if len(lengths) == 1 and (fcs_len := lengths.pop()) and fcs_len <= 30:
        word |= 1 << 26 | fcs_len // 2 << 28
    elif all(capture.fcs_present for capture in captures) and captures:
        word |= 1 << 26
    snap_length = _greatest_snap_length(
        captures, [i for capture in captures for i in capture.interfaces], cut
    )
    preamble = struct.pack("<IHHIIII", MAGIC[name], 2, 4, 0, 0, snap_length, word)
    numbers = tuple(np.zeros(max(len(capture.interfaces), 1), np.int64) for capture in captures)
    return Layout(name, preamble, numbers, snap_length, cut)


def _pcapng(captures: Sequence[Traits], cut: int | None) -> Layout:
    written: dict[bytes, int] = {}
    sequence: list[bytes] = []
    companions: dict[bytes, None] = {}
    numbers, snap_lengths = [], []
    for capture in captures:
        of_capture = []
        described = [
            (block.octets, block.order)
            for block in capture.blocks
            if _is_interface(block.octets, block.order)
        ]
        for k, interface in enumerate(capture.interfaces):
            description = described[k] if k < len(described) else None
            snap_length = _greatest_snap_length([capture], [interface], cut)
            snap_lengths.append(snap_length)
            octets = blocks.interface_block(interface, description, snap_length=snap_length)
            if description is not None or octets not in written:
                written[octets] = len(sequence)
                sequence.append(octets)
                of_capture.append(len(sequence) - 1)
            else:
                of_capture.append(written[octets])
        numbers.append(np.array(of_capture or [0], np.int64))
        pairs = [(block.octets, block.order) for block in capture.blocks]
        companions |= dict.fromkeys(blocks.companion_blocks(pairs))
    preamble = blocks.section_header() + b"".join(sequence) + b"".join(companions)
    return Layout("pcapng", preamble, tuple(numbers), snap_lengths[0] if snap_lengths else 0, cut)


def _is_interface(octets: bytes, order: ByteOrder) -> bool:
    (kind,) = struct.unpack_from(order + "I", octets)
    return bool(kind == INTERFACE)


def record_lengths(packets: Packets, layout: Layout) -> NDArray[np.int64]:
    """How many octets the record of each packet takes."""
    caplen = kept_lengths(packets, layout)
    return _PCAP_HEAD + caplen if layout.format != "pcapng" else _block_lengths(packets, layout, caplen)[1]


def record_heads(packets: Packets, layout: Layout) -> NDArray[np.int64] | int:
    """At which octet of the record of each packet its frame begins."""
    if layout.format != "pcapng":
        return _PCAP_HEAD
    simple, _ = _block_lengths(packets, layout, kept_lengths(packets, layout))
    return np.where(simple, _SIMPLE_HEAD, _BLOCK_HEAD)


def kept_lengths(packets: Packets, layout: Layout) -> NDArray[np.int64]:
    """How many octets of each packet are written."""
    return packets.caplen if layout.cut is None else np.minimum(packets.caplen, layout.cut)


def _block_lengths(
    packets: Packets, layout: Layout, caplen: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which packets take simple blocks, and the blocks' lengths."""
    simple = ~packets.timed & (packets.interface == 0) & (packets.options.length == 0)
    simple &= caplen == np.minimum(packets.frame_len, layout.first_snap_length)
    return simple, np.where(simple, 16, 32) + caplen + -caplen % 4 + packets.options.length


def encode(packets: Packets, layout: Layout, *, name: str) -> pa.Buffer:
    """The records of packets, one after the other; ``name`` is what errors call the export.

    Raises ExportError where a time does not fit the format.
    """
    caplen = kept_lengths(packets, layout)
    header = packets.header.cut(0, caplen)
    rest = packets.rest.cut(0, caplen - header.length)
    if layout.format == "pcapng":
        return _packet_blocks(packets, layout, [header, rest], caplen, name)
    seconds, fraction = np.divmod(packets.time, _NANOS)
    seconds, fraction = seconds - packets.carried, fraction + packets.carried * _NANOS
    _check_times(packets, seconds, _PCAP_TIMES, name, "a pcap's: write a pcapng")
    fraction //= _NANOS // _TICKS[layout.format]
    heads = _words([seconds, fraction, caplen, packets.frame_len])
    return joined([Octets.fixed(heads), header, rest])


def _packet_blocks(
    packets: Packets, layout: Layout, frame: list[Octets], caplen: NDArray[np.int64], name: str
) -> pa.Buffer:
    """Enhanced packet blocks; simple ones for packets without a time, where a simple one can hold the packet."""
    _check_times(packets, packets.time, range(1 << 63), name, "a pcapng's of unsigned nanoseconds")
    simple, length = _block_lengths(packets, layout, caplen)
    padding = -caplen % 4
    kind, third = (
        np.where(simple, SIMPLE_PACKET, ENHANCED_PACKET),
        np.where(simple, packets.frame_len, packets.interface),
    )
    low, high = packets.time & 0xFFFFFFFF, packets.time >> 32
    heads = _words([kind, length, third, high, low, caplen, packets.frame_len])
    tail = Octets.fixed(_words([np.zeros_like(length), length]))
    head = Octets.fixed(heads).cut(0, np.where(simple, _SIMPLE_HEAD, _BLOCK_HEAD))
    return joined([head, *frame, tail.cut(0, padding), packets.options, tail.cut(4)])


def _words(columns: list[NDArray[np.int64]]) -> NDArray[np.uint32]:
    """Little-endian words side by side: a row for each packet."""
    words = np.empty((len(columns[0]), len(columns)), "<u4")
    for number, column in enumerate(columns):
        words[:, number] = column
    return words


def _check_times(packets: Packets, times: NDArray[np.int64], allowed: range, name: str, whose: str) -> None:
    wrong = np.flatnonzero((times < allowed.start) | (times > allowed[-1]))
    if len(wrong):
        row = wrong[0]
        raise ExportError(
            f"{name}: frame {packets.number[row]}: its time, {packets.time[row]} ns since 1970, is outside {whose}"
        )
