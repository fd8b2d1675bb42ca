"""How packets of several captures are put together: clocks, order, and what is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.errors import UsageError
from pcap2arrow.savefile.reader import WINDOW
from pcap2arrow.times import Times
from pcap2arrow.writing.ahead import ahead
from pcap2arrow.writing.duplicates import (
    OF_SOURCES,
    AcrossSources,
    Duplicates,
    sieve,
    without_duplicates,
)
from pcap2arrow.writing.merge import Run, merge
from pcap2arrow.writing.packets import Packets
from pcap2arrow.writing.reader import FileReader, Reader
from pcap2arrow.writing.selection import Wanted
from pcap2arrow.writing.slices import Slice, first_time, span

Order = Literal["merged", "concat", "concat-newer"]

_FARTHEST = 100 * 366 * 86400 * 10**9  # so that sums with times of captures fit 64 bits
_MANY = 64
_OCTETS_AT_ONCE, _LEAST_WINDOW = 16 << 20, 1 << 19
_OCTETS_OF_MANY, _LEAST_OF_MANY = 256 << 20, 1 << 16


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How packets of several captures are put together.

    ``order`` is by time (``merged``); of one capture after another (``concat``); or the same, but of each only the
    packets later than all before it (``concat-newer``, as tcpslice did before it merged).  ``relative`` moves every
    capture so that its first packet has the time of the first of all; ``offsets`` move captures by nanoseconds, by
    their names.  ``duplicates`` are left out, None keeps them.  Raises UsageError where these contradict each other.
    """

    order: Order = "merged"
    relative: bool = False
    offsets: Mapping[str, int] = field(default_factory=dict, hash=False)
    duplicates: Duplicates | None = None

    def __post_init__(self) -> None:
        if self.order != "merged" and isinstance(self.duplicates, OF_SOURCES):
            raise UsageError("duplicates of several captures are found where these are merged, not in a row")
        if any(abs(by) > _FARTHEST for by in self.offsets.values()):
            raise UsageError("offset: expected at most a hundred years")

    def drops_of(self, captures: int) -> bool:
        """Whether packets of so many captures are looked at for duplicates."""
        return self.duplicates is not None and (captures > 1 or not isinstance(self.duplicates, OF_SOURCES))


MERGED = Arrangement()
"""All packets, by time."""


def slices(readers: Sequence[Reader], times: Times, how: Arrangement) -> list[Slice]:
    """Of each capture the packets of that time, on a common clock.

    Raises UsageError where a capture to move is not there, and what ``times`` raises.
    """
    names = [reader.name if isinstance(reader, FileReader) else reader.capture.name for reader in readers]
    for name in how.offsets:
        if name not in names:
            raise UsageError(f"offset: there is no capture of the name {name!r}")
    shifts = [how.offsets.get(name, 0) for name in names]
    if callable(times) or how.relative:
        firsts = [first_time(reader) for reader in readers]
        if how.relative:
            base = min((first for first in firsts if first is not None), default=0)
            shifts = [
                shift if first is None else base - first + shift
                for shift, first in zip(shifts, firsts, strict=True)
            ]
        moved = [first + by for first, by in zip(firsts, shifts, strict=True) if first is not None]
        times = times(min(moved, default=None)) if callable(times) else times
    readers = [_frugal(reader, len(readers)) for reader in readers]
    return [Slice.of(reader, times, shift=shift) for reader, shift in zip(readers, shifts, strict=True)]


def _frugal(reader: Reader, number: int) -> Reader:
    """The same with smaller windows where it is one of several, and not kept open where of many."""
    if number == 1 or not isinstance(reader, FileReader):
        return reader
    octets = min(max(_OCTETS_AT_ONCE // number, _LEAST_WINDOW), WINDOW)
    if number > _MANY:
        octets = max(_OCTETS_OF_MANY // number, _LEAST_OF_MANY)
    return replace(reader, octets=octets, kept_open=number <= _MANY)


def arranged(
    captures: Sequence[Slice],
    bounds: Sequence[int],
    numbers: Sequence[NDArray[np.int64]],
    wanted: Sequence[Wanted],
    how: Arrangement,
) -> Iterator[Packets]:
    """The packets of all captures, put together, in batches.

    For each capture: what its orders are not below, the numbers of its interfaces, and what is wanted of it.
    """
    alone = len(captures) == 1

    def read(wanted: Sequence[Wanted]) -> list[Iterator[Packets]]:
        return [
            _from_source(place, capture.packets(of, wanted[place], alone=alone))
            for place, (capture, of) in enumerate(zip(captures, numbers, strict=True))
        ]

    def again() -> Iterator[Packets]:
        quiet = [replace(each, damaged=_unheard) for each in wanted]
        return (batch for batches in read(quiet) for batch in batches)

    batches = read(wanted)
    if alone:
        together = ahead(batches[0])
    elif how.order == "merged":
        together = merge([Run(bound, of) for bound, of in zip(bounds, batches, strict=True)])
    else:
        together = _in_a_row(batches, newer=how.order == "concat-newer")
    if how.duplicates is None or not how.drops_of(len(captures)):
        return together
    steps_back = isinstance(how.duplicates, AcrossSources) and any(
        span(capture.reader).stepping_back for capture in captures
    )
    return without_duplicates(together, sieve(how.duplicates, again if steps_back else None))


def _unheard(reason: str) -> None:
    """Damage is told of when packets are read for good."""


def _from_source(place: int, batches: Iterator[Packets]) -> Iterator[Packets]:
    for batch in batches:
        yield replace(batch, source=np.full(len(batch), place, np.int32)) if place else batch


def _in_a_row(sources: Sequence[Iterator[Packets]], *, newer: bool) -> Iterator[Packets]:
    """The packets of one source after another; of each only those later than all before it, if wanted."""
    latest: int | None = None
    for batches in sources:
        before = latest
        for batch in batches:
            if newer and before is not None:
                time = np.where(batch.timed, batch.time, batch.order)
                batch = batch.take(np.flatnonzero(time > before))
            if batch.timed.any():
                greatest = int(batch.time[batch.timed].max())
                latest = greatest if latest is None else max(latest, greatest)
            if len(batch):
                yield batch
