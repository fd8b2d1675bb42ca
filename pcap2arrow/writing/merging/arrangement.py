"""How packets of several captures are put together: clocks, order, and what is left out."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Literal

import numpy as np

from pcap2arrow.errors import UsageError
from pcap2arrow.savefile.batch import WINDOW
from pcap2arrow.times import Times
from pcap2arrow.writing.merging.direct import Encoder, Part
from pcap2arrow.writing.merging.duplicates import (
    OF_SOURCES,
    AcrossSources,
    Duplicates,
    sieve,
    without_duplicates,
)
from pcap2arrow.writing.merging.merge import Run, first, merge
from pcap2arrow.writing.merging.waiting import WaitingRoom
from pcap2arrow.writing.records.encoded import Encoded
from pcap2arrow.writing.records.formats import Layout
from pcap2arrow.writing.records.selection import Wanted
from pcap2arrow.writing.sources.reader import FileReader, Reader
from pcap2arrow.writing.sources.slices import Slice, first_time, span

Order = Literal["merged", "concat", "concat-newer"]

_FARTHEST = 100 * 366 * 86400 * 10**9  # so that sums with times of captures fit 64 bits
_MANY = 64
_OCTETS_AT_ONCE, _LEAST_WINDOW = 48 << 20, 1 << 19  # longer, since boundaries are searched for in each
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
    parts: Sequence[Part],
    layout: Layout,
    how: Arrangement,
    *,
    name: str,
    detailed: bool = False,
    limit: int | None = None,
    look_ahead: bool = True,
) -> Generator[Encoded]:
    """The records of all captures, put together, in batches: one or more.

    ``name`` is what errors call the export, ``detailed`` asks for more of packets than their order; at most ``limit``
    packets are taken.  Unless captures are to be read a first time to ``look_ahead`` where duplicates take that,
    packets that step back raise UnkeptError.  Raises ExportError where a time does not fit the format.
    """
    drops = how.drops_of(len(parts))
    detailed = detailed or drops or how.order == "concat-newer"
    encoder = Encoder(layout, name, len(parts), detailed, None if drops else limit)
    with closing(_together(parts, encoder, how)) as together:
        kept: Iterator[Encoded] = together
        if how.duplicates is not None and drops:
            again = partial(_again, parts, encoder) if look_ahead and _steps_back(parts, how) else None
            kept = without_duplicates(together, sieve(how.duplicates, again))
        yield from first(kept, limit)


def _together(parts: Sequence[Part], encoder: Encoder, how: Arrangement) -> Generator[Encoded]:
    if len(parts) == 1:
        yield from encoder.alone(parts[0])
    elif how.order == "merged":
        with WaitingRoom() as room:
            yield from merge([Run(part.bound, encoder.waiting(part, room)) for part in parts])
    else:
        yield from _in_a_row(map(encoder.alone, parts), newer=how.order == "concat-newer")


def _steps_back(parts: Sequence[Part], how: Arrangement) -> bool:
    if not isinstance(how.duplicates, AcrossSources):
        return False
    return any(span(part.capture.reader).stepping_back for part in parts)


def _again(parts: Sequence[Part], encoder: Encoder) -> Iterator[Encoded]:
    """All records, in any order; damage is told of when they are read for good."""
    for part in parts:
        unheard = Wanted(part.wanted.selection, part.wanted.is_pcapng, part.wanted.as_seen)
        yield from encoder.alone(replace(part, wanted=unheard))


def _in_a_row(sources: Iterable[Iterator[Encoded]], *, newer: bool) -> Iterator[Encoded]:
    """The packets of one source after another; of each only those later than all before it, if wanted."""
    if not newer:
        yield from chain.from_iterable(sources)
        return
    latest: int | None = None
    for batches in sources:
        before = latest
        for batch in batches:
            if before is not None:
                time = np.where(batch.known["timed"], batch.known["time"], batch.order)
                batch = batch.take(np.flatnonzero(time > before))
            timed = batch.known["time"][batch.known["timed"]]
            if len(timed):
                latest = int(timed.max()) if latest is None else max(latest, int(timed.max()))
            if len(batch):
                yield batch
