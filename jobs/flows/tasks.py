"""What workers do for connections: read packets apart by connection, then sum up those of each bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

import polars as pl

from pcap2arrow.errors import DatasetError, FormatError, LimitError, SourceError
from queries.flows.buckets import Parting
from queries.flows.connections import summed_by_and_by
from queries.flows.folding import Folding
from queries.flows.packets import by_connection, flow_columns
from queries.merging import Run, Sorting
from queries.streams.packets import least_of
from queries.streams.reading import Part, Reading
from queries.streams.shifts import Shift
from queries.streams.spill import in_time_order

if TYPE_CHECKING:
    from pcap2arrow.conversion.placed import Unit
    from queries.select import Tally

Frame = str | pl.DataFrame
"""A frame, or the file of one."""

_TOGETHER = 1 << 17
"""Packets that are parted at once, or more: those of a bucket cost as much as thousands of them."""

_MOST_ROWS = 1 << 16
"""Packets that are held together, at most."""

_FINE = 16
"""Buckets that one is parted into again, at least: only long connections remain large."""

_SHARE = 4
"""What part of the packets that memory has room for are summed up at once of connections it has no room for."""


@dataclass(frozen=True, slots=True)
class Held:
    """So many packets of one bucket.

    Where they were read before it was known what comes before them, the ``frame`` lacks that ``shift``.
    """

    rows: int
    frame: Frame
    shift: Shift | None = None

    def read(self) -> pl.DataFrame:
        """The packets."""
        packets = pl.read_ipc(self.frame) if isinstance(self.frame, str) else self.frame
        return packets if self.shift is None else self.shift.of(packets)


@dataclass(frozen=True, slots=True)
class _Placed:
    """Packets that are parted again; ``least`` is where the first of them stands in the order of the whole."""

    least: tuple[int, int, int]
    held: Held


@dataclass(frozen=True, slots=True)
class Read:
    """Packets by bucket, fragments that are held back, what was wrong in sources, and what a filter saw of them.

    ``after`` is the number of a part that was read alone, and what is left of its unit.
    """

    packets: tuple[tuple[int, Held], ...]
    fragments: tuple[Frame, ...]
    errors: tuple[str, ...]
    notices: tuple[str, ...]
    tally: Tally | None
    after: tuple[int, Unit] | None

    def shifted(self, shift: Shift) -> Read:
        """The same with a shift of its packets, not of fragments."""
        packets = ((bucket, replace(held, shift=shift)) for bucket, held in self.packets)
        return replace(self, packets=tuple(packets))


def read_packets(
    parts: Sequence[tuple[int, Part]], begin: Callable[[], Reading], parting: Parting, path: str | None
) -> Read:
    """The packets of some parts, which have numbers, in memory or in files whose names begin with ``path``."""
    reading = begin()
    found: list[tuple[int, Held]] = []
    numbers = count()
    waiting: list[pl.DataFrame] = []

    def part_waiting() -> None:
        together = pl.concat(waiting)
        waiting.clear()
        for bucket, packets in parting.of(flow_columns(together)) if len(together) else ():
            for first in range(0, len(packets), _MOST_ROWS):
                some = packets[first : first + _MOST_ROWS]
                found.append((bucket, Held(len(some), _kept(some, path, next(numbers)))))

    for _, part in parts:
        try:
            for frame in part.frames(reading):
                waiting.append(frame)
                if sum(map(len, waiting)) >= _TOGETHER:
                    part_waiting()
        except (FormatError, SourceError, LimitError, DatasetError) as error:
            reading.errors.append(str(error))
    if waiting:
        part_waiting()
    released = () if reading.fragments is None else reading.fragments.release()
    fragments = tuple(_kept(each, path, next(numbers)) for each in released)
    tally = None if reading.selection is None else reading.selection.tally
    after = (parts[0][0], reading.after) if len(parts) == 1 and reading.after is not None else None
    return Read(tuple(found), fragments, tuple(reading.errors), tuple(reading.warnings), tally, after)


def sum_up(packets: Sequence[Held], most: int, path: str, *, in_memory: bool) -> Run:
    """The connections of a bucket in order, in a file, unless few of them may be ``in_memory``.

    See :func:`~queries.flows.connections.summed`.  Of more than ``most`` packets not all are in memory at once: they
    are parted again, to files whose names begin with ``path``, and those of one long connection are followed in the
    order of time.
    """
    sorting = Sorting(path, _MOST_ROWS, held=in_memory)
    if _rows(packets) <= most:
        _sum_up(packets, sorting)
        return sorting.finish()
    rows = max(min(most // _SHARE, _MOST_ROWS), 1)
    for number, some in enumerate(_parted_again(packets, most, path)):
        of_some = [placed.held for placed in some]
        if _rows(of_some) <= most:
            _sum_up(of_some, sorting)
            continue
        folding = Folding(f"{path}.acks.{number}", rows, sorting.add)
        for frame in in_time_order(some, lambda placed: placed.held.read(), rows):
            folding.take(frame)
        folding.finish()
    return sorting.finish()


def _sum_up(packets: Sequence[Held], sorting: Sorting) -> None:
    together = by_connection(pl.concat([held.read() for held in packets]))
    for connections in summed_by_and_by(together):
        sorting.add(connections)


def _rows(packets: Iterable[Held]) -> int:
    return sum(held.rows for held in packets)


def _parted_again(packets: Sequence[Held], most: int, path: str) -> Iterator[list[_Placed]]:
    """Packets in smaller buckets, several together if they are small: those that are still too large are long ones."""
    parting = Parting(max(-(-_rows(packets) * 2 // most), _FINE))
    numbers = count()
    buckets: dict[int, list[_Placed]] = {}
    for held in packets:
        for bucket, some in parting.of(held.read()) if held.rows else ():
            placed = _Placed(least_of(some), Held(len(some), _kept(some, path, next(numbers))))
            buckets.setdefault(bucket, []).append(placed)
    together: list[_Placed] = []
    rows = 0
    for of_bucket in buckets.values():
        more = _rows(placed.held for placed in of_bucket)
        if together and rows + more > most // _SHARE:
            yield together
            together, rows = [], 0
        together += of_bucket
        rows += more
    yield together


def frames(fragments: Sequence[Frame]) -> Iterator[pl.DataFrame]:
    """The frames themselves."""
    return (pl.read_ipc(each) if isinstance(each, str) else each for each in fragments)


def _kept(frame: pl.DataFrame, path: str | None, number: int) -> Frame:
    if path is None:
        return frame
    file = f"{path}.{number}"
    frame.write_ipc(file, compression="lz4")
    return file
