"""Frame numbers and order of packets whose units were read before it was known what comes before them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pcap2arrow.conversion.placed import Unit
from pcap2arrow.savefile.reader import Position
from queries.streams.packets import PART, TURN


class MisguessedError(Exception):
    """A unit does not begin where the one before it ended."""


@dataclass(frozen=True, slots=True)
class Shifts:
    """For each part, by its number: how many packets came before its own, and the greatest time of these."""

    frames: NDArray[np.uint64]
    turns: NDArray[np.int64]

    def __bool__(self) -> bool:
        return bool(self.frames.any())

    def of(self, table: pl.DataFrame) -> pl.DataFrame:
        """Packets of parts (of their column :data:`PART`) as they are in the whole."""
        part = table[PART].to_numpy()
        frames = table["frame_number"].to_numpy() + self.frames[part]
        turns = np.maximum(table[TURN].to_numpy(), self.turns[part])
        return table.with_columns(pl.Series("frame_number", frames), pl.Series(TURN, turns))

    def of_part(self, table: pl.DataFrame, number: int) -> pl.DataFrame:
        """The same of packets that are all of one part."""
        return self.of(table.with_columns(pl.lit(number, pl.UInt32).alias(PART))).drop(PART)


class Proof:
    """Proof that units begin where those before them end, of parts that come in their order; ``shifts`` follow.

    Whether it ``holds`` is known at the end.
    """

    def __init__(self, parts: int) -> None:
        never = np.iinfo(np.int64).min
        self.holds = True
        self.shifts = Shifts(np.zeros(parts, np.uint64), np.full(parts, never))
        self._end: Position | None = None
        self._packets, self._greatest = 0, never

    def add(self, number: int, unit: Unit, after: Unit) -> None:
        """A unit of a capture whose first frame is 1, and what was left of it."""
        if unit.begin == Position(0):
            self._packets, self._greatest = 0, np.iinfo(np.int64).min
        elif unit.begin != self._end:
            self.holds = False
        self.shifts.frames[number], self.shifts.turns[number] = self._packets, self._greatest
        self._end = after.begin
        self._packets += after.first_frame - 1
        if after.order_before is not None:
            self._greatest = max(self._greatest, after.order_before)
