"""The first round: where the records of a capture begin, how many there are, and the checksums of its octets.

A capture is scanned in blocks of :data:`BLOCK` octets.  Ranges of blocks can be scanned at once: each guesses where
its first record begins, and :func:`prove` shows that the guess was right, because the range before ended exactly
there, or has the range scanned again from where it really begins.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from pcap2arrow.checksum import crc32
from pcap2arrow.savefile.batch import Gap, Records, Window
from pcap2arrow.savefile.blocks import Interface
from pcap2arrow.savefile.pcap import PcapHeader
from pcap2arrow.savefile.pcapng import SectionState
from pcap2arrow.savefile.reader import Position, find_records, read_windows
from pcap2arrow.savefile.source import Source
from pcap2arrow.savefile.ticks import exact_nanoseconds
from pcap2arrow.savefile.walk import Positions

BLOCK = 80 << 20
"""Octets of a block: what one checksum covers, and what begins in it is one unit of writing."""

MAX_DAMAGE = 1000
"""Places of damage that are listed; the rest is only counted."""

_CHECKSUM_STEP = 4 << 20
_WINDOW = 24 << 20  # larger than in the second round, since guesses of records are made once a window
_MARK_EVERY = 32
_SAMPLE = 4096
_SAMPLES = 16
_ENDS = 1 << 16


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """Times of some records of a capture, in nanoseconds since 1970; None where no record has one.

    ``first`` and ``last`` are the first and last record's that has a time at all, even one that does not fit 64
    bits; ``least`` and ``greatest`` are taken over times that fit.
    """

    first: int | None = None
    last: int | None = None
    least: int | None = None
    greatest: int | None = None

    def then(self, later: TimeSpan) -> TimeSpan:
        """The span of these records and later ones."""
        return TimeSpan(
            self.first if self.first is not None else later.first,
            later.last if later.last is not None else self.last,
            min((t for t in (self.least, later.least) if t is not None), default=None),
            max((t for t in (self.greatest, later.greatest) if t is not None), default=None),
        )


@dataclass(frozen=True, slots=True)
class BlockScan:
    """What begins in one block of a capture: from ``begin`` to the octet ``end`` where the next item begins.

    ``crc`` is the CRC-32 of the block's own octets; ``damage`` lists at most :data:`MAX_DAMAGE` of ``damaged`` gaps;
    ``marks`` are the offsets of every 32nd record or so (int64), which spare the second round the search for them.
    """

    begin: Position
    end: int
    packets: int
    times: TimeSpan
    crc: int
    link_types: frozenset[int]
    damaged: int
    damage: tuple[Gap, ...] = ()
    marks: Positions = field(default_factory=lambda: np.empty(0, np.int64), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class RangeScan:
    """Blocks ``first`` to ``last`` of a capture, and the positions where the range begins and ends.

    ``begin`` is None where no record could be guessed; then there are no blocks.
    """

    first: int
    last: int
    begin: Position | None
    end: Position | None
    blocks: tuple[BlockScan, ...] = ()


def block_count(size: int, block: int = BLOCK) -> int:
    """Blocks of a capture of ``size`` octets; an empty one has one."""
    return max(-(-size // block), 1)


def ranges(blocks: int, wanted: int) -> list[tuple[int, int]]:
    """``wanted`` ranges (fewer if there are fewer blocks) of first and last block, as even as can be."""
    wanted = min(max(wanted, 1), blocks)
    cuts = [blocks * k // wanted for k in range(wanted + 1)]
    return [(first, after - 1) for first, after in pairwise(cuts)]


def scan_range(
    source: Source,
    header: PcapHeader | None,
    first: int,
    last: int,
    *,
    begin: Position | None = None,
    block: int = BLOCK,
) -> RangeScan:
    """Scan blocks ``first`` to ``last``, from ``begin``, or from a guess where that is not known yet."""
    if begin is None:
        begin = Position(0) if first == 0 else guess(source, header, first * block, (last + 1) * block)
        if begin is None:
            return RangeScan(first, last, None, None)
    position = begin
    scans: list[BlockScan] = []
    for number in range(first, last + 1):
        checksum = _Checksum(source, number * block, min((number + 1) * block, source.size))
        summary = _Summary(position)
        windows = read_windows(source, header, position, stop=(number + 1) * block, window=_WINDOW)
        for window, after in windows:
            summary.add(window, after)
            checksum.add(window)
            position = after
        scans.append(summary.scan(position, checksum.finish()))
    return RangeScan(first, last, begin, position, tuple(scans))


def guess(source: Source, header: PcapHeader | None, after: int, before: int) -> Position | None:
    """Where the first record in [``after``, ``before``) may begin; None where nothing looks like one."""
    section = SectionState() if header else _head_section(source)
    found = find_records(source, header, Position(after, section), after=after, before=before)
    return None if found is None else Position(found, section)


def _head_section(source: Source) -> SectionState:
    """What a pcapng defines before its first packet: usually all there is."""
    section = SectionState()
    for window, position in read_windows(source, None, Position(0), stop=source.size, window=1 << 16):
        section = position.section
        if len(window.records) or position.offset > 1 << 20:
            break
    return section


def prove(
    scans: Iterable[RangeScan], rescan: Callable[[RangeScan, Position], RangeScan]
) -> tuple[list[BlockScan], Position]:
    """The blocks of all ranges, in order, each proven to begin where the one before ended; and the last one's end.

    ``rescan`` is called for a range that began elsewhere, with the position where it really begins.
    """
    position = Position(0)
    blocks: list[BlockScan] = []
    for scan in scans:
        if scan.begin != position:
            scan = rescan(scan, position)
        blocks += scan.blocks
        position = scan.end or position
    return blocks, position


def identity(source: Source, blocks: list[BlockScan]) -> str:
    """What tells a capture from all others, as 32 hexadecimal digits.

    A BLAKE2b hash over its size, the CRC-32 of every block, its first and last 64 KiB, and 16 samples of 4 KiB.
    """
    digest = hashlib.blake2b(struct.pack("<Q", source.size), digest_size=16)
    digest.update(struct.pack(f"<{len(blocks)}I", *(block.crc for block in blocks)))
    digest.update(source.read(0, _ENDS))
    digest.update(source.read(max(source.size - _ENDS, 0), _ENDS))
    for k in range(_SAMPLES):
        digest.update(source.read(source.size * k // _SAMPLES, _SAMPLE))
    return digest.hexdigest()


class _Checksum:
    """CRC-32 of the octets from ``begin`` to ``end``, taken from windows where they hold them."""

    def __init__(self, source: Source, begin: int, end: int) -> None:
        self._source, self._at, self._end, self._crc = source, begin, end, 0

    def add(self, window: Window) -> None:
        self._read_to(min(window.base, self._end))
        data = window.records.data
        upto = min(window.base + len(data) - self._source.pad, self._end)
        if self._at < upto:
            self._crc = crc32(data[self._at - window.base : upto - window.base].data, self._crc)
            self._at = upto

    def finish(self) -> int:
        self._read_to(self._end)
        return self._crc

    def _read_to(self, upto: int) -> None:
        while self._at < upto:
            length = min(_CHECKSUM_STEP, upto - self._at)
            self._crc = crc32(self._source.read(self._at, length), self._crc)
            self._at += length


@dataclass(slots=True)
class _Summary:
    """What the windows of a block add up to."""

    begin: Position
    packets: int = 0
    times: TimeSpan = field(default_factory=TimeSpan)
    link_types: set[int] = field(default_factory=set)
    damaged: int = 0
    damage: list[Gap] = field(default_factory=list)
    marks: list[Positions] = field(default_factory=list)

    def add(self, window: Window, after: Position) -> None:
        records = window.records
        self.packets += len(records)
        self.times = self.times.then(time_span(records, after.section.interfaces))
        self.marks.append(records.start[::_MARK_EVERY] + window.base)
        if len(records):
            first = int(records.link_type[0])
            same = (records.link_type == first).all()
            self.link_types.update([first] if same else np.unique(records.link_type).tolist())
        wrong = [gap for gap in window.gaps if gap.expected]
        self.damaged += len(wrong)
        self.damage += wrong[: MAX_DAMAGE - len(self.damage)]

    def scan(self, end: Position, crc: int) -> BlockScan:
        return BlockScan(
            self.begin,
            end.offset,
            self.packets,
            self.times,
            crc,
            frozenset(self.link_types),
            self.damaged,
            tuple(self.damage),
            np.concatenate(self.marks) if self.marks else np.empty(0, np.int64),
        )


def time_span(records: Records, interfaces: tuple[Interface, ...]) -> TimeSpan:
    """Times of the records of a window; ``interfaces`` are those of a pcapng so far."""
    valid, time = records.time_valid, records.time
    stamped = valid | records.time_raw_needed
    if not stamped.any():
        return TimeSpan()
    first, last = int(stamped.argmax()), len(stamped) - 1 - int(stamped[::-1].argmax())
    fitting = time if valid.all() else time[valid]
    least, greatest = (int(fitting.min()), int(fitting.max())) if len(fitting) else (None, None)
    return TimeSpan(
        _exact_time(records, first, interfaces), _exact_time(records, last, interfaces), least, greatest
    )


def _exact_time(records: Records, row: int, interfaces: tuple[Interface, ...]) -> int:
    if records.time_valid[row] or records.interface is None:
        return int(records.time[row])
    interface = interfaces[records.interface[row]]
    return exact_nanoseconds(
        int(records.time_raw[row]), resolution=interface.resolution, offset=interface.time_offset
    )


def cumulative(blocks: Iterable[BlockScan]) -> Iterator[tuple[BlockScan, int, int | None]]:
    """Each block with the number of packets before it, and the greatest time before it."""
    packets, times = 0, TimeSpan()
    for block in blocks:
        yield block, packets, times.greatest
        packets += block.packets
        times = times.then(block.times)
