"""Reading a dataset's Parquet files through its store.

Files are read by the calling thread alone.  The scanner behind :func:`pyarrow.parquet.read_table` lets go of a file in
a thread of its own, a little later; where the interpreter ends in that moment, the process aborts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pcap2arrow.dataset.log import Dataset
from pcap2arrow.dataset.snapshot import DataFile
from pcap2arrow.errors import DatasetError
from pcap2arrow.urls import is_url

if TYPE_CHECKING:
    import polars as pl

_STRETCH = 1 << 14


def read_file(dataset: Dataset, file: DataFile, *, columns: list[str] | None = None) -> pa.Table:
    """A file of a dataset, whole; of ``columns`` those that it has.  Raises DatasetError where it is damaged."""
    with _open(dataset, file) as opened:
        return opened.read(columns=columns, use_threads=False)


def read_batches(dataset: Dataset, file: DataFile, *, columns: list[str], rows: int) -> Iterator[pa.Table]:
    """A file of a dataset in tables of at most that many rows.  Raises DatasetError where it is damaged."""
    with _open(dataset, file) as opened:
        for batch in opened.iter_batches(rows, columns=columns, use_threads=False):
            yield pa.Table.from_batches([batch])


def read_rows(
    dataset: Dataset, file: DataFile, *, columns: list[str], rows: NDArray[np.integer[Any]] | None = None
) -> pa.Table:
    """Some rows of a file of packets, ascending, or all.

    Columns of octets are binary_view, which need not be copied, or large_binary for a minority of the rows: what they
    are taken from is let go of.  Polars reads octets in half the time that Arrow takes, and all rows faster than those
    of a filter; but where it is not loaded, rows in a row are read by Arrow: loading it takes longer.
    Raises DatasetError where the file is damaged.
    """
    if rows is not None and _in_a_row(rows) and "polars" not in sys.modules:
        return _read_stretch(dataset, file, columns, int(rows[0]), len(rows))
    import polars as pl

    found = read_frame(dataset, file, columns=columns, rows=rows)
    is_copied = rows is not None and len(rows) < file.rows // 2
    return found.to_arrow(compat_level=pl.CompatLevel.oldest() if is_copied else pl.CompatLevel.newest())


def read_frame(
    dataset: Dataset,
    file: DataFile,
    *,
    columns: list[str],
    rows: NDArray[np.integer[Any]] | None = None,
    where: pl.Expr | None = None,
) -> pl.DataFrame:
    """The same as a frame of Polars, and of those rows only the ones ``where`` something is so."""
    import polars as pl

    place = dataset.path_of(file.path)
    read = columns if where is None else list({*columns, *where.meta.root_names()})
    try:
        packets = pl.scan_parquet(_readable(dataset, file), hive_partitioning=False, glob=False).select(read)
        if rows is not None and _in_a_row(rows):
            packets, rows = packets.slice(int(rows[0]), len(rows)), None
        if rows is not None:
            packets = packets.collect()[rows].lazy()
        return (packets if where is None else packets.filter(where)).select(columns).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DatasetError(f"{place}: damaged: {error}") from error


def _in_a_row(rows: NDArray[np.integer[Any]]) -> bool:
    return len(rows) > 0 and int(rows[-1] - rows[0]) + 1 == len(rows)


def _read_stretch(dataset: Dataset, file: DataFile, columns: list[str], first: int, count: int) -> pa.Table:
    """Rows in a row, by the row groups that hold them."""
    parts, stop = [], first + count
    with _open(dataset, file) as opened:
        rows = [opened.metadata.row_group(k).num_rows for k in range(opened.metadata.num_row_groups)]
        ends = np.cumsum(rows)
        begin, end = np.searchsorted(ends, first, side="right"), np.searchsorted(ends, stop) + 1
        at = int(ends[begin]) - rows[begin]
        groups = list(range(begin, end))
        for batch in opened.iter_batches(_STRETCH, row_groups=groups, columns=columns, use_threads=False):
            skipped = max(first - at, 0)
            if skipped < len(batch):
                parts.append(batch.slice(skipped, stop - at - skipped))
            at += len(batch)
            if at >= stop:
                break
    return pa.Table.from_batches(parts)


def _readable(dataset: Dataset, file: DataFile) -> str | bytes:
    """The file's path; what it holds where it is in another store, for Polars knows nothing of how to get there."""
    place = dataset.path_of(file.path)
    if not is_url(place):
        return place
    with dataset.open_input(file.path) as stream:
        return stream.read()


def greatest(dataset: Dataset, file: DataFile, column: str) -> int | None:
    """The greatest value of a column by the file's statistics; None where these tell nothing."""
    with _open(dataset, file) as opened:
        groups = [opened.metadata.row_group(k) for k in range(opened.metadata.num_row_groups)]
        place = opened.metadata.schema.names.index(column)
        found = [group.column(place).statistics for group in groups]
        return (
            max(int(of.max) for of in found) if found and all(of and of.has_min_max for of in found) else None
        )


def nulls(dataset: Dataset, file: DataFile, column: str) -> int | None:
    """How many rows have no value in a column, by the file's statistics; None where these tell nothing."""
    with _open(dataset, file) as opened:
        groups = [opened.metadata.row_group(k) for k in range(opened.metadata.num_row_groups)]
        place = opened.metadata.schema.names.index(column)
        found = [group.column(place).statistics for group in groups]
        return sum(of.null_count for of in found) if all(of and of.has_null_count for of in found) else None


@contextmanager
def _open(dataset: Dataset, file: DataFile) -> Iterator[pq.ParquetFile]:
    try:
        with dataset.open_input(file.path) as stream:
            yield pq.ParquetFile(stream)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{dataset.path_of(file.path)}: damaged: {error}") from error
