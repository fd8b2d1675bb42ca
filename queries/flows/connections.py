"""The connections table: what went each way, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pcap2arrow.reading.text import text
from queries.flows.community import community_ids
from queries.flows.history import closed_windows, counted, histories, of_flags
from queries.flows.packets import ICMP, ICMPV6, TCP, UDP, FlowPackets
from queries.flows.runs import Runs
from queries.flows.sequences import WAY, acknowledged, gap_rows, octets, placed_segments
from queries.merging import ORDER
from queries.streams.packets import ACK, FIN, RST, SYN

Mask = NDArray[np.bool_]

PROTOCOLS = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMPV6: "icmp"}
"""What conn.log calls protocols."""

_DIRECTIONS = ("orig", "resp")

_SUMMED_TOGETHER, _OF_CONNECTION = 1 << 18, 3
"""Packets of several connections that are summed up at once, about; each connection is as much as some more."""


def connections_table(groups: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """A row per connection, in the order of their first packets, with the names of Zeek's conn.log.

    It is made of what :func:`summed` says of groups of packets; a connection's are all in one group.

    ``ts`` is the time of its first packet, ``duration`` that to its last; ``orig`` is who sent the first packet (of a
    handshake, SYN), ``resp`` the other; ``id_orig_p`` and ``id_resp_p`` are ports, of ICMP its type and the type that
    answers it, or its code.  ``orig_pkts`` counts packets, ``orig_ip_bytes`` the octets of IP, ``orig_frame_bytes`` of
    frames, ``orig_bytes`` of payload: of TCP as sequence numbers count them, so that none counts twice.
    ``orig_retransmitted`` counts segments without anything new, ``missed_bytes`` octets between those that were seen.
    ``conn_state`` is conn.log's, and so is ``history`` (see :func:`~queries.flows.history.histories`), null for ICMP.
    ``handshake_rtt`` is from SYN to the ACK after SYN and ACK.  ``community_id`` is version 1 with seed 0.
    """
    together = pl.concat(groups)
    return numbered(together[together.select(pl.arg_sort_by(ORDER)).to_series()])


def numbered(connections: pl.DataFrame, first: int = 0) -> pl.DataFrame:
    """The rows of the table, of those of :func:`summed` in order, with numbers from ``first`` on."""
    return connections.drop(ORDER).with_row_index("connection", first)


def summed_by_and_by(packets: FlowPackets) -> Iterator[pl.DataFrame]:
    """The same as :func:`summed`, some connections after others, so that memory holds frames of few packets."""
    group = np.cumsum(np.diff(packets.bounds) + _OF_CONNECTION) // _SUMMED_TOGETHER
    marks = [0, *(np.flatnonzero(group[1:] != group[:-1]) + 1).tolist(), len(group)]
    for first, stop in pairwise(marks):
        bounds = packets.bounds[first : stop + 1]
        yield summed(FlowPackets(packets.table[bounds[0] : bounds[-1]], bounds - bounds[0]))


def summed(packets: FlowPackets) -> pl.DataFrame:
    """A row per connection of a group, as the table has it, and the order of their first packets."""
    table = with_direction(packets)
    sums = begun(table).join(
        table.group_by("connection").agg(totals()), on="connection", maintain_order="left"
    )
    placed = placed_segments(table)
    lacking = placed.filter(pl.col("gap") > 0).select("connection", ~pl.col("orig")).unique()
    acks = acknowledged(table.join(lacking, on=WAY, how="semi", maintain_order="left"))
    letters = pl.concat([
        of_flags(table),
        counted("W", closed_windows(table)),
        counted("T", placed.lazy().filter("repeated").select(*WAY, "row")),
        counted("G", gap_rows(placed, acks).lazy()),
    ])  # fmt: skip
    return shown(with_octets(sums, octets(placed)).join(histories(letters), on="connection", how="left"))


def with_direction(packets: FlowPackets) -> pl.DataFrame:
    """The packets with their connection, and whether they are from its originator."""
    table = packets.table.with_columns(pl.Series("connection", packets.connection))
    return (
        table.with_columns(orig_back=first_back().over("connection"))
        .with_columns(orig=pl.col("back") == pl.col("orig_back"))
        .with_row_index("row")
    )


def first_back() -> pl.Expr:
    """Of a connection's packets: whether its originator is the greater of the two endpoints."""
    first_is_answer = (pl.col("tcp_flags").first() & (SYN | ACK)) == (SYN | ACK)
    return pl.col("back").first() ^ ((pl.col("l4_proto").first() == TCP) & first_is_answer)


def begun(table: pl.DataFrame) -> pl.DataFrame:
    """What the first packets of each connection say of it; those of a connection follow each other."""
    sums = table.group_by("connection", maintain_order=True).agg(
        pl.col("ip_version", "l4_proto", "a_hi", "a_lo", "b_hi", "b_lo", "a_port", "b_port").first(),
        pl.col("orig_back").first(),
        pl.col("time").first().alias("ts"),
        pl.col(ORDER).first(),
    )
    begin, _, end = (_times(table, kind) for kind in _handshake_packets(table))
    return sums.with_columns((end - begin).alias("handshake_rtt"))


def totals() -> list[pl.Expr]:
    """What all packets of a connection say together."""
    return [
        pl.col("time").max().alias("last_time"),
        *(each for side in _DIRECTIONS for each in _sums(side)),
        *_flag_sums(),
    ]


def _from(side: str) -> pl.Expr:
    return pl.col("orig") if side == "orig" else ~pl.col("orig")


def _sums(side: str) -> list[pl.Expr]:
    mine = _from(side)
    return [
        mine.sum().cast(pl.UInt64).alias(f"{side}_pkts"),
        *(
            pl.col(column).filter(mine).cast(pl.UInt64).sum().alias(f"{side}_{name}")
            for column, name in (
                ("ip_octets", "ip_bytes"),
                ("frame_len", "frame_bytes"),
                ("payload_len", "payload"),
            )
        ),
    ]


def _flag_sums() -> list[pl.Expr]:
    """Which flags came from whom."""
    flags = pl.col("tcp_flags")
    syn_alone = flags & (SYN | ACK) == SYN
    answer = flags & (SYN | ACK) == (SYN | ACK)
    found = {"syn": syn_alone & pl.col("orig"), "answer": answer & ~pl.col("orig")}
    for name, bit in (("fin", FIN), ("rst", RST)):
        for side in _DIRECTIONS:
            found[f"{side}_{name}"] = (flags & bit != 0) & _from(side)
    return [expression.any().alias(name) for name, expression in found.items()]


def _handshake_packets(table: pl.DataFrame) -> tuple[Mask, Mask, Mask]:
    """Which packets are their connection's first SYN, the first answer to it, and the first ACK after that."""
    runs = Runs.of(table, ["connection"])
    flags, mine = table["tcp_flags"].to_numpy(), table["orig"].to_numpy()
    answer = (flags & (SYN | ACK) == (SYN | ACK)) & ~mine
    end = mine & (flags & (SYN | ACK | RST) == ACK) & (runs.sums(answer.astype(np.int64)) > 0)
    begin = mine & (flags & (SYN | ACK) == SYN)
    return runs.first_of(begin), runs.first_of(answer), runs.first_of(end)


def _times(table: pl.DataFrame, chosen: Mask) -> pl.Series:
    """The time of each connection's chosen packet, null without one."""
    runs = Runs.of(table, ["connection"])
    rows = np.flatnonzero(chosen)
    of_group = np.full(len(runs.starts), -1)
    of_group[np.searchsorted(runs.starts, rows, side="right") - 1] = rows
    return table["time"].gather(pl.Series(of_group).replace(-1, None))


def telling(table: pl.DataFrame) -> pl.Series:
    """Which packets :func:`begun` is made of."""
    first = np.zeros(len(table), np.bool_)
    first[Runs.of(table, ["connection"]).starts] = True
    return pl.Series(np.any([first, *_handshake_packets(table)], axis=0))


def with_octets(sums: pl.DataFrame, sequences: pl.DataFrame) -> pl.DataFrame:
    """Add what sequence numbers say of TCP; of other protocols payload is what was sent."""
    for side in _DIRECTIONS:
        of_side = sequences.filter(pl.col("orig") == (side == "orig")).select(
            "connection",
            pl.col("octets").alias(f"{side}_bytes"),
            pl.col("missed").alias(f"{side}_missed"),
            pl.col("repeated").alias(f"{side}_retransmitted"),
        )
        sums = sums.join(of_side, on="connection", how="left", maintain_order="left")
    is_tcp = pl.col("l4_proto") == TCP
    return sums.with_columns(
        *(
            pl.when(is_tcp)
            .then(pl.col(f"{side}_bytes").fill_null(0))
            .otherwise(f"{side}_payload")
            .alias(f"{side}_bytes")
            for side in _DIRECTIONS
        ),
        *(pl.col(f"{side}_retransmitted").fill_null(0) for side in _DIRECTIONS),
        missed_bytes=pl.col("orig_missed").fill_null(0) + pl.col("resp_missed").fill_null(0),
    )


def _state() -> pl.Expr:
    """conn.log's conn_state."""
    syn, answer = pl.col("syn"), pl.col("answer")
    orig_fin, resp_fin = pl.col("orig_fin"), pl.col("resp_fin")
    orig_rst, resp_rst = pl.col("orig_rst"), pl.col("resp_rst")
    rules: list[tuple[pl.Expr, str]] = [
        (syn & answer & orig_fin & resp_fin, "SF"),
        (syn & answer & orig_rst, "RSTO"),
        (syn & answer & resp_rst, "RSTR"),
        (syn & answer & orig_fin, "S2"),
        (syn & answer & resp_fin, "S3"),
        (syn & answer, "S1"),
        (syn & resp_rst, "REJ"),
        (syn & orig_rst, "RSTOS0"),
        (syn & orig_fin & (pl.col("resp_pkts") == 0), "SH"),
        (syn & (pl.col("resp_pkts") == 0), "S0"),
        (answer & ~syn & resp_rst, "RSTRH"),
        (answer & ~syn & resp_fin, "SHR"),
    ]
    of_tcp = pl.coalesce(*(pl.when(rule).then(pl.lit(state)) for rule, state in rules), pl.lit("OTH"))
    answered = pl.when(pl.col("resp_pkts") > 0).then(pl.lit("SF")).otherwise(pl.lit("S0"))
    of_icmp = pl.lit("OTH")
    protocol = pl.col("l4_proto")
    return pl.when(protocol == TCP).then(of_tcp).when(protocol == UDP).then(answered).otherwise(of_icmp)


def shown(connections: pl.DataFrame) -> pl.DataFrame:
    """Connections as the table has them, of all that is known of them."""
    ends = {
        f"{side}_{part}": pl.when(pl.col("orig_back") == swapped).then(f"a_{part}").otherwise(f"b_{part}")
        for side, swapped in (("src", False), ("dst", True))
        for part in ("hi", "lo", "port")
    }
    named = connections.with_columns(**ends)
    is_four = pl.col("ip_version") == 4
    numbers = named.lazy().select(
        *(
            expression
            for side in ("src", "dst")
            for expression in (
                pl.when(is_four).then(f"{side}_lo").cast(pl.UInt32).alias(f"ip_{side}"),
                pl.when(~is_four).then(f"{side}_hi").alias(f"ipv6_{side}_hi"),
                pl.when(~is_four).then(f"{side}_lo").alias(f"ipv6_{side}_lo"),
            )
        )
    )
    addresses = text(numbers).collect()
    return named.select(
        "ts",
        addresses["ip_src"].alias("id_orig_h"),
        pl.col("src_port").alias("id_orig_p"),
        addresses["ip_dst"].alias("id_resp_h"),
        pl.col("dst_port").alias("id_resp_p"),
        pl.col("l4_proto").replace_strict(PROTOCOLS, return_dtype=pl.String).alias("proto"),
        (pl.col("last_time") - pl.col("ts")).alias("duration"),
        "orig_bytes",
        "resp_bytes",
        _state().alias("conn_state"),
        "missed_bytes",
        "history",
        "orig_pkts",
        "orig_ip_bytes",
        "orig_frame_bytes",
        "resp_pkts",
        "resp_ip_bytes",
        "resp_frame_bytes",
        "orig_retransmitted",
        "resp_retransmitted",
        "handshake_rtt",
        "last_time",
        pl.Series("community_id", community_ids(named, ("src", "dst")), dtype=pl.String),
        *ORDER,
    )
