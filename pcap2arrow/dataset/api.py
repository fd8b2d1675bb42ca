"""``pcap2arrow.files``, ``remove`` and ``vacuum``: a dataset as its users handle it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta

from pcap2arrow.dataset import vacuum as cleaning
from pcap2arrow.dataset.change import plan_removal
from pcap2arrow.dataset.log import open_dataset
from pcap2arrow.dataset.snapshot import Change, Snapshot, Table
from pcap2arrow.dataset.vacuum import VacuumReport


def files(
    dataset: str | os.PathLike[str], *, table: Table = "packets", version: int | None = None
) -> list[str]:
    """Absolute paths or URLs of the live files of a table, for any tool that reads Parquet.

    They come from the log, never from a listing of the folder; ``version`` asks for an older state than the newest.
    Raises DatasetError where there is no dataset.

    >>> duckdb.sql("select count(*) from read_parquet(?)", params=[pcap2arrow.files("dataset")])   # doctest: +SKIP
    """
    opened = open_dataset(dataset)
    return [opened.path_of(file.path) for file in opened.snapshot(version).files(table)]


def remove(
    dataset: str | os.PathLike[str], names: Iterable[str] = (), *, before: int | None = None
) -> tuple[str, ...]:
    """Take captures out of a dataset, at once: those ``names``, and those whose packets all lie before a time.

    ``before`` is in nanoseconds since 1970.  The result names what was taken out; its files go at the next
    :func:`vacuum`.  Raises ConflictError where a name is not in the dataset; then nothing is removed.
    """
    wanted = tuple(names)
    removed: list[str] = []

    def build(snapshot: Snapshot) -> Change:
        change = plan_removal(snapshot, wanted, before=before)
        removed[:] = change.remove
        return change

    open_dataset(dataset).commit(build)
    return tuple(removed)


def vacuum(
    dataset: str | os.PathLike[str], *, older_than: timedelta = timedelta(days=1), dry_run: bool = False
) -> VacuumReport:
    """Delete files that no live version names and that are older than ``older_than``.

    Raises DatasetError where there is no dataset.
    """
    return cleaning.vacuum(open_dataset(dataset), older_than=older_than, dry_run=dry_run)
