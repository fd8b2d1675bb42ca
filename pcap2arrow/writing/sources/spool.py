"""Packets that tasks read for an export, wherever these run, in files until the one writer has their turn."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.errors import ExportError
from pcap2arrow.tasks import NamedTask
from pcap2arrow.writing.records.packets import Packets
from pcap2arrow.writing.records.pieces import Octets, joined
from pcap2arrow.writing.records.selection import Wanted, unmetered
from pcap2arrow.writing.records.traits import Traits
from pcap2arrow.writing.sources.reader import TableReader
from pcap2arrow.writing.sources.slices import Slice
from pcap2arrow.writing.sources.stored import units
from pcap2arrow.writing.target import failing_as

_BATCH_ROWS = 1 << 14
_CHOSEN = "for "  # and the number of a capture to write


@dataclass(frozen=True, slots=True)
class Spool:
    """Runs tasks, and gives their results in order; what they read is in a ``folder`` that all of them reach."""

    run: Callable[[Iterable[NamedTask]], Iterator[Any]]
    folder: str

    def traits(self, captures: Sequence[Slice]) -> list[Traits]:
        """What the packets of captures add up to, a task for each."""
        return list(self.run(NamedTask(_name(each), each.traits, each.reader.size) for each in captures))

    def read(
        self, captures: Sequence[Slice], numbers: Sequence[NDArray[np.int64]], wanted: Sequence[Wanted]
    ) -> list[Slice]:
        """The captures with the packets read that are wanted of them, by a task for each, or for each of its units.

        Raises ExportError where the files can't be written.
        """
        shares = [list(_shares(capture)) for capture in captures]
        places = [(place, part) for place, parts in enumerate(shares) for part in range(len(parts))]
        asked = [replace(each, read=unmetered) for each in wanted]
        tasks = [
            NamedTask(
                _name(share), _Share(share, numbers[at], asked[at], self._path(at, part)), share.reader.size
            )
            for at, part in places
            for share in [shares[at][part]]
        ]
        files: list[list[str]] = [[] for _ in captures]
        for (at, _), task, file in zip(places, tasks, self.run(tasks), strict=True):
            files[at].append(file)
            wanted[at].read(task.octets or 0)
        return [
            Spooled(capture.reader, capture.times, capture.shift, tuple(found))
            for capture, found in zip(captures, files, strict=True)
        ]

    def _path(self, place: int, part: int) -> str:
        return str(Path(self.folder, f"{place}.{part}"))


@dataclass(frozen=True, slots=True)
class Spooled(Slice):
    """A slice whose packets tasks have put into ``files``, one after the other."""

    files: tuple[str, ...] = ()

    def packets(
        self, numbers: NDArray[np.int64], wanted: Wanted, *, alone: bool = False, by_unit: bool = False
    ) -> Iterator[Packets]:
        """The packets, in batches; what is asked for was asked of the tasks."""
        for file in self.files:
            yield from _stored(file)


@dataclass(frozen=True, slots=True)
class _Share:
    """Writes the packets that are wanted of a capture to a file, and says where it is."""

    capture: Slice
    numbers: NDArray[np.int64]
    wanted: Wanted
    path: str

    def __call__(self) -> str:
        with failing_as(self.path):
            _store(self.capture.packets(self.numbers, self.wanted), self.path)
        return self.path


def _shares(capture: Slice) -> Iterator[Slice]:
    """The capture's units, where it is in a dataset; their packets are the capture's, one after the other."""
    if not isinstance(capture.reader, TableReader):
        yield capture
        return
    live = capture.reader.capture
    row = [file for file in live.files if file.table == "captures"]
    for unit in units(live):
        yield replace(capture, reader=replace(capture.reader, capture=replace(live, files=(*row, *unit))))


def _name(capture: Slice) -> str:
    reader = capture.reader
    return reader.capture.name if isinstance(reader, TableReader) else reader.name


def _store(batches: Iterator[Packets], path: str) -> None:
    """Write packets as Arrow has them in files; a task that runs again, or twice at once, does no harm."""
    hidden = Path(f"{path}.{os.getpid()}.tmp")
    with hidden.open("wb") as file:
        writer: pa.RecordBatchFileWriter | None = None
        for packets in batches:
            for first in range(0, len(packets), _BATCH_ROWS):
                batch = _record_batch(packets.take(slice(first, first + _BATCH_ROWS)))
                writer = writer or pa.ipc.new_file(file, batch.schema)
                writer.write_batch(batch)
        if writer is not None:
            writer.close()
    hidden.replace(path)


def _stored(path: str) -> Iterator[Packets]:
    try:
        if not Path(path).stat().st_size:
            return
        with pa.memory_map(path) as file, pa.ipc.open_file(file) as batches:
            for number in range(batches.num_record_batches):
                yield _packets(batches.get_batch(number))
    except OSError as error:
        raise ExportError(f"{path}: {error}") from error


def _record_batch(packets: Packets) -> pa.RecordBatch:
    columns = {field.name: getattr(packets, field.name) for field in fields(packets)}
    chosen = columns.pop("chosen")
    columns |= {f"{_CHOSEN}{number}": chosen[:, number] for number in range(chosen.shape[1])}
    return pa.RecordBatch.from_pydict(
        {
            name: _column(column) if isinstance(column, Octets) else pa.array(np.ascontiguousarray(column))
            for name, column in columns.items()
        }
    )


def _column(octets: Octets) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(octets.length)])
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(octets), [None, pa.py_buffer(offsets), joined([octets])]
    )


def _packets(batch: pa.RecordBatch) -> Packets:
    columns: dict[str, Any] = {
        name: Octets.column(column)
        if column.type == pa.large_binary()
        else column.to_numpy(zero_copy_only=False)
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    chosen = [columns.pop(name) for name in batch.schema.names if name.startswith(_CHOSEN)]
    columns["chosen"] = np.stack(chosen, axis=1) if chosen else np.empty((len(batch), 0), np.bool_)
    return Packets(**columns)
