"""Rounds for tcpflow's rules: when streams ended, of all buckets, before any bucket is put together for good."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pcap2arrow.writing.target import failing_as
from queries.streams.apart import left_with_octets
from queries.streams.ended import GROUP, Left, ended_together, left_of
from queries.streams.rules import Rules
from queries.streams.spill import Piece, read_pieces

Unfollowed = tuple[pl.DataFrame, pl.DataFrame, NDArray[np.uint8]]
"""Packets of flows that were left of a bucket, where its other streams ended, and what the packets carried."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """When streams ended of which a file tells, but for those of one group of buckets."""

    path: str
    group: int

    def read(self) -> pl.DataFrame:
        """Their places, in the order of the whole."""
        return pl.read_ipc(self.path).filter(pl.col(GROUP).ne_missing(self.group))


def find_ends(left: Iterable[tuple[int, Unfollowed]], rules: Rules, path: str) -> None:
    """Write when the streams of all groups of buckets ended to a new file; what was left comes with its group."""
    stored = Path(f"{path}.octets")
    with failing_as(stored), stored.open("xb+", buffering=0) as file:

        def octets(begin: int, end: int) -> NDArray[np.uint8]:
            return np.frombuffer(os.pread(file.fileno(), end - begin, begin), np.uint8)

        whole = ended_together(_stored(left, file, rules), octets, rules)
    with failing_as(path), Path(path).open("wb") as target:
        whole.write_ipc(target)


def _stored(left: Iterable[tuple[int, Unfollowed]], file: IO[bytes], rules: Rules) -> Iterator[Left]:
    """What was left, with its octets in a file."""
    at = 0
    for group, (packets, ended, payload) in left:
        yield left_of(packets, ended, group, at, rules)
        view = payload.data
        while view:
            view = view[file.write(view) :]
        at += len(payload)


def leave(pieces: Sequence[Piece], schema: pl.Schema, rules: Rules, path: str) -> str:
    """Write what is left of a bucket to a new file, for :func:`find_ends_of`; the result is its path."""
    left = left_with_octets(*read_pieces(pieces, schema), rules)
    with failing_as(path), Path(path).open("xb") as file:
        pickle.dump(left, file, pickle.HIGHEST_PROTOCOL)
    return path


def find_ends_of(paths: Sequence[str], rules: Rules, path: str) -> None:
    """Write when the streams of all buckets ended to a new file, by what these left: each is a group."""

    def left() -> Iterator[tuple[int, Unfollowed]]:
        for group, each in enumerate(paths):
            with Path(each).open("rb") as file:
                yield group, pickle.load(file)
            Path(each).unlink()

    find_ends(left(), rules, path)
