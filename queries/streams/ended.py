"""When streams ended, of all buckets: for tcpflow, what becomes of a late segment depends on how many others did.

Only of flows that were left, because in them order decides, that is not known without following all of them in the
order of the whole: here, with nothing kept of a stream that tcpflow forgot.  With that known, the flows of each bucket
are followed again, apart from others, for what belongs to their streams.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from queries.filters.machine.frames import Slices
from queries.merging import ORDER
from queries.streams.follow import Streams, closings_in_turn, odd_flows
from queries.streams.packets import LENGTH, Packets, grouped, rows_before
from queries.streams.rules import Rules
from queries.streams.tracking import OctetsAt

Ints = NDArray[np.int64]

GROUP = "group"
"""The column with what streams that ended are of: the number of some buckets, null where they were not left."""


@dataclass(frozen=True, slots=True)
class Left:
    """Packets of the flows of some bucket in which order decides, flow by flow, of so much as following them needs.

    Arrays have a value per packet, ``sizes`` how many each flow has.  Octets begin at ``start`` of all that are left.
    ``places`` are theirs in the order of the whole; ``ended`` has those where the bucket's other streams ended, and the
    :data:`GROUP` of such as were left, too.
    """

    group: int
    sizes: Ints
    seq: NDArray[np.uint32]
    flags: NDArray[np.uint8]
    length: NDArray[np.int32]
    start: Ints
    places: pl.DataFrame
    ended: pl.DataFrame


def ends(packets: Packets, streams: Streams) -> pl.DataFrame:
    """The places of the packets that closed streams in the order of the whole."""
    closing = streams.closing
    return packets.table.select(ORDER)[packets.order[closing[closing >= 0]]]


def left_of(left: pl.DataFrame, ended: pl.DataFrame, group: int, octets_at: int, rules: Rules) -> Left:
    """What was left of a bucket, whose other streams ``ended``: a frame whose octets are one after another from there.

    Some of it are flows in which order does not decide: the other directions of such.
    """
    ends = np.cumsum(left[LENGTH].to_numpy(), dtype=np.int64) + octets_at
    packets = grouped(left, Slices(np.empty(0, np.uint8), ends - left[LENGTH].to_numpy(), ends))
    odd, closing = odd_flows(packets, rules)
    sizes = np.diff(packets.bounds)
    rows = np.flatnonzero(np.repeat(odd, sizes))
    places = left.select(ORDER)
    closed = places[packets.order[closing]].with_columns(pl.lit(group, pl.UInt32).alias(GROUP))
    return Left(
        group,
        sizes[odd],
        packets.seq[rows],
        packets.flags[rows],
        packets.length[rows].astype(np.int32),
        packets.payload.starts[rows],
        places[packets.order[rows]],
        pl.concat([ended.select(*ORDER, pl.lit(None, pl.UInt32).alias(GROUP)), closed]),
    )


def ended_together(left: Iterable[Left], octets: OctetsAt, rules: Rules) -> pl.DataFrame:
    """The places where all streams ended, in the order of the whole; and the :data:`GROUP` of those that were left.

    Octets are asked for once all is there that was left.
    """
    packets, group, elsewhere = _together(list(left))
    rows = closings_in_turn(packets, rules, rows_before(packets.table, elsewhere), octets)
    ended = packets.table[packets.order[rows]].with_columns(pl.Series(GROUP, group[packets.flow[rows]]))
    return pl.concat([ended, elsewhere]).sort(ORDER)


def _together(left: Sequence[Left]) -> tuple[Packets, NDArray[np.uint32], pl.DataFrame]:
    """All packets, whose table are their places; the group of each flow; and where other streams ended."""
    places = pl.concat(each.places for each in left)
    order = places.select(pl.arg_sort_by(ORDER)).to_series().to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    sizes = [each.sizes for each in left]
    length = np.concatenate([each.length for each in left])
    start = np.concatenate([each.start for each in left])
    packets = Packets(
        bounds=np.append(0, np.cumsum(np.concatenate(sizes))),
        order=rank,
        seq=np.concatenate([each.seq for each in left]),
        flags=np.concatenate([each.flags for each in left]),
        length=length,
        payload=Slices(np.empty(0, np.uint8), start, start + length),
        table=places[order],
    )
    groups = np.array([each.group for each in left], np.uint32).repeat([len(each) for each in sizes])
    return packets, groups, pl.concat(each.ended for each in left).sort(ORDER)
