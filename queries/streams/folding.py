"""Connections of more packets than memory has room for, followed in the order of time, some packets at a time.

What goes on from one frame of packets to the next is the state of each flow's open stream, a
:class:`~queries.streams.tracking.Track`.  Segments between those with SYN, FIN or RST are followed together, by sums;
where order decides, packet by packet.  What is written goes to a :class:`~queries.streams.writelog.WriteLog`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from queries.filters.machine.frames import Slices
from queries.streams.follow import Streams, streams_of
from queries.streams.octets import Source
from queries.streams.packets import AT, FIN, LENGTH, PART, RST, SYN, TUPLE, Packets, grouped
from queries.streams.repeats import Candidates, Repeats
from queries.streams.rules import Rules
from queries.streams.tracking import Covered, Track, Tracker
from queries.streams.writelog import NOTE, WriteLog

Ints = NDArray[np.int64]

_FEW, _MANY = 32, 1 << 16
"""Segments that are followed together at least, for all others cost less one by one, and at most."""

NO_TIME = np.iinfo(np.int64).min
"""The time in notes of a packet without one."""


@dataclass(slots=True, eq=False)
class LongTrack(Track):
    """A stream whose rows are packets of its flow, counted from 0.

    ``kept`` are where its first packet, its first octets, its closing and its last packet are among those kept, and
    ``runs`` what was written to it since these were noted: places, lengths, rows.  ``extents`` say where notes are.
    ``sums`` are those of columns over its packets, if they are summed up.
    """

    number: int = 0
    kept: dict[str, int] = field(default_factory=dict)
    runs: list[tuple[Ints, Ints, Ints]] = field(default_factory=list)
    extents: list[np.void] = field(default_factory=list)
    sums: dict[str, int] = field(default_factory=dict)

    def drain(self) -> None:
        """Put what was written packet by packet to the rest."""
        if self.writes:
            place, length, row = self.writes.table().T
            self.runs.append((place, length, row))
            self.writes.clear()


_ROWS = "first", "opening", "closing", "last"
_SUMMED = "frame_len", "caplen"


class UnforeseenError(Exception):
    """More has to be known of a flow, to follow it as tcpflow does, than is held of what came before."""


class _LongTracker(Tracker):
    """Follows flows whose packets are gone once they were followed."""

    def __init__(self, rules: Rules, repeats: Callable[[LongTrack, int], bool]) -> None:
        super().__init__(rules)
        self._repeats = repeats
        self._begun = 0

    def _new(self, flow: int, row: int, initial: int, expected: int, with_syn: bool) -> Track:
        track = LongTrack(flow, row, initial, expected, with_syn, seen=Covered(), number=self._begun)
        self._begun += 1
        return track

    def _covered(self, track: Track) -> Covered:
        assert track.seen is not None  # noted from the first on, for what was written is let go of
        return track.seen

    def _has(self, track: Track, start: int, row: int, length: int) -> bool:
        assert isinstance(track, LongTrack)
        return self._repeats(track, row)


class _TcpflowTracker(_LongTracker):
    """Follows flows as tcpflow does, where that does not depend on what streams have, or when those of others ended.

    Raises UnforeseenError where it does.
    """

    def step(self, flow: int, row: int, seq: int, flags: int, length: int) -> None:
        super().step(flow, row, seq, flags, length)
        if self.ignored:
            raise UnforeseenError

    def _shift(self, track: Track, place: int, kept: int, missing: int) -> None:
        raise UnforeseenError

    def _close(self, track: Track, row: int) -> None:
        super()._close(track, row)
        self._ended[track.flow].clear()

    def _is_repeated(self, flow: int, row: int, seq: int, length: int) -> bool:
        if flow in self._ended:
            raise UnforeseenError
        return False


@dataclass(slots=True)
class _Flow:
    """A flow: how many of its packets were followed, and where the last one is among those kept."""

    count: int = 0
    latest: int = -1


@dataclass(frozen=True, slots=True)
class Folded:
    """Streams in the order of their first packets; their rows are those of ``packets``, in which nothing else is kept.

    ``number`` is that of each stream of the log, ``origin`` the place there of its first octet.  ``sums`` are columns
    summed over the packets of each, which tcpflow reports.
    """

    packets: Packets
    streams: Streams
    number: Ints
    origin: Ints
    sums: dict[str, Ints]


class Folding:
    """Follows packets of :func:`~queries.streams.packets.located`, frame by frame, each after those before it.

    Where headers do not tell whether a packet repeats what a stream said that ended, octets are read from ``sources``;
    for tcpflow's rules, flows where that is to be told are none that can be followed here.
    """

    def __init__(self, rules: Rules, log: WriteLog, sources: Mapping[int, Source]) -> None:
        kind = _TcpflowTracker if rules.as_tcpflow else _LongTracker
        self._tracker = kind(rules, self._is_repeated)
        self._as_tcpflow = rules.as_tcpflow
        self._repeats = Repeats(sources, log, rules.overlap)
        self._skip = rules.skip
        self._base = 0
        self._packets_here: Packets
        self._noted: dict[str, NDArray[np.generic]] = {}
        self._log = log
        self._flows: dict[tuple[object, ...], int] = {}
        self._of_flow: list[_Flow] = []
        self._ended: dict[str, list[NDArray[Any]]] = {}
        self._kept: list[pl.DataFrame] = []
        self._flags: list[NDArray[np.uint8]] = []
        self._kept_count = 0

    def take(self, table: pl.DataFrame) -> None:
        """Follow the next packets, in the order of the whole.  Raises UnforeseenError, see there."""
        ends = np.cumsum(table[LENGTH].to_numpy(), dtype=np.int64)
        nowhere = Slices(np.empty(0, np.uint8), ends - table[LENGTH].to_numpy(), ends)
        packets = grouped(table, nowhere)
        self._noted = _noted(packets.table)
        flows = self._numbered(packets)
        touched: list[tuple[LongTrack, int]] = []  # with the row in the frame that its row 0 would be
        for place, flow in enumerate(flows):
            rows = slice(int(packets.bounds[place]), int(packets.bounds[place + 1]))
            base = rows.start - self._of_flow[flow].count
            touched += ((track, base) for track in self._follow(flow, packets, rows))
        self._note(packets, touched)
        if self._as_tcpflow:
            self._sum_up(packets, touched)
        self._keep(packets, touched, flows)
        self._let_go([track for track, _ in touched if track.closing >= 0])

    def _numbered(self, packets: Packets) -> list[int]:
        """The numbers of the flows of some packets."""
        firsts = packets.table.select(TUPLE)[packets.order[packets.bounds[:-1]]]
        found = [self._flows.setdefault(key, len(self._flows)) for key in firsts.iter_rows()]
        self._of_flow += (_Flow() for _ in range(len(self._flows) - len(self._of_flow)))
        return found

    def _follow(self, flow: int, packets: Packets, rows: slice) -> list[LongTrack]:
        """Follow the packets of a flow; the result are the streams that they may have changed."""
        seq, flags, length = packets.seq[rows], packets.flags[rows], packets.length[rows]
        is_special = flags & (SYN | FIN | RST) != 0
        says = is_special | (length > 0)
        chosen = np.arange(len(says)) if self._as_tcpflow else np.flatnonzero(says)
        row = chosen + self._of_flow[flow].count
        seq, flags, length = seq[chosen], flags[chosen], length[chosen]
        special = np.append(np.flatnonzero(is_special[chosen]), len(row))
        saying = np.append(np.flatnonzero(says[chosen]), len(row))
        self._packets_here, self._base = packets, rows.start - self._of_flow[flow].count
        self._repeats.offer(Candidates(packets, row, rows.start + chosen))
        tracker = self._tracker
        before = [tracker.open[flow]] if flow in tracker.open else []
        steps: list[tuple[int, int, int, int]] = []
        following = np.repeat(special, np.diff(np.append(-1, special)))  # the next special one, or itself
        at, most = 0, _FEW
        while at < len(row):
            track = tracker.open.get(flow)
            if track is None and (at := int(saying[np.searchsorted(saying, at)])) == len(row):
                break
            stop = min(int(following[at]), at + most)
            if stop - at >= _FEW and track is not None and track.end is None:
                assert isinstance(track, LongTrack)
                at += self._advance(track, row[at:stop], seq[at:stop], length[at:stop])
                if at == stop:
                    most = min(most * 2, _MANY)
                    continue
                most = _FEW
            steps = steps or list(
                zip(row.tolist(), seq.tolist(), flags.tolist(), length.tolist(), strict=True)
            )
            stop = max(min(stop, at + _FEW), at + 1)
            for each in steps[at:stop]:
                tracker.step(flow, *each)
            at = stop
        found = [*before, *tracker.tracks]
        tracker.tracks = []
        assert all(isinstance(track, LongTrack) for track in found)
        return found  # type: ignore[return-value]

    def _advance(self, track: LongTrack, row: Ints, seq: NDArray[np.uint32], length: Ints) -> int:
        """Follow packets of an open stream that have no SYN, FIN or RST, up to one of which order decides."""
        has_octets = length > 0
        sent, silent = np.flatnonzero(has_octets), np.flatnonzero(~has_octets)
        start, length = seq[sent], length[sent]
        ends = start + length.astype(np.uint32)
        expected = np.append(np.uint32(track.expected), ends)  # after so many segments
        step = _distance(start, expected[:-1])
        place = track.place + np.cumsum(step + np.append(0, length[:-1]))
        is_odd = np.zeros(len(row), np.bool_)
        is_odd[sent] = (np.abs(step) > self._skip) | (place < track.origin)
        is_odd[silent] = np.abs(_distance(seq[silent], expected[np.cumsum(has_octets)[silent]])) > self._skip
        stop = int(is_odd.argmax()) if is_odd.any() else len(row)
        if not stop:
            return 0
        track.last = int(row[stop - 1])
        sent = sent[: np.searchsorted(sent, stop)]
        if len(sent):
            self._write(track, row[sent], step[: len(sent)], place[: len(sent)], length[: len(sent)])
            track.expected = int(ends[len(sent) - 1])
        return stop

    def _write(self, track: LongTrack, row: Ints, step: Ints, place: Ints, length: Ints) -> None:
        """Write segments to a stream at these places, each so far from the one that was expected."""
        if track.opening < 0:
            track.opening = int(row[0])
        track.place = int(place[-1] + length[-1])
        stored = (step != -1) | (length != 1)  # others are keep-alives: RFC 9293, 3.8.4
        if not stored.all():
            step, place, length, row = step[stored], place[stored], length[stored], row[stored]
        if len(row):
            track.out_of_order += int((step < 0).sum())
            track.farthest = max(track.farthest, int((place + length).max()) - track.origin)
            assert track.seen is not None
            track.seen.add_all(place, length)
            track.drain()
            track.runs.append((place, length, row))

    def _is_repeated(self, track: LongTrack, row: int) -> bool:
        """Whether a stream that ended says what the packet of its flow does that comes next."""
        self._note(self._packets_here, [(track, self._base)])
        return self._repeats.says(track, track.number, track.extents, row)

    def _note(self, packets: Packets, touched: list[tuple[LongTrack, int]]) -> None:
        """Note what was written to streams."""
        found: list[tuple[Ints, ...]] = []
        for track, base in touched:
            track.drain()
            for place, length, row in track.runs:
                found.append((np.full(len(row), track.number), place, length, row + base))
            track.runs.clear()
        if not found:
            return
        stream, place, length, row = (np.concatenate(each) for each in zip(*found, strict=True))
        notes = np.empty(len(row), NOTE)
        notes["place"], notes["length"] = place, length
        chosen = packets.order[row]
        for name, values in self._noted.items():
            notes[name] = values[chosen]
        added = self._log.add(stream, notes)
        of_number = {track.number: track for track, _ in touched}
        for number, extent in zip(added["stream"].tolist(), added, strict=True):
            of_number[number].extents.append(extent)

    def _sum_up(self, packets: Packets, touched: list[tuple[LongTrack, int]]) -> None:
        """Sum up columns over the packets of streams, all of which are in a row."""
        for name in _SUMMED:
            if name not in packets.table.columns:
                continue
            sums = np.append(0, np.cumsum(packets.table[name].to_numpy()[packets.order], dtype=np.int64))
            for track, base in touched:
                first = max(track.first, self._of_flow[track.flow].count) + base
                more = int(sums[track.last + base + 1] - sums[first])
                track.sums[name] = track.sums.get(name, 0) + more

    def _keep(self, packets: Packets, touched: list[tuple[LongTrack, int]], flows: list[int]) -> None:
        """Keep the packets that streams begin, open, close and end with, and the last one of each flow.

        They are kept in the order of the whole, each once.
        """
        rows = (packets.bounds[1:] - 1).tolist()
        wanted: list[tuple[LongTrack, str]] = []
        for track, base in touched:
            flow = self._of_flow[track.flow]
            for name in _ROWS:
                row = getattr(track, name)
                if row >= flow.count:
                    rows.append(row + base)
                    wanted.append((track, name))
                elif row == flow.count - 1 and name in ("closing", "last"):
                    track.kept[name] = flow.latest
        order, first, which = np.unique(packets.order[rows], return_index=True, return_inverse=True)
        places = (which + self._kept_count).tolist()
        for (track, name), place in zip(wanted, places[len(flows) :], strict=True):
            track.kept[name] = place
        for number, place, count in zip(flows, places, np.diff(packets.bounds).tolist(), strict=False):
            flow = self._of_flow[number]
            flow.latest = place
            flow.count += count
        self._kept.append(packets.table.drop(PART, AT, LENGTH)[order])
        self._flags.append(packets.flags[np.array(rows)[first]])
        self._kept_count += len(order)

    def _let_go(self, ended: list[LongTrack]) -> None:
        """Streams that ended."""
        for track in ended:
            track.packets = track.last - track.first + 1
        streams, _ = streams_of(ended, 0)
        found = {name: getattr(streams, name) for name in Streams.__dataclass_fields__}
        found |= {name: np.array([track.kept.get(name, -1) for track in ended], np.int64) for name in _ROWS}
        found |= {name: np.array([track.sums.get(name, 0) for track in ended], np.int64) for name in _SUMMED}
        for name in ("number", "origin"):
            found[name] = np.array([getattr(track, name) for track in ended], np.int64)
        for name, values in found.items():
            self._ended.setdefault(name, []).append(values)

    def finish(self) -> Folded:
        """All streams, once all packets were taken."""
        still_open: list[LongTrack] = []
        for track in self._tracker.open.values():
            assert isinstance(track, LongTrack)
            track.last = self._of_flow[track.flow].count - 1
            track.kept["last"] = self._of_flow[track.flow].latest
            still_open.append(track)
        self._let_go(still_open)
        order = np.argsort(np.concatenate(self._ended["first"]), kind="stable")
        is_theirs = bool((order[1:] > order[:-1]).all())
        taken = {}
        for name in list(self._ended):  # one after another: there may be millions
            values = np.concatenate(self._ended.pop(name))
            taken[name] = values if is_theirs else values[order]
        number = np.empty(len(order), np.int64)
        number[taken.pop("number")] = np.arange(len(order))
        origin = taken.pop("origin")
        sums = {name: taken.pop(name) for name in _SUMMED}
        return Folded(self._kept_packets(), Streams(**taken), number, origin, sums)

    def _kept_packets(self) -> Packets:
        nothing = np.zeros(self._kept_count, np.int64)
        kept, self._kept = pl.concat(self._kept), []
        return Packets(
            bounds=np.array([0, self._kept_count]),
            order=np.arange(self._kept_count),
            seq=np.zeros(self._kept_count, np.uint32),
            flags=np.concatenate(self._flags),
            length=nothing,
            payload=Slices(np.empty(0, np.uint8), nothing, nothing),
            table=kept,
        )


def _distance(seq: NDArray[np.uint32], expected: NDArray[np.uint32]) -> Ints:
    """Differences of sequence numbers, as :func:`~queries.streams.tracking.signed`."""
    return (seq - expected).view(np.int32).astype(np.int64)


def _noted(table: pl.DataFrame) -> dict[str, NDArray[np.generic]]:
    """What is noted of packets beside their places."""
    time = pl.col("time").dt.epoch("ns").fill_null(NO_TIME)
    found = table.select(PART, AT, "capture_id", "frame_number", time)
    return {name: found[name].to_numpy() for name in found.columns}
