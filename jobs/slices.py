"""Counting packets of a range of time, all of them or those that filters select."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from jobs.count import Count, SelectedCount, big_endian_captures
from pcap2arrow.errors import UsageError
from pcap2arrow.writing.arrangement import MERGED, slices
from pcap2arrow.writing.of_files import file_within, packets_in
from pcap2arrow.writing.reader import FileReader, TableReader
from pcap2arrow.writing.selection import Wanted
from pcap2arrow.writing.slices import Slice, first_time
from pcap2arrow.writing.sources import open_readers

if TYPE_CHECKING:
    from pcap2arrow.dataset.snapshot import DataFile
    from pcap2arrow.times import TimeRange, Times
    from queries.filters.compiled import Filter
    from queries.select import Tally


def range_of(sources: Sequence[str], times: Times) -> TimeRange:
    """The range that times name: those that count from the first packet are of the first of all sources.

    Raises TimeSpecError, and errors of sources.
    """
    if not callable(times):
        return times
    with open_readers(sources, None, octets=False) as readers:
        firsts = [first_time(reader) for reader in readers]
        return times(min((first for first in firsts if first is not None), default=None))


def count_slices(sources: Sequence[str], times: Times) -> Count:
    """Count the packets of a range of time; of datasets only the files are read that its ends cut through."""
    errors: list[str] = []
    with open_readers(sources, None, octets=False) as readers:
        packets = sum(_count(each, errors) for each in slices(readers, times, MERGED))
    return Count(packets, tuple(errors))


def _count(part: Slice, errors: list[str]) -> int:
    if isinstance(part.reader, FileReader):
        found = part.chosen(Wanted(damaged=_first(errors)))
        return sum(int(chosen.sum()) if chosen.shape[1] else len(chosen) for chosen in found)
    dataset = part.reader.dataset
    return sum(
        file.rows if file_within(file, part.times) else int(packets_in(dataset, file, part.times).sum())
        for file in _packets(part.reader)
    )


def count_slices_selected(
    sources: Sequence[str], times: Times, filters: Sequence[Filter], *, workers: int | None = None
) -> SelectedCount:
    """Count the packets of a range of time that each filter selects, in one pass, by so many threads."""
    from queries.select import total

    errors: list[str] = []
    with (
        open_readers(sources, None, octets=False) as readers,
        ThreadPoolExecutor(workers or os.cpu_count() or 1) as executor,
    ):
        tasks = [task for each in slices(readers, times, MERGED) for task in _tasks(each, filters, errors)]
        tallies = executor.map(lambda task: task(), tasks)
        return SelectedCount(total(tallies, len(filters)), tuple(errors))


def _tasks(part: Slice, filters: Sequence[Filter], errors: list[str]) -> Iterator[Callable[[], Tally]]:
    reader = part.reader
    if isinstance(reader, FileReader):
        yield lambda: _count_capture(part, filters, errors)
    elif "frames=stored" in reader.capture.options.split():
        yield from _file_tasks(part, reader, filters)
    else:
        yield lambda: _count_without_octets(part, reader, filters, errors)


def _file_tasks(part: Slice, reader: TableReader, filters: Sequence[Filter]) -> Iterator[Callable[[], Tally]]:
    """Files within the range are counted together, those that its ends cut through each on its own."""
    from queries.select import count_files, groups
    from queries.slices import count_within

    dataset, swapped = reader.dataset, big_endian_captures(reader.dataset, [reader.capture])
    whole = [file for file in _packets(reader) if file_within(file, part.times)]
    for group in groups(whole, filters):
        yield lambda group=group: count_files(filters, dataset, group, big_endian=swapped)  # type: ignore[misc]
    for file in _packets(reader):
        if file not in whole:
            yield lambda file=file: count_within(filters, dataset, file, part.times, big_endian=bool(swapped))  # type: ignore[misc]


def _count_without_octets(
    part: Slice, reader: TableReader, filters: Sequence[Filter], errors: list[str]
) -> Tally:
    """By columns if they tell, else by the octets in the archive."""
    from queries.select import total

    try:
        return total((task() for task in _file_tasks(part, reader, filters)), len(filters))
    except UsageError:
        if "frames=referenced" not in reader.capture.options.split():
            raise
        archived = FileReader(reader.capture.source.path, reader.capture.name)
        return _count_capture(replace(part, reader=archived), filters, errors)


def _count_capture(part: Slice, filters: Sequence[Filter], errors: list[str]) -> Tally:
    from queries.exports import FilterSelection

    selection = FilterSelection(filters)
    packets = [0] * len(filters)
    for chosen in part.chosen(Wanted(selection, damaged=_first(errors))):
        packets = [before + int(more) for before, more in zip(packets, chosen.sum(axis=0), strict=True)]
    selection.tally.packets = packets
    return selection.tally


def _first(errors: list[str]) -> Callable[[str], None]:
    """Hears of damage to one capture, and keeps the first of it."""
    heard: list[str] = []

    def hear(reason: str) -> None:
        if not heard:
            errors.append(reason)
        heard.append(reason)

    return hear


def _packets(reader: TableReader) -> list[DataFile]:
    return [file for file in reader.capture.files if file.table == "packets"]
