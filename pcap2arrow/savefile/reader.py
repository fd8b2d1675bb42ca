"""Reading a capture window by window: headers, records, and what to do where it is damaged."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.errors import FormatError
from pcap2arrow.savefile import pcapng
from pcap2arrow.savefile.batch import WINDOW, Gap, Records, Window
from pcap2arrow.savefile.blocks import SECTION_HEADER, SECTION_MAGIC, starts_section
from pcap2arrow.savefile.memory import Memory, OneWindow
from pcap2arrow.savefile.pcap import HEADER_LENGTH, MAGIC_OCTETS, PcapHeader, parse_header
from pcap2arrow.savefile.pcapng import BlockFraming, SectionState
from pcap2arrow.savefile.source import Source
from pcap2arrow.savefile.walk import Framing, Positions, begins_chain, walk

_SMALL_WINDOW = 1 << 16  # windows grow from here after damage or a new section, which end them early
_SEARCH_STEP = 1 << 18
_SEARCH_REACH = 2 << 20  # octets that a chain of four plausible records may take
_LINKS = 4


@dataclass(frozen=True, slots=True)
class Position:
    """Where reading goes on: an octet of the capture, and for pcapng what was defined before it."""

    offset: int
    section: SectionState = field(default_factory=SectionState)


def is_capture(head: bytes) -> bool:
    """Whether these first octets (at least four) are those of a pcap or pcapng."""
    return head[:4] in MAGIC_OCTETS or head[:4] == SECTION_MAGIC


def read_header(source: Source) -> PcapHeader | None:
    """The file header of a pcap; None for a pcapng, whose headers are blocks.

    Raises FormatError where the octets begin neither, or begin a header that can't be read.
    """
    head = source.read(0, HEADER_LENGTH + 4)
    if head[:4] != SECTION_MAGIC:
        return parse_header(head[:HEADER_LENGTH], path=source.name)
    if starts_section(head) is None:
        raise FormatError(
            source.name, 8, expected="a byte-order magic", found=head[8:12].hex(" ") or "the end"
        )
    _, (expected, found) = pcapng.open_section(head.ljust(16, b"\0"), SectionState())
    if expected:
        raise FormatError(source.name, 12, expected=expected, found=found)
    return None


def read_windows(
    source: Source,
    header: PcapHeader | None,
    position: Position,
    *,
    stop: int,
    window: int = WINDOW,
    marks: Positions | None = None,
    memory: Memory | None = None,
) -> Iterator[tuple[Window, Position]]:
    """Everything that begins in [``position``, ``stop``), window by window, each with the position after it.

    A window counts until the next one is asked for, which takes its memory, unless ``memory`` gives each its own.
    The last may end after ``stop``.  What windows there are depends on ``position``, ``stop`` and the capture's octets
    alone.  Damage never raises: it is a gap that says what was expected and found.  ``marks`` are offsets of some
    records, if an earlier reading found them: a hint that saves the search for them.
    """
    stop = min(stop, source.size)
    span = window
    mean_length = 256
    memory = memory or OneWindow()
    while position.offset < stop:
        octets = min(span, source.size - position.offset)
        data = source.window(position.offset, octets, memory=memory.take(octets + source.pad))
        result = _Attempt(source, header, position, data, stop, mean_length, marks).read()
        if result is None:
            span = _needed(data, header, position)
            continue
        done, position = result
        yield result
        rows = len(done.records)
        if rows:
            mean_length = max((done.end - done.begin) // rows, 16)
        span = _SMALL_WINDOW if _ends_early(done) else min(max(span, _SMALL_WINDOW) * 4, window)


def _ends_early(done: Window) -> bool:
    """Whether the window holds damage or a further section: another such may come soon."""
    return any(gap.kind == "damage" or (gap.block_type == SECTION_HEADER and gap.offset) for gap in done.gaps)


def _needed(data: NDArray[np.uint8], header: PcapHeader | None, position: Position) -> int:
    """Octets that the first record of ``data`` takes, more than there were in the window."""
    framing = header or BlockFraming(position.section.order)
    return max(framing.length(data, 0), _section_length(data) or 0, 64)


def _section_length(data: NDArray[np.uint8]) -> int | None:
    """Length of the section header block that ``data`` begins with; None if it begins with none."""
    order = starts_section(bytes(data[:12]))
    return int(struct.unpack_from(order + "I", data.data, 4)[0]) if order else None


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One window about to be read; ``data`` is it, padded."""

    source: Source
    header: PcapHeader | None
    position: Position
    data: NDArray[np.uint8]
    stop: int
    mean_length: int
    marks: Positions | None

    @property
    def _size(self) -> int:
        return len(self.data) - self.source.pad

    @property
    def _at_end(self) -> bool:
        return self.position.offset + self._size == self.source.size

    def read(self) -> tuple[Window, Position] | None:
        """The window as far as it can be read, or None where its first record needs a longer one."""
        base = self.position.offset
        if self.header is not None and base == 0:
            return self._window(HEADER_LENGTH, None, (self.header.gap,), self.position.section)
        if self.header is None and starts_section(bytes(self.data[:12])):
            return self._section()
        framing: Framing = self.header or BlockFraming(self.position.section.order)
        limit = min(self.stop - base, self._size)
        chain = walk(
            self.data,
            begin=0,
            limit=limit,
            size=self._size,
            framing=framing,
            mean_length=self.mean_length,
            marks=None if self.marks is None else self.marks - base,
        )
        if not len(chain.starts):
            return self._first_is_not_whole(framing)
        if self.header is not None:
            return self._window(
                chain.end, self.header.records(self.data, chain.starts), (), self.position.section
            )
        blocks = pcapng.read_blocks(self.data, chain.starts, self.position.section, base=base)
        return self._window(chain.end, blocks.records, blocks.gaps, blocks.state)

    def _window(
        self, octets: int, records: Records | None, gaps: tuple[Gap, ...], section: SectionState
    ) -> tuple[Window, Position]:
        base = self.position.offset
        if records is None:
            records = no_records(self.data)
        return Window(base, base, base + octets, records, gaps), Position(base + octets, section)

    def _section(self) -> tuple[Window, Position] | None:
        """The section header block that the window begins with."""
        length = _section_length(self.data) or 0
        section, wrong = pcapng.open_section(bytes(self.data[:16]), self.position.section)
        if length < 28 or length & 3 or length > pcapng.MAX_BLOCK:
            return self._damage("a section header of a length that is a multiple of 4 from 28", str(length))
        if length > self._size:
            return self._tail(length) if self._at_end else None
        if struct.unpack_from(section.order + "I", self.data.data, length - 4)[0] != length:
            return self._damage(f"length {length} at the end of the block", "another")
        gap = Gap(self.position.offset, length, "block", SECTION_HEADER, *wrong)
        return self._window(length, None, (gap,), section)

    def _first_is_not_whole(self, framing: Framing) -> tuple[Window, Position] | None:
        if self._size < framing.min_length:
            return self._tail(framing.min_length) if self._at_end else None
        length = framing.length(self.data, 0)
        if length and not self._at_end:
            return None
        if length and framing.plausible(self.data, np.zeros(1, dtype=np.int64))[0]:
            return self._tail(length)
        if length:
            return self._damage(f"a record of {length} octets", f"the end after {self._size}")
        return self._damage(*self._refusal())

    def _refusal(self) -> tuple[str, str]:
        if self.header is not None:
            return self.header.refusal(self.data, 0)
        kind, length = struct.unpack_from(self.position.section.order + "II", self.data.data)
        if not 12 <= length <= pcapng.MAX_BLOCK or length & 3:
            return f"a block length that is a multiple of 4, 12 to {pcapng.MAX_BLOCK}", str(length)
        if kind == SECTION_HEADER:
            return "a byte-order magic in a section header", bytes(self.data[8:12]).hex(" ")
        return f"length {length} at the end of the block", "another"

    def _tail(self, needed: int) -> tuple[Window, Position]:
        """The rest of the capture, a record that is cut."""
        base, octets = self.position.offset, self.source.size - self.position.offset
        gap = Gap(base, octets, "tail", None, f"a record of {needed} octets", f"the end after {octets}")
        return self._window(octets, None, (gap,), self.position.section)

    def _damage(self, expected: str, found: str) -> tuple[Window, Position]:
        """A gap from here to the next chain of plausible records, or to the end of the capture."""
        base = self.position.offset
        end = find_records(self.source, self.header, self.position, after=base + 1)
        end = self.source.size if end is None else end
        gap = Gap(base, end - base, "damage", None, expected, found)
        section = self.position.section
        if section.section < 0:  # it is the first section header that can't be read
            section = replace(section, section=0)
        return self._window(end - base, None, (gap,), section)


def no_records(data: NDArray[np.uint8]) -> Records:
    """Records of a window that has none."""
    empty = np.empty(0, dtype=np.int64)
    header = PcapHeader("<", 10**6, 16, (2, 4), 0, 0)
    return replace(header.records(data, empty), interface=np.empty(0, dtype=np.uint16))


def find_records(
    source: Source, header: PcapHeader | None, position: Position, *, after: int, before: int | None = None
) -> int | None:
    """The first octet in [``after``, ``before``) where a chain of four plausible records begins, None without one.

    A chain that ends exactly at the end of the capture may be two; of a pcapng a section header counts too.
    """
    framing: Framing = header or BlockFraming(position.section.order)
    before = source.size if before is None else min(before, source.size)
    step = _SEARCH_STEP >> 4
    while after < before:
        octets = min(step, before - after)
        data = source.window(after, min(octets + _SEARCH_REACH, source.size - after))
        size = len(data) - source.pad
        if data[:octets].any():
            at = np.arange(octets)
            chained = begins_chain(
                data, at, size, framing, links=_LINKS, end_counts=after + size == source.size
            )
            found = int(chained.argmax()) if chained.any() else -1
            if header is None:
                section = bytes(data[: octets + 12]).find(SECTION_MAGIC)
                if (
                    section >= 0
                    and (found < 0 or section < found)
                    and starts_section(bytes(data[section : section + 12]))
                ):
                    found = section
            if found >= 0:
                return after + found
        after += octets
        step = min(step * 4, _SEARCH_STEP)
    return None
