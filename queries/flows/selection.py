"""Which packets belong to some connections: all of them, whatever a filter says of each."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pcap2arrow.conversion.packets import packet_rows
from pcap2arrow.conversion.placed import Placed
from pcap2arrow.reading.files import read_frame
from queries.flows.community import community_ids
from queries.flows.packets import COLUMNS, KEY, TCP, by_connection, flow_columns
from queries.streams.packets import ACK, PLACE, SYN, TURN
from queries.streams.reading import CHOSEN, OF_FRAGMENTS

if TYPE_CHECKING:
    from pcap2arrow.dataset.log import Dataset
    from pcap2arrow.dataset.snapshot import DataFile
    from pcap2arrow.savefile.batch import Records
    from pcap2arrow.writing.records.selection import Chosen

_FRAGMENT_SECONDS = 30
"""How far apart fragments of a datagram are at most, as systems give up waiting for them (RFC 791 says 15)."""

_READ = [*dict.fromkeys([*COLUMNS, "frag_key"])]


def digest(packets: pl.DataFrame) -> pl.DataFrame:
    """Of packets of :func:`~queries.flows.packets.flow_columns` those that tell connections apart, with ``chosen``.

    These are each SYN and, behind it and at the beginning, the first packet and the first ACK each way.  Each row is
    ``chosen`` where any packet of its stretch is.  There are a few rows per connection, however many packets it has.
    """
    flags = pl.col("tcp_flags")
    is_tcp = pl.col("l4_proto") == TCP
    renews = (is_tcp & (flags & (SYN | ACK) == SYN)).alias("renews")
    stretch = renews.cum_sum().over(KEY).alias("stretch")
    first = pl.struct("back", (flags & ACK) != 0).is_first_distinct().over(*KEY, "stretch")
    return (
        packets.sort(TURN, PLACE, "frame_number")
        .lazy()
        .with_columns(stretch, renews)
        .with_columns(pl.col(CHOSEN).any().over(*KEY, "stretch"), first=first)
        .filter(pl.col("first") | pl.col("renews"))
        .drop("first", "renews", "stretch")
        .collect()
    )


def chosen_connections(digests: Iterable[pl.DataFrame], flows: Collection[str] = ()) -> pl.DataFrame:
    """The connections that have a chosen packet, or one of the Community IDs ``flows``.

    Columns are those that tell endpoints apart, and from when (``since``) until when (``until``, null: ever)
    packets between these are the connection's.
    """
    packets = by_connection(pl.concat(digests))
    first = packets.bounds[:-1]
    starts = packets.table[first].with_columns(
        pl.Series(
            CHOSEN,
            np.logical_or.reduceat(packets.table[CHOSEN].to_numpy(), first) if len(first) else [],
            pl.Boolean,
        )
    )
    if flows:
        asked = pl.Series(community_ids(starts), dtype=pl.String).is_in(list(flows))
        starts = starts.with_columns(asked.alias(CHOSEN))
    return (
        starts.lazy()
        .with_columns(
            since=pl.when(pl.int_range(pl.len()).over(KEY) > 0).then("time"),
            until=pl.col("time").shift(-1).over(KEY),
        )
        .filter(CHOSEN)
        .select(*KEY, "since", "until")
        .collect()
    )


@dataclass(slots=True)
class ConnectionSelection:
    """All packets of some connections, and all fragments of these: a ``Selection`` of exports.

    ``connections`` are those of :func:`chosen_connections`; ``fragments`` are packets that fragments
    make.  Where two connections have the same endpoints, a packet belongs to the one of its time.
    """

    connections: pl.DataFrame
    fragments: pl.DataFrame

    def __post_init__(self) -> None:
        chosen = _within(self.fragments.with_row_index(), self.connections)
        self.fragments = self.fragments[chosen].select(
            pl.col(OF_FRAGMENTS).alias("frag_key"), pl.col("time").alias("put_together")
        )

    def begin(self, link_types: Collection[int]) -> list[int]:
        """There is one capture to write, whatever packets there are."""
        return [0]

    def of_records(self, records: Records, *, big_endian: bool) -> Chosen:
        """Which of some records are of the connections."""
        count = len(records)
        numbers = np.arange(1, count + 1, dtype=np.uint64)
        placed = Placed(records, numbers, records.time, records.time_valid, numbers)
        rows = pl.from_arrow(packet_rows(placed, capture_id=0, bytes_stored=False))
        assert isinstance(rows, pl.DataFrame)
        return self._of(rows.select(_READ))

    def of_file(self, dataset: Dataset, file: DataFile, *, big_endian: bool) -> Chosen:
        """Which packets of a dataset's file are of the connections."""
        return self._of(read_frame(dataset, file, columns=_READ))

    def _of(self, packets: pl.DataFrame) -> Chosen:
        order = {TURN: pl.lit(0, dtype=pl.Int64), PLACE: pl.lit(0, dtype=pl.UInt32)}
        indexed = packets.with_columns(**order).with_row_index()
        ends = indexed.filter(pl.col("dst_port").is_not_null() | pl.col("icmp_code").is_not_null())
        chosen = np.zeros((len(packets), 1), np.bool_)
        chosen[_within(flow_columns(ends).with_columns(ends["index"]), self.connections), 0] = True
        if len(self.fragments):
            near = pl.col("time").dt.epoch("s") - pl.col("put_together").dt.epoch("s")
            parts = indexed.join(self.fragments, on="frag_key").filter(near.abs() <= _FRAGMENT_SECONDS)
            chosen[parts["index"].to_numpy(), 0] = True
        return chosen


def _within(packets: pl.DataFrame, connections: pl.DataFrame) -> np.ndarray:
    """The ``index`` of packets that are of the connections."""
    time = pl.col("time")
    inside = (pl.col("since").is_null() | (time >= pl.col("since"))) & (
        pl.col("until").is_null() | (time < pl.col("until"))
    )
    found = packets.lazy().select("index", "time", *KEY).join(connections.lazy(), on=KEY).filter(inside)
    return found.select("index").collect().to_series().to_numpy()
