"""Packets of several captures in one order: (greatest time so far in its capture, order of the captures, number)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pcap2arrow.writing.packets import Packets

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Run:
    """The packets of one capture, whose orders never fall; none is below ``bound``."""

    bound: int
    batches: Iterator[Packets]


@dataclass(slots=True)
class _Open:
    """A run that was begun: the ``packets`` of it that wait, and what comes after them."""

    place: int
    batches: Iterator[Packets]
    packets: Packets | None = None
    ended: bool = False

    def refill(self) -> None:
        while not self.ended and not (self.packets and len(self.packets)):
            self.packets = next(self.batches, None)
            self.ended = self.packets is None

    @property
    def last(self) -> tuple[int, int]:
        assert self.packets is not None
        return int(self.packets.order[-1]), self.place

    def take(self, horizon: tuple[int, int]) -> Packets | None:
        """Take the packets that come no later than the horizon, an order and the place of the run that has it."""
        if self.packets is None:
            return None
        order, place = horizon
        count = int(
            np.searchsorted(self.packets.order, order, side="right" if self.place <= place else "left")
        )
        taken, self.packets = self.packets.take(slice(count)), self.packets.take(slice(count, None))
        return taken if count else None


def merge(runs: Sequence[Run]) -> Iterator[Packets]:
    """The packets of all runs in one order, in batches.

    A run is begun only when its turn may have come, so that memory holds a batch of those that overlap.
    """
    if len(runs) == 1:
        yield from runs[0].batches
        return
    later = sorted(
        (_Open(place, run.batches) for place, run in enumerate(runs)), key=lambda run: runs[run.place].bound
    )
    begun: list[_Open] = []
    while later or begun:
        for run in begun:
            run.refill()
        begun = [run for run in begun if not run.ended]
        while later and (not begun or runs[later[0].place].bound <= min(run.last for run in begun)[0]):
            run = later.pop(0)
            run.refill()
            if not run.ended:
                begun.append(run)
        if begun:
            begun.sort(key=lambda run: run.place)
            horizon = min(run.last for run in begun)
            ready = [taken for run in begun if (taken := run.take(horizon)) is not None]
            packets = ready[0] if len(ready) == 1 else Packets.concat(ready)
            yield packets if len(ready) == 1 else packets.take(np.argsort(packets.order, kind="stable"))


def held_back(items: Iterator[_Item]) -> Iterator[_Item]:
    """The items, each only once the next is there: with the last one, whatever made them is closed already."""
    for last in items:
        for item in items:
            yield last
            last = item
        yield last
