"""Finding where the records of a window begin, without a step of Python per record.

Each record says only how long it is, so the chain can't be indexed.  Instead some hundred *lanes* start at
guessed record boundaries, all over the window, and walk in lock-step, one NumPy operation advancing all of them.  A
lane counts only if the lane before it ended exactly where it began: the first lane starts at a proven boundary, so
everything that counts is proven.  Where a guess was wrong, records are walked one by one until the chain meets the
next lane.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Octets = NDArray[np.uint8]
Positions = NDArray[np.int64]

LANES = 512
MIN_LANES = 32  # fewer are slower than record by record
MIN_RECORDS_PER_LANE = 64
_LINKS = 3  # plausible records in a row that make a guess
GUESS_STRIDE = 256  # positions tried at once for each lane that has no guess yet
GUESS_REACH = 2048  # positions tried at most
_STEPS = 32  # of all lanes between looks at which have come to their end
GUESSED_ENOUGH = 0.9  # of the lanes; those that are far from any boundary are not worth the search
LIKE_ENOUGH = 0.7  # of the lanes: begun where a pattern, which is found ten times as fast, says so


class Framing(Protocol):
    """How one kind of capture frames its records; positions are indices into ``data``."""

    @property
    def min_length(self) -> int:
        """Octets of the shortest record: what must be there before a length can be read."""

    @property
    def order(self) -> Literal["<", ">"]:
        """Byte order of the words."""

    @property
    def length_at(self) -> int:
        """Where in a record the word stands that, with ``length_more`` added, is its length (if it is sound)."""

    @property
    def length_more(self) -> int:
        """Octets of a record that the word does not count."""

    def lengths(self, data: Octets, at: Positions) -> Positions:
        """Length of the record at each position, 0 where there can't be one (of this chain)."""

    def length(self, data: Octets, at: int) -> int:
        """The same for one position, fast."""

    def plausible(self, data: Octets, at: Positions) -> NDArray[np.bool_]:
        """Whether a record is likely to begin there: stricter than ``lengths`` > 0, for guesses only."""

    def likeness(self, data: Octets, at: int) -> tuple[re.Pattern[bytes], int]:
        """A pattern that records much like the one at that position match, and how far in them it begins."""


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
    found = _alike(data, begin, size, targets, framing)
    if len(found) < LIKE_ENOUGH * len(targets):
        found = _searched(data, size, targets, framing)
    guesses: Positions = np.concatenate([[begin], found[found < limit]])
    is_new: NDArray[np.bool_] = np.concatenate([[True], guesses[1:] > guesses[:-1]])
    return guesses[is_new]


def _alike(data: Octets, begin: int, size: int, targets: Positions, framing: Framing) -> Positions:
    """For most of ``targets`` the next boundary of a record that is much like the one at ``begin``, in their order."""
    pattern, skip = framing.likeness(data, begin)
    search, octets = pattern.search, data.data
    matches = [search(octets, at, at + GUESS_REACH) for at in (targets + skip).tolist()]
    found = np.array([match.start() - skip for match in matches if match], dtype=np.int64)
    return found[begins_chain(data, found, size, framing, links=_LINKS)]


def _searched(data: Octets, size: int, targets: Positions, framing: Framing) -> Positions:
    """For most of ``targets`` the next position where a chain of records may begin, in their order."""
    found = np.full(len(targets), -1, dtype=np.int64)
    open_lanes = np.arange(len(targets))
    for reach in range(0, GUESS_REACH, GUESS_STRIDE):
        grid = targets[open_lanes, None] + np.arange(reach, reach + GUESS_STRIDE)
        hit = begins_chain(data, grid.ravel(), size, framing, links=_LINKS).reshape(grid.shape)
        first = hit.argmax(axis=1)
        has = hit[np.arange(len(grid)), first]
        found[open_lanes[has]] = grid[has, first[has]]
        open_lanes = open_lanes[~has]
        if len(open_lanes) <= (1 - GUESSED_ENOUGH) * len(targets):
            break
    return found[found >= 0]


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


def _walk_lanes(data: Octets, guesses: Positions, limit: int, size: int, framing: Framing) -> Positions:
    """Where the lanes that begin at ``guesses`` come to, each on its way to where the next one begins; ascending.

    Nothing is checked on the way, and a lane that would pass its end waits there, so that a step is few operations:
    :func:`_prove` tells what counts.
    """
    skip = framing.length_at
    window = np.ndarray((len(data) - skip - 3,), dtype="V4", buffer=data, offset=skip, strides=(1,))
    word = np.dtype(framing.order + "u4")
    at, stop = guesses, np.append(guesses[1:], limit)
    more, least = np.int64(framing.length_more), framing.min_length - framing.length_more
    found: list[Positions] = []
    while len(at):
        steps = np.empty((_STEPS + 1, len(at)), dtype=np.int64)
        steps[0] = here = at
        last = stop - more
        for following in steps[1:]:
            following[:] = window[here].view(word)  # all else is done in place, with numbers of one type
            if least > 0:
                np.maximum(following, least, out=following)
            following += here
            np.minimum(following, last, out=following)
            following += more
            here = following
        found.append(steps[:-1][steps[:-1] < stop])
        going = np.flatnonzero(steps[-1] < stop)
        at, stop = steps[-1, going], stop[going]
    return np.sort(np.concatenate(found))


def _prove(starts: Positions, data: Octets, limit: int, size: int, framing: Framing) -> Chain:
    """The chain from the first of ``starts``: each record ends where the next one begins.

    Where one ends elsewhere, because a guess was wrong, records are walked one by one to the next of ``starts``.
    """
    length = framing.lengths(data, starts)
    after = starts + length
    sound = (length > 0) & (starts <= size - framing.min_length) & (after <= size)
    links = sound[:-1] & (after[:-1] == starts[1:])
    breaks = np.append(np.flatnonzero(~links), len(starts) - 1)
    if len(breaks) == 1:
        return Chain(starts, int(after[-1])) if sound[-1] else Chain(starts[:-1], int(starts[-1]))

    def known(at: int) -> bool:
        place = np.searchsorted(starts, at)
        return bool(place < len(starts) and starts[place] == at)

    parts: list[Positions] = []
    first = 0
    while True:
        last = int(breaks[np.searchsorted(breaks, first)])
        if not sound[last]:
            parts.append(starts[first:last])
            return Chain(np.concatenate(parts), int(starts[last]))
        parts.append(starts[first : last + 1])
        between, end = _walk_serially(data, int(after[last]), limit, size, framing, stop=known)
        parts.append(np.array(between, dtype=np.int64))
        if not known(end):
            return Chain(np.concatenate(parts), end)
        first = int(np.searchsorted(starts, end))


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
