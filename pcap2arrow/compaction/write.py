"""Writing parts of files to one file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pcap2arrow.compaction.plan import Join, Place
from pcap2arrow.conversion.parquet import packet_metadata, packet_settings
from pcap2arrow.dataset.log import Dataset
from pcap2arrow.dataset.snapshot import DataFile, Stretch, Table
from pcap2arrow.errors import DatasetError
from pcap2arrow.reading.files import read_batches

_BUFFER = 1 << 18
_BATCH_ROWS = 1 << 14
_GROUP_ROWS: dict[Table, int] = {"packets": 1 << 14, "captures": 1 << 6, "blocks": 1 << 6}
"""Rows from which on a row group ends: what is decoded for a part that is smaller."""

_GROUP_OCTETS = 32 << 20


def write_join(dataset: Dataset, join: Join) -> dict[Place, DataFile]:
    """Write the file of a join; the result says where each part is in it, by where it was.

    Memory is bounded by a row group.  Raises DatasetError where a part can't be read, or the file can't be written.
    """
    with (
        dataset.open_output(join.path) as file,
        pa.output_stream(file, buffer_size=_BUFFER) as sink,
    ):
        _write(sink, dataset, join)
    of, first = sum(part.rows for part in join.parts), 0
    moved: dict[Place, DataFile] = {}
    for part in join.parts:
        unit = 0 if join.table == "captures" else part.unit
        stretch = Stretch(first, of, unit)
        moved[part.place] = DataFile(join.path, join.table, part.rows, file.size, part.ranges, stretch)
        first += part.rows
    return moved


def _write(sink: Any, dataset: Dataset, join: Join) -> None:
    writer: pq.ParquetWriter | None = None
    try:
        for group in _row_groups(dataset, join):
            writer = writer or _open_writer(sink, join.table, group.schema)
            writer.write_table(group, row_group_size=len(group))
    finally:
        if writer is not None:
            writer.close()


def _open_writer(sink: Any, table: Table, schema: pa.Schema) -> pq.ParquetWriter:
    if table != "packets":
        return pq.ParquetWriter(sink, schema, compression="zstd")
    writer = pq.ParquetWriter(sink, schema, store_schema=False, **packet_settings(schema.names))
    writer.add_key_value_metadata(packet_metadata(bytes_stored="rest" in schema.names))
    return writer


def _row_groups(dataset: Dataset, join: Join) -> Iterator[pa.Table]:
    """Rows of all parts; a part that is no larger than a row group lies in one or two."""
    waiting: list[pa.Table] = []
    rows = octets = 0
    for part in join.parts:
        found = 0
        for table in read_batches(dataset, part, columns=None, rows=_BATCH_ROWS):
            waiting.append(table)
            found, rows, octets = found + len(table), rows + len(table), octets + table.nbytes
            if rows >= _GROUP_ROWS[join.table] or octets >= _GROUP_OCTETS:
                yield pa.concat_tables(waiting).combine_chunks()
                waiting, rows, octets = [], 0, 0
        if found != part.rows:
            place = dataset.path_of(part.path)
            raise DatasetError(f"{place}: damaged: has {found} rows of {part.rows} that the log tells of")
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()
