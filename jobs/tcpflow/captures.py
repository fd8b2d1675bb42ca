"""Captures of streams' packets, and of the packets that belong to none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from pcap2arrow.errors import ExportError
from pcap2arrow.writing.api import write_capture
from queries.filters.compiled import Filter
from queries.streams.bucket import LATER, Bucket
from queries.streams.packets import PLACE, TURN
from queries.streams.reading import Reading, parts

_COLUMNS = ("time", "order_time", "caplen", "frame_len", "link_type", "frame_number", "header", "rest")
_IDENTITY = (PLACE, "frame_number")


def write_streams(
    bucket: Bucket,
    names: Mapping[int, str],
    sources: Sequence[Sequence[str]],
    chosen: Filter | None,
    folder: Path,
) -> None:
    """Write the packets of each stream that has a name to the capture ``NAME.pcap``, of the link type that they have.

    ``sources`` are the captures, then those that only finish streams.  Raises ExportError where a file can't be
    written.
    """
    owner = _identities(bucket, _owners(bucket)).filter(pl.col("stream").is_in(list(names)))
    packets = _frames(sources, chosen)
    together = pl.concat([packets, pl.DataFrame(schema=packets.schema)]).join(owner, on=_IDENTITY)
    for (stream,), of_stream in together.sort(TURN, *_IDENTITY).group_by("stream", maintain_order=True):
        _write(of_stream.drop("stream"), folder / f"{names[int(str(stream))]}.pcap")


def write_others(
    bucket: Bucket | None, sources: Sequence[Sequence[str]], chosen: Filter | None, target: str
) -> None:
    """Write the packets that are of no stream, although the filter selects them: tcpflow's ``-w``.

    These are packets that are not TCP, have no whole header of it (other fragments than the first, too), and
    SYN in the midst of a stream.  Raises ExportError where the file can't be written.
    """
    packets = _frames(sources, chosen)
    if bucket is not None:
        processed = np.ones(len(bucket.packets), np.bool_)
        processed[bucket.followed.ignored] = False
        taken = _identities(bucket, np.where(processed, 0, -1)).filter(pl.col("stream") >= 0)
        packets = packets.join(taken, on=_IDENTITY, how="anti")
    _write(packets.sort(TURN, *_IDENTITY), Path(target))


def _owners(bucket: Bucket) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The stream of each packet, -1 of those of none."""
    owner = np.full(len(bucket.packets), -1)
    streams = bucket.followed.streams
    for stream, (first, last) in enumerate(zip(streams.first.tolist(), streams.last.tolist(), strict=True)):
        owner[first : last + 1] = stream
    owner[bucket.followed.ignored] = -1
    return owner


def _identities(bucket: Bucket, stream: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pl.DataFrame:
    """What tells a bucket's packets apart, with a value for each."""
    in_order = bucket.packets.table.select(*_IDENTITY)[bucket.packets.order]
    return in_order.with_columns(pl.Series("stream", stream))


def _frames(sources: Sequence[Sequence[str]], chosen: Filter | None) -> pl.DataFrame:
    return pl.concat(list(_read(sources, chosen)))


def _read(sources: Sequence[Sequence[str]], chosen: Filter | None) -> Iterator[pl.DataFrame]:
    """The packets that are chosen, with places as a bucket has them."""
    for later, group in zip((0, LATER), sources, strict=True):
        for part in parts(group, Reading(columns=_COLUMNS, chosen=chosen)):
            for frame in part():
                yield frame.with_columns(pl.col(PLACE) + later)


def _write(packets: pl.DataFrame, path: Path) -> None:
    if path.exists():
        raise ExportError(f"{path}: File exists")
    write_capture(packets.drop(TURN, PLACE).to_arrow(), path)
