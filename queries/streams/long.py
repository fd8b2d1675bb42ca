"""Streams of a bucket that memory has no room for, with what has to be known of octets, stretch by stretch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from queries.streams.apart import ASKED, WRITTEN, Questions, questions, to_be_written
from queries.streams.assembly import Assembly, lay_out
from queries.streams.bucket import Bucket
from queries.streams.ended import ends
from queries.streams.folding import NO_TIME, Folded, Folding
from queries.streams.follow import Followed, Writes
from queries.streams.octets import Source
from queries.streams.rules import Rules
from queries.streams.writelog import Stretch, WriteLog

Ints = NDArray[np.int64]


@dataclass(slots=True)
class LongBucket:
    """Streams whose segments are in a log.  Once its stretches were laid out, it is a bucket without these.

    ``none`` are no segments, with their columns.
    """

    folded: Folded
    log: WriteLog
    rules: Rules
    rows: int
    none: pl.DataFrame
    _runs: list[tuple[Ints, Ints, Ints]] = field(init=False)
    _size: Ints = field(init=False)

    def __post_init__(self) -> None:
        nothing = np.empty(0, np.int64)
        self._runs = [(nothing, nothing, nothing)]
        self._size = np.zeros(len(self.folded.streams), np.int64)

    @classmethod
    def of_frames(
        cls,
        frames: Iterable[pl.DataFrame],
        rules: Rules,
        log: WriteLog,
        rows: int,
        sources: Mapping[int, Source],
    ) -> LongBucket:
        """Of frames in the order of the whole, whose octets are elsewhere; about so many ``rows`` are in memory.

        Raises UnforeseenError where tcpflow's rules take more.
        """
        folding = Folding(rules, log, sources)
        none = pl.DataFrame()
        for frame in frames:
            folding.take(frame)
            none = frame[:0]
        folded = folding.finish()
        log.close(folded.number)
        return cls(folded, log, rules, rows, none)

    def stretches(self) -> Iterator[tuple[NDArray[np.void], Questions]]:
        """What is to be written to files of streams, stretch by stretch, and what is to be known of octets."""
        for stretch in self.log.stretches(self.folded.origin, self.rules.limit, self.rows):
            assembly, crowd = lay_out(stretch.writes, len(self.folded.streams), self.rules)
            np.maximum(self._size, assembly.size, out=self._size)
            assembly = _within(assembly, stretch)
            self._runs.append(_runs(assembly.stream, assembly.start, assembly.end))
            asked = np.empty(len(crowd), ASKED)
            for name in ASKED.names or ():
                asked[name] = stretch.notes[name][crowd.row]
            notes = stretch.notes[assembly.row]
            writes = to_be_written(assembly, notes["part"], notes["at"])
            yield writes, questions(crowd, self.none, asked)
        if self.rules.as_tcpflow:
            yield self._ended()

    def _ended(self) -> tuple[NDArray[np.void], Questions]:
        """Nothing to be written, and where streams ended."""
        nothing = np.empty(0, np.int64)
        _, crowd = lay_out(Writes(nothing, nothing, nothing, nothing), len(self.folded.streams), self.rules)
        ended = ends(self.folded.packets, self.folded.streams)
        return np.empty(0, WRITTEN), questions(crowd, self.none, np.empty(0, ASKED), ended)

    def bucket(self, conflicts: Collection[int] = ()) -> Bucket:
        """The bucket: pieces of streams are their runs of octets without a hole, and segments are left out.

        Streams that contradict themselves have to be told.
        """
        streams, nothing = self.folded.streams, np.empty(0, np.int64)
        stream, start, end = _runs(*(np.concatenate(each) for each in zip(*self._runs, strict=True)))
        assembly = Assembly(
            stream=stream,
            start=start,
            end=end,
            row=np.zeros(len(stream), np.int64),
            skipped=np.zeros(len(stream), np.int64),
            bounds=np.searchsorted(stream, np.arange(len(streams) + 1)),
            size=self._size,
            conflict=np.isin(np.arange(len(streams)), list(conflicts)),
        )
        followed = Followed(streams, Writes(nothing, nothing, nothing, nothing), nothing)
        return Bucket(self.folded.packets, followed, assembly, self.rules, self.folded.sums)

    def segments(self) -> Iterator[pl.DataFrame]:
        """The table of segments (see :func:`~queries.streams.tables.segments_table`), in frames, at least one."""
        kind = self.folded.packets.table.schema["time"]
        for stream, notes in self.log.notes(self.rows):
            place = notes["place"] - self.folded.origin[stream]
            length = notes["length"].astype(np.int64)
            if self.rules.limit is not None:
                length = np.clip(self.rules.limit - place, 0, length)
            yield pl.DataFrame(
                {
                    "stream": stream.astype(np.uint64),
                    "offset": place.astype(np.uint64),
                    "length": length.astype(np.uint32),
                    "time": pl.Series(notes["time"]).replace(NO_TIME, None).cast(kind),
                    "capture_id": notes["capture_id"],
                    "frame_number": notes["frame_number"],
                }
            )


def _within(assembly: Assembly, stretch: Stretch) -> Assembly:
    """What of an assembly's pieces is in a stretch."""
    start, end = np.maximum(assembly.start, stretch.low), np.minimum(assembly.end, stretch.high)
    kept = np.flatnonzero(start < end)
    stream, skipped = assembly.stream[kept], assembly.skipped + start - assembly.start
    return Assembly(
        stream=stream,
        start=start[kept],
        end=end[kept],
        row=assembly.row[kept],
        skipped=skipped[kept],
        bounds=np.searchsorted(stream, np.arange(len(assembly.size) + 1)),
        size=assembly.size,
        conflict=assembly.conflict,
    )


def _runs(stream: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints, Ints]:
    """Pieces that follow each other together."""
    opens = np.ones(len(stream), np.bool_)
    opens[1:] = (stream[1:] != stream[:-1]) | (start[1:] != end[:-1])
    firsts = np.flatnonzero(opens)
    return stream[firsts], start[firsts], end[np.append(firsts[1:], len(stream))[: len(firsts)] - 1]
