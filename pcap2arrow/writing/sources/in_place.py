"""Captures that are read where they are: their packets in windows, and what these add up to."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pcap2arrow.conversion.placed import Placed, Unit, place_from
from pcap2arrow.savefile.batch import WINDOW, Records, Window
from pcap2arrow.savefile.blocks import Interface, starts_section
from pcap2arrow.savefile.memory import Memory
from pcap2arrow.savefile.pcap import PcapHeader
from pcap2arrow.savefile.pcapng import SectionState
from pcap2arrow.savefile.reader import Position, read_header, read_windows
from pcap2arrow.savefile.source import Source, open_source
from pcap2arrow.times import TimeRange
from pcap2arrow.writing.records.packets import for_all
from pcap2arrow.writing.records.selection import Chosen, Wanted
from pcap2arrow.writing.records.traits import MICROSECONDS, Block, RecordFormat, Seen, Traits

if TYPE_CHECKING:
    from pcap2arrow.writing.sources.reader import FileReader

FIRST_WINDOW = 1 << 16
"""Octets that are enough for the first packet."""

_RECORD_HEADER = 16


def windows(
    reader: FileReader, wanted: Wanted, memory: Memory | None = None
) -> Iterator[tuple[Placed, Chosen]]:
    """The records, window by window, and which of them are wanted; damage is told of.

    A window counts as long as ``memory`` does; without one, until the next window is asked for.
    """
    rest: Unit | None = Unit(0, "", Position(0), 1 << 63, 0, 1, None)
    while rest is not None:
        rest = yield from _opened(reader, rest, wanted, memory)


def _opened(
    reader: FileReader, rest: Unit, wanted: Wanted, memory: Memory | None
) -> Generator[tuple[Placed, Chosen], None, Unit | None]:
    """What is read while the file is open, from a place on; the result is what is left."""
    with open_source(reader.path, name=reader.name, before=reader.before) as source:
        header = read_header(source)
        order = (starts_section(source.read(0, 12)) or "<") if header is None else header.order
        octets = WINDOW if source.compression else reader.octets
        stored = (reader.size or source.size) / max(source.size, 1)
        last: tuple[Placed, Chosen] | None = None
        following: Unit | None = None
        for placed, window, left in place_from(source, header, rest, window=octets, memory=memory):
            if wanted.selection is None:
                found = placed, for_all(len(placed))
            else:
                found = placed, wanted.selection.of_records(placed.records, big_endian=order == ">")
            _tell_damage(source, window, wanted.damaged)
            wanted.read(int((window.end - window.begin) * stored))
            if not reader.kept_open and len(placed):
                last, following = found, left if window.end < source.size else None
                break
            yield found
        if source.cut and following is None:
            reason = f"expected the rest of the capture, found {source.cut}"
            wanted.damaged(f"{source.name}: offset {source.size}: {reason}")
    if last is not None:
        yield last
    return following


def promise(reader: FileReader) -> Traits | None:
    """The traits that the header of a pcap of microseconds lets expect; None of other captures.

    They hold if no packet is longer than the snap length, and each time fits a pcap.  Raises FormatError where
    this is no capture.
    """
    with open_source(reader.path, name=reader.name, before=reader.before) as source:
        header = read_header(source)
        if header is None or header.ticks != MICROSECONDS or header.record_header != _RECORD_HEADER:
            return None
        seen = Seen()
        first = next((each for each in _records(source, header, FIRST_WINDOW) if len(each)), None)
        if first is not None:
            seen.begin(first.time, first.time_valid)
    seen.use(0)
    found = seen.traits((_interface(header),), (), fcs_present=header.fcs_present)
    return replace(found, records=format_of_records(header))


def traits(reader: FileReader, times: TimeRange) -> Traits:
    """What the packets of that time add up to, by reading the capture.  Raises FormatError where it is none."""
    blocks: list[Block] = []
    seen = Seen()
    with open_source(reader.path, name=reader.name, before=reader.before) as source:
        header = read_header(source)
        section, order = SectionState(), starts_section(source.read(0, 12)) or "<"
        for window, position in read_windows(
            source, header, Position(0), stop=source.size, window=reader.octets
        ):
            section = position.section
            records = window.records
            interface = (
                records.interface if records.interface is not None else np.zeros(len(records), np.uint16)
            )
            seen.begin(records.time, records.time_valid)
            if times:
                inside = times.which(records.time, records.time_valid)
                records, interface = records.rows(inside), interface[inside]
            seen.add(records.time[records.time_valid], interface, records.caplen)
            for gap in window.gaps if header is None else ():
                if gap.kind == "block":
                    octets = source.read(gap.offset, gap.length)
                    order = starts_section(octets[:12]) or order
                    blocks.append(Block(octets, order))
    interfaces = section.interfaces if header is None else (_interface(header),)
    fcs_present = header is not None and header.fcs_present
    found = seen.traits(interfaces, tuple(blocks), fcs_present=fcs_present)
    return replace(found, records=None if header is None else format_of_records(header))


def records(reader: FileReader, *, octets: int = WINDOW) -> Iterator[Records]:
    """All records, in windows of so many octets.  Raises FormatError where this is no capture."""
    with open_source(reader.path, name=reader.name, before=reader.before) as source:
        yield from _records(source, read_header(source), octets)


def _records(source: Source, header: PcapHeader | None, octets: int) -> Iterator[Records]:
    for window, _ in read_windows(source, header, Position(0), stop=source.size, window=octets):
        yield window.records


def _interface(header: PcapHeader) -> Interface:
    return Interface(0, header.link_type, header.snap_length, fcs_len=header.fcs_len)


def format_of_records(header: PcapHeader) -> RecordFormat | None:
    """The format that is written with such records."""
    is_ours = header.order == "<" and header.record_header == _RECORD_HEADER and header.swapped == "never"
    return None if not is_ours else "pcap" if header.ticks == MICROSECONDS else "nspcap"


def _tell_damage(source: Source, window: Window, damaged: Callable[[str], None]) -> None:
    for gap in window.gaps:
        if gap.reason:
            damaged(f"{source.name}: offset {gap.offset}: {gap.reason}")
