"""Frame numbers and order of packets whose units were read before it was known what comes before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pcap2arrow.conversion.placed import Unit
from pcap2arrow.savefile.reader import Position
from queries.streams.packets import PART, TURN

_NEVER = int(np.iinfo(np.int64).min)


class MisguessedError(Exception):
    """A unit does not begin where the one before it ended."""


@dataclass(frozen=True, slots=True)
class Shift:
    """Of a part: how many packets came before its own (``frames``), and the greatest time of these (``turn``)."""

    frames: int
    turn: int

    def of(self, table: pl.DataFrame) -> pl.DataFrame:
        """Packets of the part as they are in the whole."""
        frames = pl.col("frame_number") + pl.lit(self.frames, pl.UInt64)
        return table.with_columns(frames, pl.max_horizontal(TURN, pl.lit(self.turn, pl.Int64)))


@dataclass(frozen=True, slots=True)
class Shifts:
    """Those of all parts, by their numbers."""

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


class Proof:
    """Proof that ``units``, one of each part if that is a guess, begin where those before them end; ``shifts`` follow.

    Whether it ``holds`` is known at the end.
    """

    def __init__(self, units: Sequence[Unit | None]) -> None:
        self.holds = True
        self.shifts = Shifts(np.zeros(len(units), np.uint64), np.full(len(units), _NEVER))
        self._units = units
        self._end: Position | None = None
        self._packets, self._greatest = 0, _NEVER

    def add(self, read: tuple[int, Unit] | None) -> Shift | None:
        """The shift of what was read next, in the order of the parts: None, if it was no guess.

        It is told as the number of its part and what was left of the unit, whose first frame was 1.
        """
        if read is None:
            return None
        number, after = read
        unit = self._units[number]
        if unit is None:
            return None
        if unit.begin == Position(0):
            self._packets, self._greatest = 0, _NEVER
        elif unit.begin != self._end:
            self.holds = False
        shift = Shift(self._packets, self._greatest)
        self.shifts.frames[number], self.shifts.turns[number] = shift.frames, shift.turn
        self._end = after.begin
        self._packets += after.first_frame - 1
        if after.order_before is not None:
            self._greatest = max(self._greatest, after.order_before)
        return shift
