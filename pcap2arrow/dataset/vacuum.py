"""Deleting what no reader needs: files that no version names, stray temporary files, old checkpoints."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

from pcap2arrow.dataset.log import CHECKPOINTS, MANIFEST, Dataset
from pcap2arrow.dataset.snapshot import TABLES, check_path
from pcap2arrow.dataset.store import Stored, is_temporary
from pcap2arrow.errors import DatasetError


@dataclass(frozen=True, slots=True)
class VacuumReport:
    """What a vacuum deleted (or, on a dry run, would): paths in order, and their octets together."""

    deleted: tuple[str, ...]
    octets: int


def vacuum(
    dataset: Dataset, *, older_than: timedelta = timedelta(days=1), dry_run: bool = False
) -> VacuumReport:
    """Delete what was written, and left the dataset, longer ago than ``older_than``.

    That is: files of the three tables that no version named since then, temporary files of writers that died,
    and checkpoints but the newest.  Never a live file, never an entry of the log, nothing that this program
    did not write.  The limit protects writers that have not committed yet and readers of older versions, so
    it has to be longer than either takes.  Age goes by the store's clock.

    Raises:
        DatasetError: if the log or a folder can't be read, or a file can't be deleted.
    """
    limit = dataset.store.now_ns() - older_than // timedelta(microseconds=1) * 1000
    listed = [file for folder in (*TABLES, MANIFEST) for file in dataset.store.list(folder)]
    needed = _named_since(dataset, listed, limit)
    needed.add(max((file.path for file in listed if _is_checkpoint(file.path)), default=""))
    old = [
        file for file in listed if file.mtime_ns <= limit and file.path not in needed and _is_ours(file.path)
    ]
    deleted = [file for file in old if dry_run or dataset.store.delete_if_older(file.path, limit)]
    return VacuumReport(tuple(sorted(file.path for file in deleted)), sum(file.size for file in deleted))


def _named_since(dataset: Dataset, listed: list[Stored], limit: int) -> set[str]:
    """Paths of all files that a version since ``limit`` names, the newest version in any case."""
    young = [_version(file.path) for file in listed if file.mtime_ns > limit]
    first = min((version for version in young if version is not None), default=None)
    paths = dataset.snapshot().paths()
    if first is not None:
        since = dataset.snapshot(max(first - 1, 0))
        added = (capture for change in dataset.changes(since.version + 1) for capture in change.add)
        paths |= since.paths() | {file.path for capture in added for file in capture.files}
    return paths


def _version(path: str) -> int | None:
    """The version whose entry that is; None for another file."""
    match = re.fullmatch(rf"{MANIFEST}/(\d{{20}})\.json", path, re.ASCII)
    return int(match[1]) if match else None


def _is_checkpoint(path: str) -> bool:
    return path.startswith(f"{CHECKPOINTS}/") and path.endswith(".parquet")


def _is_ours(path: str) -> bool:
    """Whether a vacuum may delete the file: a data file, a temporary file or a checkpoint by its name."""
    if is_temporary(path) or _is_checkpoint(path):
        return True
    try:
        check_path(path)
    except DatasetError:
        return False
    return True
