"""Packets of one capture on their way to an export, in the capture's order and in batches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.conversion.packets import Placed
from pcap2arrow.conversion.plan import Unit
from pcap2arrow.conversion.unit import place_from
from pcap2arrow.dataset.log import Dataset
from pcap2arrow.dataset.snapshot import DataFile, LiveCapture
from pcap2arrow.dataset.snapshot import Source as Stamp
from pcap2arrow.errors import ExportError
from pcap2arrow.reading.files import greatest, read_batches, read_file, read_rows
from pcap2arrow.savefile.batch import Window
from pcap2arrow.savefile.memory import Memory
from pcap2arrow.savefile.pcap import ByteOrder, PcapHeader, effective_snap_length
from pcap2arrow.savefile.pcapng import Interface, SectionState, starts_section
from pcap2arrow.savefile.reader import WINDOW, Position, read_header, read_windows
from pcap2arrow.savefile.source import Source, open_source
from pcap2arrow.times import EVER, TimeRange
from pcap2arrow.writing.ahead import in_turn
from pcap2arrow.writing.of_files import packets_in
from pcap2arrow.writing.original import capture_row, units
from pcap2arrow.writing.packets import (
    BEFORE_ANY_TIME,
    Packets,
    for_all,
    needed_columns,
    packets_of_records,
    packets_of_table,
    rows_of,
)
from pcap2arrow.writing.selection import Chosen, Wanted

PCAP_END = 10**9 << 32
"""Nanoseconds since 1970 at which a pcap's times end."""

_BATCH_ROWS = 1 << 16
_FIRST_WINDOW = 1 << 16
_RECORD_HEADER = 16
RecordFormat = Literal["pcap", "nspcap"]
"""Formats whose records may stand in a capture as they are written."""

_MICROSECONDS = 10**6  # ticks per second of a pcap in which no time is finer


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a pcapng that is no packet, whole; ``order`` is the byte order of its section."""

    octets: bytes
    order: ByteOrder


@dataclass(frozen=True, slots=True)
class Traits:
    """What an export has to know of a capture before it writes the first packet.

    ``interfaces`` are all of the capture's (a pcap has one), ``used`` the numbers of those with packets; ``blocks``
    are those of a pcapng that are no packets.  ``fcs_present`` is a pcap's P bit.  ``least`` and ``greatest`` are
    times in nanoseconds; ``finer`` tells whether any is no whole number of microseconds.  ``records`` names the format
    whose records are the capture's already, null where they are others.
    """

    interfaces: tuple[Interface, ...]
    used: frozenset[int]
    blocks: tuple[Block, ...]
    fcs_present: bool
    max_caplen: int
    least: int | None
    greatest: int | None
    finer: bool
    bound: int = BEFORE_ANY_TIME
    records: RecordFormat | None = None

    @property
    def longest(self) -> int:
        """What no packet's captured length is above, if all keep to the snap lengths."""
        limits = [effective_snap_length(each.snap_length, each.link_type) for each in self.interfaces]
        return max([*limits, self.max_caplen, 1])


@dataclass(frozen=True, slots=True)
class FileReader:
    """A capture that is read where it is.

    One of several that are read at once is read in windows of ``octets``, and of very many closed after each.
    ``before`` is the capture's stamp from when the job began: whoever reads it later reads the same, or an error.
    """

    path: str
    name: str
    octets: int = WINDOW
    kept_open: bool = True
    before: Stamp | None = None

    @property
    def bound(self) -> int:
        """An order that no packet's is below."""
        return BEFORE_ANY_TIME

    def packets(
        self, numbers: NDArray[np.int64], wanted: Wanted, *, alone: bool = False, by_unit: bool = False
    ) -> Iterator[Packets]:
        """The packets, in batches; ``numbers`` maps interfaces to those of the export.

        ``alone`` and ``by_unit`` change nothing.
        """
        for placed, chosen in self.windows(wanted):
            batch = packets_of_records(placed, numbers, chosen, wanted)
            if len(batch):
                yield batch

    def chosen(self, wanted: Wanted) -> Iterator[Chosen]:
        """Which of the packets are wanted, in batches."""
        return (chosen for _, chosen in self.windows(wanted))

    def windows(self, wanted: Wanted, memory: Memory | None = None) -> Iterator[tuple[Placed, Chosen]]:
        """The records, window by window, and which of them are wanted; damage is told of.

        A window counts as long as ``memory`` does; without one, until the next window is asked for.
        """
        rest: Unit | None = Unit(0, "", Position(0), 1 << 63, 0, 1, None)
        while rest is not None:
            rest = yield from self._opened(rest, wanted, memory)

    def _opened(
        self, rest: Unit, wanted: Wanted, memory: Memory | None
    ) -> Generator[tuple[Placed, Chosen], None, Unit | None]:
        """What is read while the file is open, from a place on; the result is what is left."""
        with open_source(self.path, name=self.name, before=self.before) as source:
            header = read_header(source)
            order = _first_order(source.read(0, 12)) if header is None else header.order
            octets = WINDOW if source.compression else self.octets
            last: tuple[Placed, Chosen] | None = None
            following: Unit | None = None
            for placed, window, left in place_from(source, header, rest, window=octets, memory=memory):
                if wanted.selection is None:
                    found = placed, for_all(len(placed))
                else:
                    found = placed, wanted.selection.of_records(placed.records, big_endian=order == ">")
                _tell_damage(source, window, wanted.damaged)
                if not self.kept_open and len(placed):
                    last, following = found, left if window.end < source.size else None
                    break
                yield found
            if source.cut and following is None:
                reason = f"expected the rest of the capture, found {source.cut}"
                wanted.damaged(f"{source.name}: offset {source.size}: {reason}")
        if last is not None:
            yield last
        return following

    def promise(self) -> Traits | None:
        """The traits that the header of a pcap of microseconds lets expect; None of other captures.

        They hold if no packet is longer than the snap length, and each time fits a pcap.  Raises FormatError where
        this is no capture.
        """
        with open_source(self.path, name=self.name, before=self.before) as source:
            header = read_header(source)
            if header is None or header.ticks != _MICROSECONDS or header.record_header != _RECORD_HEADER:
                return None
            seen = _Seen()
            for window, _ in read_windows(
                source, header, Position(0), stop=source.size, window=_FIRST_WINDOW
            ):
                if len(window.records):
                    seen.begin(window.records.time, window.records.time_valid)
                    break
        seen.use(0)
        traits = seen.traits((_interface(header),), (), fcs_present=header.fcs_present)
        return replace(traits, records=format_of_records(header))

    def traits(self, times: TimeRange = EVER) -> Traits:
        """What the packets of that time add up to, by reading the capture.  Raises FormatError where it is none."""
        blocks: list[Block] = []
        seen = _Seen()
        with open_source(self.path, name=self.name, before=self.before) as source:
            header = read_header(source)
            section, order = SectionState(), _first_order(source.read(0, 12))
            windows = read_windows(source, header, Position(0), stop=source.size, window=self.octets)
            for window, position in windows:
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
        traits = seen.traits(interfaces, tuple(blocks), fcs_present=fcs_present)
        return replace(traits, records=None if header is None else format_of_records(header))


@dataclass(frozen=True, slots=True)
class TableReader:
    """A capture in a dataset, with its octets."""

    dataset: Dataset
    capture: LiveCapture

    @property
    def bound(self) -> int:
        """An order that no packet's is below."""
        untimed = any(
            "=none/" in file.path or "=" not in file.path
            for file in self.capture.files
            if file.table == "packets"
        )
        first = self.capture.first_time
        return BEFORE_ANY_TIME if untimed or first is None else first

    def packets(
        self, numbers: NDArray[np.int64], wanted: Wanted, *, alone: bool = False, by_unit: bool = False
    ) -> Iterator[Packets]:
        """The packets, in batches; ``numbers`` maps interfaces to those of the export.

        Of a reader that is ``alone`` and read to its end, two units are read at once; of one that is not, whole files
        are decoded batch by batch, as there may be many.  ``by_unit``, each batch is a unit, whatever its size.
        """
        columns = needed_columns(wanted, interfaces=len(numbers))
        if by_unit:
            read = partial(self._of_unit, columns=columns, numbers=numbers, wanted=wanted)
            yield from filter(None, map(read, units(self.capture)))
            return
        if wanted.selection is None and not alone:
            for unit in units(self.capture):
                files = [file for file in unit if file.table == "packets"]
                if len(files) == 1:
                    yield from self._of_file(files[0], columns, numbers, wanted)
                else:
                    yield from _batches(self._of_unit(unit, columns, numbers, wanted))
            return
        tasks = [partial(self._of_unit, unit, columns, numbers, wanted) for unit in units(self.capture)]
        for packets in in_turn(tasks) if alone else (task() for task in tasks):
            yield from _batches(packets)

    def _of_file(
        self, file: DataFile, columns: list[str], numbers: NDArray[np.int64], wanted: Wanted
    ) -> Iterator[Packets]:
        for table in read_batches(self.dataset, file, columns=columns, rows=_BATCH_ROWS):
            yield packets_of_table(table, numbers, for_all(len(table)), wanted)

    def _of_unit(
        self, unit: list[DataFile], columns: list[str], numbers: NDArray[np.int64], wanted: Wanted
    ) -> Packets | None:
        """The packets of a unit that are wanted, in their order; None where none is."""
        parts = []
        for file, chosen in self._chosen(unit, wanted):
            rows = rows_of(chosen)
            if rows is None or len(rows):
                table = read_rows(self.dataset, file, columns=columns, rows=rows)
                parts.append(
                    packets_of_table(table, numbers, chosen if rows is None else chosen[rows], wanted)
                )
        if len(parts) < 2:
            return parts[0] if parts else None
        packets = Packets.concat(parts)
        return packets.take(np.argsort(packets.number))

    def chosen(self, wanted: Wanted) -> Iterator[Chosen]:
        """Which of the packets are wanted, in batches; not in the capture's order."""
        for unit in units(self.capture):
            yield from (chosen for _, chosen in self._chosen(unit, wanted))

    def _chosen(self, unit: list[DataFile], wanted: Wanted) -> Iterator[tuple[DataFile, Chosen]]:
        """Files of packets, and which of their packets are wanted."""
        files = [file for file in unit if file.table == "packets"]
        if wanted.selection is None:
            yield from ((file, for_all(file.rows)) for file in files)
            return
        is_big = capture_row(self.dataset, self.capture)["byte_order"] == "big"
        for file in files:
            yield file, wanted.selection.of_file(self.dataset, file, big_endian=is_big)

    def traits(self, times: TimeRange = EVER) -> Traits:
        """What the packets of that time add up to: by the capture's row, its files' statistics, or a few columns."""
        row = capture_row(self.dataset, self.capture)
        files = [file for unit in units(self.capture) for file in unit]
        packets = [file for file in files if file.table == "packets"]
        if row["format"] == "pcapng":
            blocks: list[Block] = []
            for file in files:
                if file.table == "blocks":
                    blocks += _stored_blocks(
                        read_file(self.dataset, file, columns=["kind", "offset", "content"])
                    )
            interfaces = tuple(Interface(**interface) for interface in row["interfaces"])
            return self._traits(packets, times, interfaces, _in_section_order(blocks))
        interface = Interface(0, row["link_word"] & 0xFFFF, row["snap_length"], fcs_len=row["fcs_len"])
        lengths = [greatest(self.dataset, file, "caplen") for file in packets]
        longest = max((length for length in lengths if length is not None), default=0)
        exceeding = times and longest > effective_snap_length(interface.snap_length, interface.link_type)
        if row["ticks"] > _MICROSECONDS or None in lengths or exceeding:
            return self._traits(packets, times, (interface,), (), fcs_present=row["fcs_present"])
        return Traits(
            interfaces=(interface,),
            used=frozenset(
                [0] if any(packets_in(self.dataset, file, times).any() for file in packets) else []
            ),
            blocks=(),
            fcs_present=row["fcs_present"],
            max_caplen=longest,
            least=row["min_time"],
            greatest=row["max_time"],
            finer=False,
            bound=self.bound,
        )

    def _traits(
        self,
        files: list[DataFile],
        times: TimeRange,
        interfaces: tuple[Interface, ...],
        blocks: tuple[Block, ...],
        *,
        fcs_present: bool = False,
    ) -> Traits:
        """By columns."""
        seen = _Seen(self.bound)
        for file in files:
            table = read_file(self.dataset, file, columns=["time", "interface_id", "caplen"])
            if times:
                table = table.filter(pa.array(packets_in(self.dataset, file, times)))
            interface = table["interface_id"].fill_null(0).to_numpy()
            stamps = table["time"].drop_null().cast(pa.int64()).to_numpy()
            seen.add(stamps, interface, table["caplen"].to_numpy())
        return seen.traits(interfaces, blocks, fcs_present=fcs_present)


Reader = FileReader | TableReader


def open_reader(dataset: Dataset, capture: LiveCapture) -> Reader:
    """A capture of a dataset, from its tables or, where frames are only referenced, from the archive.

    Raises ExportError where there are no octets.
    """
    if "frames=stored" in capture.options.split():
        return TableReader(dataset, capture)
    if "frames=referenced" in capture.options.split():
        return FileReader(capture.source.path, capture.name)
    raise ExportError(f"{capture.name}: converted with --frames none: there are no octets to write")


def _batches(packets: Packets | None) -> Iterator[Packets]:
    for at in range(0, 0 if packets is None else len(packets), _BATCH_ROWS):
        assert packets is not None
        yield packets.take(slice(at, at + _BATCH_ROWS))


def _tell_damage(source: Source, window: Window, damaged: Callable[[str], None]) -> None:
    for gap in window.gaps:
        if gap.reason:
            damaged(f"{source.name}: offset {gap.offset}: {gap.reason}")


class _Seen:
    """What the packets of a capture add up to."""

    def __init__(self, bound: int | None = None) -> None:
        self._bound = bound
        self._used: set[int] = set()
        self._max_caplen = 0
        self._least: int | None = None
        self._greatest: int | None = None
        self._finer = False

    def begin(self, time: NDArray[np.int64], timed: NDArray[np.bool_]) -> None:
        """Tell the first packets of the capture: the time of the first is a bound of their orders."""
        if self._bound is None and len(time):
            self._bound = int(time[0]) if timed[0] else BEFORE_ANY_TIME

    def use(self, interface: int) -> None:
        """Tell of an interface that has packets."""
        self._used.add(interface)

    def add(self, time: NDArray[np.int64], interface: NDArray[Any], caplen: NDArray[Any]) -> None:
        self._used.update(np.unique(interface).tolist())
        self._max_caplen = max(self._max_caplen, int(caplen.max(initial=0)))
        if len(time):
            least, greatest = int(time.min()), int(time.max())
            self._least = least if self._least is None else min(self._least, least)
            self._greatest = greatest if self._greatest is None else max(self._greatest, greatest)
            self._finer = self._finer or bool((time % 1000).any())

    def traits(
        self, interfaces: tuple[Interface, ...], blocks: tuple[Block, ...], *, fcs_present: bool
    ) -> Traits:
        used = frozenset(self._used)
        bound = BEFORE_ANY_TIME if self._bound is None else self._bound
        return Traits(
            interfaces,
            used,
            blocks,
            fcs_present,
            self._max_caplen,
            self._least,
            self._greatest,
            self._finer,
            bound,
        )


def _interface(header: PcapHeader) -> Interface:
    return Interface(0, header.link_type, header.snap_length, fcs_len=header.fcs_len)


def format_of_records(header: PcapHeader) -> RecordFormat | None:
    """The format that is written with such records."""
    is_ours = header.order == "<" and header.record_header == _RECORD_HEADER and header.swapped == "never"
    return None if not is_ours else "pcap" if header.ticks == _MICROSECONDS else "nspcap"


def _first_order(head: bytes) -> ByteOrder:
    return starts_section(head) or "<"


def _stored_blocks(table: pa.Table) -> list[Block]:
    rows = zip(table["kind"].to_pylist(), table["content"].to_pylist(), strict=True)
    return [Block(content, "<") for kind, content in rows if kind == "block"]


def _in_section_order(blocks: list[Block]) -> tuple[Block, ...]:
    """The blocks, each with the byte order of the section header before it."""
    order, result = _first_order(blocks[0].octets[:12] if blocks else b""), []
    for block in blocks:
        order = starts_section(block.octets[:12]) or order
        result.append(Block(block.octets, order))
    return tuple(result)
