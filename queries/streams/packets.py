"""TCP packets of a packet table, grouped by flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from queries.filters.machine.frames import Slices
from queries.streams.rules import Rules

FIN, SYN, RST, ACK = 1, 2, 4, 16
_TCP = 6
_TCP_HEADER = 20

TUPLE = (
    "ip_version",
    "ip_src",
    "ip_dst",
    "ipv6_src_hi",
    "ipv6_src_lo",
    "ipv6_dst_hi",
    "ipv6_dst_lo",
    "src_port",
    "dst_port",
)
"""Columns that tell flows apart."""

SWAPPED = (
    "ip_version",
    "ip_dst",
    "ip_src",
    "ipv6_dst_hi",
    "ipv6_dst_lo",
    "ipv6_src_hi",
    "ipv6_src_lo",
    "dst_port",
    "src_port",
)
"""The same columns of the other direction."""

_ENDPOINT_OF_IPV6 = (
    ("src_port", "dst_port"),
    ("ipv6_src_lo", "ipv6_dst_lo"),
    ("ipv6_src_hi", "ipv6_dst_hi"),
)
"""What endpoints of IPv6 are compared by, as (source, destination), the most significant last."""

NAMING = ("time", "eth_src", "eth_dst", "vlan_id")
"""Columns of a stream's first packet that may stand in its name."""

PAYLOAD = "payload"
"""The column of :func:`segments` with what they carried."""

AT, PART, HEADER_LEN = "at", "part", "header_len"
"""Columns that tell where octets are that were not read: at which place of which part, behind how long a header."""

LENGTH = "payload_len"
"""The column with how many octets segments carried, where these are apart."""

PLACE, TURN = "place", "turn"
"""Columns that order packets of several captures: (``turn``, ``place``, ``frame_number``)."""

COLUMNS = (
    *TUPLE,
    *NAMING,
    "capture_id",
    "frame_number",
    "caplen",
    "filter_len",
    "frame_len",
    "ip_proto",
    "l4_proto",
    "tcp_seq",
    "tcp_flags",
    "transport_offset",
    "flow_hash",
    "payload_len",
    "rest",
)
"""Columns of the packet table that streams are made of."""


def is_tcp(rules: Rules) -> pl.Expr:
    """Which packets of a packet table are TCP with ports, as far as streams are concerned."""
    protocol = pl.col("ip_proto" if rules.as_tcpflow else "l4_proto")
    return (protocol == _TCP) & pl.col("tcp_flags").is_not_null()


def segments(packets: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Of packets of :func:`is_tcp` (at least :data:`COLUMNS`) those with a whole header, in the same order.

    Their ``rest`` becomes ``payload``: what they carried, as far as it was captured.
    """
    seen = pl.col("filter_len" if rules.as_tcpflow else "caplen").cast(pl.Int64)
    header_len = pl.col("caplen").cast(pl.Int64) - pl.col("rest").bin.size().cast(pl.Int64)
    whole = pl.min_horizontal(header_len, seen) - pl.col("transport_offset") >= _TCP_HEADER
    return (
        packets.lazy()
        .filter(whole)
        .with_columns(
            pl.col("rest")
            .bin.slice(0, pl.min_horizontal("payload_len", (seen - header_len).clip(0)))
            .alias(PAYLOAD)
        )
        .drop("rest", "payload_len", "ip_proto", "l4_proto", "filter_len", "transport_offset", strict=False)
        .collect()
    )


def located(packets: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """The same of packets whose octets are apart: :data:`LENGTH` of them, at :data:`AT`.

    They have no ``rest``, but :data:`HEADER_LEN`: of headers that are cut it has to be known.
    """
    header_len = pl.col(HEADER_LEN).cast(pl.Int64)
    if rules.as_tcpflow:
        seen = pl.col("filter_len").cast(pl.Int64)
        length = pl.min_horizontal(LENGTH, (seen - header_len).clip(0)).cast(pl.UInt32)
        packets = packets.with_columns(length.alias(LENGTH))
        header_len = pl.when(header_len > seen).then(seen).otherwise(header_len)
    whole = header_len.is_null() | (header_len - pl.col("transport_offset") >= _TCP_HEADER)
    return packets.filter(whole).drop(
        HEADER_LEN, "ip_proto", "l4_proto", "filter_len", "transport_offset", strict=False
    )


def in_order(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Frames of :func:`segments` together, in the order of the whole."""
    together = pl.concat(frames)
    order = order_of(together)
    return together if order is None else together[order]


def order_of(table: pl.DataFrame) -> NDArray[np.int64] | None:
    """The rows of a frame of :func:`segments` in the order of the whole; None where that is theirs."""
    turn, place, frame = (table[name].to_numpy() for name in (TURN, PLACE, "frame_number"))
    same_turn, same_place = turn[1:] == turn[:-1], place[1:] == place[:-1]
    later = (turn[1:] > turn[:-1]) | (same_turn & (place[1:] > place[:-1]))
    if (later | (same_turn & same_place & (frame[1:] > frame[:-1]))).all():
        return None
    return np.lexsort((frame, place, turn))


def rows_before(table: pl.DataFrame, others: pl.DataFrame) -> NDArray[np.int64]:
    """How many rows of a frame in the order of the whole come before each of some others, which are in order, too."""
    turn, theirs = table[TURN].to_numpy(), others[TURN].to_numpy()
    if not len(turn):
        return np.zeros(len(theirs), np.int64)
    found: NDArray[np.int64] = np.searchsorted(turn, theirs)
    tied = np.flatnonzero(turn[np.minimum(found, len(turn) - 1)] == theirs)
    if len(tied):
        rows = np.flatnonzero(np.isin(turn, theirs[tied]))
        names = ("frame_number", PLACE, TURN)
        together = [
            np.concatenate([table[name].to_numpy()[rows], others[name].to_numpy()[tied]]) for name in names
        ]
        order = np.lexsort(together)
        is_row = order < len(rows)
        before = np.cumsum(is_row)[~is_row]
        found[tied] += before - np.searchsorted(turn[rows], theirs[tied])
    return found


def least_of(table: pl.DataFrame) -> tuple[int, int, int]:
    """The place in the order of the whole of a frame's first row in it, of one with rows."""
    rows, least = np.arange(len(table)), []
    for name in (TURN, PLACE, "frame_number"):
        values = table[name].to_numpy()[rows]
        least.append(values.min())
        rows = rows[values == least[-1]]
    turn, place, frame = (int(each) for each in least)
    return turn, place, frame


def before(table: pl.DataFrame, place: tuple[int, int, int]) -> int:
    """How many rows of a frame, which is in the order of the whole, come before that place in it."""
    first, stop = 0, len(table)
    for name, value in zip((TURN, PLACE, "frame_number"), place, strict=True):
        values = table[name].to_numpy()[first:stop]
        stop = first + int(np.searchsorted(values, value, side="right"))
        first += int(np.searchsorted(values, value))
    return first


def sorted_by_order(table: pl.DataFrame, payload: Slices) -> tuple[pl.DataFrame, Slices]:
    """A frame of segments, and what they carried, in the order of the whole."""
    order = order_of(table)
    return (table, payload) if order is None else (table[order], payload.take(order))


@dataclass(frozen=True, slots=True)
class Packets:
    """TCP packets, flow by flow, those of a flow in their order; arrays have a value per packet.

    Flow f has the packets ``bounds[f] : bounds[f + 1]``.  ``order`` is a packet's place in the whole.  ``table`` has
    the other columns of :func:`segments`, in the order of the whole: row ``order`` of it.
    """

    bounds: NDArray[np.int64]
    order: NDArray[np.int64]
    seq: NDArray[np.uint32]
    flags: NDArray[np.uint8]
    length: NDArray[np.int64]
    payload: Slices
    table: pl.DataFrame

    def __len__(self) -> int:
        return len(self.order)

    @property
    def flows(self) -> int:
        """How many flows there are."""
        return len(self.bounds) - 1

    @property
    def flow(self) -> NDArray[np.int64]:
        """The flow of each packet."""
        return np.repeat(np.arange(self.flows), np.diff(self.bounds))


def grouped(table: pl.DataFrame, payload: Slices | None = None) -> Packets:
    """Group packets, a frame of :func:`segments`, by flow; what they carried may be apart from it."""
    if payload is None:
        payload = Slices.of_arrow(table[PAYLOAD].to_arrow())
    endpoints = _endpoints(table)
    key = table["flow_hash"].to_numpy() & ~np.uint64(1) | _is_backward(table, endpoints)
    order = np.argsort(key, kind="stable")  # equal for the packets of a flow, and hardly ever for others
    starts = _starts(key[order])
    if not _same_flows(table, endpoints, order, starts):
        order, starts = _by_tuple(table)
    payload = payload.take(order)
    return Packets(
        bounds=np.append(starts, len(order)),
        order=order,
        seq=table["tcp_seq"].to_numpy()[order],
        flags=(table["tcp_flags"].to_numpy()[order] & (FIN | SYN | RST | ACK)).astype(np.uint8),
        length=payload.ends - payload.starts,
        payload=payload,
        table=table.drop(PAYLOAD, "flow_hash", "tcp_seq", "tcp_flags", strict=False),
    )


def is_backward(table: pl.DataFrame) -> NDArray[np.bool_]:
    """Which packets go from the greater endpoint to the lesser, as addresses, then ports are compared."""
    return _is_backward(table, _endpoints(table))


Endpoints = tuple[NDArray[np.uint64], NDArray[np.uint64]]
"""Address of IPv4 (or 0) and port of each packet's source and destination, as a number."""


def _endpoints(table: pl.DataFrame) -> Endpoints:
    source, destination = (
        _numbers(table, f"ip_{side}").astype(np.uint64) << np.uint64(16) | _numbers(table, f"{side}_port")
        for side in ("src", "dst")
    )
    return source, destination


def _is_backward(table: pl.DataFrame, endpoints: Endpoints) -> NDArray[np.bool_]:
    source, destination = endpoints
    backward: NDArray[np.bool_] = source > destination
    six = table["ipv6_src_hi"].is_not_null().arg_true()
    if len(six):
        here = table.select(column for pair in _ENDPOINT_OF_IPV6 for column in pair)[six]
        found = np.zeros(len(six), np.bool_)
        for one, other in _ENDPOINT_OF_IPV6:
            a, b = _numbers(here, one), _numbers(here, other)
            found = np.where(a == b, found, a > b)
        backward[six.to_numpy()] = found
    return backward


def _numbers(table: pl.DataFrame, column: str) -> NDArray[Any]:
    """Numbers of a column, 0 where it is null."""
    values = table[column]
    return (values.fill_null(0) if values.null_count() else values).to_numpy()


def _starts(key: NDArray[np.uint64]) -> NDArray[np.int64]:
    is_start = np.ones(len(key), np.bool_)
    is_start[1:] = key[1:] != key[:-1]
    return np.flatnonzero(is_start)


def _same_flows(
    table: pl.DataFrame, endpoints: Endpoints, order: NDArray[np.int64], starts: NDArray[np.int64]
) -> bool:
    """Whether packets of one key are of one flow: two of them might share a hash, by chance or on purpose."""
    is_start = np.zeros(len(order), np.bool_)
    is_start[starts] = True
    of_ipv6 = (name for name in TUPLE if name[:5] == "ipv6_" and table[name].null_count() < len(table))
    more = (_numbers(table, name) for name in ("ip_version", *of_ipv6))
    for numbers in chain(endpoints, more):
        values = numbers[order]
        if ((values[1:] != values[:-1]) & ~is_start[1:]).any():
            return False
    return True


def _by_tuple(table: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Order by flow, and where flows start, by comparing tuples."""
    columns = [_numbers(table, column) for column in TUPLE]
    order = np.lexsort(columns)
    is_start = np.ones(len(order), np.bool_)
    is_start[1:] = np.any([column[order][1:] != column[order][:-1] for column in columns], axis=0)
    return order, np.flatnonzero(is_start)
