"""Reading a dataset's Parquet files through its store.

Files are read by the calling thread alone.  The scanner behind :func:`pyarrow.parquet.read_table` lets go of a file in
a thread of its own, a little later; where the interpreter ends in that moment, the process aborts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.arrays import values
from pcap2arrow.dataset.log import Dataset
from pcap2arrow.dataset.snapshot import ROW_GROUP_ROWS, DataFile
from pcap2arrow.errors import DatasetError
from pcap2arrow.urls import is_url

if TYPE_CHECKING:
    import polars as pl
    import pyarrow.parquet as pq

_Read = TypeVar("_Read")
_STRETCH = 1 << 14


def read_file(dataset: Dataset, file: DataFile, *, columns: list[str] | None = None) -> pa.Table:
    """A file of a dataset, whole; of ``columns`` those that it has.  Raises DatasetError where it is damaged."""
    if file.stretch:
        return _stretch_of(dataset, file, columns, 0, file.rows)
    with _open(dataset, file) as opened:
        return opened.read(columns=columns, use_threads=False)


def read_batches(
    dataset: Dataset, file: DataFile, *, columns: list[str] | None, rows: int
) -> Iterator[pa.Table]:
    """A file of a dataset in tables of at most that many rows.  Raises DatasetError where it is damaged."""
    with _open(dataset, file) as opened:
        for batch in _batches(opened, file, columns, 0, file.rows, rows):
            yield pa.Table.from_batches([batch])


def read_rows(
    dataset: Dataset, file: DataFile, *, columns: list[str], rows: NDArray[np.integer[Any]] | None = None
) -> pa.Table:
    """Some rows of a file of packets, ascending, or all.

    Columns of octets are binary_view, which need not be copied, or large_binary for a minority of the rows: what they
    are taken from is let go of.  Polars reads octets in half the time that Arrow takes, and passes over those of other
    rows; but where it is not loaded, rows in a row are read by Arrow: loading it takes longer.
    Raises DatasetError where the file is damaged.
    """
    if rows is not None and _in_a_row(rows) and "polars" not in sys.modules:
        return _read_stretch(dataset, file, columns, int(rows[0]), len(rows))
    import polars as pl

    begun = dataset.recent.begun(("rest", file.path))
    if begun is not None and (rows is None or _in_a_row(rows)):
        others = read_frame(dataset, file, columns=[name for name in columns if name != "rest"], rows=rows)
        if (rest := begun.result()) is not None:
            some = rest if rows is None else rest.slice(int(rows[0]), len(rows))
            whole = pl.concat([others, some], how="horizontal").select(columns)
            return whole.to_arrow(compat_level=pl.CompatLevel.newest())
    found = read_frame(dataset, file, columns=columns, rows=rows)
    is_copied = rows is not None and len(rows) < file.rows // 2
    return found.to_arrow(compat_level=pl.CompatLevel.oldest() if is_copied else pl.CompatLevel.newest())


def begin_rest(dataset: Dataset, file: DataFile) -> None:
    """Begin to read ``rest`` of a file, before it is known of which rows in a row :func:`read_rows` is to read it.

    Of a row group it takes as long for a few rows as for all, and longer than to find out which these are.
    """
    place = dataset.path_of(file.path)
    if "polars" in sys.modules and not is_url(place) and not file.stretch and file.rows <= ROW_GROUP_ROWS:
        dataset.recent.begin(("rest", file.path), lambda: _whole_rest(place))


def _whole_rest(place: str) -> pl.DataFrame | None:
    """``rest`` of all rows; None where it can't be read: who reads the rows says so."""
    import polars as pl

    try:
        return pl.scan_parquet(place, hive_partitioning=False, glob=False).select("rest").collect()
    except (pl.exceptions.PolarsError, OSError):
        return None


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
        packets = _scan(dataset, file, read, rows)
        if where is not None:
            return packets.filter(where).select(columns).collect()
        if rows is None or _in_a_row(rows):
            parts = _rest_apart(columns, lambda names: packets.select(names).collect())
            return pl.concat(parts, how="horizontal").select(columns)
        return packets.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DatasetError(f"{place}: damaged: {error}") from error


def _rest_apart(columns: list[str], read: Callable[[list[str]], _Read]) -> list[_Read]:
    """What is read of the columns, in any order; ``rest`` by a thread of its own.

    Its values are one page, which takes a thread as long as all other columns take together, and comes last in a file:
    read with them it would be begun when they are done.
    """
    others = [name for name in columns if name != "rest"]
    if others == columns or not others:
        return [read(columns)]
    with ThreadPoolExecutor(1) as executor:
        rest = executor.submit(read, ["rest"])
        return [read(others), rest.result()]


def _in_a_row(rows: NDArray[np.integer[Any]]) -> bool:
    return len(rows) > 0 and int(rows[-1] - rows[0]) + 1 == len(rows)


def _scan(
    dataset: Dataset, file: DataFile, columns: list[str], rows: NDArray[np.integer[Any]] | None
) -> pl.LazyFrame:
    """Columns of some rows of a file; from another store these columns are fetched, and nothing else of the file."""
    import polars as pl

    place = dataset.path_of(file.path)
    first, count = (int(rows[0]), len(rows)) if rows is not None and _in_a_row(rows) else (0, file.rows)
    if is_url(place):
        found = pl.from_arrow(_read_stretch(dataset, file, columns, first, count))
        assert isinstance(found, pl.DataFrame)
        packets = found.lazy()
    else:
        packets = pl.scan_parquet(place, hive_partitioning=False, glob=False)
        if file.stretch or count < file.rows:
            packets = packets.slice(first + (file.stretch.first if file.stretch else 0), count)
    if rows is None or _in_a_row(rows):
        return packets.select(columns)
    numbers = None if file.stretch or 2 * len(rows) > file.rows else _frame_numbers(file, rows)
    if numbers is None or is_url(place):
        return packets.select(columns).collect()[rows].lazy()
    return packets.filter(pl.col("frame_number").is_in(pl.Series(numbers).implode())).select(columns)


def _frame_numbers(file: DataFile, rows: NDArray[np.integer[Any]]) -> NDArray[np.uint64] | None:
    """The frame numbers of some rows of a file, where the log tells them: where none is missing."""
    first, last = file.ranges.get("frame_number", (0, -1))
    if last - first + 1 != file.rows:
        return None
    return rows.astype(np.uint64) + np.uint64(first)


def _read_stretch(dataset: Dataset, file: DataFile, columns: list[str], first: int, count: int) -> pa.Table:
    """Rows in a row, by the row groups that hold them."""
    parts = _rest_apart(columns, lambda names: _stretch_of(dataset, file, names, first, count))
    found = {name: part[name] for part in parts for name in part.column_names}
    return pa.table({name: found[name] for name in columns if name in found})


def _stretch_of(
    dataset: Dataset, file: DataFile, columns: list[str] | None, first: int, count: int
) -> pa.Table:
    with _open(dataset, file) as opened:
        parts = list(_batches(opened, file, columns, first, count, _STRETCH))
        if parts:
            return pa.Table.from_batches(parts)
        empty = opened.schema_arrow.empty_table()
        return empty.select([name for name in empty.schema.names if columns is None or name in columns])


def _batches(
    opened: pq.ParquetFile, file: DataFile, columns: list[str] | None, first: int, count: int, most: int
) -> Iterator[pa.RecordBatch]:
    """``count`` rows of a file from ``first`` on, ``most`` at a time, by the row groups that hold them."""
    if file.stretch:
        first += file.stretch.first
    rows = [opened.metadata.row_group(k).num_rows for k in range(opened.metadata.num_row_groups)]
    ends, stop = np.cumsum(rows, dtype=np.int64), first + count
    begin, end = int(np.searchsorted(ends, first, side="right")), int(np.searchsorted(ends, stop)) + 1
    if begin == len(rows) or not count:
        return
    at = int(ends[begin]) - rows[begin]
    groups = list(range(begin, min(end, len(rows))))
    for batch in opened.iter_batches(most, row_groups=groups, columns=columns, use_threads=False):
        skipped = max(first - at, 0)
        if skipped < len(batch):
            yield batch.slice(skipped, stop - at - skipped)
        at += len(batch)
        if at >= stop:
            return


def greatest(dataset: Dataset, file: DataFile, column: str) -> int | None:
    """The greatest value of a column by the file's statistics; None where these tell nothing."""
    if file.stretch:
        numbers, there = values(read_file(dataset, file, columns=[column])[column])
        return int(numbers[there].max()) if there.any() else None
    with _open(dataset, file) as opened:
        found = _statistics(opened, column)
        known = found and all(of and of.has_min_max for of in found)
        return max(int(of.max) for of in found) if known else None


def nulls(dataset: Dataset, file: DataFile, column: str) -> int | None:
    """How many rows have no value in a column, by the file's statistics; None where these tell nothing."""
    if file.stretch:
        return int(read_file(dataset, file, columns=[column])[column].null_count)
    with _open(dataset, file) as opened:
        found = _statistics(opened, column)
        return sum(of.null_count for of in found) if all(of and of.has_null_count for of in found) else None


def _statistics(opened: pq.ParquetFile, column: str) -> list[Any]:
    groups = [opened.metadata.row_group(k) for k in range(opened.metadata.num_row_groups)]
    place = opened.metadata.schema.names.index(column)
    return [group.column(place).statistics for group in groups]


@contextmanager
def _open(dataset: Dataset, file: DataFile) -> Iterator[pq.ParquetFile]:
    import pyarrow.parquet as pq

    try:
        with dataset.open_input(file.path, size=file.size) as stream:
            footer = dataset.recent.get(("footer", file.path), lambda: pq.read_metadata(stream))
            yield pq.ParquetFile(stream, metadata=footer, pre_buffer=is_url(dataset.url))
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{dataset.path_of(file.path)}: damaged: {error}") from error
