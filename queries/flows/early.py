"""ACKs of octets of which no segment came yet: of one side of a connection alone, all of them may be."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import polars as pl

from pcap2arrow.writing.target import failing_as
from queries.flows.sequences import ACKNOWLEDGED, WAY


class EarlyAcks:
    """Keeps ACKs, rows of :func:`~queries.flows.sequences.acknowledged`, until the way that they are of has segments.

    Where there are more than ``most``, they are in files whose names begin with ``path``.
    """

    def __init__(self, path: str, most: int) -> None:
        self._path = path
        self._most = most
        self._held = ACKNOWLEDGED.to_frame()
        self._files: list[str] = []
        self._ways = self._held.select(WAY)
        self._numbers = count()

    def take(self, acks: pl.DataFrame, ways: pl.DataFrame) -> pl.DataFrame:
        """Keep some more; the result are all, earlier ones too, of the ``ways`` that have segments."""
        found = [acks.join(ways, on=WAY, how="semi", maintain_order="left")]
        if len(self._ways.join(ways, on=WAY, how="semi")):
            files, self._files = self._files, []
            held, self._held, self._ways = self._held, self._held.clear(), self._ways.clear()
            for some in (*map(pl.read_ipc, files), held):
                found.append(some.join(ways, on=WAY, how="semi", maintain_order="left"))
                self._keep(some.join(ways, on=WAY, how="anti", maintain_order="left"))
        self._keep(acks.join(ways, on=WAY, how="anti", maintain_order="left"))
        return pl.concat(found)

    def _keep(self, acks: pl.DataFrame) -> None:
        if not len(acks):
            return
        self._held = pl.concat([self._held, acks])
        self._ways = pl.concat([self._ways, acks.select(WAY)]).unique()
        if len(self._held) > self._most:
            file = f"{self._path}.{next(self._numbers)}"
            with failing_as(file), Path(file).open("wb") as target:
                self._held.write_ipc(target, compression="lz4")
            self._files.append(file)
            self._held = self._held.clear()
