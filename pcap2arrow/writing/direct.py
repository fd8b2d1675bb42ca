"""Captures to encoded records, in the order of their packets: as they stand, where they are those of the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.arrays import gather
from pcap2arrow.conversion.packets import Placed
from pcap2arrow.savefile.reader import WINDOW
from pcap2arrow.writing.ahead import ahead
from pcap2arrow.writing.encoded import Encoded
from pcap2arrow.writing.formats import Layout, UnkeptError, is_kept, record_lengths
from pcap2arrow.writing.merge import Run, merge
from pcap2arrow.writing.packets import BEFORE_ANY_TIME, Packets, packets_of_records
from pcap2arrow.writing.pieces import Octets
from pcap2arrow.writing.reader import FileReader, Traits
from pcap2arrow.writing.selection import Wanted
from pcap2arrow.writing.slices import Slice
from pcap2arrow.writing.waiting import WaitingRoom

_OCTETS_AT_ONCE, _LEAST_WINDOW = 32 << 20, 1 << 19
_ENCODED_AT_ONCE, _LEAST_BATCH = 16 << 20, 1 << 17
"""Windows are longer, since boundaries are searched for in each."""

_FEW = 0.5  # of a window's octets: they are copied out of it


@dataclass(frozen=True, slots=True)
class Part:
    """A capture of an export: its ``traits``, the ``numbers`` of its interfaces, and what is ``wanted`` of it.

    Where the traits are only ``promised``, packets that are not what they say raise UnkeptError.
    """

    capture: Slice
    traits: Traits
    numbers: NDArray[np.int64]
    wanted: Wanted
    promised: bool


def encoded(parts: Sequence[Part], layout: Layout, target: int, *, name: str) -> Iterator[Encoded]:
    """The records of all captures by time, of those packets that go to the capture of that number.

    ``name`` is what errors call that one.  Raises ExportError where a time does not fit the format.
    """
    window = max(min(_OCTETS_AT_ONCE // len(parts), WINDOW), _LEAST_WINDOW)
    encoder = _Encoder(layout, target, name, window, max(_ENCODED_AT_ONCE // len(parts), _LEAST_BATCH))
    if len(parts) == 1:
        yield from encoder.alone(parts[0])
        return
    with WaitingRoom() as room:
        yield from merge([Run(part.traits.bound, encoder.waiting(part, room)) for part in parts])


@dataclass(frozen=True, slots=True)
class _Encoder:
    layout: Layout
    target: int
    name: str
    window: int
    batch: int

    def alone(self, part: Part) -> Iterator[Encoded]:
        """The records of the only capture."""
        if self._stands(part):
            return self._as_it_stands(part)
        return map(self._of, ahead(self._checked(part, alone=True)))

    def waiting(self, part: Part, room: WaitingRoom) -> Iterator[Encoded]:
        """The records of one of several captures; those of a dataset's are read by the unit, and wait in a room."""
        if self._stands(part):
            yield from self._as_it_stands(part)
        elif isinstance(part.capture.reader, FileReader):
            yield from map(self._of, self._checked(part))
        else:
            for packets in room.one_by_one(self._checked(part, by_unit=True)):
                length = record_lengths(packets, self.layout)
                batches = self._in_batches(packets, length)
                del packets  # the batches' alone from here on: they may be let go of before they are used
                yield from room.held(batches, int(length.sum()))

    def _stands(self, part: Part) -> bool:
        """Whether the capture's records are such as are to be written."""
        is_whole = self.layout.cut is None and not part.wanted.as_seen
        return is_whole and part.traits.records == self.layout.format

    def _as_it_stands(self, part: Part) -> Iterator[Encoded]:
        capture = part.capture
        assert isinstance(capture.reader, FileReader)
        if capture.reader.kept_open:
            capture = replace(capture, reader=replace(capture.reader, octets=self.window))
        for placed, chosen in capture.windows(part.wanted):
            _check_window(placed, part)
            if placed.records.time_raw_needed.any():  # sub-seconds of a second or more are written as seconds
                yield self._of(packets_of_records(placed, part.numbers, chosen, part.wanted))
            else:
                yield _copied(placed, chosen[:, self.target] if chosen.shape[1] else None)

    def _checked(self, part: Part, *, alone: bool = False, by_unit: bool = False) -> Iterator[Packets]:
        packets = part.capture.packets(part.numbers, part.wanted, alone=alone, by_unit=by_unit)
        return map(partial(self._checked_batch, part), packets)

    def _checked_batch(self, part: Part, packets: Packets) -> Packets:
        if part.promised and len(packets) and not is_kept(packets, [part.traits]):
            raise UnkeptError
        return packets.of_target(self.target)

    def _of(self, packets: Packets) -> Encoded:
        return Encoded.of(packets, self.layout, name=self.name)

    def _in_batches(self, packets: Packets, length: NDArray[np.int64]) -> Iterator[Encoded]:
        ends = np.cumsum(length)
        cuts = np.searchsorted(ends, np.arange(self.batch, int(length.sum()), self.batch))
        for rows in map(slice, [0, *cuts], [*cuts, len(packets)]):
            if rows.start < rows.stop:
                yield self._of(packets.take(rows))


def _check_window(placed: Placed, part: Part) -> None:
    if part.promised and placed.records.caplen.max(initial=0) > part.traits.longest:
        raise UnkeptError


def _copied(placed: Placed, chosen: NDArray[np.bool_] | None) -> Encoded:
    """The records of a window; of few of them the octets are copied, so that the window is let go of."""
    if chosen is not None and not chosen.all():
        placed = placed.rows(np.flatnonzero(chosen))
    records = placed.records
    octets = Octets.slices(records.data, records.start, records.length)
    if records.length.sum() < _FEW * len(records.data):
        octets = Octets.column(gather([records.data], 0, records.start, records.length))
    return Encoded(np.where(placed.order_valid, placed.order, BEFORE_ANY_TIME), octets)
