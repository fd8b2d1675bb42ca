"""Stretches of captures in time, on their own clocks or moved."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.arrays import values
from pcap2arrow.reading.files import begin_rest, nulls, read_file
from pcap2arrow.times import EVER, TimeRange
from pcap2arrow.writing.records.packets import BEFORE_ANY_TIME, Packets
from pcap2arrow.writing.records.selection import Chosen, Selection, Wanted
from pcap2arrow.writing.records.traits import Traits
from pcap2arrow.writing.sources.of_files import file_meets, file_within, is_timed, packets_in
from pcap2arrow.writing.sources.reader import FileReader, Reader, TableReader
from pcap2arrow.writing.sources.stored import capture_row

if TYPE_CHECKING:
    from pcap2arrow.conversion.placed import Placed
    from pcap2arrow.dataset.log import Dataset
    from pcap2arrow.dataset.snapshot import DataFile
    from pcap2arrow.savefile.batch import Records


@dataclass(frozen=True, slots=True)
class Slice:
    """The packets of a capture whose times lie in a range; the times are moved by ``shift`` nanoseconds at the end.

    ``times`` are those of the capture's clock.  Of a dataset only the files are read that can hold some.
    """

    reader: Reader
    times: TimeRange = EVER
    shift: int = 0

    @classmethod
    def of(cls, reader: Reader, times: TimeRange = EVER, *, shift: int = 0) -> Slice:
        """The packets of a capture that lie in a range once they are moved."""
        own = times.moved(-shift)
        return cls(_narrowed(reader, own), own, shift)

    @property
    def is_outside(self) -> bool:
        """Whether the dataset's log tells that no packet of the capture lies in the range."""
        reader = self.reader
        return bool(self.times) and isinstance(reader, TableReader) and not reader.size

    def begin(self) -> None:
        """Begin to read what takes longest, where it is known before it is known which packets are in the range."""
        reader = self.reader
        if not self.times or not isinstance(reader, TableReader):
            return
        files = [file for file in reader.capture.files if file.table == "packets"]
        if len(files) == 1 and not file_within(files[0], self.times):
            begin_rest(reader.dataset, files[0])

    def packets(
        self, numbers: NDArray[np.int64], wanted: Wanted, *, alone: bool = False, by_unit: bool = False
    ) -> Iterator[Packets]:
        """The packets, in batches, as the reader gives them."""
        return map(
            self._moved, self.reader.packets(numbers, self._within(wanted), alone=alone, by_unit=by_unit)
        )

    def windows(self, wanted: Wanted) -> Iterator[tuple[Placed, Chosen]]:
        """The windows of a capture that is read where it is, on its own clock, and which of their packets are wanted.

        They count for as long as they are used.
        """
        from pcap2arrow.savefile.memory import LentWindows

        assert isinstance(self.reader, FileReader)
        return self.reader.windows(self._within(wanted), LentWindows())

    def chosen(self, wanted: Wanted) -> Iterator[Chosen]:
        """Which of the packets of the files that are read are wanted, and lie in the range; in batches."""
        return self.reader.chosen(self._within(wanted))

    def _within(self, wanted: Wanted) -> Wanted:
        return replace(wanted, selection=_InTime(self.times, wanted.selection)) if self.times else wanted

    def bound(self) -> int:
        """An order that no packet's is below, by the dataset's log or the capture's first packet."""
        reader = self.reader
        bound = reader.bound if isinstance(reader, TableReader) else _first_order(reader)
        return _moved_order(bound, self.shift)

    def promise(self) -> Traits | None:
        """What the header of a capture that would have to be read lets expect of its packets, if it says enough.

        Of a dataset this is what is known.
        """
        if isinstance(self.reader, TableReader):
            return self.traits()
        found = None if self.shift % 1000 else self.reader.promise()
        if found is None or not self.shift:
            return found
        return replace(found, bound=_moved_order(found.bound, self.shift))

    def traits(self) -> Traits:
        """What the packets add up to."""
        found = self.reader.traits(self.times)
        if not self.shift:
            return found
        bounds = (found.least, found.greatest)
        least, greatest = (None if time is None else time + self.shift for time in bounds)
        return replace(
            found,
            least=least,
            greatest=greatest,
            finer=found.finer or bool(self.shift % 1000),
            bound=_moved_order(found.bound, self.shift),
        )

    def _moved(self, batch: Packets) -> Packets:
        if not self.shift:
            return batch
        ordered = batch.order != BEFORE_ANY_TIME
        return replace(
            batch,
            order=np.where(ordered, batch.order + self.shift, batch.order),
            time=np.where(batch.timed, batch.time + self.shift, batch.time),
        )


def _moved_order(order: int, shift: int) -> int:
    return order if order == BEFORE_ANY_TIME else order + shift


def _narrowed(reader: Reader, times: TimeRange) -> Reader:
    """The same without the files of packets of other times."""
    if not times or not isinstance(reader, TableReader):
        return reader
    files = tuple(f for f in reader.capture.files if f.table != "packets" or file_meets(f, times))
    packets = sum(file.rows for file in files if file.table == "packets")
    return TableReader(reader.dataset, replace(reader.capture, files=files, packets=packets))


@dataclass(frozen=True, slots=True)
class _InTime:
    """A selection of packets of a range of time, of those another one chooses."""

    times: TimeRange
    others: Selection | None

    def begin(self, link_types: Collection[int]) -> Collection[int]:
        return [0] if self.others is None else self.others.begin(link_types)

    def of_records(self, records: Records, *, big_endian: bool) -> Chosen:
        inside = self.times.which(records.time, records.time_valid)
        if self.others is None:
            return inside[:, None]
        found = self.others.of_records(records.rows(inside), big_endian=big_endian)
        chosen = np.zeros((len(records), found.shape[1]), np.bool_)
        chosen[inside] = found
        return chosen

    def of_file(self, dataset: Dataset, file: DataFile, *, big_endian: bool) -> Chosen:
        inside = packets_in(dataset, file, self.times)[:, None]
        if self.others is None:
            return inside
        return self.others.of_file(dataset, file, big_endian=big_endian) & inside


def first_time(reader: Reader) -> int | None:
    """The time of the first packet of a capture that has one; None where none has."""
    if isinstance(reader, TableReader):
        return reader.capture.first_time
    from pcap2arrow.writing.sources.in_place import FIRST_WINDOW, records

    for some in records(reader, octets=FIRST_WINDOW):
        timed = some.time[some.time_valid]
        if len(timed):
            return int(timed[0])
    return None


def _first_order(reader: FileReader) -> int:
    from pcap2arrow.writing.sources.in_place import FIRST_WINDOW, records

    first = next((some for some in records(reader, octets=FIRST_WINDOW) if len(some)), None)
    return int(first.time[0]) if first is not None and first.time_valid[0] else BEFORE_ANY_TIME


@dataclass(frozen=True, slots=True)
class Span:
    """The times of a capture's ``first`` and ``last`` packet (of those that have one), and the ``greatest`` of all.

    ``packets`` are all of the capture's, of which ``stepping_back`` are earlier than one before them.
    """

    first: int | None = None
    last: int | None = None
    greatest: int | None = None
    packets: int = 0
    stepping_back: int = 0


def span(reader: Reader) -> Span:
    """What the times of a capture's packets span.  Raises FormatError where it is none."""
    if isinstance(reader, TableReader):
        return _span_of_table(reader)
    from pcap2arrow.writing.sources.in_place import records

    first: int | None = None
    last: int | None = None
    greatest: int | None = None
    packets = stepping_back = 0
    for some in records(reader):
        packets += len(some)
        time = some.time[some.time_valid]
        if not len(time):
            continue
        first, last = int(time[0]) if first is None else first, int(time[-1])
        order = np.maximum(np.maximum.accumulate(time), first if greatest is None else greatest)
        stepping_back += int((time < order).sum())
        greatest = int(order[-1])
    return Span(first, last, greatest, packets, stepping_back)


def _span_of_table(reader: TableReader) -> Span:
    row = capture_row(reader.dataset, reader.capture)
    first, last = (None if row[name] is None else int(row[name]) for name in ("first_ns", "last_ns"))
    files = [file for file in reader.capture.files if file.table == "packets"]
    stepping_back = sum(_stepping_back(reader.dataset, file) for file in files)
    return Span(first, last, row["max_time"], reader.capture.packets, stepping_back)


def _stepping_back(dataset: Dataset, file: DataFile) -> int:
    if not is_timed(file, timed=False) and nulls(dataset, file, "order_time") == file.rows:
        return 0
    table = read_file(dataset, file, columns=["time", "order_time"])
    (time, _), (order, ordered) = values(table["time"]), values(table["order_time"])
    return int((ordered & (time < order)).sum())
