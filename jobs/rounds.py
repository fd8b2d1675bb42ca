"""What tasks of a round read: parts of sources in batches, and large captures in units."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from jobs.executors import run_all
from pcap2arrow.conversion.capture import join_parts, scan_part
from pcap2arrow.conversion.options import Options
from pcap2arrow.conversion.placed import Unit
from pcap2arrow.conversion.scan import block_count, ranges
from pcap2arrow.errors import UsageError
from pcap2arrow.inputs import Input
from pcap2arrow.savefile.source import stamp
from queries.streams.reading import stored_octets

_T = TypeVar("_T")


def units(found: Input, executor: Executor, workers: int, octets: int) -> Sequence[Unit]:
    """Units of about so many octets of a capture that several tasks can read; none where one has to.

    They are found by a first look at where its records are.
    """
    options = Options(block=octets)
    blocks = block_count(stored_octets(found) or 0, options.block)
    if blocks < 2 or workers < 2:
        return ()
    before = stamp(found.path)
    tasks = [partial(scan_part, found, first, last, options) for first, last in ranges(blocks, blocks)]
    return join_parts(found, before, list(run_all(executor, workers, tasks)), options).plan.units


def batches(items: Sequence[_T], octets: Callable[[_T], int | None], most: int) -> Iterator[list[_T]]:
    """What one task reads: items of at most so many ``octets`` together, or one; of unknown size (None), one."""
    batch: list[_T] = []
    held = 0
    for item in items:
        known = octets(item)
        size = most if known is None else known
        if batch and held + size > most:
            yield batch
            batch, held = [], 0
        batch.append(item)
        held += size
    if batch:
        yield batch


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
