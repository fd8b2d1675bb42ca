"""Fragments held until all of them are there."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from queries.fragments.datagrams import datagrams
from queries.fragments.headers import COLUMNS, fragments
from queries.fragments.whole import packets

HEAD = 256
"""Octets of a datagram that are held where nobody asks for its content: what headers take."""

MOST_FRAGMENTS, MOST_OCTETS = 1 << 24, 4 << 30
"""How many fragments are held, and how many octets of them."""

_IN_MEMORY = 64 << 20
_BUCKETS = 256


@dataclass(slots=True)
class Fragments:
    """Fragments of all captures, put together once they are all there: so no order of reading changes the result.

    ``columns`` are those of the packets to come of them; ``order`` are columns that order fragments.  With
    ``keep_first`` a datagram that stays incomplete is what its first fragment has, otherwise nothing comes of it.
    Beyond 64 MiB, fragments wait in a temporary folder, in files for each of 256 groups of datagrams: one of them is
    in memory at a time.  Which group it is depends on a number drawn at random, so that nobody can aim at one.  Beyond
    :data:`MOST_FRAGMENTS` or :data:`MOST_OCTETS`, fragments are ``left_out``.  ``overlapping`` and ``incomplete`` count
    datagrams, once they were put together, ``discarded`` those of IPv6 that are dropped because of overlaps.
    """

    columns: Sequence[str]
    order: Sequence[str]
    keep_first: bool = False
    overlapping: int = 0
    discarded: int = 0
    incomplete: int = 0
    left_out: int = 0
    _key: int = field(default_factory=lambda: secrets.randbits(64) | 1)
    _taken: int = 0
    _taken_octets: int = 0
    _frames: list[pl.DataFrame] = field(default_factory=list)
    _octets: int = 0
    _folder: tempfile.TemporaryDirectory[str] | None = None
    _files: int = 0

    @property
    def reads(self) -> list[str]:
        """Columns of the packet table that have to be read of fragments."""
        return list(dict.fromkeys([*COLUMNS, *self.columns]))

    def add(self, found: pl.DataFrame) -> None:
        """Hold fragments: :attr:`reads` of the packet table, and the columns of order."""
        if not len(found):
            return
        octets = None if "rest" in self.columns else HEAD
        self.take(fragments(found, octets=octets))

    def take(self, held: pl.DataFrame) -> None:
        """Hold what another one held: a frame of :meth:`release`."""
        held = self._within_limits(held)
        self._frames.append(held)
        self._octets += int(held.estimated_size())
        if self._octets > _IN_MEMORY:
            self._spill()

    def _within_limits(self, held: pl.DataFrame) -> pl.DataFrame:
        """As many of the first fragments as there is room for."""
        octets = np.cumsum(held["content"].bin.size().to_numpy().astype(np.int64)) + self._taken_octets
        room = min(int(np.searchsorted(octets, MOST_OCTETS, side="right")), MOST_FRAGMENTS - self._taken)
        room = min(room, len(held))
        self.left_out += len(held) - room
        self._taken += room
        self._taken_octets = int(octets[room - 1]) if room else self._taken_octets
        return held if room == len(held) else held[:room]

    def warnings(self) -> list[str]:
        """What users should know of fragments that were put together."""
        told = []
        if self.overlapping:
            dropped = f", {self.discarded} of IPv6 are discarded" if self.discarded else ""
            told.append(
                f"fragments overlap in {_counted(self.overlapping, 'datagram')}: "
                f"the octets that came first count{dropped}"
            )
        if self.left_out:
            told.append(
                f"{_counted(self.left_out, 'fragment')} left out: no more than {MOST_FRAGMENTS} are put together"
                f", or {MOST_OCTETS} octets"
            )
        return told

    def release(self) -> Iterator[pl.DataFrame]:
        """What is held, for another one to take; it is let go."""
        for frames in self._groups():
            if frames:
                yield pl.concat(frames)

    def whole(self) -> Iterator[pl.DataFrame]:
        """The packets that fragments make, with the columns of order; what was held is let go."""
        for frames in self._groups():
            yield from self._put_together(frames)

    def _groups(self) -> Iterator[list[pl.DataFrame]]:
        """Frames that have all fragments of their datagrams; they are held no longer."""
        if self._folder is None:
            yield self._frames
        else:
            self._spill()
            for bucket in range(_BUCKETS):
                paths = (self._path(bucket, number) for number in range(self._files))
                yield [pl.read_ipc(path) for path in paths if path.exists()]
            self._folder.cleanup()
        self._frames, self._octets, self._folder = [], 0, None

    def _path(self, bucket: int, number: int) -> Path:
        assert self._folder is not None
        return Path(self._folder.name, f"{bucket}-{number}.arrow")

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="pcap2arrow-")
        if not self._frames:
            return
        together = pl.concat(self._frames)
        bucket = (together["frag_key"].to_numpy() * np.uint64(self._key)) >> np.uint64(56)
        for number in np.unique(bucket).tolist():
            together[np.flatnonzero(bucket == number)].write_ipc(self._path(number, self._files))
        self._files += 1
        self._frames, self._octets = [], 0

    def _put_together(self, frames: Sequence[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        if not frames:
            return
        table = pl.concat(frames).sort(self.order)
        found = datagrams(table)
        self.overlapping += found.overlapping
        self.discarded += found.discarded
        self.incomplete += len(found.unused)
        if self.keep_first:
            found = found.with_first((table["stop"] - table["start"]).to_numpy().astype(np.int64))
        if len(found):
            yield packets(table, found, list(self.columns))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
