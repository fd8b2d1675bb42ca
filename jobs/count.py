"""Counting packets, all of them or those that filters select."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.reports import named
from pcap2arrow.dataset.api import is_dataset
from pcap2arrow.dataset.log import Dataset, open_dataset
from pcap2arrow.errors import FilterError, Pcap2ArrowError, UsageError

if TYPE_CHECKING:
    from jobs.filters import FilterLine
    from pcap2arrow.dataset.snapshot import LiveCapture
    from queries.filters.compiled import Filter
    from queries.select import Tally


@dataclass(frozen=True, slots=True)
class Count:
    """Packets of all sources together, and what is damaged or can't be read in those that are captures."""

    packets: int
    errors: tuple[str, ...]


def count(sources: Iterable[str | os.PathLike[str]]) -> Count:
    """Count packets: those of a dataset from its log, those of a capture by reading it.

    A capture that a dataset holds under two names counts once.
    """
    packets, errors = 0, list[str]()
    for source in sources:
        if is_dataset(source):
            packets += sum(file.rows for file in open_dataset(source).snapshot().files("packets"))
            continue
        from pcap2arrow.reading.api import info

        for capture in info(source):
            packets += capture["packets"] or 0
            if capture["error"]:
                errors.append(named(capture["name"], capture["path"], capture["error"]))
    return Count(packets, tuple(errors))


@dataclass(frozen=True, slots=True)
class SelectedCount:
    """What filters select of all sources together, and what can't be read or is damaged in them."""

    tally: Tally
    errors: tuple[str, ...]


def count_selected(
    sources: Iterable[str | os.PathLike[str]], filters: Sequence[Filter], *, workers: int | None = None
) -> SelectedCount:
    """Count the packets that each filter selects, in one pass over the sources, by so many threads.

    A capture that a dataset holds under two names counts once.
    """
    from queries.select import total

    errors: list[str] = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as executor:
        tallies = executor.map(lambda task: task(), _tasks(sources, filters, errors))
        return SelectedCount(total(tallies, len(filters)), tuple(errors))


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


def counted_lines(lines: Sequence[FilterLine], tally: Tally) -> list[str]:
    """For each line of a file of filters ``COUNT<TAB>EXPRESSION``, or ``ERROR<TAB>EXPRESSION<TAB>reason``."""
    result, place = list[str](), 0
    for line in lines:
        error = line.filter if isinstance(line.filter, FilterError) else tally.refusal(place)
        result.append(
            f"{tally.packets[place]}\t{line.text}" if error is None else f"ERROR\t{line.text}\t{error.reason}"
        )
        place += not isinstance(line.filter, FilterError)
    return result


def _tasks(
    sources: Iterable[str | os.PathLike[str]], filters: Sequence[Filter], errors: list[str]
) -> Iterator[Callable[[], Tally]]:
    for source in sources:
        if is_dataset(source):
            yield from _dataset_tasks(open_dataset(source), filters)
        else:
            from pcap2arrow.inputs import find_captures

            for found in find_captures([source]).captures:
                yield lambda found=found: _count_capture(found.path, found.name, filters, errors)  # type: ignore[misc]


def _dataset_tasks(dataset: Dataset, filters: Sequence[Filter]) -> Iterator[Callable[[], Tally]]:
    from pcap2arrow.dataset.snapshot import whole_files
    from queries.select import count_files, groups

    captures = {live.capture_id: live for live in dataset.snapshot().ordered()}.values()
    stored = [live for live in captures if "frames=stored" in live.options.split()]
    swapped = big_endian_captures(dataset, stored)
    files = whole_files(file for live in stored for file in live.files if file.table == "packets")
    for group in groups(files, filters):
        yield lambda group=group: count_files(filters, dataset, group, big_endian=swapped)  # type: ignore[misc]
    for live in captures:
        if live not in stored:
            yield lambda live=live: _count_without_octets(dataset, live, filters)  # type: ignore[misc]


def big_endian_captures(dataset: Dataset, captures: Sequence[LiveCapture]) -> frozenset[int]:
    """The captures with link headers in the order of a big-endian machine."""
    from queries.filters.compiled import HOST_ORDER_LINK_TYPES

    def may_be_swapped(live: LiveCapture) -> bool:
        ranges = [file.ranges.get("link_type", (0, 65535)) for file in live.files if file.table == "packets"]
        return any(least <= each <= greatest for least, greatest in ranges for each in HOST_ORDER_LINK_TYPES)

    def is_swapped(live: LiveCapture) -> bool:
        from pcap2arrow.writing.original import capture_row

        return bool(capture_row(dataset, live)["byte_order"] == "big")

    return frozenset(live.capture_id for live in captures if may_be_swapped(live) and is_swapped(live))


def _count_without_octets(dataset: Dataset, live: LiveCapture, filters: Sequence[Filter]) -> Tally:
    """By columns if they tell, else by the octets in the archive."""
    from queries.select import count_files, total

    files = [file for file in live.files if file.table == "packets"]
    try:
        swapped = big_endian_captures(dataset, [live])
        return total(
            (count_files(filters, dataset, [file], big_endian=swapped) for file in files), len(filters)
        )
    except UsageError:
        if "frames=referenced" not in live.options.split():
            raise
        return _count_capture(live.source.path, live.name, filters, [])


def _count_capture(path: str, name: str, filters: Sequence[Filter], errors: list[str]) -> Tally:
    """By octets alone: decoding all columns would take longer."""
    from pcap2arrow.writing.reader import FileReader
    from pcap2arrow.writing.selection import Wanted
    from queries.exports import FilterSelection

    selection, damage = FilterSelection(filters), list[str]()
    packets = [0] * len(filters)
    try:
        for chosen in FileReader(path, name).chosen(Wanted(selection, damaged=damage.append)):
            packets = [before + int(more) for before, more in zip(packets, chosen.sum(axis=0), strict=True)]
    except Pcap2ArrowError as error:
        damage.insert(0, str(error))
    errors += damage[:1]
    selection.tally.packets = packets
    return selection.tally
