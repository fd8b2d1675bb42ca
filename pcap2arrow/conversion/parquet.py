"""Writing tables of a dataset as Parquet: encodings, row groups, and the ranges that readers prune by."""

from __future__ import annotations

import base64
import os
import threading
from contextlib import ExitStack, suppress
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pcap2arrow import schema
from pcap2arrow.dataset.log import Dataset
from pcap2arrow.dataset.snapshot import ROW_GROUP_ROWS, DataFile, Table

_DICTIONARY_OCTETS = 96 << 20
"""Payloads that occur once are kept, and repeated ones found, up to that many octets."""

_LEVEL, _LEVEL_WITHOUT_OCTETS, _LEVEL_OF_REST = 1, 6, -1
"""Of compression.  The second makes numbers a tenth smaller, for time that a file with octets can't spare; the third
payloads a thirtieth larger, in three quarters of the time.
"""

_BUFFER = 1 << 18
_ANY_ROWS = 1 << 30  # a page ends by its octets alone: fewer pages are smaller and quicker to write
_ENCODING = threading.BoundedSemaphore(max((os.cpu_count() or 1) // 2, 1))
"""Encoding takes most of a unit's memory and less than half of its time: half of the workers do it at once."""

PRUNING_COLUMNS = ("time", "frame_number", "link_type", "network_type", "l4_proto", "irregular")
"""Columns whose least and greatest value the dataset's log knows of every file."""

_ENCODINGS = {"delta": "DELTA_BINARY_PACKED", "split": "BYTE_STREAM_SPLIT", "plain": "PLAIN"}


def packet_settings(columns: list[str]) -> dict[str, Any]:
    """Settings of :class:`pyarrow.parquet.ParquetWriter` for the packet table's columns."""
    known = schema.by_name()
    octets = {name for name in columns if known[name].kind == "binary"}
    dictionary = [name for name in columns if known[name].encoding == "dictionary"]
    encodings = {
        name: "PLAIN" if known[name].kind == "bool" else _ENCODINGS[known[name].encoding]
        for name in columns
        if name not in dictionary
    }
    return {
        "use_dictionary": dictionary,
        "dictionary_pagesize_limit": _DICTIONARY_OCTETS,
        "column_encoding": encodings,
        "compression": "zstd",
        "compression_level": {
            name: _LEVEL_OF_REST if name == "rest" else _LEVEL if octets else _LEVEL_WITHOUT_OCTETS
            for name in columns
        },
        "max_rows_per_page": _ANY_ROWS,
        "write_statistics": [name for name in columns if name not in octets],
    }


@cache
def packet_metadata(*, bytes_stored: bool) -> dict[bytes, bytes]:
    """What Arrow notes in a file so that it is read with the types of our schema, in place of the views written."""
    read = schema.arrow_schema(bytes_stored=bytes_stored)
    return {**read.metadata, b"ARROW:schema": base64.b64encode(read.serialize())}


class PartitionWriter:
    """Writes one file of the packet table; a context, at whose end the file is published.

    Row groups are large, in most captures one a file: the more rows a dictionary is made for, the more repeats it
    finds.
    """

    def __init__(self, dataset: Dataset, path: str) -> None:
        self._dataset, self._path = dataset, path
        self._stack = ExitStack()
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._rows = 0
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> PartitionWriter:
        self._file = self._stack.enter_context(self._dataset.open_output(self._path))
        self._sink = self._stack.enter_context(pa.output_stream(self._file, buffer_size=_BUFFER))
        self._stack.push(self._end)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _end(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind is None:
            self._flush()
            self._close()
        else:
            with suppress(Exception):  # where writing failed, closing fails as well
                self._close()

    def write(self, rows: pa.RecordBatch) -> None:
        """Add rows."""
        self._waiting.append(rows)
        self._waiting_rows += len(rows)
        if self._waiting_rows >= ROW_GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        """Write the rows that wait as one row group."""
        if not self._waiting:
            return
        table = pa.Table.from_batches(self._waiting)
        self._waiting, self._waiting_rows = [], 0
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._sink, table.schema, store_schema=False, **packet_settings(table.schema.names)
            )
            self._writer.add_key_value_metadata(packet_metadata(bytes_stored="rest" in table.schema.names))
        with _ENCODING:
            self._writer.write_table(table, row_group_size=len(table))
        self._rows += len(table)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._ranges = file_ranges(self._writer.writer.metadata)

    def data_file(self) -> DataFile:
        """The file as the log names it; only after the context has ended."""
        return DataFile(self._path, "packets", self._rows, self._file.size, self._ranges)


def write_table(dataset: Dataset, path: str, table: pa.Table, kind: Table) -> DataFile:
    """Write a small table to one file."""
    with dataset.open_output(path) as file, pa.output_stream(file, buffer_size=_BUFFER) as sink:
        pq.write_table(table, sink, compression="zstd", compression_level=_LEVEL)
    return DataFile(path, kind, len(table), file.size)


def file_ranges(metadata: pq.FileMetaData) -> dict[str, tuple[int, int]]:
    """Least and greatest value of the pruning columns, from a file's own statistics."""
    names = metadata.schema.names
    ranges: dict[str, tuple[int, int]] = {}
    for name in PRUNING_COLUMNS:
        column = names.index(name)
        statistics = [metadata.row_group(k).column(column).statistics for k in range(metadata.num_row_groups)]
        known = [s for s in statistics if s is not None and s.has_min_max]
        if known and all(s is not None and (s.has_min_max or not s.num_values) for s in statistics):
            ranges[name] = min(int(s.min_raw) for s in known), max(int(s.max_raw) for s in known)
    return ranges
