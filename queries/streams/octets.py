"""Octets of packets that were read without them, once it is known which are needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pcap2arrow.arrays import VIEW, gather_views
from pcap2arrow.dataset.log import Dataset
from pcap2arrow.dataset.snapshot import DataFile
from pcap2arrow.dataset.snapshot import Source as Stamp
from pcap2arrow.errors import DatasetError
from pcap2arrow.inputs import Input
from pcap2arrow.reading.files import read_frame
from pcap2arrow.savefile.source import open_source

Ints = NDArray[np.int64]

_INLINE, _PREFIX = 12, 4  # octets that a view holds itself, and what stands before them
READING = threading.Lock()
"""Held by the one thread of a process that reads octets of a file.

All of them are in memory meanwhile, more than all else takes; Polars itself uses several processors.
"""
_WINDOW = 32 << 20
"""Octets of a capture that are read at once."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Octets of some of the packets asked for: of packet ``rows[k]`` from octet ``start[k]`` of a buffer on.

    ``rows`` ascend; the buffer is ``buffers[buffer[k]]``.
    """

    rows: Ints
    buffers: Sequence[NDArray[np.uint8]]
    buffer: Ints
    start: Ints

    def gathered(self, which: slice, skipped: Ints, length: Ints) -> NDArray[np.uint8]:
        """So many octets of packets ``rows[which]`` without the first ``skipped`` ones, one after another."""
        views = np.empty(len(length), VIEW)
        views["length"], views["buffer"] = length, self.buffer[which]
        views["offset"] = self.start[which] + skipped
        octets = gather_views(self.buffers, views).buffers()[2]
        return np.frombuffer(octets or b"", np.uint8)


Source = Callable[[NDArray[np.uint64], Ints], Iterator[Taken]]
"""What reads octets of packets that are at some places, as many of each as are told."""


def read_some(
    sources: Mapping[int, Source],
    part: NDArray[np.uint32],
    at: NDArray[np.uint64],
    skipped: Ints,
    length: Ints,
) -> NDArray[np.uint8]:
    """Octets of packets that are in some parts, one after another: so many without the first ``skipped`` of each."""
    found = np.empty(int(length.sum()), np.uint8)
    start = np.cumsum(length) - length
    for number in np.unique(part).tolist():
        here = np.flatnonzero(part == number)
        for taken in sources[number](at[here], (skipped + length)[here]):
            rows = here[taken.rows]
            count = length[rows]
            places = np.arange(count.sum()) + np.repeat(start[rows] - np.cumsum(count) + count, count)
            found[places] = taken.gathered(slice(None), skipped[rows], count)
    return found


def of_file(dataset: Dataset, file: DataFile, at: NDArray[np.uint64], length: Ints) -> Iterator[Taken]:
    """Octets of a file's packets with these frame numbers.  Raises DatasetError where some are missing."""
    with READING:
        found = read_frame(dataset, file, columns=["frame_number", "rest"])
    frames = found["frame_number"].to_numpy()
    rows = np.searchsorted(frames, at)
    if len(at) and not np.array_equal(frames[np.minimum(rows, len(frames) - 1)], at):
        raise DatasetError(f"{dataset.path_of(file.path)}: damaged: packets are missing")
    yield _of_column(found["rest"], rows)


def of_frame(path: str, at: NDArray[np.uint64], length: Ints) -> Iterator[Taken]:
    """Octets of these rows of a frame in a file, its only column."""
    yield _of_column(pl.read_ipc(path).to_series(), at.astype(np.int64))


def _of_column(octets: pl.Series, rows: Ints) -> Taken:
    """Those of a column's rows; none is copied."""
    array = octets.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    _, views, *data = array.buffers()
    whole = np.frombuffer(views, VIEW, len(array), array.offset * VIEW.itemsize)
    buffers = [np.frombuffer(each, np.uint8) for each in data]
    chosen = whole[rows]
    inline = chosen["length"] <= _INLINE
    buffer = np.where(inline, len(buffers), chosen["buffer"])
    start = np.where(inline, rows * VIEW.itemsize + _PREFIX, chosen["offset"])
    return Taken(np.arange(len(rows)), [*buffers, whole.view(np.uint8)], buffer, start)


def of_capture(found: Input, before: Stamp, at: NDArray[np.uint64], length: Ints) -> Iterator[Taken]:
    """Octets from these places of a capture on, window by window.  Raises SourceError where it is not as ``before``."""
    with open_source(found.path, name=found.name, before=before) as source:
        yield from _by_window(source.window, at, length)


def of_spill(path: str, at: NDArray[np.uint64], length: Ints) -> Iterator[Taken]:
    """Octets from these places of a temporary file on, window by window."""
    with Path(path).open("rb", buffering=0) as file:

        def window(begin: int, size: int) -> NDArray[np.uint8]:
            found = np.empty(size, np.uint8)
            file.seek(begin)
            fill(file, found)
            return found

        yield from _by_window(window, at, length)


def fill(file: IO[bytes], target: NDArray[np.uint8]) -> None:
    """Read as many octets of a temporary file as there is room for."""
    view = target.data
    while view:
        count = file.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise OSError("temporary file ended early")
        view = view[count:]


def _by_window(
    window: Callable[[int, int], NDArray[np.uint8]], at: NDArray[np.uint64], length: Ints
) -> Iterator[Taken]:
    order = np.argsort(at, kind="stable")
    places = at[order].astype(np.int64)
    ends = np.maximum.accumulate(places + length[order])
    first = 0
    while first < len(places):
        begin = int(places[first])
        stop = max(int(np.searchsorted(ends, begin + _WINDOW, side="right")), first + 1)
        data = window(begin, int(ends[stop - 1]) - begin)
        rows = np.sort(order[first:stop])
        yield Taken(rows, [data], np.zeros(len(rows), np.int64), at[rows].astype(np.int64) - begin)
        first = stop
