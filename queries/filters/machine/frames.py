"""Sets of frames as the packet table stores them: octets of ``header``, then those of ``rest``, all at once.

Nothing here copies octets that lie in one Arrow array or one buffer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_FEW = 1 << 12  # rows that are joined in Python sooner than PyArrow is imported

Rows = NDArray[np.int64]
"""Numbers of rows, from 0."""


@dataclass(frozen=True, slots=True)
class Slices:
    """Octets of n rows: row k is ``data[starts[k] : ends[k]]``, each within ``data``."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, rows: Rows) -> Slices:
        """Those of some rows, in their order."""
        return Slices(self.data, self.starts[rows], self.ends[rows])

    @classmethod
    def of_arrow(cls, column: pa.Array | pa.ChunkedArray) -> Slices:
        """A binary column; null is empty.

        Of large_binary in one chunk nothing is copied (so ask once per record batch); other types and more chunks are.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        array = column
        if isinstance(column, pa.ChunkedArray):
            array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if not pa.types.is_large_binary(array.type):
            array = array.cast(pa.large_binary())
        _, offsets, octets = array.buffers()
        if not len(array) or octets is None:
            return cls.empty(len(array))
        bounds = np.frombuffer(offsets, np.int64, len(array) + 1, array.offset * 8)
        starts, ends = bounds[:-1], bounds[1:]
        if array.null_count:
            ends = np.where(pc.is_valid(array).to_numpy(zero_copy_only=False), ends, starts)
        return cls(np.frombuffer(octets, np.uint8), starts, ends)

    @classmethod
    def of_polars(cls, column: pl.Series) -> Slices:
        """A Binary column, its octets copied once into one buffer: select rows first. Null is empty."""
        if len(column) > _FEW:
            return cls.of_arrow(column.to_arrow())
        octets = [each or b"" for each in column]
        ends = np.cumsum([len(each) for each in octets], dtype=np.int64)
        data = np.frombuffer(b"".join(octets), np.uint8)
        return cls(data, np.concatenate([np.zeros(min(len(octets), 1), np.int64), ends[:-1]]), ends)

    @classmethod
    def of_buffer(
        cls, data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> Slices:
        """``lengths[k]`` octets from ``starts[k]`` of a buffer, such as a capture's records."""
        return cls(data, starts, starts + lengths)

    @classmethod
    def empty(cls, count: int) -> Slices:
        """Rows without octets."""
        nothing = np.zeros(count, np.int64)
        return cls(np.empty(0, np.uint8), nothing, nothing)


Rest = Slices | Callable[[Rows], Slices]
"""The octets after ``header``: of all frames, or what returns those of some rows (ascending), in their order."""


@dataclass(frozen=True, slots=True)
class Frames:
    """n frames, each of them ``header`` followed by ``rest``.

    ``limit`` is how many octets libpcap sees (``filter_len``): a load beyond rejects.  ``wire_length`` is what ``len``
    means (``frame_len``).  A ``rest`` that is a function is called at most once in a run, and only with rows in which
    the program comes to a load of octets after ``header``; without ``rest`` a frame ends with its header.
    """

    header: Slices
    limit: NDArray[np.uint32]
    wire_length: NDArray[np.uint32]
    rest: Rest | None = None

    def __len__(self) -> int:
        return len(self.header)

    def take(self, rows: Rows) -> Frames:
        """Those of some rows, in their order."""
        rest = None if self.rest is None else _rest_of(self.rest, rows)
        return Frames(self.header.take(rows), self.limit[rows], self.wire_length[rows], rest)

    @classmethod
    def of_arrow(
        cls,
        header: pa.Array | pa.ChunkedArray,
        filter_len: pa.Array | pa.ChunkedArray,
        frame_len: pa.Array | pa.ChunkedArray,
        *,
        rest: pa.Array | pa.ChunkedArray | Callable[[Rows], Slices] | None = None,
    ) -> Frames:
        """Frames of the packet table's columns of these names; see :meth:`Slices.of_arrow` for what is copied."""
        after = rest if rest is None or callable(rest) else Slices.of_arrow(rest)
        return cls(Slices.of_arrow(header), _lengths(filter_len), _lengths(frame_len), after)

    @classmethod
    def of_polars(
        cls,
        header: pl.Series,
        filter_len: pl.Series,
        frame_len: pl.Series,
        *,
        rest: pl.Series | Callable[[Rows], Slices] | None = None,
    ) -> Frames:
        """The same of Polars columns."""
        after = rest if rest is None or callable(rest) else Slices.of_polars(rest)
        return cls(Slices.of_polars(header), _lengths(filter_len), _lengths(frame_len), after)


def _lengths(column: pa.Array | pa.ChunkedArray | pl.Series) -> NDArray[np.uint32]:
    numbers: NDArray[np.uint32] = column.to_numpy().astype(np.uint32, copy=False)
    return numbers


def _rest_of(rest: Rest, rows: Rows) -> Rest:
    if isinstance(rest, Slices):
        return rest.take(rows)
    return lambda some: rest(rows[some])
