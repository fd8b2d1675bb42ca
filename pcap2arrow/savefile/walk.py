"""Finding where the records of a window begin, without a step of Python per record.

Each record says only how long it is, so the chain can't be indexed.  Instead some hundred *lanes* start at
guessed record boundaries, all over the window, and walk in lock-step, one NumPy operation advancing all of them.  A
lane counts only if the lane before it ended exactly where it began: the first lane starts at a proven boundary, so
everything that counts is proven.  Where a guess was wrong, records are walked one by one until the chain meets the
next lane.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Octets = NDArray[np.uint8]
Positions = NDArray[np.int64]

LANES = 512
MIN_LANES = 32  # fewer are slower than record by record
MIN_RECORDS_PER_LANE = 16
_LINKS = 3  # plausible records in a row that make a guess
GUESS_STRIDE = 256  # positions tried at once for each lane that has no guess yet
GUESS_REACH = 2048  # positions tried at most
GUESSED_ENOUGH = 0.9  # of the lanes; those that are far from any boundary are not worth the search


class Framing(Protocol):
    """How one kind of capture frames its records; positions are indices into ``data``."""

    @property
    def min_length(self) -> int:
        """Octets of the shortest record: what must be there before a length can be read."""

    def lengths(self, data: Octets, at: Positions) -> Positions:
        """Length of the record at each position, 0 where there can't be one (of this chain)."""

    def length(self, data: Octets, at: int) -> int:
        """The same for one position, fast."""

    def plausible(self, data: Octets, at: Positions) -> NDArray[np.bool_]:
        """Whether a record is likely to begin there: stricter than ``lengths`` > 0, for guesses only."""


def words(data: Octets, at: Positions, order: Literal["<", ">"]) -> Positions:
    """The 32-bit words at those positions, as int64."""
    gathered = np.ndarray((len(data) - 3,), dtype="V4", buffer=data, strides=(1,))[at]
    return gathered.view(order + "u4").astype(np.int64)


@dataclass(frozen=True, slots=True)
class Chain:
    """Records found in a window: ``starts`` (int64, ascending), and ``end``, where the next one would begin."""

    starts: Positions
    end: int


def walk(
    data: Octets,
    *,
    begin: int,
    limit: int,
    size: int,
    framing: Framing,
    mean_length: int = 256,
    marks: Positions | None = None,
) -> Chain:
    """Every record that starts in [``begin``, ``limit``) and lies whole in ``data[:size]``, from ``begin`` on.

    ``begin`` must be a record boundary.  The chain stops before the first record that is not whole or that
    ``framing`` refuses.  ``data`` has at least 64 readable octets after ``size``.  ``mean_length`` is a hint, and so
    are ``marks``: where an earlier walk found some of the records, ascending.
    """
    limit = min(limit, size)
    if marks is not None and len(marks) >= MIN_LANES:
        guesses = np.append([begin], marks[(marks > begin) & (marks < limit)])
        return _prove(_walk_lanes(data, guesses, limit, size, framing), data, limit, size, framing)
    lanes = min(LANES, (limit - begin) // (MIN_RECORDS_PER_LANE * max(mean_length, framing.min_length)))
    guesses = _guess(data, begin, limit, size, lanes, framing) if lanes >= MIN_LANES else np.array([begin])
    if len(guesses) < MIN_LANES:
        starts, end = _walk_serially(data, begin, limit, size, framing, stop=lambda at: False)
        return Chain(np.array(starts, dtype=np.int64), end)
    return _prove(_walk_lanes(data, guesses, limit, size, framing), data, limit, size, framing)


def _guess(data: Octets, begin: int, limit: int, size: int, lanes: int, framing: Framing) -> Positions:
    """``begin`` and, evenly spread, likely record boundaries after it; ascending, at most ``lanes``."""
    targets = np.linspace(begin, limit, lanes, endpoint=False, dtype=np.int64)[1:]
    found = np.full(len(targets), -1, dtype=np.int64)
    open_lanes = np.arange(len(targets))
    for reach in range(0, GUESS_REACH, GUESS_STRIDE):
        grid = targets[open_lanes, None] + np.arange(reach, reach + GUESS_STRIDE)
        hit = begins_chain(data, grid.ravel(), size, framing, links=_LINKS).reshape(grid.shape)
        first = hit.argmax(axis=1)
        has = hit[np.arange(len(grid)), first]
        found[open_lanes[has]] = grid[has, first[has]]
        open_lanes = open_lanes[~has]
        if len(open_lanes) <= (1 - GUESSED_ENOUGH) * lanes:
            break
    found = found[(found >= 0) & (found < limit)]
    return np.unique(np.concatenate([[begin], found]))


def begins_chain(
    data: Octets, at: Positions, size: int, framing: Framing, *, links: int, end_counts: bool = True
) -> NDArray[np.bool_]:
    """Whether ``links`` plausible records in a row begin at each position.

    Fewer do, but two at least, if they reach ``size`` exactly and ``end_counts``: the capture, or what was proven of
    it, ends there.
    """
    result = np.zeros(len(at), dtype=np.bool_)
    index = np.flatnonzero(at <= size - framing.min_length)
    here = at[index]
    for link in range(links):
        good = framing.plausible(data, here)
        index, here = index[good], here[good]
        here = here + framing.lengths(data, here)
        whole = here <= size
        index, here = index[whole], here[whole]
        at_end = here > size - framing.min_length
        if link + 1 < links:
            result[index[at_end & (here == size) & end_counts & (link > 0)]] = True
            index, here = index[~at_end], here[~at_end]
    result[index] = True
    return result


@dataclass(frozen=True, slots=True)
class _Lanes:
    """What the lanes found: per lane its ``begin`` and ``end``, and how many records it has, its ``count``.

    ``starts`` are the records of all lanes, one lane after the other.  ``broken`` marks lanes that ended at something
    that is no whole record.
    """

    begin: Positions
    end: Positions
    count: Positions
    broken: NDArray[np.bool_]
    starts: Positions


def _walk_lanes(data: Octets, guesses: Positions, limit: int, size: int, framing: Framing) -> _Lanes:
    end = guesses.copy()
    count = np.zeros(len(guesses), dtype=np.int64)
    broken = np.zeros(len(guesses), dtype=np.bool_)
    lane, at, stop = np.arange(len(guesses)), guesses, np.append(guesses[1:], limit)
    last_start = size - framing.min_length
    rounds: list[tuple[NDArray[np.intp], Positions]] = []
    while len(lane):
        length = framing.lengths(data, np.minimum(at, size))
        after = at + length
        good = (length > 0) & (at <= last_start) & (after <= size)
        if not good.all():
            ended = lane[~good]
            broken[ended], end[ended], count[ended] = True, at[~good], len(rounds)
            lane, at, after, stop = lane[good], at[good], after[good], stop[good]
        rounds.append((lane, at))
        going = after < stop
        if not going.all():
            ended = lane[~going]
            end[ended], count[ended] = after[~going], len(rounds)
            lane, after, stop = lane[going], after[going], stop[going]
        at = after
    starts = np.empty(count.sum(), dtype=np.int64)
    first = np.cumsum(count) - count
    for number, (lane, at) in enumerate(rounds):
        starts[first[lane] + number] = at
    return _Lanes(guesses, end, count, broken, starts)


def _prove(lanes: _Lanes, data: Octets, limit: int, size: int, framing: Framing) -> Chain:
    """Keep the lanes that continue a proven chain, and walk between them where a guess was wrong."""
    if not lanes.broken[:-1].any() and (lanes.end[:-1] == lanes.begin[1:]).all():
        return Chain(lanes.starts, int(lanes.end[-1]))
    begins = {int(begin): number for number, begin in enumerate(lanes.begin)}
    proven = np.zeros(len(lanes.begin), dtype=np.bool_)
    between: list[int] = []
    at = int(lanes.begin[0])
    while at < limit:
        number = begins.get(at)
        if number is None:
            more, at = _walk_serially(data, at, limit, size, framing, stop=begins.__contains__)
            between += more
            if at not in begins:
                break
        else:
            proven[number] = True
            at = int(lanes.end[number])
            if lanes.broken[number]:
                break
    kept = lanes.starts[np.repeat(proven, lanes.count)]
    return Chain(np.sort(np.concatenate([kept, np.array(between, dtype=np.int64)])), at)


def _walk_serially(
    data: Octets, begin: int, limit: int, size: int, framing: Framing, *, stop: Callable[[int], bool]
) -> tuple[list[int], int]:
    """Record by record from ``begin`` to ``limit``, or to a later position where ``stop`` says so."""
    starts: list[int] = []
    at, last_start, length_at = begin, size - framing.min_length, framing.length
    while at < limit and at <= last_start:
        length = length_at(data, at)
        if length <= 0 or at + length > size:
            break
        starts.append(at)
        at += length
        if stop(at):
            break
    return starts, at
