"""Octets of a capture put together from columns: slices of many buffers, gathered once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.arrays import gather

_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Octets:
    """A binary column taken apart: row k is ``data[start[k] : start[k] + length[k]]``; null rows have length 0."""

    data: NDArray[np.uint8]
    start: _Ints
    length: _Ints

    @classmethod
    def of(cls, column: pa.ChunkedArray | pa.Array) -> Octets:
        """The octets of a large_binary column."""
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], pa.large_binary())
        _, offsets, data = array.buffers()
        rows = len(array)
        bounds = np.frombuffer(offsets, np.int64)[array.offset : array.offset + rows + 1] if rows else np.zeros(1, np.int64)
        octets = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
        return cls(octets, bounds[:-1], np.diff(bounds))

    @classmethod
    def fixed(cls, rows: NDArray[Any]) -> Octets:
        """One row of octets per row of a two-dimensional array."""
        octets = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
        width = octets.shape[1]
        return cls(octets.ravel(), np.arange(len(rows)) * width, np.full(len(rows), width))

    def cut(self, skip: _Ints | int = 0, length: _Ints | None = None) -> Octets:
        """Without the first ``skip`` octets of each row, and at most ``length`` of what is left."""
        skip = np.minimum(skip, self.length)
        left = self.length - skip
        return Octets(self.data, self.start + skip, left if length is None else np.clip(length, 0, left))


@dataclass(frozen=True, slots=True)
class Pieces:
    """Rows of octets, each put together from slices of several buffers."""

    buffers: list[NDArray[np.uint8]]
    buffer: NDArray[np.int32]
    start: _Ints
    length: _Ints

    @classmethod
    def joined(cls, parts: list[Octets]) -> Pieces:
        """Rows that are their part of each column, one after the other."""
        rows = len(parts[0].start)
        number = np.arange(len(parts), dtype=np.int32)
        return cls(
            [part.data for part in parts],
            np.broadcast_to(number, (rows, len(parts))).ravel(),
            np.stack([part.start for part in parts], axis=1).ravel(),
            np.stack([part.length for part in parts], axis=1).ravel(),
        )

    def with_rows(self, other: Octets, key: NDArray[Any], other_key: NDArray[Any]) -> Pieces:
        """These rows and those of one column, in the order of their keys."""
        if not len(other.start):
            return self
        width = len(self.buffer) // len(key) if len(key) else 0
        position = np.concatenate([np.repeat(key, width), other_key])
        order = np.argsort(position, kind="stable")
        number = np.full(len(other.start), len(self.buffers), dtype=np.int32)
        return Pieces(
            [*self.buffers, other.data],
            np.concatenate([self.buffer, number])[order],
            np.concatenate([self.start, other.start])[order],
            np.concatenate([self.length, other.length])[order],
        )

    def octets(self) -> pa.Buffer:
        """All rows, one after the other."""
        filled = self.length > 0
        array = gather(self.buffers, self.buffer[filled], self.start[filled], self.length[filled])
        return array.buffers()[2] or pa.py_buffer(b"")
