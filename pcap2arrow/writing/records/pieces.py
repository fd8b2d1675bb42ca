"""Octets of a capture put together from columns: slices of many buffers, gathered once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.arrays import VIEW, gather_views

_Ints = NDArray[np.int64]
_INLINE = 12  # octets that a view holds itself


@dataclass(frozen=True, slots=True)
class Octets:
    """A column of octets taken apart: row k is ``buffers[buffer[k]][start[k] : start[k] + length[k]]``.

    Null rows of an Arrow column have length 0.
    """

    buffers: tuple[NDArray[np.uint8], ...]
    buffer: NDArray[np.int32]
    start: _Ints
    length: _Ints

    def __len__(self) -> int:
        return len(self.start)

    @classmethod
    def slices(cls, data: NDArray[np.uint8], start: _Ints, length: _Ints) -> Octets:
        """Slices of one buffer."""
        return cls((data,), np.zeros(len(start), np.int32), start, length)

    @classmethod
    def column(cls, column: pa.ChunkedArray | pa.Array) -> Octets:
        """The octets of a large_binary or binary_view column."""
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        return cls.concat([cls._of_array(chunk) for chunk in chunks])

    @classmethod
    def _of_array(cls, array: pa.Array) -> Octets:
        if array.type == pa.binary_view():
            return cls._of_views(array)
        _, offsets, data = array.buffers()
        rows = len(array)
        bounds = (
            np.frombuffer(offsets, np.int64)[array.offset : array.offset + rows + 1]
            if rows
            else np.zeros(1, np.int64)
        )
        return cls.slices(np.frombuffer(data or b"", np.uint8), bounds[:-1], np.diff(bounds))

    @classmethod
    def _of_views(cls, array: pa.Array) -> Octets:
        """The same of views: a length, and the octets themselves if they are few, else a buffer and where they start.

        Source: Arrow columnar format, variable-size binary view layout.
        """
        valid, views, *data = array.buffers()
        first, rows = array.offset, len(array)
        if not rows:
            return cls.empty(0)
        words = np.frombuffer(views, "<i4").reshape(-1, 4)[first : first + rows]
        length = words[:, 0].astype(np.int64)
        if valid is not None:
            bits = np.unpackbits(np.frombuffer(valid, np.uint8), count=first + rows, bitorder="little")
            length *= bits[first:]
        inline = length <= _INLINE
        return cls(
            tuple(np.frombuffer(buffer or b"", np.uint8) for buffer in (views, *data)),
            np.where(inline, 0, words[:, 2] + 1).astype(np.int32),
            np.where(inline, 16 * np.arange(first, first + rows) + 4, words[:, 3]),
            length,
        )

    @classmethod
    def fixed(cls, rows: NDArray[Any]) -> Octets:
        """One row of octets per row of a two-dimensional array."""
        width = rows.shape[1] * rows.itemsize
        octets = np.ascontiguousarray(rows).view(np.uint8).ravel()
        return cls.slices(octets, np.arange(len(rows)) * width, np.full(len(rows), width))

    @classmethod
    def of(cls, rows: Sequence[bytes]) -> Octets:
        """One row for each of some octet strings."""
        length = np.array([len(row) for row in rows], np.int64)
        return cls.slices(np.frombuffer(b"".join(rows), np.uint8), np.cumsum(length) - length, length)

    @classmethod
    def empty(cls, rows: int) -> Octets:
        """Rows without any octet."""
        none = np.zeros(rows, np.int64)
        return cls.slices(np.empty(0, np.uint8), none, none)

    @classmethod
    def concat(cls, parts: Sequence[Octets]) -> Octets:
        """The rows of all parts."""
        if not parts:
            return cls.empty(0)
        shift = np.cumsum([0, *(len(part.buffers) for part in parts[:-1])])
        return cls(
            tuple(buffer for part in parts for buffer in part.buffers),
            np.concatenate([part.buffer + by for part, by in zip(parts, shift, strict=True)]).astype(
                np.int32
            ),
            np.concatenate([part.start for part in parts]),
            np.concatenate([part.length for part in parts]),
        )

    def take(self, rows: NDArray[Any] | slice) -> Octets:
        """Some of the rows; of a stretch of them, with no buffers but those between its first and last."""
        buffers, buffer = self.buffers, self.buffer[rows]
        if isinstance(rows, slice) and len(buffers) > 1 and len(buffer):
            first, last = int(buffer.min()), int(buffer.max())
            buffers, buffer = buffers[first : last + 1], buffer - np.int32(first)
        return Octets(buffers, buffer, self.start[rows], self.length[rows])

    def in_runs(self) -> Octets:
        """The same octets in fewer rows: one for those that stand in a row in their buffer."""
        if not len(self):
            return self
        follows = self.start[1:] == self.start[:-1] + self.length[:-1]
        follows &= self.buffer[1:] == self.buffer[:-1]
        first = np.flatnonzero(np.concatenate([[True], ~follows]))
        return Octets(
            self.buffers, self.buffer[first], self.start[first], np.add.reduceat(self.length, first)
        )

    def octet(self, rows: NDArray[Any], position: int) -> NDArray[np.uint8]:
        """The octet at that position of each of some rows, which are long enough."""
        result = np.empty(len(rows), np.uint8)
        for number, octets in enumerate(self.buffers):
            inside = self.buffer[rows] == number
            result[inside] = octets[self.start[rows[inside]] + position]
        return result

    def to_bytes(self) -> list[bytes]:
        """Every row as octet string: for few rows."""
        slices = zip(self.buffer, self.start, self.length, strict=True)
        return [self.buffers[number][start : start + length].tobytes() for number, start, length in slices]

    def replaced(self, rows: NDArray[np.intp], by: Octets) -> Octets:
        """The same rows, some of them replaced."""
        source = np.arange(len(self))
        source[rows] = len(self) + np.arange(len(rows))
        return Octets.concat([self, by]).take(source)

    def cut(self, skip: _Ints | int = 0, length: _Ints | int | None = None) -> Octets:
        """Without the first ``skip`` octets of each row, and at most ``length`` of what is left."""
        start, left = self.start, self.length
        if not isinstance(skip, int) or skip:
            skip = np.clip(skip, 0, self.length)
            start, left = start + skip, left - skip
        kept = left if length is None else np.maximum(np.minimum(length, left), 0)
        return Octets(self.buffers, self.buffer, start, kept)


def joined(parts: Sequence[Octets]) -> pa.Buffer:
    """All rows one after the other, each put together from its octets in every part."""
    shift = np.cumsum([0, *(len(part.buffers) for part in parts[:-1])])
    views = np.empty((len(parts[0]), len(parts)), VIEW)
    for part, by, column in zip(parts, shift, views.T, strict=True):
        column["length"], column["offset"] = part.length, part.start
        np.add(part.buffer, by, out=column["buffer"], casting="same_kind")
    array = gather_views([buffer for part in parts for buffer in part.buffers], views.ravel())
    return array.buffers()[2] or pa.py_buffer(b"")
