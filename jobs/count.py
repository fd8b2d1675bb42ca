"""Counting packets, all of them or those that filters select."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from jobs.executors import THREADS, open_executor, run_all
from jobs.limits import USUAL_LIMITS, Limits
from jobs.reports import named
from jobs.sources import found_by_all
from pcap2arrow.dataset.api import is_dataset
from pcap2arrow.dataset.log import Dataset, open_dataset
from pcap2arrow.errors import FilterError, Pcap2ArrowError, QuarantineError, UsageError
from pcap2arrow.tasks import NamedTask

if TYPE_CHECKING:
    from jobs.filters import FilterLine
    from pcap2arrow.dataset.snapshot import DataFile, LiveCapture
    from pcap2arrow.inputs import Input
    from queries.filters.compiled import Filter
    from queries.select import Tally

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Count:
    """Packets of all sources together, and what is damaged or can't be read in those that are captures."""

    packets: int
    errors: tuple[str, ...]


def count(sources: Iterable[str | os.PathLike[str]], **scheduling: Any) -> Count:
    """Count packets: those of a dataset from its log, those of captures by reading them, each by a task.

    A capture that a dataset holds under two names counts once.  ``scheduling`` is what :func:`open_executor` takes.
    """
    paths = found_by_all(sources, scheduling.get("scheduler", THREADS))
    tasks = [task for path in paths for task in _whole_tasks(path)]
    counted = list(run_counts(tasks, _lost, **scheduling)) if tasks else []
    logged = (open_dataset(path).snapshot().files("packets") for path in paths if is_dataset(path))
    return Count(
        sum(each.packets for each in counted) + sum(file.rows for files in logged for file in files),
        tuple(error for each in counted for error in each.errors),
    )


def _whole_tasks(source: str) -> Iterator[NamedTask]:
    """Tasks that each give the Count of a capture."""
    if is_dataset(source):
        return
    from pcap2arrow.inputs import find_captures

    for found in find_captures([source]).captures:
        yield NamedTask(found.name, partial(_count_all, found))


def _count_all(found: Input) -> Count:
    from pcap2arrow.reading.api import capture_info

    known = capture_info(found)
    error = known["error"]
    return Count(known["packets"] or 0, (named(found.name, found.path, error),) if error else ())


def _lost(task: NamedTask, error: QuarantineError) -> Count:
    return Count(0, (f"{task.name}: {error}",))


def run_counts(
    tasks: Iterable[NamedTask],
    lost: Callable[[NamedTask, QuarantineError], _T],
    *,
    scheduler: str = THREADS,
    workers: int | None = None,
    limits: Limits = USUAL_LIMITS,
    tell_dashboard: Callable[[str], object] | None = None,
) -> Iterator[_T]:
    """The results of tasks on a scheduler (see :func:`open_executor`), in their order; ``lost`` makes up for one."""
    with open_executor(scheduler, workers, limits=limits, tell_dashboard=tell_dashboard) as (
        executor,
        workers,
    ):
        yield from run_all(executor, workers, tasks, lost=lost)


@dataclass(frozen=True, slots=True)
class SelectedCount:
    """What filters select of all sources together, and what can't be read or is damaged in them."""

    tally: Tally
    errors: tuple[str, ...]


def count_selected(
    sources: Iterable[str | os.PathLike[str]], filters: Sequence[Filter], **scheduling: Any
) -> SelectedCount:
    """Count the packets that each filter selects, in one pass over the sources, on a scheduler.

    A capture that a dataset holds under two names counts once.  ``scheduling`` is what :func:`open_executor` takes.
    Raises UsageError where the scheduler can't be used, and for standard input on another one than threads.
    """
    paths = found_by_all(sources, scheduling.get("scheduler", THREADS))
    return added_up(_tasks(paths, filters), filters, **scheduling)


def added_up(tasks: Iterable[NamedTask], filters: Sequence[Filter], **scheduling: Any) -> SelectedCount:
    """The sum of tasks that each give a SelectedCount; one that kills its worker is an error, and costs no other."""
    from queries.select import total

    def lost(task: NamedTask, error: QuarantineError) -> SelectedCount:
        return SelectedCount(total([], len(filters)), (f"{task.name}: {error}",))

    counted = list(run_counts(tasks, lost, **scheduling))
    tally = total((each.tally for each in counted), len(filters))
    return SelectedCount(tally, tuple(error for each in counted for error in each.errors))


def filter_warnings(filters: Sequence[Filter], tally: Tally) -> Iterator[str]:
    """What users should know of filters that ran: where they mean nothing, and which can select nothing."""
    for place, each in enumerate(filters):
        if tally.refusal(place) is not None:
            continue
        wrong = {link_type: error for (of, link_type), error in tally.errors.items() if of == place}
        for link_type, error in sorted(wrong.items()):
            yield f"warning: {each.text!r} selects nothing of link type {link_type}: {error.reason}"
        rest = [link_type for link_type in tally.seen if link_type not in wrong]
        if rest and all(each.for_link_type(link_type).accepts_nothing for link_type in rest):
            yield f"warning: {each.text!r}: expression rejects all packets"


def checked_filter(chosen: Filter | None, tallies: Iterable[Tally | None]) -> tuple[str, ...]:
    """What users should know of a filter that ran, in so many tasks; nothing without one.

    Raises FilterError where it means nothing on any packet.
    """
    if chosen is None:
        return ()
    from queries.select import total

    tally = total((each for each in tallies if each is not None), 1)
    if (refusal := tally.refusal(0)) is not None:
        raise refusal
    return tuple(filter_warnings([chosen], tally))


@dataclass(frozen=True, slots=True)
class CountedLine:
    """What a line of a file of filters selects: how many packets, or else what is wrong with it."""

    expression: str
    packets: int | None
    error: str | None = None

    def __str__(self) -> str:
        if self.error is not None:
            return f"ERROR\t{self.expression}\t{self.error}"
        return f"{self.packets}\t{self.expression}"


def counted_lines(lines: Sequence[FilterLine], tally: Tally) -> list[CountedLine]:
    """What each line of a file of filters selects; as text, ``COUNT<TAB>EXPRESSION`` or ``ERROR<TAB>…<TAB>reason``."""
    result, place = list[CountedLine](), 0
    for line in lines:
        error = line.filter if isinstance(line.filter, FilterError) else tally.refusal(place)
        if error is None:
            result.append(CountedLine(line.text, tally.packets[place]))
        else:
            result.append(CountedLine(line.text, None, error.reason))
        place += not isinstance(line.filter, FilterError)
    return result


def _tasks(sources: Iterable[str], filters: Sequence[Filter]) -> Iterator[NamedTask]:
    """Tasks that each give a SelectedCount."""
    for source in sources:
        if is_dataset(source):
            yield from _dataset_tasks(open_dataset(source), filters)
        else:
            from pcap2arrow.inputs import find_captures

            for found in find_captures([source]).captures:
                yield NamedTask(found.name, partial(_count_capture, found.path, found.name, filters))


def _dataset_tasks(dataset: Dataset, filters: Sequence[Filter]) -> Iterator[NamedTask]:
    from pcap2arrow.dataset.snapshot import whole_files
    from queries.select import groups

    captures = {live.capture_id: live for live in dataset.snapshot().ordered()}.values()
    stored = [live for live in captures if "frames=stored" in live.options.split()]
    swapped = big_endian_captures(dataset, stored)
    files = whole_files(file for live in stored for file in live.files if file.table == "packets")
    for group in groups(files, filters):
        name = dataset.path_of(group[0].path) + (f" and {len(group) - 1} more" if len(group) > 1 else "")
        run = partial(count_group, dataset, group, filters, swapped)
        yield NamedTask(name, run, sum(file.size for file in group))
    for live in captures:
        if live not in stored:
            run = partial(_count_without_octets, dataset, live, filters)
            yield NamedTask(live.name, run, live.source.size)


def count_group(
    dataset: Dataset, files: Sequence[DataFile], filters: Sequence[Filter], swapped: frozenset[int]
) -> SelectedCount:
    """What filters select of some files of a dataset; ``swapped`` as :func:`big_endian_captures` gives it."""
    from queries.select import count_files

    return SelectedCount(count_files(filters, dataset, files, big_endian=swapped), ())


def big_endian_captures(dataset: Dataset, captures: Sequence[LiveCapture]) -> frozenset[int]:
    """The captures with link headers in the order of a big-endian machine."""
    from queries.filters.compiled import HOST_ORDER_LINK_TYPES

    def may_be_swapped(live: LiveCapture) -> bool:
        ranges = [file.ranges.get("link_type", (0, 65535)) for file in live.files if file.table == "packets"]
        return any(least <= each <= greatest for least, greatest in ranges for each in HOST_ORDER_LINK_TYPES)

    def is_swapped(live: LiveCapture) -> bool:
        from pcap2arrow.writing.sources.stored import capture_row

        return bool(capture_row(dataset, live)["byte_order"] == "big")

    return frozenset(live.capture_id for live in captures if may_be_swapped(live) and is_swapped(live))


def _count_without_octets(dataset: Dataset, live: LiveCapture, filters: Sequence[Filter]) -> SelectedCount:
    """By columns if they tell, else by the octets in the archive."""
    from queries.select import count_files, total

    files = [file for file in live.files if file.table == "packets"]
    try:
        swapped = big_endian_captures(dataset, [live])
        tallies = (count_files(filters, dataset, [file], big_endian=swapped) for file in files)
        return SelectedCount(total(tallies, len(filters)), ())
    except UsageError:
        if "frames=referenced" not in live.options.split():
            raise
        return SelectedCount(_count_capture(live.source.path, live.name, filters).tally, ())


def _count_capture(path: str, name: str, filters: Sequence[Filter]) -> SelectedCount:
    """By octets alone: decoding all columns would take longer."""
    from pcap2arrow.writing.records.selection import Wanted
    from pcap2arrow.writing.sources.reader import FileReader
    from queries.exports import FilterSelection

    selection, damage = FilterSelection(filters), list[str]()
    packets = [0] * len(filters)
    try:
        for chosen in FileReader(path, name).chosen(Wanted(selection, damaged=damage.append)):
            packets = [before + int(more) for before, more in zip(packets, chosen.sum(axis=0), strict=True)]
    except Pcap2ArrowError as error:
        damage.insert(0, str(error))
    selection.tally.packets = packets
    return SelectedCount(selection.tally, tuple(damage[:1]))
