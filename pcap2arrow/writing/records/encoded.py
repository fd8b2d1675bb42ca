"""Records as an export writes them: what a merge needs of them is their order, and where their octets are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.arrays import gather
from pcap2arrow.writing.records.formats import Layout, encode, kept_lengths, record_heads, record_lengths
from pcap2arrow.writing.records.packets import BEFORE_ANY_TIME, Packets, rows_of
from pcap2arrow.writing.records.pieces import Octets, joined
from pcap2arrow.writing.records.selection import Chosen

if TYPE_CHECKING:
    from pcap2arrow.conversion.placed import Placed

_STRETCH = 8 << 20  # octets that are gathered at once
_FEW = 0.5  # of a window's octets: they are copied out of it
_LONG_RUN = 1 << 16  # octets; shorter ones are faster gathered than written one by one


Details = NDArray[np.void]
"""What may be asked of packets whose records are written already; a row per packet, of type :func:`details_type`."""


def details_type(targets: int) -> np.dtype[np.void]:
    """The type of :data:`Details`, where packets are parted among so many captures.

    ``source`` is the place of a packet's capture, ``number`` the packet's place in it; ``time`` is 0 where it is not
    ``timed``; the ``caplen`` octets of the frame begin at octet ``head`` of the record.
    """
    return np.dtype(
        [
            ("source", "<i4"), ("number", "<i8"), ("time", "<i8"), ("timed", "?"),
            ("head", "<i4"), ("caplen", "<i8"), ("frame_len", "<i8"), ("chosen", "?", (targets,)),
        ]
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Encoded:
    """Records of an export: the ``order`` of their packets (as :class:`Packets` has it), and the ``octets`` of each.

    The ``details`` are there where more is asked of packets than their order.
    """

    order: NDArray[np.int64]
    octets: Octets
    details: Details | None = None

    def __len__(self) -> int:
        return len(self.order)

    @classmethod
    def of(cls, packets: Packets, layout: Layout, *, name: str, source: int | None = None) -> Encoded:
        """The records of packets, with details if these are of a ``source``.

        Raises ExportError where a time does not fit the format.
        """
        octets = np.frombuffer(encode(packets, layout, name=name), np.uint8)
        details = None if source is None else _details_of_packets(packets, layout, source)
        return cls.in_a_row(packets.order, record_lengths(packets, layout), octets, details)

    @classmethod
    def standing(cls, placed: Placed, chosen: Chosen, *, source: int | None = None) -> Encoded:
        """The records of a capture as they stand there, likewise.

        Of few of a window's records the octets are copied, so that the window is let go of.
        """
        rows = rows_of(chosen)
        if rows is not None:
            placed, chosen = placed.rows(rows), chosen[rows]
        records = placed.records
        octets = Octets.slices(records.data, records.start, records.length)
        if records.length.sum() < _FEW * len(records.data):
            octets = Octets.column(gather([records.data], 0, records.start, records.length))
        order = np.where(placed.order_valid, placed.order, BEFORE_ANY_TIME)
        return cls(order, octets, None if source is None else _details_of_records(placed, chosen, source))

    @classmethod
    def in_a_row(
        cls,
        order: NDArray[np.int64],
        length: NDArray[np.int64],
        octets: NDArray[np.uint8],
        details: Details | None = None,
    ) -> Encoded:
        """Records of those lengths that stand one after the other."""
        return cls(order, Octets.slices(octets, np.cumsum(length) - length, length), details)

    def take(self, rows: NDArray[Any] | slice) -> Encoded:
        """Some of the records."""
        details = None if self.details is None else rows_of_details(self.details, rows)
        return Encoded(self.order[rows], self.octets.take(rows), details)

    @classmethod
    def concat(cls, parts: list[Encoded]) -> Encoded:
        """The records of all parts."""
        details = [part.details for part in parts if part.details is not None]
        return cls(
            np.concatenate([part.order for part in parts]),
            Octets.concat([part.octets for part in parts]),
            _joined_details(details) if details else None,
        )

    @property
    def known(self) -> Details:
        """The details, where they are there."""
        assert self.details is not None
        return self.details

    def frames(self, rows: NDArray[Any] | slice = slice(None)) -> Octets:
        """The frames of some of the records, as they are written; needs details."""
        known = rows_of_details(self.known, rows)
        return self.octets.take(rows).cut(known["head"], known["caplen"])

    def of_target(self, number: int) -> Encoded:
        """Those that are for the capture of that number, where packets are parted among several; all, else."""
        if self.details is None or not self.details["chosen"].shape[1]:
            return self
        return self.take(np.flatnonzero(self.details["chosen"][:, number]))

    def stretches(self) -> Iterator[Any]:
        """The records one after the other, in buffers; what stands in a row already is not copied."""
        if not len(self):
            return
        runs = self.octets.in_runs()
        octets = np.cumsum(runs.length)
        if octets[-1] < _LONG_RUN * len(runs):
            cuts = np.searchsorted(octets, np.arange(_STRETCH, octets[-1], _STRETCH))
            for rows in pairwise(sorted({0, *cuts.tolist(), len(runs)})):
                yield joined([runs.take(slice(*rows))])
            return
        for number, start, length in zip(runs.buffer, runs.start, runs.length, strict=True):
            yield runs.buffers[number][start : start + length].data


def rows_of_details(details: Details, rows: NDArray[np.intp] | slice) -> Details:
    """Some of the rows, which NumPy takes whole: indexed by numbers it copies field by field, ten times slower."""
    return details[rows] if isinstance(rows, slice) else details.take(rows)


def _joined_details(parts: list[Details]) -> Details:
    """The rows of all parts, which are octets to NumPy here, for the same reason."""
    kind = parts[0].dtype
    joined: Details = np.concatenate([part.view(f"V{kind.itemsize}") for part in parts]).view(kind)
    return joined


def _details_of_packets(packets: Packets, layout: Layout, source: int) -> Details:
    return _details(
        packets.chosen,
        source=source,
        number=packets.number,
        time=packets.time,
        timed=packets.timed,
        head=record_heads(packets, layout),
        caplen=kept_lengths(packets, layout),
        frame_len=packets.frame_len,
    )


def _details_of_records(placed: Placed, chosen: Chosen, source: int) -> Details:
    records = placed.records
    return _details(
        chosen,
        source=source,
        number=placed.frame_number,
        time=np.where(records.time_valid, records.time, 0),
        timed=records.time_valid,
        head=records.packet - records.start,
        caplen=records.caplen,
        frame_len=records.frame_len,
    )


def _details(chosen: Chosen, **columns: Any) -> Details:
    """Details of packets; one capture to write takes all of those that are chosen."""
    targets = chosen.shape[1] if chosen.shape[1] > 1 else 0
    details = np.empty(len(chosen), details_type(targets))
    for name, column in columns.items():
        details[name] = column
    if targets:
        details["chosen"] = chosen
    return details
