"""Flows followed packet by packet: what :mod:`~queries.streams.follow` leaves, because there order decides.

Numbers are places in the stream, as wide as they need to be: 0 is where the flow was picked up, and octets from
before that have places below 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sortedcontainers import SortedDict

from queries.streams.overlap import Pieces, pieces
from queries.streams.packets import FIN, RST, SYN, Packets
from queries.streams.rules import Rules

_WORD = 1 << 32
_HALF = 1 << 31
_REMEMBERED = 101  # streams that tcpflow compares late packets with
_AT_ONCE = 1 << 16  # rows that are numbers of Python
_LOOKED_AT = 1 << 22  # writes looked at for what shifts push aside: senders decide how often that is


def signed(difference: int) -> int:
    """A difference of sequence numbers as RFC 9293, 3.4 compares them: from -2^31 to 2^31 - 1."""
    return (difference + _HALF) % _WORD - _HALF


class TrackedWrites:
    """What is written to a stream, in the order of its coming: three numbers each, for there may be millions."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers = array("q")

    def __len__(self) -> int:
        return len(self._numbers) // 3

    def add(self, place: int, octets: int, row: int) -> None:
        """Add a write behind those before."""
        self._numbers.extend((place, octets, row))

    def add_all(self, writes: NDArray[np.int64]) -> None:
        """Add rows of such numbers."""
        self._numbers.frombytes(writes.tobytes())

    def table(self) -> NDArray[np.int64]:
        """Rows of place, octets and row."""
        return np.array(self._numbers, np.int64).reshape(-1, 3)

    def clear(self) -> None:
        """Let go of all of them."""
        del self._numbers[:]


@dataclass(slots=True, eq=False)
class Track:
    """A stream: what is known of it so far.

    ``initial`` is the sequence number before that of its first octet, and ``expected`` the one that comes next at
    ``place``.  ``origin`` is the place of the first octet.  ``first``, ``last`` and ``closing`` are rows of
    :class:`Packets` (``closing`` -1 while it is open), ``opening`` the first row that was stored, -1 without any.
    ``end`` is the place of FIN, ``declared`` how many octets it says that there are, as tcpflow counts.
    In ``writes`` a row may come twice; ``content`` are pieces of them, with their places and rows.  ``farthest`` is
    where the last octet ended when it came, kept or not, whatever came before the first one later.
    """

    flow: int
    first: int
    initial: int
    expected: int
    with_syn: bool = False
    place: int = 0
    origin: int = 0
    last: int = -1
    closing: int = -1
    opening: int = -1
    packets: int = 0
    farthest: int = 0
    violations: int = 0
    out_of_order: int = 0
    end: int | None = None
    declared: int = -1
    writes: TrackedWrites = field(default_factory=TrackedWrites)
    seen: Covered | None = None
    shifted: bool = False
    content: tuple[Pieces, NDArray[np.int64], NDArray[np.int64]] | None = None


class Tracker(ABC):
    """Follows flows, packet by packet, each flow's in their order; rows are numbers that ascend with its packets.

    ``saves`` tells how many streams of other flows ended before a row; only ``as_tcpflow`` asks.  ``tracks`` are the
    streams that were found, ``ignored`` the rows that belong to none although they lie in its midst, ``open`` the
    stream of each flow that has one.
    """

    def __init__(self, rules: Rules, *, saves: Callable[[int], int] = lambda row: 0) -> None:
        self.tracks: list[Track] = []
        self.ignored: list[int] = []
        self.open: dict[int, Track] = {}
        self._rules = rules
        self._saves = saves
        self._ended: dict[int, list[tuple[int, Track]]] = {}
        self._saved = 0
        self._to_look_at = _LOOKED_AT

    @abstractmethod
    def _covered(self, track: Track) -> Covered:
        """The places of all that was stored, kept or not; asked for once, of a stream that has not noted them."""

    @abstractmethod
    def _has(self, track: Track, start: int, row: int, length: int) -> bool:
        """Whether a stream that ended has at that place what a packet carried; for tcpflow a hole has zeros."""

    def step(self, flow: int, row: int, seq: int, flags: int, length: int) -> None:
        """Follow a flow by one packet more; such as say nothing (no octets, SYN, FIN or RST) may be left out."""
        track = self.open.get(flow)
        if track is None:
            if not (length or self._opens(flags)) or (length and self._is_repeated(flow, row, seq, length)):
                return
        elif self._is_other_connection(track, seq, flags):
            track.last = row - 1
            self._close(track, row - 1)
            track = None
        elif self._rules.as_tcpflow and flags & SYN and track.with_syn and track.place > track.origin:
            self.ignored.append(row)
            return
        elif self._is_too_far(track, seq, flags, length):
            if not self._rules.as_tcpflow:
                track.last = row - 1
            self._close(track, row)
            if not length and not flags & SYN:
                return
            track = None
        if track is None:
            track = self._begin(flow, row, seq, flags)
        elif flags & SYN:
            self._late_syn(track, seq)
        track.violations += bool(flags & SYN and length)
        track.packets += 1
        track.last = row
        if length:
            self._store(track, row, self._start(track, row, seq, flags), length)
        self._end(track, row, seq, flags, length)

    def _opens(self, flags: int) -> bool:
        return flags & (SYN | FIN | RST) == SYN if self._rules.as_tcpflow else bool(flags & SYN)

    def _begin(self, flow: int, row: int, seq: int, flags: int) -> Track:
        initial = seq if flags & SYN else (seq - 1) % _WORD
        track = self._new(flow, row, initial, (initial + 1) % _WORD, bool(flags & SYN))
        self.open[flow] = track
        self.tracks.append(track)
        return track

    def _new(self, flow: int, row: int, initial: int, expected: int, with_syn: bool) -> Track:
        return Track(flow, row, initial, expected, with_syn)

    def _start(self, track: Track, row: int, seq: int, flags: int) -> int:
        """The sequence number of a segment's first octet, that of SYN being one of its own (RFC 9293, 3.4)."""
        is_counted = flags & SYN and (row == track.first or not self._rules.as_tcpflow)
        return seq + 1 if is_counted else seq

    def _is_other_connection(self, track: Track, seq: int, flags: int) -> bool:
        """Whether a SYN is that of another connection between the same endpoints."""
        if self._rules.as_tcpflow or not flags & SYN or seq == track.initial:
            return False
        return track.with_syn or not 0 < signed(track.initial - seq) <= self._rules.skip

    def _is_too_far(self, track: Track, seq: int, flags: int, length: int) -> bool:
        distance = signed(seq + bool(flags & SYN and not self._rules.as_tcpflow) - track.expected)
        if self._rules.as_tcpflow:
            return abs(distance) > self._rules.skip and distance != -_HALF
        return bool(length) and abs(distance) > self._rules.skip

    def _late_syn(self, track: Track, seq: int) -> None:
        """A SYN for a stream that was picked up without one: its first octet is known now."""
        if not self._rules.as_tcpflow and not track.with_syn:
            before = signed(track.initial - seq)
            track.origin -= before
            track.initial = seq
        track.with_syn = True

    def _store(self, track: Track, row: int, start: int, length: int) -> None:
        distance = signed(start - track.expected)
        place = track.place + distance
        missing = track.origin - place
        if missing > 0 and track.with_syn:
            track.violations += 1
            return
        kept = length
        if self._rules.as_tcpflow and self._rules.limit is not None:
            kept = min(max(self._rules.limit - max(place - track.origin, 0), 0), length)
        if track.opening < 0:
            track.opening = row
        if missing > 0:
            self._shift(track, place, kept, missing)
        elif distance == -1 and length == 1:
            return  # a keep-alive: RFC 9293, 3.8.4
        track.out_of_order += distance < 0
        track.writes.add(place, kept, row)
        if track.seen is not None and not (track.shifted and self._rules.as_tcpflow):
            track.seen.add(place, place + length)
        track.place = place + length
        track.farthest = max(track.farthest, track.place - track.origin)
        track.expected = (start + length) % _WORD

    def _shift(self, track: Track, place: int, kept: int, missing: int) -> None:
        """Make room for octets from before the first."""
        if self._rules.as_tcpflow and kept < missing and self._to_look_at > 0:
            self._to_look_at -= len(track.writes)
            head = track.origin + missing
            at, octets, rows = (known := track.writes.table())[known[:, 0] < head].T
            track.writes.add_all(np.stack([at - missing, np.minimum(at + octets, head) - at, rows], axis=1))
        track.origin = place
        track.initial = (track.initial - missing) % _WORD
        track.shifted = True
        if self._rules.as_tcpflow:
            track.seen = Covered()

    def _end(self, track: Track, row: int, seq: int, flags: int, length: int) -> None:
        """Close a stream that RST ends, or that is whole up to its first FIN."""
        if flags & RST:
            self._close(track, row)
            return
        if flags & FIN and track.end is None:
            start = self._start(track, row, seq, flags)
            track.end = track.place + signed(start + length - track.expected)
            track.declared = (seq + length - track.initial - 1) % _WORD
            if track.seen is None:
                track.seen = self._covered(track)
        if track.end is not None and track.seen is not None:
            octets = track.declared if self._rules.as_tcpflow else track.end - track.origin
            if track.seen.octets == octets:
                self._close(track, row)

    def _close(self, track: Track, row: int) -> None:
        track.closing = row
        del self.open[track.flow]
        if self._rules.as_tcpflow:
            self._saved += 1
        place = self._saved - 1 + self._saves(row)
        ended = self._ended.setdefault(track.flow, [])
        if not self._rules.as_tcpflow:
            ended.clear()
        ended.append((place, track))

    def _is_repeated(self, flow: int, row: int, seq: int, length: int) -> bool:
        """Whether a segment says what the flow's last stream has at its place."""
        ended = self._ended.get(flow)
        if ended is None or not self._is_remembered(ended, row):
            return False
        track = ended[-1][1]
        if track.opening < 0:
            return False
        start = track.origin + (seq - track.initial - 1) % _WORD
        return self._has(track, start, row, length)

    def _is_remembered(self, ended: list[tuple[int, Track]], row: int) -> bool:
        """Whether tcpflow still has the flow's last stream: with an old one it forgets later ones of its flow."""
        if not self._rules.as_tcpflow:
            return True
        saved = self._saved + self._saves(row)
        last = ended[-1][0]
        if saved - last > _REMEMBERED:
            return False
        return not any(last < place + _REMEMBERED < saved for place, _ in ended[:-1])


OctetsAt = Callable[[int, int], NDArray[np.uint8]]
"""Octets from one place of all that packets carried to another."""


class RowTracker(Tracker):
    """Follows flows of :class:`Packets`, which are in memory, by their rows."""

    def __init__(
        self, packets: Packets, rules: Rules, *, saves: Callable[[int], int] = lambda row: 0
    ) -> None:
        super().__init__(rules, saves=saves)
        self._packets = packets
        self._octets: OctetsAt = lambda begin, end: packets.payload.data[begin:end]

    def follow(self, rows: NDArray[np.int64], flows: NDArray[np.int64]) -> None:
        """Follow rows, each of one of the flows."""
        packets = self._packets
        if not self._rules.as_tcpflow:
            counts = (packets.length[rows] > 0) | (packets.flags[rows] & (SYN | FIN | RST) != 0)
            rows, flows = rows[counts], flows[counts]
        values = (flows, rows, packets.seq[rows], packets.flags[rows], packets.length[rows])
        for at in range(0, len(rows), _AT_ONCE):
            for one in zip(*(each[at : at + _AT_ONCE].tolist() for each in values), strict=True):
                self.step(*one)
        if not self._rules.as_tcpflow:
            self._count()

    def _count(self) -> None:
        """Count packets that say nothing, too: all from the first to the last of a stream."""
        for track in self.open.values():
            track.last = int(self._packets.bounds[track.flow + 1]) - 1
        for track in self.tracks:
            track.packets = track.last - track.first + 1

    def _covered(self, track: Track) -> Covered:
        if track.shifted and self._rules.as_tcpflow:
            return Covered()
        starts, _, rows = track.writes.table().T
        return Covered.of(starts, self._packets.length[rows])

    def _payload(self, row: int, length: int) -> NDArray[np.uint8]:
        start = int(self._packets.payload.starts[row])
        return self._octets(start, start + length)

    def _has(self, track: Track, start: int, row: int, length: int) -> bool:
        octets = self._payload(row, length)
        if track.content is None:
            at, kept, rows = track.writes.table().T
            track.content = pieces(at, kept, self._rules.overlap), at, rows
        known, at, rows = track.content
        stop = start + len(octets)
        if not len(known) or stop > known.end[-1]:
            return False
        here = slice(
            int(np.searchsorted(known.end, start, side="right")), int(np.searchsorted(known.start, stop))
        )
        content = np.zeros(len(octets), np.uint8)
        filled = 0
        for begin, end, write in zip(known.start[here], known.end[here], known.segment[here], strict=True):
            a, b = max(int(begin), start), min(int(end), stop)
            source = int(self._packets.payload.starts[rows[write]] - at[write])
            content[a - start : b - start] = self._octets(source + a, source + b)
            filled += b - a
        if filled < len(octets) and not self._rules.as_tcpflow:
            return False
        return bool(np.array_equal(content, octets))


class EndTracker(RowTracker):
    """Follows flows as tcpflow does, for nothing but where streams end: ``closings`` are the rows that close them.

    What streams hold is let go of once tcpflow has forgotten them: ``tracks`` remains empty.  ``octets`` gives what
    packets carried, which is elsewhere.
    """

    def __init__(
        self, packets: Packets, rules: Rules, *, saves: Callable[[int], int], octets: OctetsAt
    ) -> None:
        super().__init__(packets, rules, saves=saves)
        self._octets = octets
        self.closings: list[int] = []
        self._remembered: deque[Track] = deque()

    def _begin(self, flow: int, row: int, seq: int, flags: int) -> Track:
        track = super()._begin(flow, row, seq, flags)
        self.tracks.clear()
        return track

    def _close(self, track: Track, row: int) -> None:
        super()._close(track, row)
        self.closings.append(row)
        self._remembered.append(track)
        if len(self._remembered) > _REMEMBERED + 1:
            forgotten = self._remembered.popleft()
            forgotten.writes.clear()
            forgotten.content = forgotten.seen = None


class Covered:
    """A set of places, as intervals that neither meet nor overlap; ``octets`` is how many they are."""

    def __init__(self) -> None:
        self.octets = 0
        self._start = self._end = 0  # of the only interval
        self._ends: SortedDict[int, int] | None = (
            None  # of each interval, by its start, once there are several
        )

    @classmethod
    def of(cls, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Covered:
        """The places of intervals that may overlap."""
        covered = cls()
        covered.add_all(starts, lengths)
        return covered

    def add_all(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """Add the places of intervals that may overlap."""
        if not len(starts):
            return
        order = np.argsort(starts, kind="stable")
        begins, ends = starts[order], np.maximum.accumulate((starts + lengths)[order])
        firsts = np.flatnonzero(np.append(True, begins[1:] > ends[:-1]))
        begins, ends = begins[firsts], ends[np.append(firsts[1:], len(begins)) - 1]
        if not self.octets and len(begins) > 1:
            self._ends = SortedDict(zip(begins.tolist(), ends.tolist(), strict=True))
            self.octets = int((ends - begins).sum())
            return
        for start, end in zip(begins.tolist(), ends.tolist(), strict=True):
            self.add(start, end)

    def has(self, start: int, end: int) -> bool:
        """Whether all places from ``start`` to ``end`` are there."""
        if self._ends is None:
            return self._start <= start and end <= self._end
        at = self._ends.bisect_right(start) - 1
        return at >= 0 and bool(self._ends.peekitem(at)[1] >= end)

    def add(self, start: int, end: int) -> None:
        """Add the places from ``start`` to ``end``."""
        if self._ends is None:
            if not self.octets or (start <= self._end and self._start <= end):
                known = self.octets > 0
                self._start = min(start, self._start) if known else start
                self._end = max(end, self._end) if known else end
                self.octets = self._end - self._start
                return
            self._ends = SortedDict({self._start: self._end})
        self._add(self._ends, start, end)

    def _add(self, known: SortedDict[int, int], start: int, end: int) -> None:
        at = max(known.bisect_right(start) - 1, 0)
        while at < len(known):
            first, last = known.peekitem(at)
            if first > end:
                break
            if last < start:
                at += 1
                continue
            start, end = min(start, first), max(end, last)
            self.octets -= last - first
            del known[first]
        known[start] = end
        self.octets += end - start
