"""NumPy columns to Arrow arrays without copying, and octets scattered over a buffer to binary arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_INLINE = 12  # octets that a view holds itself (Arrow columnar format, variable-size binary view layout)


class Bitmaps:
    """Validity bitmaps, packed once for all columns that share a mask."""

    def __init__(self) -> None:
        self._packed: dict[int, tuple[NDArray[np.bool_], pa.Buffer | None]] = {}

    def pack(self, valid: NDArray[np.bool_] | None) -> pa.Buffer | None:
        """The mask as an Arrow bitmap; None where nothing is null."""
        if valid is None:
            return None
        known = self._packed.get(id(valid))
        if known is None:
            packed = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
            known = self._packed[id(valid)] = valid, packed
        return known[1]


def numbers(
    values: NDArray[Any], valid: NDArray[np.bool_] | None, kind: pa.DataType, bitmaps: Bitmaps
) -> pa.Array:
    """An Arrow array of that type over ``values``, null where ``valid`` is False."""
    if pa.types.is_boolean(kind):
        octets = np.packbits(values, bitorder="little")
    else:
        octets = np.ascontiguousarray(
            values, dtype=kind.to_pandas_dtype() if pa.types.is_integer(kind) else np.int64
        )
    return pa.Array.from_buffers(kind, len(values), [bitmaps.pack(valid), pa.py_buffer(octets)])


def gather(
    buffers: Sequence[NDArray[np.uint8]],
    buffer: NDArray[np.integer[Any]] | int,
    start: NDArray[np.int64],
    length: NDArray[np.int64],
) -> pa.LargeBinaryArray:
    """The octets ``buffers[buffer][start : start + length]`` of every row, as large_binary.

    Every buffer is shorter than 2 GiB.  Arrow gathers from an array of views: three times faster than any indexing in
    NumPy.  (The views leave out the prefixes that comparisons use: nothing compares before the cast.)
    """
    views = np.zeros(
        len(start), dtype=[("length", "<i4"), ("prefix", "<i4"), ("buffer", "<i4"), ("offset", "<i4")]
    )
    views["length"] = length
    views["buffer"] = buffer
    views["offset"] = start
    short = np.flatnonzero(length <= _INLINE)
    if len(short):
        inline = views.view(np.uint8).reshape(-1, 16)
        of_short = np.full(len(short), buffer) if isinstance(buffer, int) else buffer[short]
        for number, octets in enumerate(buffers):
            rows = short[of_short == number]
            if len(rows):
                inline[rows, 4:] = _heads(octets, start[rows], length[rows])
    arrow_buffers = [None, pa.py_buffer(views), *map(pa.py_buffer, buffers)]
    return pa.Array.from_buffers(pa.binary_view(), len(start), arrow_buffers).cast(pa.large_binary())


def _heads(
    octets: NDArray[np.uint8], start: NDArray[np.int64], length: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """At most 12 octets from each start, zeros after ``length``; shape (rows, 12)."""
    heads = np.zeros((len(start), _INLINE), dtype=np.uint8)
    for k in range(min(int(length.max()), _INLINE)):
        inside = np.flatnonzero(length > k)
        heads[inside, k] = octets[start[inside] + k]
    return heads


def joined(
    buffers: Sequence[NDArray[np.uint8]],
    buffer: NDArray[np.integer[Any]] | int,
    start: NDArray[np.int64],
    length: NDArray[np.int64],
    valid: NDArray[np.bool_] | None = None,
) -> pa.LargeBinaryArray:
    """The same for rows of several slices each, joined per row: all of shape (rows, slices)."""
    rows, parts = start.shape
    flat = buffer if isinstance(buffer, int) else np.broadcast_to(buffer, start.shape).ravel()
    pieces = gather(buffers, flat, start.ravel(), length.ravel())
    offsets = np.frombuffer(pieces.buffers()[1], dtype=np.int64)[: rows * parts + 1 : parts]
    octets = pieces.buffers()[2] or pa.py_buffer(b"")
    validity = Bitmaps().pack(valid)
    return pa.Array.from_buffers(
        pa.large_binary(), rows, [validity, pa.py_buffer(np.ascontiguousarray(offsets)), octets]
    )
