"""What sources hold, as records and as a table."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from jobs.reports import named, octets_text, time_text
from pcap2arrow.dataset.api import is_dataset
from pcap2arrow.numbers import LinkType
from pcap2arrow.reading.api import info

HEADINGS = ("name", "format", "packets", "size", "first", "last", "link types", "damage")
NUMBERS = ("packets", "size")


def describe(sources: Iterable[str | os.PathLike[str]]) -> tuple[list[dict[str, Any]], list[str]]:
    """The records of :func:`pcap2arrow.info`, and what was wrong with captures that were read for it.

    Damage that a dataset records is no error: the dataset is sound.
    """
    captures: list[dict[str, Any]] = []
    errors: list[str] = []
    for source in sources:
        found = info(source)
        captures += found
        if not is_dataset(source):
            errors += [named(row["name"], row["path"], row["error"]) for row in found if row["error"]]
    return captures, errors


def table_row(capture: dict[str, Any]) -> tuple[str, ...]:
    """A capture's cells under :data:`HEADINGS`; empty where something is not known."""
    packets, size, link_types = capture["packets"], capture["bytes"], capture["link_types"] or ()
    return (
        capture["name"],
        capture["format"] or "",
        "" if packets is None else f"{packets:,}",
        "" if size is None else octets_text(size),
        time_text(capture["first_ns"]),
        time_text(capture["last_ns"]),
        " ".join(map(_link_type, link_types)),
        capture["error"] or "",
    )


def _link_type(number: int) -> str:
    try:
        return LinkType(number).name
    except ValueError:
        return str(number)
