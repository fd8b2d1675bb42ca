"""Packets of some flows to their streams, from beginning to end."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from queries.filters.machine.frames import Slices
from queries.streams import files, naming, tables
from queries.streams.assembly import Assembly, assemble
from queries.streams.follow import NOWHERE, Followed, follow
from queries.streams.packets import PLACE, TURN, Packets, grouped, in_order, rows_before, sorted_by_order
from queries.streams.rules import Rules
from queries.streams.spill import Piece, read_pieces

LATER = 1 << 31
"""What is added to the places of captures that only finish streams."""

_LAST = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Bucket:
    """Flows whose packets are all here, and their streams; of long ones, whose ``known_sums`` are given, but some."""

    packets: Packets
    followed: Followed
    assembly: Assembly
    rules: Rules
    known_sums: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    @classmethod
    def of(cls, frames: Sequence[pl.DataFrame], rules: Rules) -> Bucket:
        """Of frames of :func:`~queries.streams.packets.segments`, at least one."""
        return cls._of(grouped(in_order(frames)), rules)

    @classmethod
    def of_pieces(
        cls, pieces: Sequence[Piece], schema: pl.Schema, rules: Rules, *, ended: pl.DataFrame | None = None
    ) -> Bucket:
        """Of pieces of such frames, at least one, that were parted (see :mod:`~queries.streams.spill`)."""
        return cls.of_table(*read_pieces(pieces, schema), rules, ended=ended)

    @classmethod
    def of_table(
        cls, table: pl.DataFrame, payload: Slices, rules: Rules, *, ended: pl.DataFrame | None = None
    ) -> Bucket:
        """Of a frame of segments and what these carried; ``ended`` has the places where streams ended elsewhere."""
        packets = grouped(*sorted_by_order(table, payload))
        return cls._of(packets, rules, *([] if ended is None else [rows_before(packets.table, ended)]))

    @classmethod
    def _of(cls, packets: Packets, rules: Rules, ended: NDArray[np.int64] = NOWHERE) -> Bucket:
        followed = follow(packets, rules, ended=ended)
        return cls(packets, followed, assemble(packets, followed, rules), rules)

    @classmethod
    def finished(cls, frames: Sequence[pl.DataFrame], later: Sequence[pl.DataFrame], rules: Rules) -> Bucket:
        """Of frames, together at least one, of which ``later`` ones come last and finish streams, but begin none."""
        last = pl.lit(_LAST).alias(TURN), (pl.col(PLACE) + LATER).alias(PLACE)
        table = in_order([*frames, *(frame.with_columns(last) for frame in later)])
        whole = cls.of([table], rules)
        streams = whole.followed.streams
        place = whole.packets.table[PLACE].to_numpy()[whole.packets.order[streams.first]]
        begun = np.flatnonzero(place >= LATER)
        if not len(begun):
            return whole
        rows = np.concatenate([np.arange(streams.first[each], streams.last[each] + 1) for each in begun])
        kept = np.ones(len(table), np.bool_)
        kept[whole.packets.order[rows]] = False
        return cls.of([table.filter(kept)], rules)

    def sums(self, column: str) -> NDArray[np.int64]:
        """A column summed over the packets of each stream."""
        if column in self.known_sums:
            return self.known_sums[column]
        streams = self.followed.streams
        values = self.packets.table[column].to_numpy()[self.packets.order].astype(np.int64)
        values[self.followed.ignored] = 0
        summed = np.append(0, np.cumsum(values))
        sums: NDArray[np.int64] = summed[streams.last + 1] - summed[streams.first]
        return sums

    def opened(self) -> NDArray[np.int64]:
        """The streams that have a file, in the order in which their first octets came."""
        return tables.opened(self.packets, self.followed)

    def names(self, template: naming.Template, *, taken: Collection[str] = ()) -> dict[int, str]:
        """Names of the streams that have a file, none of those ``taken``."""
        opened = self.opened()
        told = template.tells_connections
        columns = tables.naming_columns(self.packets, self.followed, opened, with_connection=told)
        return dict(zip(opened.tolist(), naming.names(columns, template, taken=taken), strict=True))

    def write_files(self, names: Mapping[int, str], folder: Path) -> None:
        """Write the streams that have a name.  Raises ExportError where a file can't be written."""
        streams = np.array(sorted(names), np.int64)
        files.write_files(self.packets, self.assembly, streams, names, folder, self.rules.gaps)

    def streams_table(
        self, names: Mapping[int, str], digests: Mapping[str, Sequence[str | None]] = MappingProxyType({})
    ) -> pl.DataFrame:
        """See :func:`~queries.streams.tables.streams_table`."""
        return tables.streams_table(self.packets, self.followed, self.assembly, self.rules, names, digests)

    def streams_frames(
        self, names: Mapping[int, str], digests: Mapping[str, Sequence[str | None]] = MappingProxyType({})
    ) -> Iterator[pl.DataFrame]:
        """See :func:`~queries.streams.tables.streams_frames`."""
        return tables.streams_frames(self.packets, self.followed, self.assembly, self.rules, names, digests)

    def digests(self) -> dict[str, list[str | None]]:
        """See :func:`~queries.streams.files.digests`."""
        return files.digests(self.packets, self.assembly, self.opened())

    def runs(self, most: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], pa.LargeBinaryArray]]:
        """See :func:`~queries.streams.files.rows`: those of all streams that have a file."""
        return files.rows(self.packets, self.assembly, np.sort(self.opened()), most)

    def index_lines(self, streams: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
        """Of streams, ascending, lines OFFSET|SECONDS|OCTETS, one for each segment in the order of their coming."""
        table = self.segments_table().filter(pl.col("stream").is_in(streams))
        nanoseconds = pl.col("time").dt.epoch("ns").fill_null(0)
        seconds, rest = nanoseconds // 10**9, (nanoseconds % 10**9).cast(pl.String).str.zfill(9)
        line = pl.format("{}|{}.{}|{}\n", "offset", seconds, rest, "length")
        for (stream,), of_stream in table.select("stream", line.alias("line")).group_by(
            "stream", maintain_order=True
        ):
            yield int(str(stream)), of_stream["line"].to_list()

    def segments_table(self) -> pl.DataFrame:
        """See :func:`~queries.streams.tables.segments_table`."""
        return tables.segments_table(self.packets, self.followed)

    def gaps_table(self) -> pl.DataFrame:
        """See :func:`~queries.streams.tables.gaps_table`."""
        return tables.gaps_table(self.followed, self.assembly, self.rules)
