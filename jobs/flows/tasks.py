"""What workers do for connections: read packets apart by connection, then sum up those of each bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
from queries.streams.spill import in_time_order

if TYPE_CHECKING:
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
    """So many packets of one bucket; ``least`` is where the first of them stands in the order of the whole."""

    rows: int
    least: tuple[int, int, int]
    frame: Frame

    def read(self) -> pl.DataFrame:
        """The packets."""
        return pl.read_ipc(self.frame) if isinstance(self.frame, str) else self.frame


@dataclass(frozen=True, slots=True)
class Read:
    """Packets by bucket, fragments that are held back, what was wrong in sources, and what a filter saw of them."""

    packets: tuple[tuple[int, Held], ...]
    fragments: tuple[Frame, ...]
    errors: tuple[str, ...]
    notices: tuple[str, ...]
    tally: Tally | None


def read_packets(
    parts: Sequence[Part], begin: Callable[[], Reading], parting: Parting, path: str | None
) -> Read:
    """The packets of some parts, in memory or in files whose names begin with ``path``."""
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
                found.append((bucket, Held(len(some), least_of(some), _kept(some, path, next(numbers)))))

    for part in parts:
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
    return Read(tuple(found), fragments, tuple(reading.errors), tuple(reading.warnings), tally)


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
        if _rows(some) <= most:
            _sum_up(some, sorting)
            continue
        folding = Folding(f"{path}.acks.{number}", rows, sorting.add)
        for frame in in_time_order(some, Held.read, rows):
            folding.take(frame)
        folding.finish()
    return sorting.finish()


def _sum_up(packets: Sequence[Held], sorting: Sorting) -> None:
    together = by_connection(pl.concat([held.read() for held in packets]))
    for connections in summed_by_and_by(together):
        sorting.add(connections)


def _rows(packets: Sequence[Held]) -> int:
    return sum(held.rows for held in packets)


def _parted_again(packets: Sequence[Held], most: int, path: str) -> Iterator[list[Held]]:
    """Packets in smaller buckets, several together if they are small: those that are still too large are long ones."""
    parting = Parting(max(-(-_rows(packets) * 2 // most), _FINE))
    numbers = count()
    buckets: dict[int, list[Held]] = {}
    for held in packets:
        for bucket, some in parting.of(held.read()) if held.rows else ():
            frame = _kept(some, path, next(numbers))
            buckets.setdefault(bucket, []).append(Held(len(some), least_of(some), frame))
    together: list[Held] = []
    for of_bucket in buckets.values():
        if together and _rows(together) + _rows(of_bucket) > most // _SHARE:
            yield together
            together = []
        together += of_bucket
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
