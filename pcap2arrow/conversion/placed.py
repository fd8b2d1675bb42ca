"""Records of a capture with their places in it: what a unit holds, and its windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.arrays import joined
from pcap2arrow.savefile.batch import WINDOW, Records, Window
from pcap2arrow.savefile.memory import ManyWindows, Memory
from pcap2arrow.savefile.pcap import PcapHeader
from pcap2arrow.savefile.reader import Position, read_windows
from pcap2arrow.savefile.source import Source
from pcap2arrow.savefile.walk import Positions


@dataclass(frozen=True, slots=True)
class Unit:
    """What begins in one block of a capture; written by one worker, to files whose names begin with ``stem``.

    ``end`` is the octet where the next unit begins; ``first_frame`` numbers the unit's first packet; ``order_before``
    is the greatest time of all packets before it, None without one; ``marks`` are offsets of some of its records.  One
    that ``is_guess`` may begin elsewhere, and is as if the capture began with it.
    """

    capture_id: int
    stem: str
    begin: Position
    end: int
    packets: int
    first_frame: int
    order_before: int | None
    marks: Positions | None = field(default=None, compare=False, repr=False)
    is_guess: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """Records with their place in the capture: ``frame_number`` from 1, ``order`` (greatest time so far, valid where
    ``order_valid``), ``offset`` (octet of the capture at which the record starts).
    """

    records: Records
    frame_number: NDArray[np.uint64]
    order: NDArray[np.int64]
    order_valid: NDArray[np.bool_]
    offset: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.records)

    def rows(self, selection: slice | NDArray[Any]) -> Placed:
        """Only some of the records."""
        return Placed(
            self.records.rows(selection),
            self.frame_number[selection],
            self.order[selection],
            self.order_valid[selection],
            self.offset[selection],
        )


def place(
    source: Source, header: PcapHeader | None, unit: Unit, *, memory: ManyWindows | None = None
) -> Iterator[tuple[Placed, Window]]:
    """The unit's windows, their records with frame numbers, order and offsets.

    Records count as long as ``memory`` does; without one, until the next window is asked for.
    """
    return ((placed, window) for placed, window, _ in place_from(source, header, unit, memory=memory))


def place_from(
    source: Source,
    header: PcapHeader | None,
    unit: Unit,
    *,
    window: int = WINDOW,
    memory: Memory | None = None,
) -> Iterator[tuple[Placed, Window, Unit]]:
    """The same, of windows of so many octets, each with the unit that is left after it."""
    frame, greatest = unit.first_frame, unit.order_before
    for done, position in read_windows(
        source, header, unit.begin, stop=unit.end, window=window, marks=unit.marks, memory=memory
    ):
        records = done.records.compact() if memory else done.records
        order, known = running_maximum(records.time, records.time_valid, greatest)
        if len(records) and known[-1]:
            greatest = int(order[-1])
        numbers = np.arange(frame, frame + len(records), dtype=np.uint64)
        frame += len(records)
        placed = Placed(records, numbers, order, known, (records.start + done.base).astype(np.uint64))
        yield placed, done, replace(unit, begin=position, first_frame=frame, order_before=greatest)


def running_maximum(
    time: NDArray[np.int64], valid: NDArray[np.bool_], before: int | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Greatest time so far at each record, given the greatest ``before``, and where there is one."""
    lowest = np.iinfo(np.int64).min
    known = np.where(valid, time, lowest) if not valid.all() else time
    result = np.maximum.accumulate(known)
    if before is not None:
        result = np.maximum(result, before)
    return result, result > lowest


def record_extra(records: Records) -> pa.Array:
    """What stands before and after the packet, for records that the other columns can't give back."""
    if not records.verbatim.any():
        return pa.nulls(len(records), pa.large_binary())
    end = records.packet + records.caplen.astype(np.int64)
    start = np.stack([records.start, end], axis=1)
    length = np.stack([records.packet - records.start, records.start + records.length - end], axis=1)
    return joined([records.data], 0, start, np.where(records.verbatim[:, None], length, 0), records.verbatim)
