"""Octets of streams that memory has no room for: stretch by stretch, in their order, to files, hashes and a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from queries.streams.files import HASHES, Begun, Content, Digest, StreamFiles
from queries.streams.long import LongBucket
from queries.streams.octets import Source, read_some
from queries.streams.partial import READ_OCTETS, OctetsTable

Ints = NDArray[np.int64]

_AT_ONCE = 2 << 20  # octets; their places take many times as much
_MOST_ROWS = 1 << 14


@dataclass(slots=True)
class Taker:
    """Who takes octets of streams that have ``names``: ``files``, the ``table`` of octets, and ``digests`` if wanted.

    Streams come by ascending number, the octets of each in their order, in as many steps as need be.
    """

    names: Mapping[int, str]
    files: StreamFiles | None
    table: OctetsTable | None
    digests: dict[str, list[str | None]]
    _stream: int = -1
    _begun: Begun = field(default_factory=Begun)
    _digest: Digest = field(default_factory=Digest)
    _end: int = 0
    _waiting: bytes = b""
    _rows: list[tuple[int, int, bytes]] = field(default_factory=list)
    _left: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self._left = set(self.names)

    def take(self, stream: int, content: Content) -> None:
        """Take octets of a stream that lie behind those before."""
        if stream != self._stream:
            self._finish_stream()
            self._stream, self._begun, self._digest, self._end = stream, Begun(), Digest(), 0
            self._left.discard(stream)
        if self.files is not None:
            self.files.write(self.names[stream], content, self._begun)
        if self.digests:
            self._digest.add(content)
        if self.table is not None:
            self._take_rows(content)

    def finish(self) -> None:
        """Streams that have names but no octets come last."""
        for stream in sorted(self._left):
            self.take(stream, [])
        self._finish_stream()
        self._write_rows()

    def _finish_stream(self) -> None:
        if self._stream < 0:
            return
        for kind, value in zip(HASHES, self._digest.values(), strict=True):
            if self.digests:
                self.digests[kind][self._stream] = value
        self._row(b"")

    def _take_rows(self, content: Content) -> None:
        """Rows of as many octets as they may have, and what is left of each run."""
        for place, run in content:
            if place != self._end:
                self._row(b"")
            at = 0
            while at < len(run):
                stop = at + READ_OCTETS - len(self._waiting)
                piece = bytes(run[at:stop])
                self._end = place + at + len(piece)
                if stop <= len(run):
                    self._row(piece)
                else:
                    self._waiting += piece
                at = stop
        if len(self._rows) > _MOST_ROWS or sum(len(row) for _, _, row in self._rows) > _AT_ONCE:
            self._write_rows()

    def _row(self, more: bytes) -> None:
        """A row of what waits and ``more``, which ends where the octets so far do."""
        octets = self._waiting + more
        if octets:
            self._rows.append((self._stream, self._end - len(octets), octets))
            self._waiting = b""

    def _write_rows(self) -> None:
        if self.table is not None and self._rows:
            stream, offset, octets = zip(*self._rows, strict=True)
            self.table.add(np.array(stream), np.array(offset), pa.array(octets, pa.large_binary()))
            self._rows.clear()


def hand_over(long: LongBucket, sources: Mapping[int, Source], taker: Taker) -> list[int]:
    """Give the octets of a bucket's streams to who takes them; the result are streams that contradict themselves."""
    conflicts: set[int] = set()
    for pieces, questions in long.stretches():
        asked = questions.asked
        length = asked["length"].astype(np.int64)
        octets = read_some(sources, asked["part"], asked["at"], np.zeros(len(asked), np.int64), length)
        conflicts.update(questions.conflicts(octets).tolist())
        for stream, content in _contents(pieces, sources):
            taker.take(stream, content)
    taker.finish()
    return sorted(conflicts)


def _contents(pieces: NDArray[np.void], sources: Mapping[int, Source]) -> Iterator[tuple[int, Content]]:
    """Octets of streams, in the order of the pieces; those of a long stream in several steps."""
    group = np.cumsum(pieces["length"], dtype=np.int64) // _AT_ONCE
    for some in np.split(pieces, np.flatnonzero(group[1:] != group[:-1]) + 1):
        stream, offset, skipped, length = (
            some[name].astype(np.int64) for name in ("stream", "offset", "skipped", "length")
        )
        data = memoryview(read_some(sources, some["part"], some["at"], skipped, length).data)
        opens = np.ones(len(some), np.bool_)
        opens[1:] = (stream[1:] != stream[:-1]) | (offset[1:] != (offset + length)[:-1])
        firsts = np.flatnonzero(opens)
        ends = np.append(0, np.cumsum(length))[np.append(firsts, len(some))].tolist()
        runs = zip(offset[firsts].tolist(), ends, ends[1:], strict=False)
        content = [(place, data[first:stop]) for place, first, stop in runs]
        streams, begins = np.unique(stream[firsts], return_index=True)
        bounds = [*begins.tolist(), len(content)]
        for each, first, stop in zip(streams.tolist(), bounds, bounds[1:], strict=False):
            yield each, content[first:stop]
