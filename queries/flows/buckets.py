"""Packets of many connections, apart by connection, so that memory has room for those of one bucket at a time."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from queries.flows.packets import KEY


@dataclass(frozen=True, slots=True)
class Parting:
    """How connections are parted into ``buckets``: by a number drawn at random, so that nobody can aim at one."""

    buckets: int = 1
    seed: int = field(default_factory=lambda: secrets.randbits(63))

    def of(self, packets: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        """Packets of :func:`~queries.flows.packets.flow_columns`, at least one, by bucket."""
        if self.buckets == 1:
            yield 0, packets
            return
        bucket = packets.select(pl.struct(KEY).hash(self.seed)).to_series().to_numpy() % self.buckets
        order = np.argsort(bucket, kind="stable")
        bounds = np.searchsorted(bucket[order], np.arange(self.buckets + 1))
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            yield number, packets[order[bounds[number] : bounds[number + 1]]]
