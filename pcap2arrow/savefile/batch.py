"""What a reader yields: the records of one window, and what lies between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

PAD = 256
"""Octets that can be read after the end of every buffer, so that no vectorised load needs a bounds check."""

WINDOW = (8 << 20) + (1 << 17)
"""Octets of a capture that are read at once: a little more than a tenth of a block, so that ten make one."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of a capture that is no packet record: a header, a block, or octets that could not be read.

    ``offset`` and ``length`` in octets of the capture; ``kind`` is ``"header"``, ``"block"``, ``"damage"`` or
    ``"tail"`` (a last record that is cut); ``block_type`` is pcapng's, else None.  ``expected`` and ``found`` say what
    is wrong with damage, or in a header or block that is otherwise understood; they are empty where nothing is.
    """

    offset: int
    length: int
    kind: Literal["header", "block", "damage", "tail"]
    block_type: int | None = None
    expected: str = ""
    found: str = ""

    @property
    def reason(self) -> str:
        """What is wrong, in words; empty where nothing is."""
        return f"expected {self.expected}, found {self.found}" if self.expected else ""


@dataclass(frozen=True, slots=True)
class Records:
    """Packet records of one window as columns, in the order of the capture; all arrays have one row per packet.

    ``data`` holds the window's octets, :data:`PAD` more than ``size``; ``start`` (where the record starts in
    ``data``), ``packet`` (where its packet starts), ``length`` (octets of the whole record).  ``time`` is int64
    nanoseconds since 1970, ``time_valid`` False where there is none; ``time_raw`` the ticks as written, to be kept
    where ``time_raw_needed``; ``verbatim`` marks records whose octets beside the packet the columns can't give back.
    ``interface`` is None for pcap.
    """

    data: NDArray[np.uint8]
    start: NDArray[np.int64]
    packet: NDArray[np.int64]
    length: NDArray[np.int64]
    caplen: NDArray[np.uint32]
    frame_len: NDArray[np.uint32]
    filter_len: NDArray[np.uint32]
    link_type: NDArray[np.uint16]
    fcs_len: NDArray[np.uint8]
    interface: NDArray[np.uint16] | None
    time: NDArray[np.int64]
    time_valid: NDArray[np.bool_]
    time_raw: NDArray[np.uint64]
    time_raw_needed: NDArray[np.bool_]
    verbatim: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.start)

    def rows(self, selection: slice | NDArray[Any]) -> Records:
        """The same window with only some of its records."""
        return Records(
            self.data,
            *(None if column is None else column[selection] for column in self._columns()),  # type: ignore[arg-type]
        )

    def compact(self) -> Records:
        """The same records, in memory of their own where they take less than half of the window's."""
        end = int((self.start[-1:] + self.length[-1:]).sum()) + PAD
        if 2 * end > len(self.data):
            return self
        return replace(self, data=self.data[:end].copy())

    def _columns(self) -> list[NDArray[Any] | None]:
        return [getattr(self, name) for name in self.__slots__ if name != "data"]


@dataclass(frozen=True, slots=True)
class Window:
    """One step of reading: ``records`` and ``gaps`` tile the capture from octet ``begin`` to octet ``end``.

    ``base`` is the capture's octet at which ``records.data`` begins.
    """

    base: int
    begin: int
    end: int
    records: Records
    gaps: tuple[Gap, ...]
