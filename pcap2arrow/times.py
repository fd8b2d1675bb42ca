"""Ranges of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TIMES = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The times from ``start`` to ``end``, both included, in nanoseconds since 1970; None: without bound.

    A packet without a time lies in no range that has a bound.
    """

    start: int | None = None
    end: int | None = None

    def __bool__(self) -> bool:
        return self != EVER

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and greatest time in it; those of 64 bits where it has no bound."""
        least, greatest = _TIMES
        return least if self.start is None else self.start, greatest if self.end is None else self.end

    def moved(self, by: int) -> TimeRange:
        """The range, so many nanoseconds later."""
        return TimeRange(
            None if self.start is None else self.start + by, None if self.end is None else self.end + by
        )

    def holds(self, least: int, greatest: int) -> bool:
        """Whether all times from the least to the greatest lie in it."""
        start, end = self.bounds
        return start <= least and greatest <= end

    def meets(self, least: int, greatest: int) -> bool:
        """Whether a time from the least to the greatest may lie in it."""
        start, end = self.bounds
        return start <= greatest and least <= end

    def which(self, time: NDArray[np.int64], timed: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Which of some times lie in it; those that are not ``timed`` are none."""
        import numpy as np

        if not self:
            return np.ones(len(time), np.bool_)
        inside = np.ones(len(time), np.bool_) if timed is None else timed.copy()
        for bound, wrong in ((self.start, np.less), (self.end, np.greater)):
            if bound is not None:
                inside &= ~wrong(time, bound)
        return inside


EVER = TimeRange()
"""The range without bounds: it holds packets without a time, too."""

Times = TimeRange | Callable[[int | None], TimeRange]
"""A range, or what makes one of the time of the first packet (nanoseconds since 1970, None where there is none)."""
