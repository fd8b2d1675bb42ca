"""What an export has to know of captures before it writes their first packets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.savefile.pcap import effective_snap_length
from pcap2arrow.writing.records.packets import BEFORE_ANY_TIME

if TYPE_CHECKING:
    from pcap2arrow.savefile.blocks import Interface
    from pcap2arrow.savefile.pcap import ByteOrder

PCAP_END = 10**9 << 32
"""Nanoseconds since 1970 at which a pcap's times end."""

MICROSECONDS = 10**6
"""Ticks per second of a pcap in which no time is finer."""

RecordFormat = Literal["pcap", "nspcap"]
"""Formats whose records may stand in a capture as they are written."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a pcapng that is no packet, whole; ``order`` is the byte order of its section."""

    octets: bytes
    order: ByteOrder


@dataclass(frozen=True, slots=True)
class Traits:
    """What an export has to know of a capture before it writes the first packet.

    ``interfaces`` are all of the capture's (a pcap has one), ``used`` the numbers of those with packets; ``blocks``
    are those of a pcapng that are no packets.  ``fcs_present`` is a pcap's P bit.  ``least`` and ``greatest`` are
    times in nanoseconds; ``finer`` tells whether any is no whole number of microseconds.  ``records`` names the format
    whose records are the capture's already, null where they are others.
    """

    interfaces: tuple[Interface, ...]
    used: frozenset[int]
    blocks: tuple[Block, ...]
    fcs_present: bool
    max_caplen: int
    least: int | None
    greatest: int | None
    finer: bool
    bound: int = BEFORE_ANY_TIME
    records: RecordFormat | None = None

    @property
    def longest(self) -> int:
        """What no packet's captured length is above, if all keep to the snap lengths."""
        limits = [effective_snap_length(each.snap_length, each.link_type) for each in self.interfaces]
        return max([*limits, self.max_caplen, 1])


class Seen:
    """What the packets of a capture add up to."""

    def __init__(self, bound: int | None = None) -> None:
        self._bound = bound
        self._used: set[int] = set()
        self._max_caplen = 0
        self._least: int | None = None
        self._greatest: int | None = None
        self._finer = False

    def begin(self, time: NDArray[np.int64], timed: NDArray[np.bool_]) -> None:
        """Tell the first packets of the capture: the time of the first is a bound of their orders."""
        if self._bound is None and len(time):
            self._bound = int(time[0]) if timed[0] else BEFORE_ANY_TIME

    def use(self, interface: int) -> None:
        """Tell of an interface that has packets."""
        self._used.add(interface)

    def add(self, time: NDArray[np.int64], interface: NDArray[Any], caplen: NDArray[Any]) -> None:
        """Tell of packets: the times of those that have one, interfaces, captured lengths."""
        self._used.update(np.unique(interface).tolist())
        self._max_caplen = max(self._max_caplen, int(caplen.max(initial=0)))
        if len(time):
            least, greatest = int(time.min()), int(time.max())
            self._least = least if self._least is None else min(self._least, least)
            self._greatest = greatest if self._greatest is None else max(self._greatest, greatest)
            self._finer = self._finer or bool((time % 1000).any())

    def traits(
        self, interfaces: tuple[Interface, ...], blocks: tuple[Block, ...], *, fcs_present: bool
    ) -> Traits:
        """What they add up to, of a capture with those interfaces and blocks."""
        return Traits(
            interfaces=interfaces,
            used=frozenset(self._used),
            blocks=blocks,
            fcs_present=fcs_present,
            max_caplen=self._max_caplen,
            least=self._least,
            greatest=self._greatest,
            finer=self._finer,
            bound=BEFORE_ANY_TIME if self._bound is None else self._bound,
        )
