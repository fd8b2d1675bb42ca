"""Counting packets."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from jobs.reports import named
from pcap2arrow.dataset.log import open_dataset
from pcap2arrow.reading.api import info, is_dataset


@dataclass(frozen=True, slots=True)
class Count:
    """Packets of all sources together, and what is damaged or can't be read in those that are captures."""

    packets: int
    errors: tuple[str, ...]


def count(sources: Iterable[str | os.PathLike[str]]) -> Count:
    """Count packets: those of a dataset from its log, those of a capture by reading it.

    A capture that a dataset holds under two names counts once.
    """
    packets, errors = 0, []
    for source in sources:
        if is_dataset(source):
            packets += sum(file.rows for file in open_dataset(source).snapshot().files("packets"))
            continue
        for capture in info(source):
            packets += capture["packets"] or 0
            if capture["error"]:
                errors.append(named(capture["name"], capture["path"], capture["error"]))
    return Count(packets, tuple(errors))
