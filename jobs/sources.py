"""What users name as sources, checked before anything is done."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from pcap2arrow.errors import Pcap2ArrowError, UsageError


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


def found_by_all(sources: Iterable[str | os.PathLike[str]], scheduler: str) -> list[str]:
    """The sources as workers find them: by absolute paths, where these are of a cluster.

    Raises UsageError for standard input where other processes would have to read it.
    """
    from jobs.executors import THREADS

    paths = [os.fspath(source) for source in sources]
    if "-" in paths and scheduler != THREADS:
        raise UsageError(f"standard input is read by {THREADS} only, not by {scheduler}")
    if "://" not in scheduler:
        return paths
    return [path if "://" in path else str(Path(path).absolute()) for path in paths]


_PROCESSES_FROM = 128 << 20  # octets


def fitting_scheduler(sources: Iterable[str], workers: int | None) -> str:
    """Processes where sources, local datasets and captures, are large, else threads.

    Threads share the interpreter's lock; but processes take half a second to start, and can't read standard input.
    """
    from jobs.executors import PROCESSES, THREADS, processors

    sources = list(sources)
    if "-" in sources or (workers or processors()) < 2:
        return THREADS
    return PROCESSES if sum(map(_octets, sources)) >= _PROCESSES_FROM else THREADS


def _octets(source: str) -> int:
    """Octets of a local file, or of all files in a folder; of a dataset those of its captures, if they are more."""
    path = Path(source)
    try:
        files = path.rglob("*") if path.is_dir() else (path,)
        stored = sum(each.stat().st_size for each in files if each.is_file())
    except OSError:
        return 0
    return max(stored, _octets_of_captures(source)) if stored < _PROCESSES_FROM else stored


def _octets_of_captures(source: str) -> int:
    """Octets of a local dataset's captures, as they were converted: payloads that occur again are in it once."""
    from pcap2arrow.dataset.api import is_dataset
    from pcap2arrow.dataset.log import open_dataset

    if "://" in source or not is_dataset(source):
        return 0
    try:
        return sum(capture.source.size or 0 for capture in open_dataset(source).snapshot().ordered())
    except Pcap2ArrowError:
        return 0
