"""Captures of streams' packets, and of the packets that belong to none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from pcap2arrow.numbers import LinkType
from pcap2arrow.savefile.blocks import Interface
from pcap2arrow.writing.api import write_capture
from pcap2arrow.writing.records.formats import plan_layout
from pcap2arrow.writing.records.traits import Traits
from pcap2arrow.writing.target import open_target, write_octets
from queries.filters.compiled import Filter
from queries.streams.bucket import LATER, Bucket
from queries.streams.packets import PLACE, TURN
from queries.streams.reading import Reading, parts

_COLUMNS = (
    "time",
    "order_time",
    "caplen",
    "frame_len",
    "link_type",
    "frame_number",
    "header",
    "rest",
    "ip_version",
)
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
    together = pl.concat(frame.join(owner, on=_IDENTITY) for frame in _read(sources, chosen).frames)
    for (stream,), of_stream in together.sort(TURN, *_IDENTITY).group_by("stream", maintain_order=True):
        _write(of_stream.drop("stream"), folder / f"{names[int(str(stream))]}.pcap")


def write_others(
    bucket: Bucket | None, sources: Sequence[Sequence[str]], chosen: Filter | None, target: str
) -> None:
    """Write the packets that are of no stream, although the filter selects them: tcpflow's ``-w``.

    These are packets of IP that are not TCP, have no whole header of it (other fragments than the first, too), and
    SYN in the midst of a stream.  Raises ExportError where the file can't be written.
    """
    read = _read(sources, chosen)
    others = [frame.filter(pl.col("ip_version").is_not_null()) for frame in read.frames]
    if bucket is not None:
        processed = np.ones(len(bucket.packets), np.bool_)
        processed[bucket.followed.ignored] = False
        taken = _identities(bucket, np.where(processed, 0, -1)).filter(pl.col("stream") >= 0)
        others = [frame.join(taken, on=_IDENTITY, how="anti") for frame in others]
    if any(len(frame) for frame in others):
        _write(pl.concat(others).sort(TURN, *_IDENTITY), Path(target))
    else:
        _write_empty(min(read.link_types, default=LinkType.ETHERNET), Path(target))


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


@dataclass(slots=True)
class _Read:
    """The packets that are chosen, with places as a bucket has them, and the link types that were seen."""

    frames: list[pl.DataFrame] = field(default_factory=list)
    link_types: set[int] = field(default_factory=set)


def _read(sources: Sequence[Sequence[str]], chosen: Filter | None) -> _Read:
    found = _Read()
    for later, group in zip((0, LATER), sources, strict=True):
        reading = Reading(columns=_COLUMNS, chosen=chosen, defrag=False)
        for part in parts(group, reading):
            for frame in part():
                found.frames.append(frame.with_columns(pl.col(PLACE) + later))
                found.link_types.update(frame["link_type"].unique().to_list())
        if reading.selection is not None:
            found.link_types.update(reading.selection.tally.seen)
    return found


def _write_empty(link_type: int, path: Path) -> None:
    """Write a capture of no packet."""
    traits = Traits(
        interfaces=(Interface(0, link_type, 0),),
        used=frozenset({0}),
        blocks=(),
        fcs_present=False,
        max_caplen=0,
        least=None,
        greatest=None,
        finer=False,
    )
    with open_target(path) as (file, _):
        write_octets(file, plan_layout([traits], "pcap", snap_length=None).preamble)


def _write(packets: pl.DataFrame, path: Path) -> None:
    write_capture(packets.drop(TURN, PLACE, "ip_version").to_arrow(), path)
