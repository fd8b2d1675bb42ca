"""``pcap2arrow.files``, ``remove`` and ``vacuum``: a dataset as its users handle it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from pcap2arrow.dataset import log
from pcap2arrow.dataset.log import MANIFEST, open_dataset
from pcap2arrow.dataset.snapshot import Table
from pcap2arrow.dataset.vacuum import VacuumReport
from pcap2arrow.dataset.vacuum import vacuum as vacuum_open
from pcap2arrow.errors import Pcap2ArrowError
from pcap2arrow.urls import is_url


def is_dataset(source: str | os.PathLike[str]) -> bool:
    """Whether a path or URL is that of a dataset."""
    where = os.fspath(source)
    if not is_url(where):
        return (Path(where) / MANIFEST).is_dir()
    try:
        open_dataset(where)
    except Pcap2ArrowError:
        return False
    return True


def files(
    dataset: str | os.PathLike[str], *, table: Table = "packets", version: int | None = None
) -> list[str]:
    """Absolute paths or URLs of the live files of a table, for any tool that reads Parquet.

    They come from the log, never from a listing of the folder; ``version`` asks for an older state than the
    newest.  Raises DatasetError where there is no dataset.

    >>> packets = pcap2arrow.files("dataset")  # doctest: +SKIP
    >>> duckdb.sql("select count(*) from read_parquet(?)", params=[packets])  # doctest: +SKIP
    """
    opened = open_dataset(dataset)
    found = opened.snapshot(version).files(table)
    return [opened.path_of(path) for path in dict.fromkeys(file.path for file in found)]


def remove(
    dataset: str | os.PathLike[str], names: Iterable[str] = (), *, before: int | None = None
) -> tuple[str, ...]:
    """Take captures out of a dataset, at once: those ``names``, and those whose packets are all earlier.

    ``before`` is in nanoseconds since 1970.  The result names what was taken out; its files go at the next
    :func:`vacuum`.  Raises ConflictError where a name is not in the dataset; then nothing is removed.
    """
    return log.remove(open_dataset(dataset), names, before=before)


def vacuum(
    dataset: str | os.PathLike[str], *, older_than: timedelta = timedelta(days=1), dry_run: bool = False
) -> VacuumReport:
    """Delete what was written, and left the dataset, longer ago than ``older_than``.

    Raises DatasetError where there is no dataset.
    """
    return vacuum_open(open_dataset(dataset), older_than=older_than, dry_run=dry_run)
