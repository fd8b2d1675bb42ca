"""All TCP packets of sources, in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from jobs.count import checked_filter
from queries.filters.compiled import Filter
from queries.streams.bucket import Bucket
from queries.streams.packets import is_tcp, segments
from queries.streams.reading import Reading, parts
from queries.streams.rules import Rules


@dataclass(frozen=True, slots=True)
class Read:
    """The TCP packets of sources and their streams (None without any), and what was wrong."""

    bucket: Bucket | None
    warnings: tuple[str, ...]
    errors: tuple[str, ...]


def read_bucket(
    sources: Iterable[str | os.PathLike[str]],
    *,
    rules: Rules,
    chosen: Filter | None = None,
    shift: int = 0,
    finishing: Iterable[str | os.PathLike[str]] = (),
) -> Read:
    """Read all TCP packets of sources, those that ``chosen`` selects, into memory, and follow them.

    Their times become ``shift`` seconds later.  Those of ``finishing`` come last: they finish streams, but begin none.

    Raises FilterError where the filter means nothing on any packet, UsageError, and errors of sources.
    """
    defrag = rules.defrag and not rules.as_tcpflow
    reading = Reading(chosen=chosen, where=is_tcp(rules), defrag=defrag, of_tcp=True)
    shifted = pl.col("time") + pl.duration(seconds=shift) if shift else pl.col("time")
    frames, later = (
        [segments(frame, rules).with_columns(shifted) for part in parts(group, reading) for frame in part()]
        for group in (sources, finishing)
    )
    warnings = checked_filter(chosen, [] if reading.selection is None else [reading.selection.tally])
    bucket = Bucket.finished(frames, later, rules) if frames or later else None
    return Read(bucket, (*warnings, *reading.warnings), tuple(reading.errors))
