"""Packets of several captures in one order: (greatest time so far in its capture, order of the captures, number)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

_WAITING_ROWS = 1 << 18
"""Packets that may wait before their turn, so that many small captures are merged at once."""

_Place = tuple[int, int]
"""An order, and the place of the run that has it."""


class Ordered(Protocol):
    """Packets, or what else has a row for each packet, with the order that each one has."""

    @property
    def order(self) -> NDArray[np.int64]:
        """The greatest time so far in the capture of each."""

    def __len__(self) -> int: ...

    def take(self, rows: NDArray[Any] | slice, /) -> Self:
        """Some of the rows."""

    @classmethod
    def concat(cls, parts: list[Self], /) -> Self:
        """The rows of all parts."""


_Batch = TypeVar("_Batch", bound=Ordered)


@dataclass(frozen=True, slots=True)
class Run(Generic[_Batch]):
    """The packets of one capture, whose orders never fall; none is below ``bound``."""

    bound: int
    batches: Iterator[_Batch]


@dataclass(slots=True)
class _Open(Generic[_Batch]):
    """A run that was begun: the ``packets`` of it that wait, and the batch that follows, made by another thread.

    When the last batch is there, whatever made it is closed already: of small captures none stays open.
    """

    place: int
    batches: Iterator[_Batch]
    executor: Executor
    packets: _Batch | None = None
    _coming: Future[_Batch | None] | None = None
    _usual: int = 0

    def begin(self) -> None:
        """Have the first batch, and the second one made."""
        self._add(self._next())

    def refill(self) -> None:
        """Have at least half a batch, so that few steps take many packets; wait for no batch that is not needed."""
        while self._coming is not None and 2 * self.rows < max(self._usual, 1):
            self._add(self._coming.result())

    def _add(self, following: _Batch | None) -> None:
        if following is None:
            self._coming = None
            return
        waiting = self.packets
        self.packets = following if waiting is None else type(following).concat([waiting, following])
        self._usual = len(following)
        self._coming = self.executor.submit(self._next)

    @property
    def goes_on(self) -> bool:
        """Whether packets may follow those that wait."""
        return self._coming is not None and not (self._coming.done() and self._coming.result() is None)

    def _next(self) -> _Batch | None:
        return next((batch for batch in self.batches if len(batch)), None)

    @property
    def rows(self) -> int:
        return 0 if self.packets is None else len(self.packets)

    @property
    def first(self) -> int:
        assert self.packets is not None
        return int(self.packets.order[0])

    @property
    def last(self) -> _Place:
        assert self.packets is not None
        return int(self.packets.order[-1]), self.place

    def take(self, horizon: _Place | None) -> _Batch | None:
        """Take the packets that come no later than the horizon; None where none does."""
        assert self.packets is not None
        if horizon is None:
            taken, self.packets = self.packets, None
            return taken
        order, place = horizon
        if self.first > order:
            return None
        count = int(
            np.searchsorted(self.packets.order, order, side="right" if self.place <= place else "left")
        )
        if count == len(self.packets):
            taken, self.packets = self.packets, None
            return taken
        taken, self.packets = self.packets.take(slice(count)), self.packets.take(slice(count, None))
        return taken if count else None


def first(batches: Iterator[_Batch], limit: int | None) -> Iterator[_Batch]:
    """The first so many packets, behind which nothing is asked for; None takes all, and holds none of them."""
    return batches if limit is None else _first(batches, limit)


def _first(batches: Iterator[_Batch], limit: int) -> Iterator[_Batch]:
    for batch in batches:
        if len(batch) >= limit:
            yield batch.take(slice(limit))
            return
        limit -= len(batch)
        yield batch


def merge(runs: Sequence[Run[_Batch]]) -> Iterator[_Batch]:
    """The packets of all runs in one order, in batches.

    A run is begun only when its turn may have come, so that memory holds a batch or two of those that overlap.
    """
    if len(runs) == 1:
        yield from runs[0].batches
        return
    with ThreadPoolExecutor(1) as executor:  # a second reader would hold Python's lock as often as the first
        yield from _merge(runs, executor)


def _merge(runs: Sequence[Run[_Batch]], executor: Executor) -> Iterator[_Batch]:
    later = sorted(range(len(runs)), key=lambda place: runs[place].bound, reverse=True)
    begun: list[_Open[_Batch]] = []
    while later or begun:
        for run in begun:
            run.refill()
        begun = [run for run in begun if run.rows]
        begun += _begin(runs, later, begun, executor)
        if not begun:
            continue
        begun.sort(key=lambda run: run.place)
        horizon = min((run.last for run in begun if run.goes_on), default=None)
        if later:
            before_later = runs[later[-1]].bound - 1, len(runs)
            horizon = before_later if horizon is None else min(horizon, before_later)
        ready = [taken for run in begun if (taken := run.take(horizon)) is not None]
        if len(ready) == 1:
            yield ready[0]
        elif ready:
            packets = type(ready[0]).concat(ready)
            yield packets.take(np.argsort(packets.order, kind="stable"))


def _begin(
    runs: Sequence[Run[_Batch]], later: list[int], begun: Sequence[_Open[_Batch]], executor: Executor
) -> Iterator[_Open[_Batch]]:
    """Begin the runs whose turn may have come, and further ones that overlap with those, while few packets wait."""
    rows = sum(run.rows for run in begun)
    first = min((run.first for run in begun), default=None)
    last = max((run.last[0] for run in begun), default=None)
    while later:
        bound = runs[later[-1]].bound
        needed = first is None or bound <= first
        if not needed and (rows > _WAITING_ROWS or last is None or bound > last):
            return
        run = _Open(later[-1], runs[later.pop()].batches, executor)
        run.begin()
        if run.rows:
            rows += run.rows
            first = run.first if first is None else min(first, run.first)
            last = run.last[0] if last is None else max(last, run.last[0])
            yield run
