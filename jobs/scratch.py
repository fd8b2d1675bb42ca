"""Folders for what does not fit in memory meanwhile."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pcap2arrow.errors import UsageError


def reached_by_all(temporary: str | None, scheduler: str) -> str:
    """The folder for temporary files: the one given, else the system's, or the current one of a cluster's driver."""
    return temporary or ("." if "://" in scheduler else tempfile.gettempdir())


@contextmanager
def scratch(folder: str) -> Iterator[str]:
    """A new folder in that one, for the length of a ``with`` block.  Raises UsageError where there can't be one."""
    try:
        made = tempfile.mkdtemp(prefix=".pcap2arrow-", dir=Path(folder).absolute())
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}: expected a folder for temporary files") from error
    try:
        yield made
    finally:
        shutil.rmtree(Path(made), ignore_errors=True)
