"""Copies of captures as tcpdump makes them: a pcap with the packets that libpcap sees, as it sees them."""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

import numpy as np

from pcap2arrow.errors import ExportError
from pcap2arrow.savefile.pcap import effective_snap_length
from pcap2arrow.savefile.reader import read_header
from pcap2arrow.savefile.source import open_source
from pcap2arrow.times import EVER
from pcap2arrow.writing.ahead import ahead
from pcap2arrow.writing.merging.arrangement import MERGED, arranged, slices
from pcap2arrow.writing.merging.direct import Part
from pcap2arrow.writing.records.encoded import Encoded
from pcap2arrow.writing.records.formats import MAGIC, Layout
from pcap2arrow.writing.records.selection import Wanted
from pcap2arrow.writing.records.traits import RecordFormat, Traits
from pcap2arrow.writing.sources.in_place import format_of_records
from pcap2arrow.writing.sources.reader import FileReader, Reader
from pcap2arrow.writing.sources.slices import Slice
from pcap2arrow.writing.sources.stored import capture_row
from pcap2arrow.writing.target import Target, open_target, write_octets

_FCS_BITS = 0xFC000000
_SAVED_AS = {11: 100, 12: 101, 15: 102, 16: 103, 19: 106}
"""Numbers of link types that differ from system to system, and those that stand for them in savefiles."""


@dataclass(frozen=True, slots=True)
class Head:
    """What the header of a capture says, as libpcap takes it.

    ``link_word`` is the link type with the bits of the FCS, ``snap_length`` that which libpcap goes by; ``link_types``
    are those of the packets; ``nanoseconds`` tells whether times are finer than microseconds, or may be;
    ``interfaces`` how many there are; ``records`` is the format whose records are the capture's, None for others.
    """

    link_word: int
    snap_length: int
    link_types: frozenset[int]
    nanoseconds: bool
    interfaces: int = 1
    records: RecordFormat | None = None

    @property
    def link_type(self) -> int:
        """The link type that the header names."""
        return self.link_word & 0xFFFF


def read_head(reader: Reader) -> Head:
    """What a capture's header says; a pcapng is read once through for it.  Raises FormatError where it is none."""
    if isinstance(reader, FileReader):
        with open_source(reader.path, name=reader.name, before=reader.before) as source:
            header = read_header(source)
        if header is not None:
            head = _head(header.link_word, header.seen_snap_length, {header.link_type}, header.ticks > 10**6)
            return replace(head, records=format_of_records(header))
        return _of_traits(reader.traits(), reader.name)
    row = capture_row(reader.dataset, reader.capture)
    if row["format"] == "pcap":
        return _head(row["link_word"], row["snap_length"], row["link_types"], row["ticks"] > 10**6)
    return _of_traits(reader.traits(), reader.capture.name)


def _head(link_word: int, snap_length: int, link_types: Iterable[int], nanoseconds: bool) -> Head:
    link_type = link_word & 0xFFFF
    seen = effective_snap_length(snap_length, link_type)
    return Head(link_word & (_FCS_BITS | 0xFFFF), seen, frozenset(link_types), nanoseconds)


def _of_traits(traits: Traits, name: str) -> Head:
    used = [traits.interfaces[number] for number in sorted(traits.used)] or list(traits.interfaces[:1])
    if not used:
        raise ExportError(f"{name}: a pcapng without interfaces")
    lengths = [effective_snap_length(interface.snap_length, interface.link_type) for interface in used]
    link_types = frozenset(interface.link_type for interface in used)
    return Head(used[0].link_type, max(lengths), link_types, traits.finer, len(traits.interfaces))


def joint_head(heads: Sequence[Head]) -> Head:
    """What several captures' headers say together: the first one's link type, the greatest snap length."""
    return Head(
        heads[0].link_word,
        max(head.snap_length for head in heads),
        frozenset().union(*(head.link_types for head in heads)),
        any(head.nanoseconds for head in heads),
    )


@dataclass(frozen=True, slots=True)
class Opened:
    """The captures of a source, and their heads; their packets are merged by time."""

    readers: Sequence[Reader]
    heads: Sequence[Head]

    @classmethod
    def of(cls, readers: Sequence[Reader]) -> Opened:
        """Read the heads.  Raises ExportError where there is no capture."""
        if not readers:
            raise ExportError("there is no capture")
        return cls(readers, [read_head(reader) for reader in readers])

    @property
    def head(self) -> Head:
        """What the heads say together."""
        return joint_head(self.heads)


@dataclass(frozen=True, slots=True)
class Copying:
    """How sources are copied: the packets ``wanted``, of each source the first ``limit`` of them (None: all).

    Times are written as nanoseconds, or else cut to microseconds.
    """

    wanted: Wanted
    limit: int | None = None
    nanoseconds: bool = True


def copy(sources: Sequence[Opened], target: Target, how: Copying) -> int:
    """Write packets of the sources, one after another, to a little-endian pcap; how many they were.

    Packets are cut to the snap lengths.  Nothing of a source is read after its last packet that is written.  Raises
    ExportError where link types differ, as a pcap holds one, and where a time does not fit.
    """
    layout = pcap_layout(joint_head([each.head for each in sources]), nanoseconds=how.nanoseconds)
    count = 0
    with open_target(target) as (file, name):
        write_octets(file, layout.preamble)
        records = _records(sources, layout, how, name)
        with closing(ahead(records) if how.limit is None else records) as found:
            for rows, stretches in found:
                count += rows
                for octets in stretches:
                    write_octets(file, octets)
    return count


def _records(
    sources: Sequence[Opened], layout: Layout, how: Copying, name: str
) -> Generator[tuple[int, list[Any]]]:
    for source in sources:
        with closing(_merged(source, layout, how, name)) as batches:
            for batch in batches:
                yield _counted(batch)


def _merged(source: Opened, layout: Layout, how: Copying, name: str) -> Generator[Encoded]:
    captures = slices(source.readers, EVER, MERGED)
    parts = parts_of(captures, source.heads, layout, how.wanted)
    return arranged(parts, layout, MERGED, name=name, limit=how.limit)


def _counted(batch: Encoded) -> tuple[int, list[Any]]:
    return len(batch), list(batch.stretches())


def parts_of(captures: Sequence[Slice], heads: Sequence[Head], layout: Layout, wanted: Wanted) -> list[Part]:
    """Captures to be written as libpcap sees them."""
    numbers = layout.numbers or tuple(np.zeros(head.interfaces, np.int64) for head in heads)
    return [
        Part(source, capture, capture.bound(), head.records, numbers[source], wanted)
        for source, (capture, head) in enumerate(zip(captures, heads, strict=True))
    ]


def count(sources: Sequence[Opened], how: Copying) -> int:
    """How many packets :func:`copy` would write; of a dataset only the columns are read that this takes."""
    return sum(_count(source, how) for source in sources)


def _count(source: Opened, how: Copying) -> int:
    found = 0
    for chosen in chain.from_iterable(reader.chosen(how.wanted) for reader in source.readers):
        found += int(chosen.any(axis=1).sum()) if chosen.shape[1] else len(chosen)
        if how.limit is not None and found >= how.limit:
            return how.limit
    return found


def pcap_layout(head: Head, *, nanoseconds: bool) -> Layout:
    """A little-endian pcap whose header says what that one says.  Raises ExportError where link types differ."""
    if len(head.link_types) > 1:
        link_types = ", ".join(map(str, sorted(head.link_types)))
        raise ExportError(f"a pcap holds one link type, not {link_types}: pcap2arrow export writes a pcapng")
    name: Literal["pcap", "nspcap"] = "nspcap" if nanoseconds else "pcap"
    link_word = head.link_word & _FCS_BITS | _SAVED_AS.get(head.link_type, head.link_type)
    preamble = struct.pack("<IHHIIII", MAGIC[name], 2, 4, 0, 0, head.snap_length, link_word)
    return Layout(name, preamble, (), head.snap_length, None)
