"""What is written to streams that memory has no room for: kept in a file as it comes, then read stream by stream.

It is noted in the order of time.  What is asked of it lies by place: octets and gaps of a stretch of a stream follow
from the segments that reach into it, so that only these are in memory, unless a stream comes in no order at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.writing.target import failing_as
from queries.streams.follow import Writes

Ints = NDArray[np.int64]

NOTE = np.dtype(
    [
        ("place", "<i8"),
        ("length", "<u4"),
        ("part", "<u4"),
        ("at", "<u8"),
        ("time", "<i8"),
        ("capture_id", "<u8"),
        ("frame_number", "<u8"),
    ]
)
"""What is known of a segment: its place and length, where its octets are, and which packet it is from."""

_EXTENT = np.dtype(
    [("stream", "<i8"), ("first", "<i8"), ("count", "<i8"), ("least", "<i8"), ("greatest", "<i8")]
)
"""Notes of a stream in a row: ``count`` from number ``first`` on, of places from ``least`` to ``greatest``."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Streams as a whole, or the places ``low`` to ``high`` of one: all that is written there, in the order of coming.

    Rows of ``writes`` are those of ``notes``.
    """

    writes: Writes
    notes: NDArray[np.void]
    low: int = 0
    high: int = np.iinfo(np.int64).max


class WriteLog:
    """Notes of segments by stream, in a file; a context in which they are added and read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        self._added: list[NDArray[np.void]] = []

    def __enter__(self) -> WriteLog:
        with failing_as(self._path):
            self._file = self._path.open("x+b", buffering=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink()

    def add(self, stream: Ints, notes: NDArray[np.void]) -> NDArray[np.void]:
        """Add notes of streams, at least one, of each in the order of their coming; all later ones of it come later.

        The result says where they are: a value per stream, whose numbers ascend.
        """
        order = np.argsort(stream, kind="stable")
        stream, notes = stream[order], notes[order]
        firsts = np.append(0, np.flatnonzero(stream[1:] != stream[:-1]) + 1)
        added = np.empty(len(firsts), _EXTENT)
        added["stream"], added["first"] = stream[firsts], self._count + firsts
        added["count"] = np.diff(np.append(firsts, len(stream)))
        added["least"] = np.minimum.reduceat(notes["place"], firsts)
        added["greatest"] = np.maximum.reduceat(notes["place"] + notes["length"], firsts)
        self._added.append(added)
        self._count += len(notes)
        view = notes.view(np.uint8).data
        with failing_as(self._path):
            while view:
                view = view[self._file.write(view) :]
        return added

    def close(self, number: Ints) -> None:
        """All is added: from now on streams have these numbers."""
        extents = np.concatenate(self._added) if self._added else np.empty(0, _EXTENT)
        extents["stream"] = number[extents["stream"]]
        self._extents = extents[np.argsort(extents["stream"], kind="stable")]
        self._bounds = np.searchsorted(self._extents["stream"], np.arange(len(number) + 1))
        self._added = []

    def reaching(self, extents: Sequence[np.void], low: int, high: int) -> NDArray[np.void]:
        """Of notes that are there (see :meth:`add`) those that reach between these places, in their order."""
        found = [np.empty(0, NOTE)]
        found += (self._read(each) for each in extents if each["least"] < high and each["greatest"] > low)
        notes: NDArray[np.void] = np.concatenate(found)
        notes = notes[(notes["place"] < high) & (notes["place"] + notes["length"] > low)]
        return notes

    def notes(self, rows: int) -> Iterator[tuple[Ints, NDArray[np.void]]]:
        """All notes with their streams, by stream, about so many at a time; the last ones may be none."""
        group = (np.cumsum(self._extents["count"]) - self._extents["count"]) // rows
        marks = np.append(np.flatnonzero(group[1:] != group[:-1]) + 1, len(group))
        for first, stop in pairwise([0, *marks.tolist()]):
            extents = self._extents[first:stop]
            yield np.repeat(extents["stream"], extents["count"]), self._read_all(extents)

    def stretches(self, origin: Ints, limit: int | None, rows: int) -> Iterator[Stretch]:
        """All that is written, by stream and by place, about so many segments at a time.

        Streams begin at these places, and have no more octets than the ``limit``.
        """
        held = np.append(0, np.cumsum(self._extents["count"]))[self._bounds]
        own = np.diff(held)
        group = held[:-1] // rows
        opens = (group[1:] != group[:-1]) | (own[1:] > rows) | (own[:-1] > rows)
        marks = np.append(np.flatnonzero(opens) + 1, len(own))
        for first, stop in pairwise([0, *marks.tolist()]):
            extents = self._extents[self._bounds[first] : self._bounds[stop]]
            if stop == first + 1 and own[first] > rows:
                begin = int(origin[first])
                for low, high, notes in self._sweep(extents, rows):
                    stream = np.full(len(notes), first)
                    yield Stretch(_writes(stream, notes, origin, limit), notes, low - begin, high - begin)
            elif len(extents):
                notes = self._read_all(extents)
                stream = np.repeat(extents["stream"], extents["count"])
                yield Stretch(_writes(stream, notes, origin, limit), notes)

    def _sweep(self, extents: NDArray[np.void], rows: int) -> Iterator[tuple[int, int, NDArray[np.void]]]:
        """Notes of a stream that reach into stretches of it, and these stretches, from the first place to the last."""
        turn = np.argsort(extents["least"], kind="stable")
        greatest = int(extents["greatest"].max())
        low = int(extents["least"][turn[0]])
        numbers: list[Ints] = []  # in the order of coming
        waiting: list[NDArray[np.void]] = []
        for at, extent in enumerate(extents[turn]):
            waiting.append(self._read(extent))
            numbers.append(extent["first"] + np.arange(len(waiting[-1])))
            is_last = at + 1 == len(turn)
            if sum(map(len, waiting)) < rows and not is_last:
                continue
            high = greatest if is_last else int(extents["least"][turn[at + 1]])
            if high <= low and not is_last:
                continue
            number, notes = np.concatenate(numbers), np.concatenate(waiting)
            order = np.argsort(number)
            number, notes = number[order], notes[order]
            yield low, high, notes[notes["place"] < high]
            left = notes["place"] + notes["length"] > high
            numbers, waiting, low = [number[left]], [notes[left]], high

    def _read_all(self, extents: NDArray[np.void]) -> NDArray[np.void]:
        """Notes of several extents, one after another; those that follow each other in the file are read at once."""
        first, count = extents["first"], extents["count"]
        opens = np.append(0, np.flatnonzero(first[1:] != (first + count)[:-1]) + 1)[: len(first)]
        runs = np.empty(len(opens), _EXTENT)
        runs["first"], runs["count"] = first[opens], np.add.reduceat(count, opens) if len(opens) else 0
        return np.concatenate([np.empty(0, NOTE), *(self._read(run) for run in runs)])

    def _read(self, extent: np.void) -> NDArray[np.void]:
        found = np.empty(int(extent["count"]), NOTE)
        view = found.view(np.uint8).data
        at = int(extent["first"]) * NOTE.itemsize
        while view:
            count = os.preadv(self._file.fileno(), [view], at + found.nbytes - len(view))
            if not count:
                raise OSError("temporary file ended early")
            view = view[count:]
        return found


def _writes(stream: Ints, notes: NDArray[np.void], origin: Ints, limit: int | None) -> Writes:
    """Writes of streams, at places from their beginnings on."""
    place, length = notes["place"] - origin[stream], notes["length"].astype(np.int64)
    if limit is not None:
        length = np.clip(limit - place, 0, length)
    return Writes(stream, place, length, np.arange(len(notes)))
