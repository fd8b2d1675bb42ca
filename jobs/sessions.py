"""TCP sessions of what tcpslice slices: their log, the packets after the range that complete them, a capture each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.errors import ExportError, UsageError
from pcap2arrow.writing.records.encoded import Encoded
from pcap2arrow.writing.sources.slices import Slice
from queries.sessions import READ, Session, Tracking, in_order, track
from queries.streams.reading import Reading, parts

if TYPE_CHECKING:
    from queries.sessions import Packets as Ordered

TYPE = "tcp"
_CONVERSION = re.compile(r"%([-0+ #]*\d*(?:\.\d+)?)([a-zA-Z%])")


def check_types(types: str) -> None:
    """Raise UsageError where sessions of other types than TCP's are asked for."""
    for name in types.split(","):
        if name != TYPE:
            raise UsageError(f"unsupported session type `{name}'")


def capture_name(pattern: str, number: int) -> str:
    """The name of a session's capture: ``%s`` in the pattern is its type, ``%d`` its number, as printf writes them.

    Raises UsageError for other conversions, and where there is no number.
    """
    numbered = False

    def written(found: re.Match[str]) -> str:
        nonlocal numbered
        how, kind = found.groups()
        if kind == "%" and not how:
            return "%"
        if kind == "s":
            return f"%{how}s" % TYPE
        if kind in "diu":
            numbered = True
            return f"%{how}d" % number
        raise UsageError(f"{pattern}: {found[0]!r} is neither %s (the type) nor %d (the number)")

    name = _CONVERSION.sub(written, pattern)
    if not numbered:
        raise UsageError(f"{pattern}: expected %d, the number of the session")
    return name


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions of packets; ``members`` are what :func:`_members` tells."""

    packets: Ordered
    found: Sequence[Session]
    how: Tracking
    members: Mapping[int, tuple[NDArray[np.int64], NDArray[np.int64]]]

    def of(self, packets: Encoded) -> NDArray[np.int64]:
        """For each of some packets the number of its session, 0 where it has none."""
        numbers, known = np.zeros(len(packets), np.int64), packets.known
        for place, (frames, sessions) in self.members.items():
            rows = np.flatnonzero(known["source"] == place)
            at = np.minimum(np.searchsorted(frames, known["number"][rows]), len(frames) - 1)
            numbers[rows] = np.where(frames[at] == known["number"][rows], sessions[at], 0)
        return numbers

    def log(self, written: Callable[[int], str], *, verbose: bool) -> Iterator[str]:
        """Lines of sessions that are opened and closed; all if ``verbose``, else closings after the range."""
        count, active = len(self.packets.time), 0
        events = [(each.opened, 1, each.number) for each in self.found]
        events += [(each.closed, -1, each.number) for each in self.found if each.closed is not None]
        for place, change, number in sorted(events, key=lambda of: (of[0], of[1], of[1] * of[2])):
            active += change
            time = int(self.packets.time[min(place, count - 1)])
            if verbose or (change < 0 and self.how.end is not None and time > self.how.end):
                verb = "opened" if change > 0 else "closed"
                yield f"Session #{number} (TCP) {verb} at {written(time)} (active sessions total: {active})"

    def unclosed(self, written: Callable[[int], str]) -> Iterator[str]:
        """A table of the sessions that are open at the end."""
        left = [each for each in self.found if each.closed is None]
        if left:
            plural = "" if len(left) == 1 else "s"
            yield f"{len(left)} unclosed session{plural} (id, type, last, source, destination, bytes):"
        for each in reversed(left):
            last = written(int(self.packets.time[each.rows[-1]]))
            ends = "\t".join(f"{host:>15}:{port:<5}" for host, port in (each.source, each.destination))
            yield f"#{each.number}\tTCP\t{last}\t{ends}\t{each.octets:>12}"


def find_sessions(sources: Sequence[str], captures: Sequence[Slice], idle: int) -> Sessions:
    """The sessions of slices of captures; ``sources`` are what these are read from, in the same order."""
    reading = Reading(columns=READ, defrag=False)
    frames = [frame for part in parts(sources, reading) for frame in part()]
    times = captures[0].times.moved(captures[0].shift)
    packets = in_order(frames, [each.shift for each in captures], times.start)
    how = Tracking(times.start, times.end, idle)
    found = track(packets, how)
    return Sessions(packets, found, how, _members(packets, found))


def _members(
    packets: Ordered, sessions: Sequence[Session]
) -> dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each capture the frame numbers of packets of sessions, ascending, and the numbers of these sessions."""
    if not sessions:
        return {}
    rows = np.concatenate([each.rows for each in sessions])
    numbers = np.repeat([each.number for each in sessions], [len(each.rows) for each in sessions])
    place, frame = packets.place[rows], packets.frame_number[rows].astype(np.int64)
    result = {}
    for capture in np.unique(place).tolist():
        of_capture = np.flatnonzero(place == capture)
        of_capture = of_capture[np.argsort(frame[of_capture])]
        result[capture] = frame[of_capture], numbers[of_capture]
    return result


class SessionFiles:
    """Captures of sessions, each written to as its packets come."""

    def __init__(self, pattern: str, preamble: bytes) -> None:
        self._pattern, self._preamble = pattern, preamble
        self._begun: set[int] = set()

    def write(self, packets: Encoded, sessions: NDArray[np.int64]) -> None:
        """Write packets to the captures of their sessions; those of number 0 to none."""
        for number in np.unique(sessions[sessions > 0]).tolist():
            name = capture_name(self._pattern, number)
            records = packets.take(np.flatnonzero(sessions == number))
            try:
                with Path(name).open("ab" if number in self._begun else "wb") as file:
                    if number not in self._begun:
                        file.write(self._preamble)
                    for octets in records.stretches():
                        file.write(octets)
            except OSError as error:
                raise ExportError(f"{name}: {error.strerror or error}") from error
            self._begun.add(number)


def completed(batches: Iterator[Encoded], sessions: Sessions) -> Iterator[tuple[Encoded, NDArray[np.int64]]]:
    """Packets of the range, and those after it of sessions that are open then, with the numbers of the sessions."""
    end = sessions.how.end
    for batch in batches:
        numbers = sessions.of(batch)
        if end is not None:
            inside = batch.known["timed"] & (batch.known["time"] <= end)
            kept = np.flatnonzero(inside | (numbers > 0))
            batch, numbers = batch.take(kept), numbers[kept]
        if len(batch):
            yield batch, numbers
