"""Records as an export writes them: what a merge needs of them is their order, and where their octets are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.writing.formats import Layout, encode, record_lengths
from pcap2arrow.writing.packets import Packets
from pcap2arrow.writing.pieces import Octets, joined

_STRETCH = 8 << 20  # octets that are gathered at once
_LONG_RUN = 1 << 16  # octets; shorter ones are faster gathered than written one by one


@dataclass(frozen=True, slots=True)
class Encoded:
    """Records of an export: the ``order`` of their packets (as :class:`Packets` has it), and the ``octets`` of each."""

    order: NDArray[np.int64]
    octets: Octets

    def __len__(self) -> int:
        return len(self.order)

    @classmethod
    def of(cls, packets: Packets, layout: Layout, *, name: str) -> Encoded:
        """The records of packets.  Raises ExportError where a time does not fit the format."""
        octets = np.frombuffer(encode(packets, layout, name=name), np.uint8)
        return cls.in_a_row(packets.order, record_lengths(packets, layout), octets)

    @classmethod
    def in_a_row(
        cls, order: NDArray[np.int64], length: NDArray[np.int64], octets: NDArray[np.uint8]
    ) -> Encoded:
        """Records of those lengths that stand one after the other."""
        return cls(order, Octets.slices(octets, np.cumsum(length) - length, length))

    def take(self, rows: NDArray[Any] | slice) -> Encoded:
        """Some of the records."""
        return Encoded(self.order[rows], self.octets.take(rows))

    @classmethod
    def concat(cls, parts: list[Encoded]) -> Encoded:
        """The records of all parts."""
        return cls(np.concatenate([part.order for part in parts]), Octets.concat([p.octets for p in parts]))

    def stretches(self) -> Iterator[Any]:
        """The records one after the other, in buffers; what stands in a row already is not copied."""
        if not len(self):
            return
        runs = self.octets.in_runs()
        octets = np.cumsum(runs.length)
        if octets[-1] < _LONG_RUN * len(runs):
            cuts = np.searchsorted(octets, np.arange(_STRETCH, octets[-1], _STRETCH))
            for rows in pairwise(np.unique([0, *cuts, len(runs)])):
                yield joined([runs.take(slice(*rows))])
            return
        for number, start, length in zip(runs.buffer, runs.start, runs.length, strict=True):
            yield runs.buffers[number][start : start + length].data
