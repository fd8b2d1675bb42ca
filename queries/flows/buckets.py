"""Packets of many connections, apart by connection: so many as memory has room for at a time."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from queries.flows.packets import KEY

MOST_PACKETS = 1 << 20
"""Packets that are held in memory."""

BUCKETS = 64


@dataclass(slots=True)
class Buckets:
    """Packets of :func:`~queries.flows.packets.flow_columns`, given back in groups; a connection is in one of them.

    Beyond :data:`MOST_PACKETS`, packets wait in a temporary folder, in files for each of :data:`BUCKETS` groups.  Which
    group it is depends on a number drawn at random, so that nobody can aim at one.
    """

    _frames: list[pl.DataFrame] = field(default_factory=list)
    _packets: int = 0
    _folder: tempfile.TemporaryDirectory[str] | None = None
    _spilled: int = 0
    _seed: int = field(default_factory=lambda: secrets.randbits(63))

    def add(self, packets: pl.DataFrame) -> None:
        """Take packets."""
        self._frames.append(packets)
        self._packets += len(packets)
        if self._packets > MOST_PACKETS:
            self._spill()

    def groups(self) -> Iterator[pl.DataFrame]:
        """The packets, group by group; there is one even without any packets.  What was held is let go."""
        if self._folder is None:
            yield pl.concat(self._frames)
            return
        self._spill()
        with self._folder as folder:
            for bucket in range(BUCKETS):
                paths = sorted(Path(folder).glob(f"{bucket}-*.arrow"))
                if paths:
                    yield pl.concat([pl.read_ipc(path) for path in paths])

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="pcap2arrow-")
        if not self._packets:
            return
        together = pl.concat(self._frames)
        self._frames, self._packets = [], 0
        hashed = together.select(pl.struct(KEY).hash(self._seed)).to_series().to_numpy()
        bucket = hashed % BUCKETS
        order = np.argsort(bucket, kind="stable")
        bounds = np.searchsorted(bucket[order], np.arange(BUCKETS + 1))
        for number in range(BUCKETS):
            rows = order[bounds[number] : bounds[number + 1]]
            if len(rows):
                path = Path(self._folder.name, f"{number}-{self._spilled:06}.arrow")
                together[rows].write_ipc(path, compression="lz4")
        self._spilled += 1
