"""TCP sessions as tcpslice tracks them: from the SYN of a handshake to a reset, the last ACK or silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pcap2arrow.numbers import IPProtocol
from queries.flows.packets import COLUMNS, flow_columns, is_flow
from queries.streams.packets import ACK, FIN, PLACE, RST, SYN, TURN

_PAIR = ("ip_version", "a_hi", "a_lo", "b_hi", "b_lo", "a_port", "b_port")
_SECOND = 10**9
_HALF = 1 << 31

_Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Tracking:
    """Which packets open sessions, and when sessions end.

    Those of ``start`` and later count, and open sessions up to ``end`` (nanoseconds since 1970; None: all).  A session
    is closed once ``idle`` seconds pass without a packet of it; 0: never.
    """

    start: int | None = None
    end: int | None = None
    idle: int = 0


@dataclass(frozen=True, slots=True)
class Session:
    """A session: its ``number`` from 1, by the place of the SYN that opened it among all packets.

    ``opened`` and ``closed`` are places of packets in their order, of which ``closed`` is None for a session that is
    open at the end, and the number of packets for one whose handshake was not complete.  ``rows`` are the places of
    its packets.  ``octets`` of data came in order.  The endpoints are written as addresses and ports.
    """

    number: int
    opened: int
    closed: int | None
    rows: _Rows
    octets: int
    source: tuple[str, int]
    destination: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Packets:
    """All packets in their order: ``time`` (nanoseconds, int64), ``place`` of the capture, ``frame_number``.

    ``second`` is the greatest whole second so far.  ``tcp`` are the columns of those of TCP, with their places as
    ``row``.
    """

    time: NDArray[np.int64]
    second: NDArray[np.int64]
    place: NDArray[np.uint32]
    frame_number: NDArray[np.uint64]
    tcp: pl.DataFrame


READ = tuple(dict.fromkeys((*COLUMNS, *is_flow().meta.root_names(), "frame_number", "time")))
"""Columns of the packet table that sessions are found by."""


def in_order(frames: Sequence[pl.DataFrame], shifts: Sequence[int], start: int | None) -> Packets:
    """Packets (with :data:`READ` and the columns of order) on a common clock, from ``start`` on.

    ``shifts`` are nanoseconds that each capture is moved by.  Packets without a time are left out.
    """
    moved = pl.col(PLACE).replace_strict(list(range(len(shifts))), list(shifts), return_dtype=pl.Int64)
    table = (
        pl.concat(frames)
        .lazy()
        .with_columns(now=pl.col("time").dt.epoch("ns") + moved, turn=pl.col(TURN) + moved)
        .filter(pl.col("now").is_not_null() & (True if start is None else pl.col("now") >= start))
        .sort("turn", PLACE, "frame_number")
        .with_row_index("row")
        .collect()
    )
    is_tcp = is_flow() & (pl.col("l4_proto") == IPProtocol.TCP.value)
    segments = table.filter(is_tcp)
    tcp = flow_columns(segments.drop("row", "now"))
    tcp = tcp.with_columns(segments["row"].cast(pl.Int64), segments["now"])
    return Packets(
        table["now"].to_numpy(),
        np.maximum.accumulate(table["now"].to_numpy() // _SECOND),
        table[PLACE].to_numpy(),
        table["frame_number"].to_numpy().astype(np.uint64),
        tcp.sort(*_PAIR, "row"),
    )


def track(packets: Packets, how: Tracking) -> list[Session]:
    """The sessions, by their numbers.

    A session is opened by a SYN between endpoints without a session, that of an answer, too.  It counts as established
    with the ACK that ends a handshake from its SYN alone on; one that was not is closed with the last packet of all.
    Source: tcpslice(1), tcpslice 1.5.
    """
    found = [session for pair in _pairs(packets.tcp) for session in _sessions(pair, packets, how)]
    found.sort(key=lambda each: each.opened)
    return [
        Session(k, s.opened, s.closed, s.rows, s.octets, s.source, s.destination)
        for k, s in enumerate(found, 1)
    ]


@dataclass(slots=True)
class _Pair:
    """The segments between two endpoints, in order."""

    table: pl.DataFrame
    row: NDArray[np.int64] = field(init=False)
    time: NDArray[np.int64] = field(init=False)
    flags: NDArray[np.int64] = field(init=False)
    back: NDArray[np.bool_] = field(init=False)
    seq: NDArray[np.int64] = field(init=False)
    ack: NDArray[np.int64] = field(init=False)
    length: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        columns = ("row", "now", "tcp_flags", "tcp_seq", "tcp_ack", "payload_len")
        self.row, self.time, self.flags, self.seq, self.ack, self.length = (
            self.table[column].fill_null(0).cast(pl.Int64).to_numpy() for column in columns
        )
        self.back = self.table["back"].to_numpy()

    def first(self, after: int, which: NDArray[np.bool_]) -> int:
        """The first segment after that one of which something is so; the number of all where there is none."""
        rest = which[after + 1 :]
        place = int(rest.argmax()) if len(rest) else 0
        return after + 1 + place if len(rest) and rest[place] else len(which)

    def endpoint(self, side: bool) -> tuple[str, int]:
        """Address and port."""
        end = "b" if side else "a"
        version, high, low, port = (
            int(self.table[name][0]) for name in ("ip_version", f"{end}_hi", f"{end}_lo", f"{end}_port")
        )
        return str(IPv4Address(low) if version == 4 else IPv6Address(high << 64 | low)), port


def _pairs(tcp: pl.DataFrame) -> Iterator[_Pair]:
    """Segments by endpoints, where any of them is a SYN."""
    if not len(tcp):
        return
    opening = (pl.col("tcp_flags") & SYN != 0).any().over(_PAIR)
    for table in tcp.filter(opening).partition_by(_PAIR, maintain_order=True):
        yield _Pair(table)


def _sessions(pair: _Pair, packets: Packets, how: Tracking) -> Iterator[Session]:
    opening = pair.flags & SYN != 0
    if how.end is not None:
        opening &= pair.time <= how.end
    at = pair.first(-1, opening)
    while at < len(pair.row):
        begun = pair.first(at - 1, pair.flags & (SYN | ACK | RST) == SYN)
        established = _established(pair, begun, how)
        stop, closed = _closing(pair, established, packets, how)
        side = bool(pair.back[at])
        yield Session(
            0, int(pair.row[at]), closed, pair.row[at:stop], _octets(pair, begun, established, stop),
            pair.endpoint(side), pair.endpoint(not side),
        )  # fmt: skip
        at = pair.first(stop - 1, opening)


def _established(pair: _Pair, begun: int, how: Tracking) -> int:
    """The segment that ends the handshake that was begun; the number of all where none does before the range ends."""
    if begun == len(pair.row):
        return begun
    mine = pair.back == pair.back[begun]
    answer = pair.first(begun, ~mine & (pair.flags & (SYN | ACK | RST) == (SYN | ACK)))
    found = pair.first(answer, mine & (pair.flags & (SYN | ACK | RST) == ACK))
    if found < len(mine) and how.end is not None and pair.time[found] > how.end:
        return len(mine)
    return found


def _closing(pair: _Pair, established: int, packets: Packets, how: Tracking) -> tuple[int, int | None]:
    """The segment after the session's last one, and the place of the packet that closes it."""
    count = len(pair.row)
    if established == count:
        return count, len(packets.time)
    reset = pair.first(established, pair.flags & RST != 0)
    closing = min(reset, _last_ack(pair, established))
    silent = _silence(pair, established, min(closing + 1, count), packets, how.idle)
    if silent is not None and (closing == count or silent[0] <= closing):
        return silent
    return (closing + 1, int(pair.row[closing])) if closing < count else (count, None)


def _last_ack(pair: _Pair, established: int) -> int:
    """The segment that acknowledges the later of both FINs; the number of all where none does."""
    ending = pair.flags & FIN != 0
    fins = [pair.first(established, ending & (pair.back == side)) for side in (False, True)]
    last = max(fins)
    if last == len(pair.row):
        return last
    behind = pair.ack - (pair.seq[last] + pair.length[last] + 1) & 0xFFFFFFFF
    acknowledging = (pair.flags & ACK != 0) & (pair.back != pair.back[last]) & (behind < _HALF)
    return pair.first(last, acknowledging)


def _silence(pair: _Pair, established: int, stop: int, packets: Packets, idle: int) -> tuple[int, int] | None:
    """Where a session is closed since nothing was seen of it, as :func:`_closing` tells it; None where it is not.

    Time counts in whole seconds, and the first packet of any kind that comes so late closes the session.
    """
    if not idle:
        return None
    seconds = pair.time[established:stop] // _SECOND
    late = np.flatnonzero(np.diff(seconds) >= idle)
    if not len(late) and stop < len(pair.row):
        return None
    last = established + int(late[0]) if len(late) else stop - 1
    closing = int(np.searchsorted(packets.second, pair.time[last] // _SECOND + idle))
    return (last + 1, closing) if closing < len(packets.second) else None


def _octets(pair: _Pair, begun: int, established: int, stop: int) -> int:
    """Octets of data that came in order, each counted once."""
    total = 0
    for side in (False, True):
        segments = slice(begun, stop)
        mine = pair.back[segments] == side
        syn = np.flatnonzero(mine & (pair.flags[segments] & SYN != 0))
        carrying = np.flatnonzero(mine & (pair.length[segments] > 0)) + begun
        carrying = carrying[carrying >= established]
        if not len(syn) or not len(carrying):
            continue
        base = int(pair.seq[begun + syn[0]]) + 1
        start = (pair.seq[carrying] - base + _HALF & 0xFFFFFFFF) - _HALF
        order = np.argsort(start, kind="stable")
        start, ends = start[order], np.maximum.accumulate((start + pair.length[carrying])[order])
        before = np.concatenate([[0], ends[:-1]])
        holes = np.flatnonzero(start > before)
        total += max(
            int(ends[holes[0] - 1]) if len(holes) and holes[0] else 0 if len(holes) else int(ends[-1]), 0
        )
    return total
