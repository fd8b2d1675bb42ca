"""Tables of streams, of their segments and of their gaps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pcap2arrow.reading.text import text
from queries.streams.assembly import Assembly, gaps
from queries.streams.follow import Followed
from queries.streams.packets import RST, SWAPPED, TUPLE, Packets, is_backward
from queries.streams.rules import Rules

_SHOWN = 1 << 16
"""So many streams are described at once."""


def opened(packets: Packets, followed: Followed) -> NDArray[np.int64]:
    """The streams that have a file, in the order in which their first octets came."""
    with_file = np.flatnonzero(followed.streams.opening >= 0)
    return with_file[np.argsort(packets.order[followed.streams.opening[with_file]], kind="stable")]


def naming_columns(
    packets: Packets, followed: Followed, streams: NDArray[np.int64], *, with_connection: bool = True
) -> pl.DataFrame:
    """What names of streams are made of: columns of their first packets, and their numbers.

    Those of their connections are there if wanted, for they take a look at all streams.
    """
    first = packets.table[packets.order[followed.streams.first[streams]]]
    more = [pl.Series("connection", connections(packets, followed)[streams])] if with_connection else []
    return first.with_columns(pl.Series("number", streams), *more)


def connections(packets: Packets, followed: Followed) -> NDArray[np.int64]:
    """For each stream the number of its connection, in the order in which these begin.

    A stream belongs to the connection that went on between its endpoints, if that has none of its direction yet.
    """
    _, of_flow, flow = np.unique(followed.streams.flow, return_index=True, return_inverse=True)
    first = packets.table.select(TUPLE)[packets.order[followed.streams.first[of_flow]]]
    back = is_backward(first)
    pairs = first.select(
        pl.when(pl.lit(pl.Series(back))).then(pl.col(destination)).otherwise(pl.col(source)).alias(source)
        for source, destination in zip(TUPLE, SWAPPED, strict=True)
    )
    backward, pair = back[flow], _groups(pairs)[flow]
    streams = np.argsort(pair, kind="stable")
    firsts = np.flatnonzero(np.append(True, np.diff(pair[streams]) != 0)[: len(pair)])
    size = np.diff(np.append(firsts, len(pair)))
    leader = np.empty(len(pair), np.int64)
    leader[streams] = np.repeat(streams[firsts], size)
    many = (size > 2) | ((size == 2) & (backward[streams[firsts]] == backward[streams[firsts + size - 1]]))
    for at, count in zip(firsts[many].tolist(), size[many].tolist(), strict=True):
        _lead(streams[at : at + count].tolist(), backward, leader)
    return np.unique(leader, return_inverse=True)[1]


def _groups(rows: pl.DataFrame) -> NDArray[np.int64]:
    """A number for each row, the same for equal ones."""
    columns = [each.fill_null(0).to_numpy() for each in rows]
    columns = [each for each in columns if (each[1:] != each[:-1]).any()]
    group = np.zeros(len(rows), np.int64)
    if columns:
        order = np.lexsort(columns)
        changes = np.any([each[order][1:] != each[order][:-1] for each in columns], axis=0)
        group[order[1:]] = np.cumsum(changes)
    return group


def _lead(streams: Sequence[int], backward: NDArray[np.bool_], leader: NDArray[np.int64]) -> None:
    """Find the first stream of each connection between two endpoints, of their streams in order."""
    seen = [-1, -1]
    for stream in streams:
        side = int(backward[stream])
        other = seen[1 - side]
        is_new = other < 0 or (seen[side] >= 0 and leader[seen[side]] == leader[other])
        leader[stream] = stream if is_new else leader[other]
        seen[side] = stream


def streams_table(
    packets: Packets,
    followed: Followed,
    assembly: Assembly,
    rules: Rules,
    names: Mapping[int, str],
    digests: Mapping[str, Sequence[str | None]],
) -> pl.DataFrame:
    """A row per stream, in the order of their first packets.

    ``stream`` is its number, ``connection`` one that the other direction has, too; ``name`` is that of its file, null
    where it has no octets; ``src`` and ``dst`` are addresses as text.  ``time`` and ``last_time`` are of its first
    and last packet; ``packets`` counts these.  ``size`` is where its last octet ends, ``octets`` how many are there,
    ``missing`` how many are not, those before FIN included.  ``syn`` tells whether its beginning is known, ``closed``
    is fin, rst or null.  ``out_of_order`` counts segments that came behind the place expected, ``violations`` those
    that RFC 9293 does not allow; ``conflict`` says that some overlap and differ.  ``md5`` and ``sha256`` are there if
    asked for, with zeros for what is missing.
    """
    return pl.concat(streams_frames(packets, followed, assembly, rules, names, digests))


def streams_frames(
    packets: Packets,
    followed: Followed,
    assembly: Assembly,
    rules: Rules,
    names: Mapping[int, str],
    digests: Mapping[str, Sequence[str | None]],
) -> Iterator[pl.DataFrame]:
    """The same table in frames of at most :data:`_SHOWN` rows, at least one."""
    streams = followed.streams
    missing = gaps(followed, assembly, rules)
    lacking = np.zeros(len(streams), np.int64)
    np.add.at(lacking, missing.stream, missing.length)
    connection, octets = connections(packets, followed), assembly.octets
    for at in range(0, max(len(streams), 1), _SHOWN):
        here = slice(at, min(at + _SHOWN, len(streams)))
        first = packets.table.select(*TUPLE, "time")[packets.order[streams.first[here]]]
        last = packets.table.select("time")[packets.order[streams.last[here]]]
        columns: dict[str, Any] = {
            "stream": np.arange(here.start, here.stop, dtype=np.uint64),
            "connection": connection[here].astype(np.uint64),
            "name": pl.Series([names.get(each) for each in range(here.start, here.stop)], dtype=pl.String),
            **_endpoints(first),
            "time": first["time"],
            "last_time": last["time"],
            "packets": streams.packets[here].astype(np.uint64),
            "size": assembly.size[here].astype(np.uint64),
            "octets": octets[here].astype(np.uint64),
            "missing": lacking[here].astype(np.uint64),
            "syn": streams.with_syn[here],
            "closed": _closed(packets, followed, here),
            "out_of_order": streams.out_of_order[here].astype(np.uint64),
            "violations": streams.violations[here].astype(np.uint64),
            "conflict": assembly.conflict[here],
        }
        for kind, values in digests.items():
            columns[kind] = pl.Series(values[here], dtype=pl.String)
        yield pl.DataFrame(columns)


def _endpoints(first: pl.DataFrame) -> dict[str, pl.Series]:
    columns = [
        name for name in TUPLE if not name.startswith("ipv6_") or first[name].null_count() < len(first)
    ]
    shown = text(first.select(columns).lazy()).collect()
    return {
        "src": shown["ip_src"],
        "src_port": shown["src_port"],
        "dst": shown["ip_dst"],
        "dst_port": shown["dst_port"],
    }


def _closed(packets: Packets, followed: Followed, here: slice) -> pl.Series:
    closing, end = followed.streams.closing[here], followed.streams.end[here]
    flags = np.where(closing >= 0, packets.flags[closing], 0)
    words = np.where(flags & RST, "rst", np.where((end >= 0) & (closing >= 0), "fin", ""))
    return pl.Series(words, dtype=pl.String).replace("", None)


def segments_table(packets: Packets, followed: Followed) -> pl.DataFrame:
    """A row per segment that was taken up: ``length`` octets at ``offset`` of ``stream``, from which packet.

    Those of a stream are in the order in which they came; of later ones that cover earlier ones both are here.
    """
    writes = followed.writes
    order = np.argsort(writes.stream, kind="stable")
    columns = ("time", "capture_id", "frame_number")  # no others: rows are gathered
    table = packets.table.select(columns)[packets.order[writes.row[order]]]
    return pl.DataFrame(
        {
            "stream": writes.stream[order].astype(np.uint64),
            "offset": writes.place[order].astype(np.uint64),
            "length": writes.length[order].astype(np.uint32),
            "time": table["time"],
            "capture_id": table["capture_id"],
            "frame_number": table["frame_number"],
        }
    )


def gaps_table(followed: Followed, assembly: Assembly, rules: Rules) -> pl.DataFrame:
    """A row per gap: ``length`` octets that are missing at ``offset`` of ``stream``, ``at_end`` of those before FIN."""
    found = gaps(followed, assembly, rules)
    return pl.DataFrame(
        {
            "stream": found.stream.astype(np.uint64),
            "offset": found.offset.astype(np.uint64),
            "length": found.length.astype(np.uint64),
            "at_end": found.at_end,
        }
    )
