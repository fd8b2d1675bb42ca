"""Packets of TCP, UDP and ICMP, told apart by their connections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pcap2arrow.numbers import IPProtocol
from queries.flows.runs import opens
from queries.streams.packets import ACK, PLACE, SYN, TURN

Ints = NDArray[np.int64]

TCP, UDP, ICMP, ICMPV6 = (
    IPProtocol.TCP.value,
    IPProtocol.UDP.value,
    IPProtocol.ICMP.value,
    IPProtocol.ICMPV6.value,
)

COLUMNS = (
    "ip_version",
    "ip_src",
    "ip_dst",
    "ipv6_src_hi",
    "ipv6_src_lo",
    "ipv6_dst_hi",
    "ipv6_dst_lo",
    "ip_len",
    "l4_proto",
    "src_port",
    "dst_port",
    "icmp_type",
    "icmp_code",
    "tcp_seq",
    "tcp_ack",
    "tcp_flags",
    "tcp_window",
    "payload_len",
    "frame_len",
    "frame_number",
    "time",
)
"""Columns of the packet table that connections are made of."""

COUNTERPARTS = {
    ICMP: {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17, 10: 9, 9: 10},
    ICMPV6: {128: 129, 129: 128, 133: 134, 134: 133, 135: 136, 136: 135, 130: 131, 131: 130, 144: 145, 145: 144},
}  # fmt: skip
"""Types of ICMP that answer each other (RFC 792, 950, 1256, 4443, 4861, 2710, 6275)."""

_TCP_HEADER, _UDP_HEADER = 20, 8

KEY = ("ip_version", "a_hi", "a_lo", "b_hi", "b_lo", "a_port", "b_port", "l4_proto")
"""What packets between two endpoints have in common."""

_HASH = "hash"
_ORDER = (TURN, PLACE, "frame_number")


def is_flow() -> pl.Expr:
    """Which packets of a packet table belong to connections: those whose transport header is whole and well formed."""
    with_ports = pl.col("dst_port").is_not_null() & pl.when(pl.col("l4_proto") == TCP).then(
        _is_tcp()
    ).otherwise(_is_udp())
    of_icmp = pl.col("l4_proto").is_in([ICMP, ICMPV6]) & pl.col("icmp_code").is_not_null()
    return pl.col("ip_version").is_not_null() & (pl.col("l4_proto").is_in([TCP, UDP]) & with_ports | of_icmp)


def _is_tcp() -> pl.Expr:
    """Whether a TCP header is as long as it has to be, captured, and no longer than the packet."""
    captured = pl.col("caplen").cast(pl.Int64) - pl.col("transport_offset")
    return pl.col("tcp_hdr_len").is_between(_TCP_HEADER, pl.min_horizontal(captured, _room()))


def _is_udp() -> pl.Expr:
    """Whether UDP's length is at least that of its header, or that of a jumbogram: 0 (RFC 2675, 4)."""
    length = pl.col("udp_length")
    return (length >= _UDP_HEADER) | ((length == 0) & (pl.col("ip_version") == 6))


def _room() -> pl.Expr:
    """Octets of IP's payload behind all headers before the transport header, as the length of IP says."""
    before = pl.col("transport_offset").cast(pl.Int64) - pl.col("network_offset")
    return pl.when(pl.col("ip_len") == 0).then(1 << 32).otherwise(_ip_octets().cast(pl.Int64) - before)


def flow_columns(packets: pl.DataFrame, *more: str) -> pl.DataFrame:
    """Of packets of :func:`is_flow` (at least :data:`COLUMNS` and those of order) what connections are made of.

    Endpoints are a and b, of which a is the lesser; ``back`` tells that a packet goes from b to a.  Addresses are two
    numbers each, and ICMP has its type and the one that answers it, or its code, in the place of ports.
    The columns ``more`` stay as they are.
    """
    shown = packets.lazy().select(
        "ip_version",
        "l4_proto",
        *(_address(side, half).alias(f"{side}_{half}") for side in ("src", "dst") for half in ("hi", "lo")),
        *_ports(),
        pl.col("tcp_seq").fill_null(0),
        pl.col("tcp_ack").fill_null(0),
        pl.col("tcp_flags").fill_null(0),
        "tcp_window",
        "payload_len",
        "frame_len",
        _ip_octets().alias("ip_octets"),
        "time",
        TURN,
        PLACE,
        "frame_number",
        *more,
    )
    ends = {
        f"{end}_{part}": pl.when("back").then(f"{other}_{part}").otherwise(f"{one}_{part}")
        for end, one, other in (("a", "src", "dst"), ("b", "dst", "src"))
        for part in ("hi", "lo", "port")
    }
    return (
        shown.with_columns(_less().alias("back"))
        .with_columns(**ends)
        .drop("src_hi", "src_lo", "dst_hi", "dst_lo", "src_port", "dst_port")
        .collect()
    )


def _less() -> pl.Expr:
    """Whether the destination is less than the source."""
    result = pl.col("dst_port") < pl.col("src_port")
    for half in ("lo", "hi"):
        source, destination = pl.col(f"src_{half}"), pl.col(f"dst_{half}")
        result = (destination < source) | ((destination == source) & result)
    return result


def _address(side: str, half: str) -> pl.Expr:
    four = pl.lit(0, dtype=pl.UInt64) if half == "hi" else pl.col(f"ip_{side}").cast(pl.UInt64)
    return pl.when(pl.col("ip_version") == 4).then(four).otherwise(f"ipv6_{side}_{half}").fill_null(0)


def _ports() -> list[pl.Expr]:
    answers = [
        pl.when(pl.col("l4_proto") == protocol)
        .then(pl.col("icmp_type").replace_strict(pairs, default=None, return_dtype=pl.UInt16))
        for protocol, pairs in COUNTERPARTS.items()
    ]  # fmt: skip
    of_type = pl.col("icmp_type").cast(pl.UInt16)
    of_code = pl.coalesce(
        *(answer.otherwise(None) for answer in answers), pl.col("icmp_code").cast(pl.UInt16)
    )
    return [
        pl.coalesce("src_port", of_type).alias("src_port"),
        pl.coalesce("dst_port", of_code).alias("dst_port"),
    ]


def _ip_octets() -> pl.Expr:
    """Octets of the IP packet, as its header says."""
    length = pl.col("ip_len").cast(pl.UInt32)
    return pl.when(pl.col("ip_version") == 6).then(length + 40).otherwise(length).fill_null(0)


@dataclass(frozen=True, slots=True)
class FlowPackets:
    """Packets by connection, those of one in their order.

    Connection c has the packets ``bounds[c] : bounds[c + 1]`` of ``table``.
    """

    table: pl.DataFrame
    bounds: NDArray[np.int64]

    @property
    def connection(self) -> NDArray[np.int64]:
        """The connection of each packet."""
        return np.repeat(np.arange(len(self.bounds) - 1), np.diff(self.bounds))


def by_connection(packets: pl.DataFrame) -> FlowPackets:
    """Packets of :func:`flow_columns`, grouped."""
    ordered, starts = by_ends(packets)
    starts |= _renewed(ordered, starts)
    return FlowPackets(ordered, np.append(np.flatnonzero(starts), len(ordered)))


def by_ends(packets: pl.DataFrame) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Packets of :func:`flow_columns` by their endpoints, those of two in their order, and which of them come first."""
    hashed = packets.with_columns(pl.struct(KEY).hash().alias(_HASH)).sort(_HASH, *_ORDER)
    starts, ordered = opens(hashed, [_HASH]), hashed.drop(_HASH)
    if (opens(ordered, KEY) != starts).any():  # endpoints that share a hash, whose packets alternate
        ordered = packets.sort(*KEY, *_ORDER)
        starts = opens(ordered, KEY)
    return ordered, starts


def _renewed(ordered: pl.DataFrame, starts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Packets that begin another TCP connection between the same endpoints: a SYN with a new sequence number."""
    renewed = np.zeros(len(ordered), np.bool_)
    flags = ordered["tcp_flags"].to_numpy()
    syn = (flags & (SYN | ACK) == SYN) & (ordered["l4_proto"].to_numpy() == TCP)
    if not (syn & ~starts).any():
        return renewed
    pair = np.cumsum(starts) - 1
    bounds = np.append(np.flatnonzero(starts), len(ordered))
    seq, ack, back = (ordered[column].to_numpy() for column in ("tcp_seq", "tcp_ack", "back"))
    for number in np.unique(pair[syn & ~starts]).tolist():
        of_pair = slice(int(bounds[number]), int(bounds[number + 1]))
        rows = _renewals(seq[of_pair], ack[of_pair], flags[of_pair], back[of_pair], [None, None])
        renewed[of_pair.start + np.array(rows, np.int64)] = True
    return renewed


Initial = list[int | None]
"""The initial sequence numbers of the lesser endpoint and of the greater one, as far as they are known."""


def renewals(ordered: pl.DataFrame, starts: NDArray[np.bool_], initial: Sequence[Initial]) -> Ints:
    """Packets of :func:`by_ends` that begin another TCP connection, where there were others between the same endpoints.

    ``initial`` numbers of each two endpoints are known, and then changed to those of their last connection.
    """
    flags, back = ordered["tcp_flags"].to_numpy(), ordered["back"].to_numpy()
    pair = np.cumsum(starts) - 1
    tcp = ordered["l4_proto"].to_numpy() == TCP
    syn = tcp & (flags & (SYN | ACK) == SYN)
    # Between two SYN only the first packet and the first ACK each way tell something.
    kind = (pair + np.cumsum(syn)) * 4 + back * 2 + (flags & ACK != 0)
    telling = np.union1d(np.unique(kind, return_index=True)[1], np.flatnonzero(syn))
    telling = telling[tcp[telling]]
    bounds = np.searchsorted(pair[telling], np.arange(len(initial) + 1))
    seq, ack = (ordered[column].to_numpy()[telling] for column in ("tcp_seq", "tcp_ack"))
    flags, back = flags[telling], back[telling]
    found = [np.empty(0, np.int64)]
    for number, (first, stop) in enumerate(pairwise(bounds.tolist())):
        rows = slice(first, stop)
        renewed = _renewals(seq[rows], ack[rows], flags[rows], back[rows], initial[number])
        found.append(telling[first + np.array(renewed, np.int64)])
    return np.concatenate(found)


def _renewals(
    seq: NDArray[np.uint32],
    ack: NDArray[np.uint32],
    flags: NDArray[np.uint16],
    back: NDArray[np.bool_],
    initial: Initial,
) -> list[int]:
    """Of packets between two endpoints those that begin another connection.

    The initial sequence number of a side is that of its SYN, else the one before its first segment, or before what the
    other side acknowledged first, whichever comes first: as Wireshark numbers ``tcp.stream``.  ``initial`` are those
    that are known before, and then those of the last connection.
    """
    result: list[int] = []
    packets = zip(seq.tolist(), ack.tolist(), flags.tolist(), back.tolist(), strict=True)
    for row, (number, acknowledged, bits, side) in enumerate(packets):
        if bits & (SYN | ACK) == SYN and initial[side] not in (None, number):
            result.append(row)
            initial[:] = None, None
        if initial[side] is None:
            initial[side] = number if bits & SYN else (number - 1) % 2**32
        if initial[not side] is None and bits & ACK:
            initial[not side] = (acknowledged - 1) % 2**32
    return result
