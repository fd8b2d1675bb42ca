"""Captures of a dataset: what it knows of each, and the files that hold it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pcap2arrow.reading.files import read_file

if TYPE_CHECKING:
    from pcap2arrow.dataset.log import Dataset
    from pcap2arrow.dataset.snapshot import DataFile, LiveCapture


def capture_row(dataset: Dataset, capture: LiveCapture) -> dict[str, Any]:
    """The capture's row of the captures table; times as integers, in nanoseconds since 1970."""
    (file,) = [file for file in capture.files if file.table == "captures"]
    return dataset.recent.get((file.path, file.stretch), lambda: _read_row(dataset, file))


def _read_row(dataset: Dataset, file: DataFile) -> dict[str, Any]:
    (batch,) = read_file(dataset, file).combine_chunks().to_batches()
    columns = [c.view(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in batch.columns]
    return {name: column[0].as_py() for name, column in zip(batch.schema.names, columns, strict=True)}


def units(capture: LiveCapture) -> list[list[DataFile]]:
    """Files of packets and blocks of a capture, by unit, in the capture's order."""
    by_number: dict[int, list[DataFile]] = {}
    for file in capture.files:
        if file.table != "captures":
            by_number.setdefault(file.unit, []).append(file)
    return [by_number[number] for number in sorted(by_number)]
