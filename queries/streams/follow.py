"""From packets of flows to streams, and to the place of every segment in its stream.

Most flows need no look at their packets one after another: nothing comes before their beginning or after their end,
but for the SYN of another connection, which begins another episode of the flow.  They are followed all at once, by sums
over columns; the others by a :class:`~queries.streams.tracking.Tracker`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from queries.streams.packets import FIN, RST, SYN, Packets
from queries.streams.rules import Rules
from queries.streams.tracking import EndTracker, OctetsAt, RowTracker, Track

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_NEVER = np.iinfo(np.int64).max
NOWHERE = np.empty(0, np.int64)
"""No packets."""


@dataclass(frozen=True, slots=True)
class Streams:
    """Streams in the order of their first packets; arrays have a value per stream.

    ``first``, ``last``, ``closing`` and ``opening`` are rows of :class:`Packets`: the first and the last packet, the
    one that closed the stream, and the first with octets that count; -1 where there is none.  ``packets`` counts those
    of the stream, ``violations`` the segments that RFC 9293 does not allow, ``out_of_order`` those that came behind the
    place that was expected.  ``end`` is the length that FIN says, -1 without FIN; ``farthest`` where the last octet
    ended when it came, kept or not.  ``initial`` is the sequence number before the first octet.
    """

    flow: Ints
    first: Ints
    last: Ints
    closing: Ints
    opening: Ints
    packets: Ints
    violations: Ints
    out_of_order: Ints
    end: Ints
    farthest: Ints
    initial: Ints
    with_syn: Mask

    def __len__(self) -> int:
        return len(self.flow)


@dataclass(frozen=True, slots=True)
class Writes:
    """What is written to streams, in the order in which it came; arrays have a value per write.

    The first ``length`` octets of what packet ``row`` carried belong at ``place`` of stream ``stream``.
    """

    stream: Ints
    place: Ints
    length: Ints
    row: Ints

    def __len__(self) -> int:
        return len(self.row)


_Columns = TypeVar("_Columns", Streams, Writes)


@dataclass(frozen=True, slots=True)
class Followed:
    """Streams, and what is written to them.

    ``ignored`` are rows of :class:`Packets` that are in the midst of a stream, but not of it.
    """

    streams: Streams
    writes: Writes
    ignored: Ints


def follow(packets: Packets, rules: Rules, *, one_by_one: bool = False, ended: Ints = NOWHERE) -> Followed:
    """Find the streams of all flows, and what belongs to them; ``one_by_one`` takes the slow way for all of them.

    ``ended`` is how many packets come before the end of each stream that is elsewhere, ascending: tcpflow counts these.
    """
    plain = _Plain(packets, rules)
    odd = plain.odd_flows()
    plain.leave(odd | one_by_one)
    streams, writes = plain.streams(), plain.writes()
    tracker = _tracked(packets, rules, plain.left, plain.closing, ended)
    if tracker.tracks:
        more_streams, more_writes = streams_of(tracker.tracks, len(streams))
        streams, writes = joined(streams, more_streams), joined(writes, more_writes)
    streams, writes = _in_order(packets, streams, _within(rules, writes))
    return Followed(streams, writes, np.array(tracker.ignored, np.int64))


def follow_at_once(packets: Packets, rules: Rules, pair: NDArray[np.uint64]) -> tuple[Followed, Ints]:
    """Find the streams of flows that need no look at their octets, and which flows are left for that.

    Those with an equal ``pair``, both directions of a connection, are left together.
    """
    plain = _Plain(packets, rules)
    odd = plain.odd_flows()
    plain.leave(np.isin(pair, pair[odd]) if odd.any() else odd)
    streams, writes = _in_order(packets, plain.streams(), _within(rules, plain.writes()))
    return Followed(streams, writes, np.empty(0, np.int64)), plain.left


def odd_flows(packets: Packets, rules: Rules) -> tuple[Mask, Ints]:
    """The flows in which order decides, and the packets that close streams of the others."""
    plain = _Plain(packets, rules)
    odd = plain.odd_flows()
    plain.leave(odd)
    closing = plain.streams().closing
    return odd, closing[closing >= 0]


def closings_in_turn(packets: Packets, rules: Rules, ended: Ints, octets: OctetsAt) -> Ints:
    """The packets that close streams, as tcpflow has it, of flows in which order decides; no more is kept of them.

    ``ended`` is as in :func:`follow`; ``octets`` gives what packets carried, which is elsewhere.
    """
    saved = np.sort(ended - 1)

    def saves(row: int) -> int:
        return int(np.searchsorted(saved, packets.order[row]))

    tracker = EndTracker(packets, rules, saves=saves, octets=octets)
    rows = np.argsort(packets.order)
    tracker.follow(rows, packets.flow[rows])
    return np.array(tracker.closings, np.int64)


def joined(*several: _Columns) -> _Columns:
    """Streams, or writes, of several together."""
    kind = type(several[0])
    names = kind.__dataclass_fields__
    return kind(*(np.concatenate([getattr(each, name) for each in several]) for name in names))


def _in_order(packets: Packets, streams: Streams, writes: Writes) -> tuple[Streams, Writes]:
    """Streams numbered by their first packets."""
    order = np.argsort(packets.order[streams.first], kind="stable")
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    taken = Streams(*(getattr(streams, name)[order] for name in Streams.__dataclass_fields__))
    return taken, Writes(number[writes.stream], writes.place, writes.length, writes.row)


def _within(rules: Rules, writes: Writes) -> Writes:
    """Writes cut to the limit; tcpflow cuts before it shifts, which is done by then."""
    if rules.limit is None or rules.as_tcpflow:
        return writes
    length = np.clip(rules.limit - writes.place, 0, writes.length)
    return Writes(writes.stream, writes.place, length, writes.row)


class _Plain:
    """Episodes of flows, of one stream each: SYN at most at the beginning, no data after FIN or RST or before the
    beginning, nothing too far off.  ``odd`` are the episodes of which that is not so.

    Flow and episode are the same, unless another connection's SYN comes in the midst of a flow.
    """

    def __init__(self, packets: Packets, rules: Rules) -> None:
        self._packets = packets
        self._rules = rules
        self._rows = np.arange(len(packets))
        self._syn = packets.flags & SYN != 0
        self._fin = packets.flags & FIN != 0
        self._rst = packets.flags & RST != 0
        self._bounds = packets.bounds if rules.as_tcpflow else self._episodes()
        self._count = len(self._bounds) - 1
        self._flow = np.repeat(np.arange(self._count), np.diff(self._bounds))
        self._of_flow = np.searchsorted(packets.bounds, self._bounds[:-1], side="right") - 1
        self.odd = np.zeros(self._count, np.bool_)
        ends_at_once = (self._fin | self._rst) & rules.as_tcpflow
        opens = (packets.length > 0) | (self._syn & ~ends_at_once)
        self.first = self._first_row(opens)
        self._active = self._rows >= self.first[self._flow]
        self._data = np.flatnonzero(self._active & (packets.length > 0))
        self._place()
        ends = self._first_row(self._active & (self._fin | self._rst))
        self._mark(self._later_syn())
        self._mark((self._active & (self._syn | (packets.length > 0))) & (self._rows > ends[self._flow]))
        self._close(ends)
        if rules.as_tcpflow:
            self._look_for_far_packets()

    def _episodes(self) -> Ints:
        """Where flows begin, and where a SYN has another sequence number than the flow's SYN before it; the end.

        One with octets might repeat those of the connection before it: it is left in the midst, which is odd.
        """
        packets = self._packets
        rows = np.flatnonzero(self._syn)
        before, after = rows[:-1], rows[1:]
        flow = np.searchsorted(packets.bounds, rows, side="right")
        begins = (flow[1:] == flow[:-1]) & (packets.seq[after] != packets.seq[before])
        more = after[begins & (packets.length[after] == 0)]
        return np.union1d(packets.bounds, more) if len(more) else packets.bounds

    def odd_flows(self) -> Mask:
        """The flows of which any episode is odd."""
        odd = np.zeros(self._packets.flows, np.bool_)
        odd[self._of_flow[self.odd]] = True
        return odd

    def leave(self, flows: Mask) -> None:
        """Leave these flows to others."""
        self.left = np.flatnonzero(flows)
        self.odd = flows[self._of_flow]

    def _later_syn(self) -> Ints:
        """Rows of SYN behind the first packet, but for mere repetitions, which change nothing."""
        packets = self._packets
        rows = np.flatnonzero(self._active & self._syn)
        flow = self._flow[rows]
        first = self.first[flow]
        repeats = self._syn[first] & (packets.seq[rows] == packets.seq[first])
        repeats &= (packets.length[rows] == 0) & ~self._fin[rows]
        if self._rules.as_tcpflow:
            repeats &= (self._opening[flow] < 0) | (rows < self._opening[flow])
        later: Ints = rows[(rows != first) & ~repeats]
        return later

    def _first_row(self, chosen: Mask) -> Ints:
        """The first chosen row of each flow; beyond all rows if there is none."""
        first = np.full(self._count, _NEVER)
        rows = np.flatnonzero(chosen)
        flows = self._flow[rows]
        is_first = np.ones(len(rows), np.bool_)
        is_first[1:] = flows[1:] != flows[:-1]
        first[flows[is_first]] = rows[is_first]
        return first

    def _mark(self, rows: NDArray[Any]) -> None:
        self.odd[self._flow[rows]] = True

    def _place(self) -> None:
        """The place of every segment: the sum of all steps from the end of one to the start of the next."""
        packets, data, rules = self._packets, self._data, self._rules
        flow, length = self._flow[data], packets.length[data]
        has_first = self.first != _NEVER
        first = np.where(has_first, self.first, 0)
        self._base = packets.seq[first] + self._syn[first].astype(np.uint32)
        start = packets.seq[data] + self._syn[data].astype(np.uint32)
        self._end_seq = start + length.astype(np.uint32)
        is_first = np.ones(len(data), np.bool_)
        is_first[1:] = flow[1:] != flow[:-1]
        expected = np.where(is_first, self._base[flow], np.roll(self._end_seq, 1))
        step = (start - expected).view(np.int32).astype(np.int64)
        before = np.where(is_first, 0, np.roll(length, 1))
        summed = np.cumsum(step + before)
        firsts = np.flatnonzero(is_first)
        origin = summed[firsts] - (step + before)[firsts]
        place = summed - np.repeat(origin, np.diff(np.append(firsts, len(data))))
        keep_alive = (step == -1) & (length == 1)  # nothing is stored, nor is another octet expected next
        kept = np.flatnonzero(~keep_alive) if keep_alive.any() else slice(None)
        self._places, self._lengths, self._data_flow = place[kept], length[kept], flow[kept]
        self._stored = data[kept]
        self._backward = np.bincount(flow[(step < 0) & ~keep_alive], minlength=self._count)
        self._mark(data[(np.abs(step) > rules.skip) | (place < 0)])
        self._opening = np.full(self._count, -1)
        self._opening[flow[is_first]] = data[is_first]

    def _close(self, ends: Ints) -> None:
        """Where flows close: at RST, or at a FIN that nothing is missing before."""
        packets = self._packets
        flows = np.flatnonzero((ends != _NEVER) & ~self.odd)
        rows = ends[flows]
        with_fin = ~self._rst[rows] & self._fin[rows]
        declared = packets.seq[rows] + packets.length[rows].astype(np.uint32) - self._base[flows]
        size = declared + self._syn[rows].astype(np.uint32)
        seen = self._seen()[flows]
        is_whole = seen == declared if self._rules.as_tcpflow else seen.astype(np.uint32) == size
        self.closing = np.full(self._count, _NEVER)
        closes = flows[~with_fin | is_whole]
        self.closing[closes] = ends[closes]
        self.end = np.full(self._count, -1)
        distance = (size - self._last_place()[flows].astype(np.uint32)).view(np.int32)
        self.end[flows] = np.where(with_fin, np.maximum(self._last_place()[flows] + distance, -1), -1)
        waiting = flows[with_fin & ~is_whole]
        if len(waiting):
            resets = self._first_row(self._active & self._rst)
            self.closing[waiting] = resets[waiting]
        if self._bounds is not packets.bounds:
            goes_on = np.isin(self._bounds[1:], packets.bounds, invert=True) & (self.closing == _NEVER)
            self.closing[goes_on] = self._bounds[1:][goes_on] - 1

    def _last_place(self) -> Ints:
        """The place after the last segment that came, of each flow."""
        last = np.zeros(self._count, np.int64)
        last[self._data_flow] = self._places + self._lengths
        return last

    def _farthest(self) -> Ints:
        """The place after the last octet of each flow."""
        farthest = np.zeros(self._count, np.int64)
        np.maximum.at(farthest, self._data_flow, self._places + self._lengths)
        return farthest

    def _seen(self) -> Ints:
        """How many places of each flow there are octets for."""
        seen = np.bincount(self._data_flow, self._lengths, self._count).astype(np.int64)
        chosen = np.flatnonzero(((self._backward > 0) & ~self.odd)[self._data_flow])
        if len(chosen):
            flow, start = self._data_flow[chosen], self._places[chosen]
            order = np.lexsort((start, flow))
            flow, start = flow[order], start[order]
            seen[flow] = 0
            np.add.at(seen, flow, _new_octets(flow, start, self._lengths[chosen][order]))
        return seen

    def _look_for_far_packets(self) -> None:
        """Packets without data, too, close a stream that they are too far from."""
        packets = self._packets
        rows = np.flatnonzero(self._active & (packets.length == 0) & (self._rows <= self.closing[self._flow]))
        if not len(rows):
            return
        before = np.searchsorted(self._data, rows) - 1
        flow = self._flow[rows]
        known = np.append(self._flow[self._data], -1)[before] == flow  # of none before, the last one appended
        expected = np.where(known, np.append(self._end_seq, 0)[before], self._base[flow])
        distance = (packets.seq[rows] - expected.astype(np.uint32)).view(np.int32).astype(np.int64)
        is_first = rows == self.first[flow]
        self._mark(rows[(np.abs(distance) > self._rules.skip) & ~is_first])

    @property
    def _flows(self) -> Ints:
        """The flows with a stream, of those that are not odd."""
        return np.flatnonzero((self.first != _NEVER) & ~self.odd)

    def streams(self) -> Streams:
        """The streams of the flows that are not odd."""
        flows, bounds = self._flows, self._bounds
        first, closing = self.first[flows], self.closing[flows]
        last = np.minimum(closing, bounds[flows + 1] - 1)
        return Streams(
            flow=self._of_flow[flows],
            first=first,
            last=last,
            closing=np.where(closing == _NEVER, -1, closing),
            opening=self._opening[flows],
            packets=last - first + 1,
            violations=(self._syn[first] & (self._packets.length[first] > 0)).astype(np.int64),
            out_of_order=self._backward[flows],
            end=self.end[flows],
            farthest=self._farthest()[flows],
            initial=(self._base[flows] - np.uint32(1)).astype(np.int64),
            with_syn=self._syn[first],
        )

    def writes(self) -> Writes:
        """What is written to them; ``stream`` is their number in :meth:`streams`."""
        number = np.full(self._count, -1)
        number[self._flows] = np.arange(len(self._flows))
        stream = number[self._data_flow]
        here = stream >= 0
        place, length = self._places[here], self._lengths[here]
        if self._rules.as_tcpflow and self._rules.limit is not None:
            length = np.clip(self._rules.limit - place, 0, length)
        return Writes(stream[here], place, length, self._stored[here])


def _new_octets(flow: Ints, start: Ints, length: Ints) -> Ints:
    """How many places of each segment none before it has, of segments in the order of flow and place."""
    is_first = np.ones(len(flow), np.bool_)
    is_first[1:] = flow[1:] != flow[:-1]
    firsts = np.flatnonzero(is_first)
    end = start + length
    width = np.maximum.reduceat(end, firsts)
    base = np.repeat(np.cumsum(width) - width, np.diff(np.append(firsts, len(flow))))
    known = np.append(0, np.maximum.accumulate(base + end)[:-1])
    added: Ints = np.clip(base + end - np.maximum(base + start, known), 0, None)
    return added


def _tracked(packets: Packets, rules: Rules, flows: Ints, closing: Ints, ended: Ints) -> RowTracker:
    """Follow flows packet by packet; ``closing`` and ``ended`` tell where others closed: tcpflow counts these."""
    if not len(flows):
        return RowTracker(packets, rules)
    rows = np.concatenate([np.arange(packets.bounds[flow], packets.bounds[flow + 1]) for flow in flows])
    of_flow = np.repeat(flows, packets.bounds[flows + 1] - packets.bounds[flows])
    if not rules.as_tcpflow:
        tracker = RowTracker(packets, rules)
        tracker.follow(rows, of_flow)
        return tracker
    closed = closing.copy()
    closed[flows] = _NEVER
    saved = np.sort(np.concatenate([packets.order[closed[closed != _NEVER]], ended - 1]))
    tracker = RowTracker(packets, rules, saves=lambda row: int(np.searchsorted(saved, packets.order[row])))
    turn = np.argsort(packets.order[rows])
    tracker.follow(rows[turn], of_flow[turn])
    return tracker


def streams_of(tracks: Sequence[Track], number: int = 0) -> tuple[Streams, Writes]:
    """What was tracked, with streams numbered from ``number``."""

    def column(values: list[int]) -> Ints:
        return np.array(values, np.int64)

    streams = Streams(
        flow=column([track.flow for track in tracks]),
        first=column([track.first for track in tracks]),
        last=column([track.last for track in tracks]),
        closing=column([track.closing for track in tracks]),
        opening=column([track.opening for track in tracks]),
        packets=column([track.packets for track in tracks]),
        violations=column([track.violations for track in tracks]),
        out_of_order=column([track.out_of_order for track in tracks]),
        end=column([-1 if track.end is None else max(track.end - track.origin, -1) for track in tracks]),
        farthest=column([track.farthest for track in tracks]),
        initial=column([track.initial for track in tracks]),
        with_syn=np.array([track.with_syn for track in tracks], np.bool_),
    )
    counts = [len(track.writes) for track in tracks]
    flat = np.concatenate([np.empty((0, 3), np.int64), *(track.writes.table() for track in tracks)])
    origins = np.repeat(column([track.origin for track in tracks]), counts)
    stream = np.repeat(np.arange(number, number + len(tracks)), counts)
    return streams, Writes(stream, flat[:, 0] - origins, flat[:, 1], flat[:, 2])
