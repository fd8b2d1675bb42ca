"""Counting packets of a range of time, all of them or those that filters select."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from jobs.count import Count, SelectedCount, added_up, big_endian_captures, count_group, run_counts
from jobs.executors import THREADS
from jobs.sources import found_by_all
from pcap2arrow.errors import QuarantineError, UsageError
from pcap2arrow.tasks import NamedTask
from pcap2arrow.writing.merging.arrangement import MERGED, slices
from pcap2arrow.writing.records.selection import Wanted
from pcap2arrow.writing.sources.named import open_readers
from pcap2arrow.writing.sources.of_files import file_within, packets_in
from pcap2arrow.writing.sources.reader import FileReader, TableReader
from pcap2arrow.writing.sources.slices import Slice, first_time

if TYPE_CHECKING:
    from pcap2arrow.dataset.log import Dataset
    from pcap2arrow.dataset.snapshot import DataFile
    from pcap2arrow.times import TimeRange, Times
    from queries.filters.compiled import Filter


def range_of(sources: Sequence[str], times: Times) -> TimeRange:
    """The range that times name: those that count from the first packet are of the first of all sources.

    Raises TimeSpecError, and errors of sources.
    """
    if not callable(times):
        return times
    with open_readers(sources, None, octets=False) as readers:
        firsts = [first_time(reader) for reader in readers]
        return times(min((first for first in firsts if first is not None), default=None))


def count_slices(sources: Sequence[str], times: Times, **scheduling: Any) -> Count:
    """Count the packets of a range of time; of datasets only the files are read that its ends cut through.

    ``scheduling`` is what :func:`~jobs.executors.open_executor` takes.
    """
    with _slices(sources, times, scheduling) as found:
        tasks = (NamedTask(_name(part), partial(_count, part)) for part in found)
        counted = list(run_counts(tasks, _lost, **scheduling))
    errors = (error for each in counted for error in each.errors)
    return Count(sum(each.packets for each in counted), tuple(errors))


def count_slices_selected(
    sources: Sequence[str], times: Times, filters: Sequence[Filter], **scheduling: Any
) -> SelectedCount:
    """Count the packets of a range of time that each filter selects, in one pass; as :func:`count_slices`."""
    with _slices(sources, times, scheduling) as found:
        return added_up((task for part in found for task in _tasks(part, filters)), filters, **scheduling)


@contextmanager
def _slices(sources: Sequence[str], times: Times, scheduling: Mapping[str, Any]) -> Iterator[list[Slice]]:
    """What there is of a range of time, as workers find it."""
    paths = found_by_all(sources, scheduling.get("scheduler", THREADS))
    with open_readers(paths, None, octets=False) as readers:
        yield slices(readers, times, MERGED)


def _name(part: Slice) -> str:
    return part.reader.name if isinstance(part.reader, FileReader) else part.reader.capture.name


def _lost(task: NamedTask, error: QuarantineError) -> Count:
    return Count(0, (f"{task.name}: {error}",))


def _count(part: Slice) -> Count:
    if isinstance(part.reader, FileReader):
        damage = _Damage()
        found = part.chosen(Wanted(damaged=damage.hear))
        packets = sum(int(chosen.sum()) if chosen.shape[1] else len(chosen) for chosen in found)
        return Count(packets, tuple(damage.first))
    dataset = part.reader.dataset
    return Count(
        sum(
            file.rows if file_within(file, part.times) else int(packets_in(dataset, file, part.times).sum())
            for file in _packets(part.reader)
        ),
        (),
    )


def _tasks(part: Slice, filters: Sequence[Filter]) -> Iterator[NamedTask]:
    """Tasks that each give a SelectedCount."""
    reader = part.reader
    if isinstance(reader, FileReader):
        yield NamedTask(reader.name, partial(_count_capture, part, filters))
    elif "frames=stored" in reader.capture.options.split():
        yield from _file_tasks(part, reader, filters)
    else:
        yield NamedTask(reader.capture.name, partial(_count_without_octets, part, reader, filters))


def _file_tasks(part: Slice, reader: TableReader, filters: Sequence[Filter]) -> Iterator[NamedTask]:
    """Files within the range are counted together, those that its ends cut through each on its own."""
    from queries.select import groups

    dataset, swapped = reader.dataset, big_endian_captures(reader.dataset, [reader.capture])
    whole = [file for file in _packets(reader) if file_within(file, part.times)]
    for group in groups(whole, filters):
        octets = sum(file.size for file in group)
        yield NamedTask(reader.capture.name, partial(count_group, dataset, group, filters, swapped), octets)
    for file in _packets(reader):
        if file not in whole:
            run = partial(_count_cut, dataset, file, part.times, filters, bool(swapped))
            yield NamedTask(reader.capture.name, run, file.size)


def _count_cut(
    dataset: Dataset, file: DataFile, times: TimeRange, filters: Sequence[Filter], is_swapped: bool
) -> SelectedCount:
    from queries.slices import count_within

    return SelectedCount(count_within(filters, dataset, file, times, big_endian=is_swapped), ())


def _count_without_octets(part: Slice, reader: TableReader, filters: Sequence[Filter]) -> SelectedCount:
    """By columns if they tell, else by the octets in the archive."""
    from queries.select import total

    try:
        counted = [task() for task in _file_tasks(part, reader, filters)]
        return SelectedCount(total((each.tally for each in counted), len(filters)), ())
    except UsageError:
        if "frames=referenced" not in reader.capture.options.split():
            raise
        archived = FileReader(reader.capture.source.path, reader.capture.name)
        return _count_capture(replace(part, reader=archived), filters)


def _count_capture(part: Slice, filters: Sequence[Filter]) -> SelectedCount:
    from queries.exports import FilterSelection

    selection, damage = FilterSelection(filters), _Damage()
    packets = [0] * len(filters)
    for chosen in part.chosen(Wanted(selection, damaged=damage.hear)):
        packets = [before + int(more) for before, more in zip(packets, chosen.sum(axis=0), strict=True)]
    selection.tally.packets = packets
    return SelectedCount(selection.tally, tuple(damage.first))


@dataclass(slots=True)
class _Damage:
    """Hears of damage to one capture, and keeps the first of it."""

    first: list[str] = field(default_factory=list)

    def hear(self, reason: str) -> None:
        """Take notice."""
        if not self.first:
            self.first.append(reason)


def _packets(reader: TableReader) -> list[DataFile]:
    return [file for file in reader.capture.files if file.table == "packets"]
