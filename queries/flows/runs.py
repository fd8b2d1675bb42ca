"""Rows of groups that follow each other, and what is summed up within each: a sort, then sums over whole columns.

Polars' windows say the same, but cost microseconds for each group, of which there may be a million.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def opens(table: pl.DataFrame, by: Sequence[str]) -> NDArray[np.bool_]:
    """Which rows differ from those before them in any of some columns; the first one does."""
    found = np.zeros(len(table), np.bool_)
    found[:1] = True
    for name in by:
        values = table[name].to_numpy()
        found[1:] |= values[1:] != values[:-1]
    return found


@dataclass(frozen=True, slots=True)
class Runs:
    """Groups of rows: those of each from one of ``starts`` up to the next; arrays have a value per row."""

    starts: Ints
    rows: int

    @classmethod
    def of(cls, table: pl.DataFrame, by: Sequence[str]) -> Runs:
        """Of a table in which rows that are equal in some columns follow each other."""
        return cls(np.flatnonzero(opens(table, by)), len(table))

    def spread(self, values: Ints) -> Ints:
        """Values of the groups for each of their rows."""
        return np.repeat(values, np.diff(np.append(self.starts, self.rows)))

    def first(self, values: Ints) -> Ints:
        """The first value of each group for all of its rows."""
        return self.spread(values[self.starts])

    def differences(self, values: Ints) -> Ints:
        """What each value is more than that before it; 0 of a group's first."""
        found = np.zeros(self.rows, np.int64)
        found[1:] = values[1:] - values[:-1]
        found[self.starts] = 0
        return found

    def sums(self, values: Ints) -> Ints:
        """The sum of each value and all before it in its group."""
        total = np.cumsum(values)
        return total - self.first(total - values)

    def greatest(self, values: Ints) -> Ints:
        """The greatest of each value and all before it in its group."""
        if not self.rows:
            return values
        least, most = np.minimum.reduceat(values, self.starts), np.maximum.reduceat(values, self.starts)
        width = most - least + 1
        lift = self.spread(np.cumsum(width) - width - least)  # every group behind the one before
        found: Ints = np.maximum.accumulate(values + lift) - lift
        return found

    def before(self, values: Ints, none: int) -> Ints:
        """The value before each in its group; ``none`` of a group's first."""
        found = np.roll(values, 1)
        found[self.starts] = none
        return found

    def first_of(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The first chosen row of each group that has one."""
        rows = np.flatnonzero(chosen)
        group = np.searchsorted(self.starts, rows, side="right")
        found = np.zeros(self.rows, np.bool_)
        found[rows[np.append(True, group[1:] != group[:-1])[: len(rows)]]] = True
        return found
