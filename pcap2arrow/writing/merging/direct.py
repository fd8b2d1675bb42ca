"""Captures to encoded records, in the order of their packets: as they stand, where they are those of the target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.writing.ahead import ahead
from pcap2arrow.writing.merging.merge import first
from pcap2arrow.writing.merging.waiting import WaitingRoom
from pcap2arrow.writing.records.encoded import Encoded
from pcap2arrow.writing.records.formats import Layout, UnkeptError, is_kept, record_lengths
from pcap2arrow.writing.records.packets import Packets, packets_of_records
from pcap2arrow.writing.records.selection import Chosen, Wanted
from pcap2arrow.writing.records.traits import RecordFormat, Traits
from pcap2arrow.writing.sources.reader import FileReader
from pcap2arrow.writing.sources.slices import Slice

if TYPE_CHECKING:
    from pcap2arrow.conversion.placed import Placed

_ENCODED_AT_ONCE, _LEAST_BATCH = 16 << 20, 1 << 17


@dataclass(frozen=True, slots=True)
class Part:
    """A capture of an export: its place, the ``numbers`` of its interfaces there, and what is ``wanted`` of it.

    No packet's order is below ``bound``; ``records`` is the format whose records are the capture's already.  Packets
    that are not what was ``promised``, if anything, raise UnkeptError.
    """

    source: int
    capture: Slice
    bound: int
    records: RecordFormat | None
    numbers: NDArray[np.int64]
    wanted: Wanted
    promised: Traits | None = None


@dataclass(frozen=True, slots=True)
class Encoder:
    """Makes records of captures, one of ``captures`` many.

    ``name`` is what errors call the export; the records are ``detailed`` if more is asked of packets than their order.
    Of each capture the first ``limit`` packets are taken, None takes all; what is behind them is not read.
    Raises ExportError where a time does not fit the format.
    """

    layout: Layout
    name: str
    captures: int
    detailed: bool = False
    limit: int | None = None

    def alone(self, part: Part) -> Iterator[Encoded]:
        """The records of a capture that is read while no other is."""
        if self._stands(part):
            return self._as_it_stands(part)
        if self.limit is not None:
            return map(partial(self._of, part), self._packets(part))
        return map(partial(self._of, part), ahead(self._packets(part, alone=True)))

    def waiting(self, part: Part, room: WaitingRoom) -> Iterator[Encoded]:
        """The records of one of several captures; those of a dataset's are read by the unit, and wait in a room."""
        if self._stands(part):
            yield from self._as_it_stands(part)
        elif isinstance(part.capture.reader, FileReader):
            yield from map(partial(self._of, part), self._packets(part))
        else:
            for packets in room.one_by_one(self._packets(part, by_unit=True)):
                length = record_lengths(packets, self.layout)
                batches = self._in_batches(part, packets, length)
                del packets  # the batches' alone from here on: they may be let go of before they are used
                yield from room.held(batches, int(length.sum()))

    def _stands(self, part: Part) -> bool:
        """Whether the capture's records are such as are to be written."""
        is_same = self.layout.cut is None and not part.capture.shift
        return is_same and part.records == self.layout.format

    def _as_it_stands(self, part: Part) -> Iterator[Encoded]:
        batches = (self._of_window(part, *of) for of in part.capture.windows(part.wanted))
        return first((batch for batch in batches if len(batch)), self.limit)

    def _of_window(self, part: Part, placed: Placed, chosen: Chosen) -> Encoded:
        if part.promised is not None and placed.records.caplen.max(initial=0) > part.promised.longest:
            raise UnkeptError
        if not _is_seen_so(placed, part.wanted):
            return self._of(part, packets_of_records(placed, part.numbers, chosen, part.wanted))
        return Encoded.standing(placed, chosen, source=part.source if self.detailed else None)

    def _packets(self, part: Part, *, alone: bool = False, by_unit: bool = False) -> Iterator[Packets]:
        packets = part.capture.packets(part.numbers, part.wanted, alone=alone, by_unit=by_unit)
        return map(partial(_checked, part), first(packets, self.limit))

    def _of(self, part: Part, packets: Packets) -> Encoded:
        source = part.source if self.detailed else None
        return Encoded.of(packets, self.layout, name=self.name, source=source)

    def _in_batches(self, part: Part, packets: Packets, length: NDArray[np.int64]) -> Iterator[Encoded]:
        octets = max(_ENCODED_AT_ONCE // self.captures, _LEAST_BATCH)
        ends = np.cumsum(length)
        cuts = np.searchsorted(ends, np.arange(octets, int(length.sum()), octets))
        for rows in map(slice, [0, *cuts], [*cuts, len(packets)]):
            if rows.start < rows.stop:
                yield self._of(part, packets.take(rows))


def _checked(part: Part, packets: Packets) -> Packets:
    if part.promised is not None and len(packets) and not is_kept(packets, part.promised):
        raise UnkeptError
    return packets


def _is_seen_so(placed: Placed, wanted: Wanted) -> bool:
    """Whether records as they stand say what is wanted of them.

    libpcap leaves sub-seconds of a second and more as they are, and cuts packets; else it is the other way round.
    """
    records = placed.records
    if wanted.as_seen:
        return bool((records.filter_len == records.caplen).all())
    return not records.time_raw_needed.any()
