"""Packets of one capture on their way to an export, in the capture's order and in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.arrays import values
from pcap2arrow.dataset.log import Dataset
from pcap2arrow.dataset.snapshot import DataFile, LiveCapture
from pcap2arrow.dataset.snapshot import Source as Stamp
from pcap2arrow.errors import ExportError
from pcap2arrow.reading.files import greatest, read_batches, read_file, read_rows
from pcap2arrow.savefile.batch import WINDOW
from pcap2arrow.savefile.blocks import Interface, starts_section
from pcap2arrow.savefile.pcap import effective_snap_length
from pcap2arrow.times import EVER, TimeRange
from pcap2arrow.writing.ahead import in_turn
from pcap2arrow.writing.records.packets import (
    BEFORE_ANY_TIME,
    Packets,
    for_all,
    needed_columns,
    packets_of_records,
    packets_of_table,
    rows_of,
)
from pcap2arrow.writing.records.selection import Chosen, Wanted
from pcap2arrow.writing.records.traits import MICROSECONDS, Block, Seen, Traits
from pcap2arrow.writing.sources.of_files import packets_in
from pcap2arrow.writing.sources.stored import capture_row, units

if TYPE_CHECKING:
    from pcap2arrow.conversion.placed import Placed
    from pcap2arrow.savefile.memory import Memory

_BATCH_ROWS = 1 << 16
_BATCH_OF_UNIT = 1 << 14  # few, so that the first is written while the next is made


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
    def size(self) -> int | None:
        """Octets of the file, None where they are not known."""
        return None if self.before is None else self.before.size

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
        from pcap2arrow.writing.sources.in_place import windows

        return windows(self, wanted, memory)

    def promise(self) -> Traits | None:
        """The traits that the header of a pcap of microseconds lets expect; None of other captures.

        They hold if no packet is longer than the snap length, and each time fits a pcap.  Raises FormatError where
        this is no capture.
        """
        from pcap2arrow.writing.sources.in_place import promise

        return promise(self)

    def traits(self, times: TimeRange = EVER) -> Traits:
        """What the packets of that time add up to, by reading the capture.  Raises FormatError where it is none."""
        from pcap2arrow.writing.sources.in_place import traits

        return traits(self, times)


@dataclass(frozen=True, slots=True)
class TableReader:
    """A capture in a dataset, with its octets."""

    dataset: Dataset
    capture: LiveCapture

    @property
    def size(self) -> int:
        """Octets of the files of packets."""
        return _size(self.capture.files)

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
        wanted.read(_size([file]))

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
        wanted.read(_size(unit))
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
        if row["ticks"] > MICROSECONDS or None in lengths or exceeding:
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
        seen = Seen(self.bound)
        for file in files:
            table = read_file(self.dataset, file, columns=["time", "interface_id", "caplen"])
            if times:
                table = table.filter(pa.array(packets_in(self.dataset, file, times)))
            (interface, _), (time, timed) = values(table["interface_id"]), values(table["time"])
            seen.add(time[timed], interface, table["caplen"].to_numpy())
        return seen.traits(interfaces, blocks, fcs_present=fcs_present)


def _size(files: Iterable[DataFile]) -> int:
    return sum(file.size for file in files if file.table == "packets")


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
    for at in range(0, 0 if packets is None else len(packets), _BATCH_OF_UNIT):
        assert packets is not None
        yield packets.take(slice(at, at + _BATCH_OF_UNIT))


def _stored_blocks(table: pa.Table) -> list[Block]:
    rows = zip(table["kind"].to_pylist(), table["content"].to_pylist(), strict=True)
    return [Block(content, "<") for kind, content in rows if kind == "block"]


def _in_section_order(blocks: list[Block]) -> tuple[Block, ...]:
    """The blocks, each with the byte order of the section header before it."""
    result: list[Block] = []
    for block in blocks:
        order = starts_section(block.octets[:12]) or (result[-1].order if result else "<")
        result.append(Block(block.octets, order))
    return tuple(result)
