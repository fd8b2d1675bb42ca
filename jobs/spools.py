"""Exports whose captures are read on a scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from jobs.executors import THREADS, open_executor, run_all
from jobs.limits import USUAL_LIMITS, Limits

if TYPE_CHECKING:
    from pcap2arrow.writing.sources.spool import Spool


@contextmanager
def open_spool(
    scheduler: str = THREADS,
    workers: int | None = None,
    *,
    limits: Limits = USUAL_LIMITS,
    tell_dashboard: Callable[[str], object] | None = None,
    temporary: str | None = None,
) -> Iterator[Spool | None]:
    """What :func:`pcap2arrow.export` takes to have tasks of a scheduler read its captures; None for threads.

    Threads read while they write, with nothing in between.  Others leave the packets that are to be written in the
    folder ``temporary``, which a cluster has to reach: else that of the system, or the current one.  What is written
    is the same, by any scheduler and number of workers.

    Raises UsageError where the scheduler or the folder can't be used.
    """
    if scheduler == THREADS:
        yield None
        return
    from jobs.rounds import name_lost
    from jobs.scratch import reached_by_all, scratch
    from pcap2arrow.writing.sources.spool import Spool

    with (
        scratch(reached_by_all(temporary, scheduler)) as folder,
        open_executor(scheduler, workers, limits=limits, tell_dashboard=tell_dashboard) as (
            executor,
            workers,
        ),
    ):
        yield Spool(partial(run_all, executor, workers, lost=name_lost), folder)
