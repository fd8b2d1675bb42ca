"""What workers do for connections: read packets apart by connection, then sum up those of each bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from pcap2arrow.errors import DatasetError, FormatError, LimitError, SourceError
from queries.flows.buckets import Parting
from queries.flows.connections import summed
from queries.flows.packets import by_connection, flow_columns
from queries.select import Tally
from queries.streams.reading import Part, Reading

Held = str | pl.DataFrame
"""A frame, or the file of one."""

_TOGETHER = 1 << 17
"""Packets that are parted at once, or more: those of a bucket cost as much as thousands of them."""


@dataclass(frozen=True, slots=True)
class Read:
    """Packets by bucket, fragments that are held back, what was wrong in sources, and what a filter saw of them."""

    packets: tuple[tuple[int, Held], ...]
    fragments: tuple[Held, ...]
    errors: tuple[str, ...]
    notices: tuple[str, ...]
    tally: Tally | None


def read_packets(
    parts: Sequence[Part], begin: Callable[[], Reading], parting: Parting, path: str | None
) -> Read:
    """The packets of some parts, in memory or in files whose names begin with ``path``."""
    reading = begin()
    found: list[tuple[int, Held]] = []
    waiting: list[pl.DataFrame] = []

    def part_waiting() -> None:
        together = pl.concat(waiting)
        waiting.clear()
        for bucket, packets in parting.of(flow_columns(together)) if len(together) else ():
            found.append((bucket, _held(packets, path, len(found))))

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
    fragments = tuple(_held(each, path, len(found) + more) for more, each in enumerate(released))
    tally = None if reading.selection is None else reading.selection.tally
    return Read(tuple(found), fragments, tuple(reading.errors), tuple(reading.warnings), tally)


def sum_up(packets: Sequence[Held]) -> pl.DataFrame:
    """The connections of a bucket; see :func:`~queries.flows.connections.summed`."""
    return summed(by_connection(pl.concat([*frames(packets)])))


def frames(held: Sequence[Held]) -> Iterator[pl.DataFrame]:
    """The frames themselves."""
    return (pl.read_ipc(each) if isinstance(each, str) else each for each in held)


def _held(frame: pl.DataFrame, path: str | None, number: int) -> Held:
    if path is None:
        return frame
    file = f"{path}.{number}"
    frame.write_ipc(file, compression="lz4")
    return file
