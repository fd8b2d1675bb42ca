"""Which fragments make a datagram, and which octets of each."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from queries.fragments.headers import IDENTITY, LONGEST

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Datagrams:
    """Datagrams that are complete, in terms of the rows of a table of fragments.

    Datagram d takes the pieces ``bounds[d] : bounds[d + 1]``, in the order of its octets: from ``skip`` to ``end`` of
    the content of the fragment ``row``.  ``first`` is the fragment with its headers, ``last`` that which completed
    it.  ``unused`` are fragments that begin a datagram which was never complete.  ``overlapping`` is in how many
    datagrams fragments overlap, ``discarded`` how many of these are of IPv6, and none of the others.
    """

    row: Rows
    skip: Rows
    end: Rows
    bounds: Rows
    first: Rows
    last: Rows
    unused: Rows
    overlapping: int
    discarded: int

    def __len__(self) -> int:
        return len(self.last)

    def with_first(self, length: Rows) -> Datagrams:
        """These, and each of the ``unused`` as if it was all of a datagram; fragments have that ``length``."""
        return replace(
            self,
            row=np.concatenate([self.row, self.unused]),
            skip=np.concatenate([self.skip, np.zeros(len(self.unused), np.int64)]),
            end=np.concatenate([self.end, length[self.unused]]),
            bounds=np.concatenate([self.bounds, self.bounds[-1] + 1 + np.arange(len(self.unused))]),
            first=np.concatenate([self.first, self.unused]),
            last=np.concatenate([self.last, self.unused]),
            unused=self.unused[:0],
        )


def datagrams(table: pl.DataFrame) -> Datagrams:
    """The datagrams of a table of :func:`queries.fragments.headers.fragments` in the order of the whole.

    A fragment belongs to the first datagram of its :data:`~queries.fragments.headers.IDENTITY` that is not complete.
    Where fragments overlap, the octets that came first count, and an IPv6 datagram is discarded (RFC 5722), unless
    they are of the same extent.  Octets behind a last fragment are none of the datagram.
    """
    group = (
        table.select(pl.struct(IDENTITY).rank("dense").alias("group")).to_series().to_numpy().astype(np.int64)
        - 1
    )
    start, stop = (table[name].to_numpy().astype(np.int64) for name in ("start", "stop"))
    last = ~table["more"].to_numpy()
    order = np.lexsort((start, group))
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    bounds = np.append(starts, len(order))
    tiles = np.ones(len(order), np.bool_)
    tiles[1:] = start[order][1:] == stop[order][:-1]
    tiles[starts] = start[order][starts] == 0
    lasts = np.add.reduceat(last[order].astype(np.int64), starts) if len(starts) else starts
    ends_last = last[order][bounds[1:] - 1]
    plain = np.logical_and.reduceat(tiles, starts) & (lasts == 1) & ends_last if len(starts) else tiles
    found = _Found()
    for number in np.flatnonzero(~plain & (lasts > 0)).tolist():
        rows = np.sort(order[bounds[number] : bounds[number + 1]])
        _one_by_one(rows.tolist(), start, stop, last, found, is_six=table["ip_version"][int(rows[0])] == 6)
    begin = (start == 0) & ~_in_plain(group, plain)
    begin[found.used] = False
    return _together(order, bounds, plain, stop - start, found, np.flatnonzero(begin))


def _in_plain(group: Rows, plain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return plain[group] if len(plain) else np.zeros(len(group), np.bool_)


@dataclass(slots=True)
class _Found:
    """Datagrams that were found one by one: pieces (row, skip, end) of each, and the row that completed it."""

    pieces: list[list[tuple[int, int, int]]] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    used: list[int] = field(default_factory=list)
    overlapping: int = 0
    discarded: int = 0


def _one_by_one(
    rows: list[int], start: Rows, stop: Rows, last: NDArray[np.bool_], found: _Found, *, is_six: bool
) -> None:
    """Follow the fragments of one identity in the order of their coming."""
    pieces: list[tuple[int, int, int]] = []  # (first octet, behind the last, row), ascending, apart
    total: int | None = None
    covered, overlaps = 0, False
    used: list[int] = []
    seen: set[tuple[int, int]] = set()
    for row in rows:
        used.append(row)
        if last[row] and total is None:
            total = int(stop[row])
            pieces = [(a, min(b, total), r) for a, b, r in pieces if a < total]
            covered = sum(b - a for a, b, _ in pieces)
        extent = int(start[row]), min(int(stop[row]), LONGEST if total is None else total)
        if extent not in seen:
            seen.add(extent)
            new = _uncovered(pieces, *extent)
            octets = sum(b - a for a, b in new)
            overlaps |= octets < extent[1] - extent[0]
            covered += octets
            for a, b in new:
                insort(pieces, (a, b, row))
        if covered != total:
            continue
        found.overlapping += overlaps
        found.used += used
        if overlaps and is_six:
            found.discarded += 1
        else:
            found.pieces.append([(r, a - int(start[r]), b - int(start[r])) for a, b, r in pieces])
            found.last.append(row)
        pieces, total, covered, overlaps, used, seen = [], None, 0, False, [], set()


def _uncovered(pieces: list[tuple[int, int, int]], begin: int, end: int) -> list[tuple[int, int]]:
    """What of an extent no piece has."""
    result = []
    place = max(0, bisect_left(pieces, (begin, 0, 0)) - 1)
    while begin < end and place < len(pieces) and pieces[place][0] < end:
        a, b, _ = pieces[place]
        if begin < a:
            result.append((begin, a))
        begin = max(begin, b)
        place += 1
    return [*result, (begin, end)] if begin < end else result


def _together(
    order: Rows, bounds: Rows, plain: NDArray[np.bool_], length: Rows, found: _Found, unused: Rows
) -> Datagrams:
    count = np.diff(bounds)
    rows = order[np.repeat(plain, count)]
    sizes = count[plain]
    ends = np.cumsum(sizes)
    last = np.maximum.reduceat(rows, ends - sizes) if len(ends) else ends
    more = [piece for pieces in found.pieces for piece in pieces]
    row, skip, end = np.array(more, np.int64).reshape(-1, 3).T
    sizes = np.concatenate([sizes, np.array([len(pieces) for pieces in found.pieces], np.int64)])
    all_rows = np.concatenate([rows, row])
    all_bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Datagrams(
        row=all_rows,
        skip=np.concatenate([np.zeros(len(rows), np.int64), skip]),
        end=np.concatenate([length[rows], end]),
        bounds=all_bounds,
        first=all_rows[all_bounds[:-1]],
        last=np.concatenate([last, np.array(found.last, np.int64)]),
        unused=unused,
        overlapping=found.overlapping,
        discarded=found.discarded,
    )
