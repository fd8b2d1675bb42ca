"""Packets of one capture on their way to an export, in the capture's order and in batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.dataset.log import Dataset
from pcap2arrow.dataset.snapshot import LiveCapture
from pcap2arrow.errors import ExportError
from pcap2arrow.reading.capture import read_tables
from pcap2arrow.reading.files import read_batches, read_file
from pcap2arrow.savefile.pcap import ByteOrder, PcapHeader
from pcap2arrow.savefile.pcapng import PACKET_START, SIMPLE_PACKET, Interface, SectionState, starts_section
from pcap2arrow.savefile.reader import Position, read_header, read_windows
from pcap2arrow.savefile.source import open_source
from pcap2arrow.writing.blocks import little_endian_options
from pcap2arrow.writing.original import capture_row, units
from pcap2arrow.writing.pieces import Octets

COLUMNS = [
    "frame_number", "interface_id", "time", "order_time", "caplen", "frame_len", "header", "rest", "record_extra",
]  # fmt: skip
BEFORE_ANY_TIME = np.iinfo(np.int64).min
_BATCH_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class Packets:
    """Packets as columns of one length.

    ``order`` is the greatest time so far in the capture (int64 nanoseconds, :data:`BEFORE_ANY_TIME` before the
    first); ``time`` is 0 where ``timed`` is False; ``interface`` counts from 0 in the export; ``header`` and ``rest``
    are the frame; ``options`` those of its pcapng block, little-endian, without an end mark of their own.
    """

    number: NDArray[np.int64]
    order: NDArray[np.int64]
    time: NDArray[np.int64]
    timed: NDArray[np.bool_]
    interface: NDArray[np.int64]
    caplen: NDArray[np.int64]
    frame_len: NDArray[np.int64]
    header: Octets
    rest: Octets
    options: Octets

    def __len__(self) -> int:
        return len(self.order)

    @classmethod
    def _of(cls, columns: list[Any]) -> Packets:
        return cls(*columns)

    def _columns(self) -> list[Any]:
        return [getattr(self, field.name) for field in fields(self)]

    def take(self, rows: NDArray[Any] | slice) -> Packets:
        """Some of the packets."""
        return self._of([c.take(rows) if isinstance(c, Octets) else c[rows] for c in self._columns()])

    @classmethod
    def concat(cls, parts: list[Packets]) -> Packets:
        """The packets of all parts."""
        columns = zip(*(part._columns() for part in parts), strict=True)
        return cls._of([Octets.concat(c) if isinstance(c[0], Octets) else np.concatenate(c) for c in columns])


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
    times in nanoseconds; ``finer`` tells whether any is no whole number of microseconds.
    """

    interfaces: tuple[Interface, ...]
    used: frozenset[int]
    blocks: tuple[Block, ...]
    fcs_present: bool
    max_caplen: int
    least: int | None
    greatest: int | None
    finer: bool


@dataclass(frozen=True, slots=True)
class FileStream:
    """A capture that is read where it is."""

    path: str
    name: str

    @property
    def bound(self) -> int:
        """An order that no packet's is below."""
        return BEFORE_ANY_TIME

    def tables(self) -> Iterator[pa.Table]:
        """The packets, in batches."""
        for table in read_tables(self.path, name=self.name):
            yield table.select(COLUMNS)

    def traits(self) -> Traits:
        """Read the capture once through.  Raises FormatError where it is none."""
        blocks: list[Block] = []
        seen = _Seen()
        with open_source(self.path, name=self.name) as source:
            header = read_header(source)
            section, order = SectionState(), _first_order(source.read(0, 12))
            for window, position in read_windows(source, header, Position(0), stop=source.size):
                section = position.section
                records = window.records
                interface = (
                    records.interface if records.interface is not None else np.zeros(len(records), np.uint16)
                )
                seen.add(records.time[records.time_valid], interface, records.caplen)
                for gap in window.gaps if header is None else ():
                    if gap.kind == "block":
                        octets = source.read(gap.offset, gap.length)
                        order = starts_section(octets[:12]) or order
                        blocks.append(Block(octets, order))
        interfaces = section.interfaces if header is None else (_interface(header),)
        return seen.traits(interfaces, tuple(blocks), fcs_present=header is not None and header.fcs_present)


@dataclass(frozen=True, slots=True)
class TableStream:
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

    def tables(self) -> Iterator[pa.Table]:
        """The packets, in batches."""
        for unit in units(self.capture):
            files = [file for file in unit if file.table == "packets"]
            if len(files) == 1:
                yield from read_batches(self.dataset, files[0], columns=COLUMNS, rows=_BATCH_ROWS)
            elif files:
                yield pa.concat_tables(
                    [read_file(self.dataset, file, columns=COLUMNS) for file in files]
                ).sort_by("frame_number")

    def traits(self) -> Traits:
        """Read a few columns of the capture."""
        row = capture_row(self.dataset, self.capture)
        seen, blocks = _Seen(), list[Block]()
        for unit in units(self.capture):
            for file in unit:
                if file.table == "packets":
                    table = read_file(self.dataset, file, columns=["time", "interface_id", "caplen"])
                    interface = table["interface_id"].fill_null(0).to_numpy()
                    time = table["time"].drop_null().cast(pa.int64()).to_numpy()
                    seen.add(time, interface, table["caplen"].to_numpy())
                elif row["format"] == "pcapng":
                    blocks += _stored_blocks(
                        read_file(self.dataset, file, columns=["kind", "offset", "content"])
                    )
        if row["format"] == "pcapng":
            interfaces = tuple(Interface(**interface) for interface in row["interfaces"])
            return seen.traits(interfaces, _in_section_order(blocks), fcs_present=False)
        link_type, fcs_len = row["link_word"] & 0xFFFF, row["fcs_len"]
        return seen.traits(
            (Interface(0, link_type, row["snap_length"], fcs_len=fcs_len),),
            (),
            fcs_present=row["fcs_present"],
        )


Stream = FileStream | TableStream


def open_stream(dataset: Dataset, capture: LiveCapture) -> Stream:
    """A capture of a dataset, from its tables or, where frames are only referenced, from the archive.

    Raises ExportError where there are no octets.
    """
    if "frames=stored" in capture.options.split():
        return TableStream(dataset, capture)
    if "frames=referenced" in capture.options.split():
        return FileStream(capture.source.path, capture.name)
    raise ExportError(f"{capture.name}: converted with --frames none: there are no octets to write")


class _Seen:
    """What the packets of a capture add up to."""

    def __init__(self) -> None:
        self._used: set[int] = set()
        self._max_caplen = 0
        self._least: int | None = None
        self._greatest: int | None = None
        self._finer = False

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
        return Traits(
            interfaces, used, blocks, fcs_present, self._max_caplen, self._least, self._greatest, self._finer
        )


def _interface(header: PcapHeader) -> Interface:
    return Interface(0, header.link_type, header.snap_length, fcs_len=header.fcs_len)


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


def packets(table: pa.Table, numbers: NDArray[np.int64], *, is_pcapng: bool) -> Packets:
    """The rows of a packet table as an export takes them; ``numbers`` maps interfaces to those of the export."""
    time = table["time"].cast(pa.int64())
    order = pa.compute.coalesce(table["order_time"].cast(pa.int64()), time, pa.scalar(BEFORE_ANY_TIME))
    caplen = table["caplen"].to_numpy().astype(np.int64)
    return Packets(
        number=table["frame_number"].to_numpy().astype(np.int64),
        order=order.to_numpy(),
        time=time.fill_null(0).to_numpy(),
        timed=np.asarray(time.combine_chunks().is_valid()),
        interface=numbers[table["interface_id"].fill_null(0).to_numpy()],
        caplen=caplen,
        frame_len=table["frame_len"].to_numpy().astype(np.int64),
        header=Octets.column(table["header"]),
        rest=Octets.column(table["rest"]),
        options=_options(table["record_extra"], caplen) if is_pcapng else Octets.empty(len(table)),
    )


def _options(extra: pa.ChunkedArray, caplen: NDArray[np.int64]) -> Octets:
    """Options of packet blocks; those of big-endian sections are turned, one by one: they are few."""
    octets = Octets.column(extra)
    if extra.null_count == len(extra):
        return octets
    rows = np.flatnonzero(octets.length)
    first, last = octets.octet(rows, 0), octets.octet(rows, 3)
    big = np.zeros(len(octets), np.bool_)
    big[rows] = first == 0
    kind = np.zeros(len(octets), np.int64)
    kind[rows] = np.where(first == 0, last, first)
    head = np.select([kind == number for number in PACKET_START], list(PACKET_START.values()), 0)
    skip = np.where(kind == SIMPLE_PACKET, octets.length, head + (-caplen % 4))
    result = octets.cut(skip, octets.length - skip - 4)
    turned = np.flatnonzero(big & (result.length > 0))
    if not len(turned):
        return result
    values = [little_endian_options(octets, ">") for octets in result.take(turned).to_bytes()]
    return result.replaced(turned, Octets.of(values))
