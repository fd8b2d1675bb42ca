"""When streams ended, of all buckets: for tcpflow, what becomes of a late segment depends on how many others did.

Only of flows that were left, because in them order decides, that is not known without following all of them in the
order of the whole: here, with nothing kept of a stream that tcpflow forgot.  With that known, the flows of each bucket
are followed again, apart from others, for what belongs to their streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from queries.filters.machine.frames import Slices
from queries.merging import ORDER
from queries.streams.follow import Followed, closings
from queries.streams.packets import LENGTH, Packets, grouped, rows_before
from queries.streams.rules import Rules

GROUP = "group"
"""The column with what streams that ended are of: the number of some buckets, null where they were not left."""


@dataclass(frozen=True, slots=True)
class Left:
    """Packets of the flows that were left of a bucket, of so much as following them needs; it is of a ``group``.

    ``packets`` have no table but their places in the order of the whole (``places``), and their octets begin at
    ``octets_at`` of all that are left.  ``ended`` are the places where the bucket's other streams ended.
    """

    group: int
    packets: Packets
    places: pl.DataFrame
    ended: pl.DataFrame


def ends(packets: Packets, followed: Followed) -> pl.DataFrame:
    """The places of the packets that closed streams in the order of the whole."""
    closing = followed.streams.closing
    return packets.table.select(ORDER)[packets.order[closing[closing >= 0]]]


def left_of(left: pl.DataFrame, ended: pl.DataFrame, group: int, octets_at: int) -> Left:
    """The packets of flows that were left of a bucket, a frame whose octets are one after another from there on."""
    ends = np.cumsum(left[LENGTH].to_numpy(), dtype=np.int64) + octets_at
    packets = grouped(left, Slices(np.empty(0, np.uint8), ends - left[LENGTH].to_numpy(), ends))
    places = left.select(ORDER)[packets.order]
    return Left(group, replace(packets, table=pl.DataFrame()), places, ended.select(ORDER))


def ended_together(left: Sequence[Left], octets: NDArray[np.uint8], rules: Rules) -> pl.DataFrame:
    """The places where all streams ended, in the order of the whole; and the :data:`GROUP` of those that were left."""
    places = pl.concat(each.places for each in left)
    elsewhere = pl.concat(each.ended for each in left).sort(ORDER)
    order = places.select(pl.arg_sort_by(ORDER)).to_series().to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    several = [each.packets for each in left]
    packets = Packets(
        bounds=np.append(0, np.cumsum(np.concatenate([np.diff(each.bounds) for each in several]))),
        order=rank,
        seq=np.concatenate([each.seq for each in several]),
        flags=np.concatenate([each.flags for each in several]),
        length=np.concatenate([each.length for each in several]),
        payload=Slices(
            octets,
            np.concatenate([each.payload.starts for each in several]),
            np.concatenate([each.payload.ends for each in several]),
        ),
        table=places[order],
    )
    rows = closings(packets, rules, rows_before(packets.table, elsewhere))
    groups = np.repeat([each.group for each in left], [len(each.packets) for each in left])
    ended = places[rows].with_columns(pl.Series(GROUP, groups[rows], pl.UInt32))
    return pl.concat([ended, elsewhere.with_columns(pl.lit(None, pl.UInt32).alias(GROUP))]).sort(ORDER)
