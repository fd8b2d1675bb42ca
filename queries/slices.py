"""Ranges of time as users write them, and what filters select of the files that they cut through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import TYPE_CHECKING

from pcap2arrow.errors import TimeSpecError
from pcap2arrow.times import EVER, TimeRange, Times
from queries.timespec import parse_time

if TYPE_CHECKING:
    from pcap2arrow.dataset.log import Dataset
    from pcap2arrow.dataset.snapshot import DataFile
    from queries.filters.compiled import Filter
    from queries.select import Tally


@dataclass(frozen=True, slots=True)
class Between:
    """The range from one time as tcpslice(1) takes it to another, given the time of the first packet.

    A start that is not whole is completed from the first packet's time, an end from the start, or without one from the
    first packet's.  Calling it raises TimeSpecError, also where it needs a packet and there is none.
    """

    start: str | None
    end: str | None
    zone: tzinfo

    def __call__(self, first: int | None) -> TimeRange:
        """The range, where the first packet has that time (nanoseconds since 1970, None: there is none)."""
        start = None if self.start is None else parse_time(self.start, base=first, zone=self.zone)
        base = first if start is None else start
        return TimeRange(start, None if self.end is None else parse_time(self.end, base=base, zone=self.zone))


def times_between(start: str | None, end: str | None, *, zone: tzinfo) -> Times:
    """The range between two times, or what makes it of the first packet's time where that is needed.

    Raises TimeSpecError where it would be wrong for any first packet.
    """
    if start is None and end is None:
        return EVER
    between = Between(start, end, zone)
    try:
        return between(None)
    except TimeSpecError:
        between(0)
        return between


def count_within(
    filters: Sequence[Filter], dataset: Dataset, file: DataFile, times: TimeRange, *, big_endian: bool
) -> Tally:
    """How many packets of a range of time each filter selects of a dataset's file.

    Raises UsageError where a filter needs octets that the dataset does not store.
    """
    from pcap2arrow.writing.sources.of_files import packets_in
    from queries.exports import FilterSelection

    selection = FilterSelection(filters)
    chosen = selection.of_file(dataset, file, big_endian=big_endian)
    inside = packets_in(dataset, file, times)
    selection.tally.packets = (chosen & inside[:, None]).sum(axis=0).tolist()
    return selection.tally
