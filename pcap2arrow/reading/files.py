"""Reading a dataset's Parquet files through its store.

Files are read by the calling thread alone.  The scanner behind :func:`pyarrow.parquet.read_table` lets go of a file in
a thread of its own, a little later; where the interpreter ends in that moment, the process aborts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from pcap2arrow.dataset.log import Dataset
from pcap2arrow.dataset.snapshot import DataFile
from pcap2arrow.errors import DatasetError


def read_file(dataset: Dataset, file: DataFile, *, columns: list[str] | None = None) -> pa.Table:
    """A file of a dataset, whole; of ``columns`` those that it has.  Raises DatasetError where it is damaged."""
    with _open(dataset, file) as opened:
        return opened.read(columns=columns, use_threads=False)


def read_batches(dataset: Dataset, file: DataFile, *, columns: list[str], rows: int) -> Iterator[pa.Table]:
    """A file of a dataset in tables of at most that many rows.  Raises DatasetError where it is damaged."""
    with _open(dataset, file) as opened:
        for batch in opened.iter_batches(rows, columns=columns, use_threads=False):
            yield pa.Table.from_batches([batch])


@contextmanager
def _open(dataset: Dataset, file: DataFile) -> Iterator[pq.ParquetFile]:
    try:
        with dataset.open_input(file.path) as stream:
            yield pq.ParquetFile(stream)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{dataset.path_of(file.path)}: damaged: {error}") from error
