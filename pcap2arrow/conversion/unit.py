"""The second round: write one unit of a capture, to one file per partition and one for its blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pcap2arrow import schema
from pcap2arrow.conversion.options import Options, PartitionBy
from pcap2arrow.conversion.packets import packet_rows
from pcap2arrow.conversion.parquet import PartitionWriter
from pcap2arrow.conversion.placed import Placed, Unit, place
from pcap2arrow.dataset.log import Dataset
from pcap2arrow.dataset.snapshot import DataFile
from pcap2arrow.errors import SourceError
from pcap2arrow.savefile.batch import PAD, WINDOW, Gap
from pcap2arrow.savefile.memory import ManyWindows
from pcap2arrow.savefile.pcap import PcapHeader
from pcap2arrow.savefile.source import Source

MAX_PARTITIONS = 64
"""Dates that the packets of one unit are parted by; packets of further ones share ``date=other``."""

_NO_TIME, _OTHER = "none", "other"
_CONTENT_STEP = 8 << 20
_ROWS = 1 << 15
_STEP: dict[PartitionBy, int] = {"date": 86_400_000_000_000, "hour": 3_600_000_000_000}
_UNITS: dict[PartitionBy, str] = {"date": "D", "hour": "h"}


@dataclass(frozen=True, slots=True)
class WrittenUnit:
    """What became of a unit: its files, and the stretch of the capture that they hold."""

    begin: int
    end: int
    packets: int
    octets: int
    files: tuple[DataFile, ...]


def write_unit(
    source: Source, header: PcapHeader | None, unit: Unit, options: Options, dataset: Dataset
) -> WrittenUnit:
    """Decode a unit and write its files; they are published under names that depend on content alone.

    Raises SourceError where the capture is no longer what was scanned.
    """
    gaps: list[Gap] = []
    octets = packets = 0
    end = unit.begin.offset
    stored = options.frames == "stored"
    with ManyWindows(WINDOW + PAD) as memory, _Partitions(dataset, unit, options.partition_by) as partitions:
        for placed, window in place(source, header, unit, memory=memory if stored else None):
            for rows in _parts(placed):
                partitions.write(rows, capture_id=unit.capture_id, stored=stored)
            gaps += window.gaps
            packets += len(placed)
            octets += int(window.records.length.sum()) + sum(gap.length for gap in window.gaps)
            end = window.end
    if (end, packets) != (unit.end, unit.packets):
        raise SourceError(f"{source.name}: input changed while it was converted")
    files = partitions.files()
    if gaps:
        files.append(_write_gaps(source, unit, gaps, dataset, stored=stored))
    return WrittenUnit(unit.begin.offset, end, packets, octets, tuple(files))


def _parts(placed: Placed) -> Iterator[Placed]:
    """The records in even parts that are decoded at once."""
    parts = -(-len(placed) // _ROWS)
    cuts = [len(placed) * k // parts for k in range(parts + 1)] if parts else []
    for first, after in pairwise(cuts):
        yield placed.rows(slice(first, after))


class _Partitions:
    """The files of a unit, one per date or hour; a context, at whose end all are published."""

    def __init__(self, dataset: Dataset, unit: Unit, by: PartitionBy) -> None:
        self._dataset, self._unit, self._by = dataset, unit, by
        self._stack = ExitStack()
        self._writers: dict[str, PartitionWriter] = {}
        self._dated: set[str] = set()

    def __enter__(self) -> _Partitions:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def write(self, placed: Placed, *, capture_id: int, stored: bool) -> None:
        """Write records, with their octets if these are ``stored``, to the files of their partitions.

        Their windows count until the end of the context.
        """
        for folder, of_folder in self._parted(placed):
            rows = packet_rows(of_folder, capture_id=capture_id, bytes_stored=stored, views=stored)
            self._writer(folder).write(rows)

    def files(self) -> list[DataFile]:
        """What was written; only after the context has ended."""
        return [writer.data_file() for _, writer in sorted(self._writers.items())]

    def _writer(self, folder: str) -> PartitionWriter:
        if folder not in self._writers:
            path = f"packets/{folder}{self._unit.stem}.parquet"
            self._writers[folder] = self._stack.enter_context(PartitionWriter(self._dataset, path))
        return self._writers[folder]

    def _parted(self, placed: Placed) -> Iterator[tuple[str, Placed]]:
        if self._by == "none":
            yield "", placed
            return
        records = placed.records
        period = records.time // _STEP[self._by]
        if records.time_valid.all() and (period == period[0]).all():
            yield self._folder(int(period[0])), placed
            return
        timed = np.flatnonzero(records.time_valid)
        different, first, which = np.unique(period[timed], return_index=True, return_inverse=True)
        folders = {int(k): self._folder(int(different[k])) for k in np.argsort(first)}
        numbers = {folder: number for number, folder in enumerate(dict.fromkeys(folders.values()))}
        of_row = np.array([numbers[folders[k]] for k in range(len(different))], dtype=np.intp)[which]
        for folder, number in numbers.items():
            yield folder, placed.rows(timed[of_row == number])
        if len(timed) < len(placed):
            yield f"{self._by}={_NO_TIME}/", placed.rows(np.flatnonzero(~records.time_valid))

    def _folder(self, period: int) -> str:
        folder = f"{self._by}={np.array(period, f'M8[{_UNITS[self._by]}]')}/"
        if folder not in self._dated and len(self._dated) >= MAX_PARTITIONS:
            return f"{self._by}={_OTHER}/"
        self._dated.add(folder)
        return folder


def _write_gaps(source: Source, unit: Unit, gaps: list[Gap], dataset: Dataset, *, stored: bool) -> DataFile:
    """The unit's file of the blocks table; a long gap takes several rows."""
    path = f"blocks/{unit.stem}.parquet"
    rows = octets = 0
    waiting: list[dict[str, Any]] = []
    with (
        dataset.open_output(path) as file,
        pq.ParquetWriter(file, schema.block_schema(), compression="zstd") as writer,
    ):
        for offset, length, gap in _pieces(gaps):
            waiting.append(
                {
                    "capture_id": unit.capture_id,
                    "offset": offset,
                    "length": length,
                    "kind": gap.kind,
                    "block_type": gap.block_type,
                    "reason": gap.reason or None,
                    "content": source.read(offset, length) if stored else None,
                }
            )
            rows, octets = rows + 1, octets + length
            if octets >= _CONTENT_STEP or len(waiting) >= _ROWS:
                writer.write_table(pa.Table.from_pylist(waiting, schema=schema.block_schema()))
                waiting, octets = [], 0
        if waiting:
            writer.write_table(pa.Table.from_pylist(waiting, schema=schema.block_schema()))
    return DataFile(path, "blocks", rows, file.size)


def _pieces(gaps: list[Gap]) -> Iterator[tuple[int, int, Gap]]:
    for gap in gaps:
        end = gap.offset + gap.length
        for offset in range(gap.offset, end, _CONTENT_STEP):
            yield offset, min(_CONTENT_STEP, end - offset), gap
