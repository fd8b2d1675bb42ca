"""Segments that overlap: which of them each octet is taken from.

Everything lies on one line of numbers, on which every stream has a stretch of its own, so that streams need not be
told apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from queries.streams.rules import Overlap

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces that do not overlap, by ascending ``start``: the places ``start`` to ``end`` are from ``segment``.

    ``crowded`` are the segments that share places with others.
    """

    start: Ints
    end: Ints
    segment: Ints
    crowded: Ints

    def __len__(self) -> int:
        return len(self.start)


def pieces(start: Ints, length: Ints, overlap: Overlap) -> Pieces:
    """Pieces of segments, which are given in the order in which they came; those without octets give none."""
    order = np.flatnonzero(length > 0)
    begins = start[order]
    if (begins[1:] < begins[:-1]).any():
        by_start = np.argsort(begins, kind="stable")
        order, begins = order[by_start], begins[by_start]
    ends = begins + length[order]
    opens = np.ones(len(order), np.bool_)
    opens[1:] = begins[1:] >= np.maximum.accumulate(ends)[:-1]
    firsts = np.flatnonzero(opens)
    sizes = np.diff(np.append(firsts, len(order)))
    if len(firsts) == len(order):
        return Pieces(begins, ends, order, np.empty(0, np.int64))
    crowd = np.repeat(np.arange(len(firsts)), sizes)
    is_crowded = (sizes > 1)[crowd]
    alike = _alike(begins, ends, firsts, sizes, crowd)
    chosen = firsts + (sizes - 1 if overlap == "last" else 0)  # equal starts are in the order of coming
    settled = chosen[(sizes == 1) | alike]
    parts = [(begins[settled], ends[settled], order[settled])]
    for at, size in zip(firsts[~alike & (sizes > 1)], sizes[~alike & (sizes > 1)], strict=True):
        among = slice(at, at + size)
        parts.append(_painted(begins[among], ends[among], order[among], overlap))
    begin, end, segment = (np.concatenate(each) for each in zip(*parts, strict=True))
    by_start = np.argsort(begin, kind="stable")
    return Pieces(begin[by_start], end[by_start], segment[by_start], order[is_crowded])


def _alike(begins: Ints, ends: Ints, firsts: Ints, sizes: Ints, crowd: Ints) -> NDArray[np.bool_]:
    """For each crowd, whether all of its segments cover the same places."""
    same = (begins == begins[firsts][crowd]) & (ends == ends[firsts][crowd])
    alike: NDArray[np.bool_] = np.add.reduceat(same, firsts, dtype=np.int64) == sizes
    return alike


def _painted(begins: Ints, ends: Ints, segments: Ints, overlap: Overlap) -> tuple[Ints, Ints, Ints]:
    """Pieces of one crowd: its segments take places in turn, each those that none before it took."""
    marks = np.unique(np.concatenate([begins, ends]))
    first, stop = np.searchsorted(marks, begins).tolist(), np.searchsorted(marks, ends).tolist()
    turn = np.argsort(segments)
    owner = [-1] * (len(marks) - 1)
    free = list(
        range(len(marks))
    )  # for every cell the next that is not taken, itself perhaps, by ways that get shorter
    for each in (turn[::-1] if overlap == "last" else turn).tolist():
        for cell in _free_cells(free, first[each], stop[each]):
            owner[cell] = each
    owners = np.array(owner, np.int64)
    opens = np.append(True, owners[1:] != owners[:-1])
    firsts = np.flatnonzero(opens)
    return marks[firsts], marks[np.append(firsts[1:], len(owners))], segments[owners[firsts]]


def _free_cells(free: list[int], first: int, stop: int) -> Iterator[int]:
    """Take the free cells from ``first`` to ``stop``."""
    cell = _next_free(free, first)
    while cell < stop:
        yield cell
        free[cell] = cell + 1
        cell = _next_free(free, cell + 1)


def _next_free(free: list[int], cell: int) -> int:
    root = cell
    while free[root] != root:
        root = free[root]
    while free[cell] != root:
        free[cell], cell = root, free[cell]
    return root
