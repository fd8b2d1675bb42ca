"""Rows in the order of the whole, in files: more of them than there is memory for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.writing.target import failing_as
from queries.streams.packets import PLACE, TURN

ORDER = (TURN, PLACE, "frame_number")
"""Columns that say where a row stands in the order of the whole; no two rows have the same place."""

Ints = NDArray[np.integer[Any]]

_READ, _READ_OCTETS = 1 << 13, 1 << 18
"""Rows of a file that are read at once, or fewer that are so many octets: each of hundreds of files holds as much."""

_MERGED = 1 << 16
"""Rows of several runs that are put in order at once."""


@dataclass(frozen=True, slots=True)
class Run:
    """So many rows in order, in memory or in a file."""

    rows: int
    frame: pl.DataFrame | str

    def read(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Columns of all rows, or all of them."""
        if isinstance(self.frame, str):
            return read_written(self.frame, columns)
        return self.frame if columns is None else self.frame.select(columns)

    def cursor(self) -> Cursor | _Held:
        """The rows, to be taken one after another."""
        return Cursor(self.frame) if isinstance(self.frame, str) else _Held(self.frame)


class Sorting:
    """Puts rows that come in frames in order; of more than ``most``, some are in files that begin with ``path``.

    As many or less are in memory at the end if they are to be ``held`` there.
    """

    def __init__(self, path: str, most: int, *, held: bool) -> None:
        self._path = path
        self._most = most
        self._are_held = held
        self._numbers = count()
        self._held: list[pl.DataFrame] = []
        self._runs: list[Run] = []

    def add(self, frame: pl.DataFrame) -> None:
        """Add rows."""
        self._held.append(frame)
        if sum(map(len, self._held)) > self._most:
            self._runs.append(self._written(iter([self._sorted()])))

    def finish(self) -> Run:
        """All of them, of at least one frame."""
        if not self._runs and self._are_held:
            together = self._sorted()
            return Run(len(together), together)
        if self._held:
            self._runs.append(self._written(iter([self._sorted()])))
        if len(self._runs) == 1:
            return self._runs[0]
        whole = self._written(merged(self._runs))
        for run in self._runs:
            Path(str(run.frame)).unlink()
        return whole

    def _sorted(self) -> pl.DataFrame:
        together = pl.concat(self._held)
        self._held = []
        return together[together.select(pl.arg_sort_by(ORDER)).to_series()]

    def _written(self, frames: Iterator[pl.DataFrame]) -> Run:
        path = f"{self._path}.{next(self._numbers)}.sorted"
        return Run(write_frames(path, frames), path)


def merged(runs: Sequence[Run], rows: int = _MERGED) -> Iterator[pl.DataFrame]:
    """The rows of several runs in order, so many at a time, at least one frame of them.

    In memory are those, a few of each run, and for each row of all the number of its run.
    """
    source = _sources(runs)
    cursors = [run.cursor() for run in runs]
    if not len(source):
        yield runs[0].read()
    for first in range(0, len(source), rows):
        here = source[first : first + rows]
        counts = np.bincount(here, minlength=len(runs)).tolist()
        busy = [at for at, wanted in enumerate(counts) if wanted]
        together = pl.concat([some for at in busy for some in cursors[at].take(counts[at])])
        if len(busy) > 1:
            place = np.empty(len(here), np.int64)
            place[np.argsort(here, kind="stable")] = np.arange(len(here))
            together = together[place]
        yield together


def _sources(runs: Sequence[Run]) -> Ints:
    """The run of each row, in the order of all."""
    keys = [run.read(ORDER) for run in runs]
    columns = [np.concatenate([each[name].to_numpy() for each in keys]) for name in ORDER]
    kind = np.min_scalar_type(len(runs))
    of_row = np.repeat(np.arange(len(runs), dtype=kind), [len(each) for each in keys])
    found: Ints = of_row[np.lexsort(columns[::-1])]
    return found


class _Held:
    """Rows of a frame, read from beginning to end."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._left = frame

    def take(self, rows: int) -> Iterator[pl.DataFrame]:
        """So many more rows."""
        yield self._left[:rows]
        self._left = self._left[rows:]


class Cursor:
    """Rows of a file of :func:`write_frames`, read from beginning to end."""

    def __init__(self, path: str) -> None:
        self._file = pa.ipc.open_file(pa.OSFile(path))
        self.schema: pa.Schema = self._file.schema
        self._next = 0
        self._left: pa.RecordBatch | None = None

    def take(self, rows: int) -> Iterator[pl.DataFrame]:
        """So many more rows, in frames."""
        while rows:
            if self._left is None or not len(self._left):
                self._left = self._file.get_batch(self._next)
                self._next += 1
            part = self._left[:rows]
            self._left = self._left[len(part) :]
            rows -= len(part)
            frame = pl.from_arrow(part)
            assert isinstance(frame, pl.DataFrame)
            yield frame


def write_frames(path: str, frames: Iterable[pl.DataFrame]) -> int:
    """Write frames, at least one, to a file that a :class:`Cursor` reads; the result is how many rows they have."""
    rows = 0
    with failing_as(path), ExitStack() as opened:
        writer = None
        for frame in frames:
            for some in frame.iter_slices(_MERGED) if len(frame) else [frame]:
                table = as_arrow(some)
                if writer is None:
                    file = opened.enter_context(pa.OSFile(path, "wb"))
                    writer = opened.enter_context(pa.ipc.new_file(file, table.schema))
                of_octets = _READ_OCTETS * len(table) // max(table.nbytes, 1)
                writer.write_table(table, max_chunksize=min(max(of_octets, 1), _READ))
                rows += len(some)
    return rows


def read_written(path: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Columns of a file of :func:`write_frames`, or all.

    Of some columns nothing else gets into memory: the file is mapped, where Arrow would read all of a batch together.
    """
    with pa.OSFile(path) if columns is None else pa.memory_map(path) as file:
        table = pa.ipc.open_file(file).read_all()
        rows = pl.from_arrow(table if columns is None else table.select(columns))
    assert isinstance(rows, pl.DataFrame)
    return rows


def as_arrow(frame: pl.DataFrame) -> pa.Table:
    """A frame as Arrow has had it for long, which Parquet writers know."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
