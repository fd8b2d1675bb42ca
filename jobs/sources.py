"""What users name as sources, checked before anything is done."""

from __future__ import annotations

import glob
from pathlib import Path

from pcap2arrow.errors import UsageError


def check_source(argument: str) -> str:
    """A capture, folder, glob, URL, ``-`` or dataset that is there.  Raises UsageError for what is not."""
    if argument == "-" or "://" in argument or Path(argument).exists():
        return argument
    if glob.has_magic(argument) and glob.glob(argument, recursive=True):  # noqa: PTH207 (Path: no absolute ones)
        return argument
    raise UsageError(f"{argument}: no such file or directory")


def check_dataset(argument: str) -> str:
    """A dataset that is there.  Raises UsageError for anything else."""
    from pcap2arrow.dataset.api import is_dataset

    if not is_dataset(argument):
        raise UsageError(f"{argument}: no dataset here")
    return argument
