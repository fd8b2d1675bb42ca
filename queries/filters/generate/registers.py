"""The registers of libpcap's machine: which ones a place or a number takes shows where one overwrites another's."""

from __future__ import annotations

from pcap2arrow.errors import FilterError

_COUNT = 16


class Registers:
    """Hands out registers in libpcap's order: the next free one in a circle, from the one handed out last."""

    def __init__(self) -> None:
        self._taken = [False] * _COUNT
        self._place = 0

    def take(self) -> int:
        """The number of a register that is free; raises :class:`FilterError` where none is."""
        for _ in range(_COUNT):
            if not self._taken[self._place]:
                self._taken[self._place] = True
                return self._place
            self._place = (self._place + 1) % _COUNT
        raise FilterError("too many registers needed to evaluate expression")

    def give(self, *numbers: int) -> None:
        """Make registers free again."""
        for number in numbers:
            self._taken[number] = False
