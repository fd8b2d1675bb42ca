"""Captures into a dataset, by threads, processes or a cluster."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from jobs.executors import PROCESSES, THREADS, open_executor, processors
from jobs.limits import USUAL_LIMITS, Limits
from pcap2arrow.conversion.api import ConversionReport, open_for_writing
from pcap2arrow.conversion.driver import Conversion, Watcher
from pcap2arrow.conversion.options import Options
from pcap2arrow.dataset.log import Dataset
from pcap2arrow.errors import DatasetError, UsageError
from pcap2arrow.inputs import Input, Inputs
from pcap2arrow.savefile.source import STANDARD_INPUT
from pcap2arrow.urls import is_url

_PROCESSES_FROM = 256 << 20  # octets of captures


def convert(
    found: Inputs,
    dataset: str | os.PathLike[str],
    options: Options,
    *,
    scheduler: str = THREADS,
    workers: int | None = None,
    limits: Limits = USUAL_LIMITS,
    tell_dashboard: Callable[[str], object] | None = None,
    replace: bool = False,
    rehash: bool = False,
    watch: Watcher = lambda event: None,
) -> ConversionReport:
    """Convert captures as :func:`pcap2arrow.convert` does, on a scheduler (see :func:`open_executor`).

    What is written does not depend on the scheduler, nor on how many workers it has.  Raises UsageError where
    nothing could begin (the dataset or the scheduler can't be used), DatasetError or SchedulerError where one
    of them fails later.
    """
    if scheduler != THREADS and any(capture.path == STANDARD_INPUT for capture in found.captures):
        raise UsageError(f"standard input is read by {THREADS} only, not by {scheduler}")
    with open_executor(scheduler, workers, limits=limits, tell_dashboard=tell_dashboard) as (
        executor,
        workers,
    ):
        conversion = Conversion(
            open_target(dataset),
            options,
            executor,
            workers=workers,
            replace=replace,
            rehash=rehash,
            watch=watch,
        )
        return ConversionReport(conversion.run(map(anywhere, found.captures)), found.left_out)


def fitting_scheduler(found: Inputs, workers: int | None) -> str:
    """Processes for much input, else threads.

    Two processes convert 1.7 times as fast as one worker, two threads 1.3 times (they share the interpreter's
    lock); but processes take half a second to start, and can't read standard input.
    """
    if (workers or processors()) < 2 or any(capture.path == STANDARD_INPUT for capture in found.captures):
        return THREADS
    return PROCESSES if sum(map(_size, found.captures)) >= _PROCESSES_FROM else THREADS


def _size(capture: Input) -> int:
    """Octets of a local capture as it is stored; 0 where that is not known."""
    try:
        return 0 if is_url(capture.path) else Path(capture.path).stat().st_size
    except OSError:
        return 0


def open_target(dataset: str | os.PathLike[str]) -> Dataset:
    """The dataset to write to, made if there is none.  Raises UsageError where that can't be."""
    try:
        return open_for_writing(dataset)
    except DatasetError as error:
        raise UsageError(str(error)) from error


def anywhere(capture: Input) -> Input:
    """The capture with a path that is right in any working directory."""
    if capture.path == STANDARD_INPUT or is_url(capture.path):
        return capture
    return dataclasses.replace(capture, path=str(Path(capture.path).absolute()))
