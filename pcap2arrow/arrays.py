"""NumPy columns to Arrow arrays without copying, and octets scattered over a buffer to binary arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

try:  # what pyarrow.compute has, too, but that makes hundreds of functions when it is imported: 50 ms
    from pyarrow._compute import CastOptions
    from pyarrow._compute import call_function as call_function
except ImportError:
    from pyarrow.compute import CastOptions, call_function

_INLINE = 12  # octets that a view holds itself
VIEW = np.dtype([("length", "<i4"), ("prefix", "<i4"), ("buffer", "<i4"), ("offset", "<i4")])
"""A value of a binary_view array.  Source: Arrow columnar format, variable-size binary view layout."""


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


def values(column: pa.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The numbers of a column (of times: in its unit, as int64), 0 where it is null, and where it is not.

    Both may be read-only.
    """
    array = (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks or [pa.array([], column.type)])
    )
    kind = np.dtype(np.int64 if pa.types.is_timestamp(array.type) else array.type.to_pandas_dtype())
    bits, octets = array.buffers()
    first, after = array.offset, array.offset + len(array)
    found = np.frombuffer(octets or b"", kind)[first:after]
    if bits is None or not array.null_count:
        return found, np.ones(len(array), np.bool_)
    there = np.unpackbits(np.frombuffer(bits, np.uint8), count=after, bitorder="little")[first:].view(
        np.bool_
    )
    return np.where(there, found, kind.type(0)), there


def gather(
    buffers: Sequence[NDArray[np.uint8]],
    buffer: NDArray[np.integer[Any]] | int,
    start: NDArray[np.int64],
    length: NDArray[np.int64],
) -> pa.LargeBinaryArray:
    """The octets ``buffers[buffer][start : start + length]`` of every row, as large_binary.

    Every buffer is shorter than 2 GiB.
    """
    return gather_views(buffers, _views(buffer, start, length))


def slices(
    data: NDArray[np.uint8],
    start: NDArray[np.int64],
    length: NDArray[np.int64],
    valid: NDArray[np.bool_] | None = None,
) -> pa.Array:
    """The octets ``data[start : start + length]`` of every row, as binary_view: none is copied.

    A row is null where ``valid`` is False.  ``data`` is shorter than 2 GiB.
    """
    return view_array([data], _views(0, start, length), valid)


def _views(
    buffer: NDArray[np.integer[Any]] | int, start: NDArray[np.int64], length: NDArray[np.int64]
) -> NDArray[np.void]:
    views = np.empty(len(start), VIEW)
    views["length"], views["buffer"], views["offset"] = length, buffer, start
    return views


def gather_views(buffers: Sequence[NDArray[np.uint8]], views: NDArray[np.void]) -> pa.LargeBinaryArray:
    """The octets of views (of type :data:`VIEW`, which are changed), copied.

    Arrow gathers from an array of views: three times faster than any indexing in NumPy.
    """
    return call_function("cast", [view_array(buffers, views)], CastOptions(pa.large_binary()))


def view_array(
    buffers: Sequence[NDArray[np.uint8]], views: NDArray[np.void], valid: NDArray[np.bool_] | None = None
) -> pa.Array:
    """The octets of views (of type :data:`VIEW`, which are changed) as binary_view, which keeps the buffers.

    All views have buffer and offset, short ones too.  (Prefixes that comparisons use are left out, as is what follows
    the octets of short views: nothing that writes or copies the octets looks at them.)
    """
    length, buffer, start = views["length"], views["buffer"], views["offset"]
    short = np.flatnonzero((length <= _INLINE) & (length > 0))
    if len(short):
        inline = views.view(np.uint8).reshape(-1, VIEW.itemsize)
        of_short = buffer[short]
        for number in np.flatnonzero(np.bincount(of_short)).tolist():
            rows = short[of_short == number]
            inline[rows, 4:] = _heads(buffers[number], start[rows], length[rows])
    arrow_buffers = [Bitmaps().pack(valid), pa.py_buffer(views), *map(pa.py_buffer, buffers)]
    return pa.Array.from_buffers(pa.binary_view(), len(views), arrow_buffers)


def _heads(
    octets: NDArray[np.uint8], start: NDArray[np.integer[Any]], length: NDArray[np.integer[Any]]
) -> NDArray[np.uint8]:
    """12 octets from each start, of which the first ``length`` count; shape (rows, 12)."""
    heads = np.zeros((len(start), _INLINE), dtype=np.uint8)
    windows = max(len(octets) - _INLINE + 1, 0)  # places with 12 octets after them
    inside = start < windows
    if windows:
        twelves = np.ndarray((windows,), f"V{_INLINE}", octets, strides=(1,))
        heads[inside] = twelves[start[inside]].view(np.uint8).reshape(-1, _INLINE)
    for row in np.flatnonzero(~inside):
        heads[row, : length[row]] = octets[start[row] : start[row] + length[row]]
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
