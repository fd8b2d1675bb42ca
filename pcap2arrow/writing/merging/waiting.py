"""Where encoded records wait for their turn in a merge: in memory while there is room, else in a temporary file."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from pcap2arrow.errors import ExportError
from pcap2arrow.writing.records.encoded import Encoded
from pcap2arrow.writing.records.packets import Packets

_ROOM = 64 << 20
_SLOT = 1 << 32  # octets of the file from one slot to the next: most of them are a hole


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a batch stands in the file: ``rows`` records of so many octets, with ``details`` of that type if any."""

    at: int
    rows: int
    octets: int
    details: np.dtype[np.void] | None


class WaitingRoom:
    """Holds records of many units at once, of which memory takes 64 MiB; a context, at whose end nothing is left.

    The file has a slot for each unit that does not fit, which serves the next one afterwards.
    """

    def __init__(self) -> None:
        self._lock, self._door = threading.Lock(), threading.Lock()
        self._left = _ROOM
        self._free: list[int] = []
        self._slots = 0
        self._opened = ExitStack()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> WaitingRoom:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def one_by_one(self, units: Iterator[Packets]) -> Iterator[Packets]:
        """The same units, read while no other is: each takes some hundred MiB until it is encoded."""
        while True:
            with self._door:
                unit = [packets for packets in (next(units, None),) if packets is not None]
            if not unit:
                return
            yield unit.pop()

    def held(self, batches: Iterator[Encoded], octets: int) -> Iterator[Encoded]:
        """The batches, which are about so many octets; all are made at once if they do not fit into memory.

        Raises ExportError where there can't be a temporary file.
        """
        with self._lock:
            fits = octets <= self._left
            self._left -= octets if fits else 0
        if not fits:
            yield from self._from_file(batches)
            return
        try:
            yield from batches
        finally:
            with self._lock:
                self._left += octets

    def _from_file(self, batches: Iterator[Encoded]) -> Iterator[Encoded]:
        try:
            with self._lock:
                slot = self._free.pop() if self._free else self._new_slot()
            places, at = [], slot * _SLOT
            for batch in batches:
                kind = None if batch.details is None else batch.details.dtype
                places.append(_Place(at, len(batch), int(batch.octets.length.sum()), kind))
                at += self._write(at, batch)
            yield from map(self._read, places)
            with self._lock:
                self._free.append(slot)
        except OSError as error:
            import tempfile

            raise ExportError(f"temporary folder {tempfile.gettempdir()}: {error.strerror}") from error

    def _new_slot(self) -> int:
        if self._file is None:
            import tempfile

            self._file = self._opened.enter_context(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115
        self._slots += 1
        return self._slots - 1

    @property
    def _number(self) -> int:
        assert self._file is not None
        return self._file.fileno()

    def _write(self, at: int, batch: Encoded) -> int:
        """Write orders, lengths, details and records; how many octets they were."""
        columns = [batch.order, batch.octets.length, *([] if batch.details is None else [batch.details])]
        parts: list[Any] = [*(column.view(np.uint8).data for column in columns), *batch.stretches()]
        written = 0
        for part in (memoryview(part).cast("B") for part in parts):
            done = 0
            while done < len(part):
                done += os.pwrite(self._number, part[done:], at + written + done)
            written += len(part)
        return written

    def _read(self, place: _Place) -> Encoded:
        order, length = np.empty(place.rows, np.int64), np.empty(place.rows, np.int64)
        details = None if place.details is None else np.empty(place.rows, place.details)
        records, at = np.empty(place.octets, np.uint8), place.at
        for part in (order, length, details, records):
            if part is not None:
                self._read_into(part.view(np.uint8).data, at)
                at += part.nbytes
        return Encoded.in_a_row(order, length, records, details)

    def _read_into(self, view: memoryview, at: int) -> None:
        done = 0
        while done < len(view):
            done += os.preadv(self._number, [view[done:]], at + done)
