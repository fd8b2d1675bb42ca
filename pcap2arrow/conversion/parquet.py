"""Writing tables of a dataset as Parquet: encodings, row groups, and the ranges that readers prune by."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pcap2arrow import schema
from pcap2arrow.dataset.log import Dataset
from pcap2arrow.dataset.snapshot import DataFile, Table

ROW_GROUP_ROWS = 1 << 16
_FLUSH_ROWS = 3 << 14
_FLUSH_OCTETS = 12 << 20
_BUFFER = 1 << 18
PRUNING_COLUMNS = ("time", "frame_number", "link_type", "network_type", "l4_proto", "irregular")
"""Columns whose least and greatest value the dataset's log knows of every file."""

_ENCODINGS = {"delta": "DELTA_BINARY_PACKED", "split": "BYTE_STREAM_SPLIT", "plain": "PLAIN"}


def packet_settings(columns: list[str]) -> dict[str, Any]:
    """Settings of :class:`pyarrow.parquet.ParquetWriter` for the packet table's columns, measured to be fast and small."""
    known = schema.by_name()
    dictionary = [name for name in columns if known[name].encoding == "dictionary"]
    encodings = {
        name: "PLAIN" if known[name].kind == "bool" else _ENCODINGS[known[name].encoding]
        for name in columns
        if name not in dictionary
    }
    octets = {name for name in columns if known[name].kind == "binary"}
    return {
        "use_dictionary": dictionary,
        "column_encoding": encodings,
        "compression": {name: "lz4" if name in octets else "zstd" for name in columns},
        "compression_level": {name: 1 for name in columns if name not in octets},
        "write_statistics": [name for name in columns if name not in octets],
    }


class PartitionWriter:
    """Writes one file of the packet table; a context, at whose end the file is published.

    Rows wait until they make a row group, so that a row group is one chunk and one call, whatever they came in.
    """

    def __init__(self, dataset: Dataset, path: str) -> None:
        self._dataset, self._path = dataset, path
        self._stack = ExitStack()
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._writer: pq.ParquetWriter | None = None
        self._metadata: list[pq.FileMetaData] = []

    def __enter__(self) -> PartitionWriter:
        self._file = self._stack.enter_context(self._dataset.open_output(self._path))
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self.close()
        self._stack.__exit__(*error)

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        self._waiting.append(table)
        rows = sum(len(waiting) for waiting in self._waiting)
        if rows >= _FLUSH_ROWS or sum(waiting.nbytes for waiting in self._waiting) >= _FLUSH_OCTETS:
            self._flush()

    def close(self) -> None:
        """Write what waits, and the footer."""
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = self._waiting[0] if len(self._waiting) == 1 else pa.concat_tables(self._waiting).combine_chunks()
        self._waiting = []
        if self._writer is None:
            settings = packet_settings(table.schema.names)
            sink = self._stack.enter_context(pa.output_stream(self._file, buffer_size=_BUFFER))
            self._writer = pq.ParquetWriter(sink, table.schema, metadata_collector=self._metadata, **settings)
        self._rows += len(table)
        self._writer.write_table(table, row_group_size=max(len(table), 1))

    def data_file(self) -> DataFile:
        """The file as the log names it; only after the context has ended."""
        return DataFile(self._path, "packets", self._rows, self._file.size, file_ranges(self._metadata[0]))


def write_table(dataset: Dataset, path: str, table: pa.Table, kind: Table) -> DataFile:
    """Write a small table to one file."""
    with dataset.open_output(path) as file, pa.output_stream(file, buffer_size=_BUFFER) as sink:
        pq.write_table(table, sink, compression="zstd", compression_level=1)
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
