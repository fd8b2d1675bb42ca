"""Where tasks run: the one place that tells threads, processes and clusters apart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

from pcap2arrow.conversion.api import quick_turns
from pcap2arrow.errors import UsageError

THREADS = "threads"
PROCESSES = "processes"


@contextmanager
def open_executor(scheduler: str = THREADS, workers: int | None = None) -> Iterator[tuple[Executor, int]]:
    """An executor for the length of a ``with`` block, and how many tasks it runs at once.

    ``scheduler`` is ``threads`` (of this process), ``processes`` (on this machine), or the address of a Dask
    scheduler, such as ``tls://scheduler:8786``.  ``workers`` are as many as there are processors for this
    process, or threads in the cluster, unless given.  When the block ends with an exception, tasks that have
    not begun are dropped and running ones not waited for.

    Raises UsageError for another scheduler, and where the cluster can't be reached or has no workers.

    >>> with open_executor("processes", workers=2) as (executor, workers):  # doctest: +SKIP
    ...     future = executor.submit(task)
    """
    if scheduler == THREADS:
        workers = workers or processors()
        opened: Executor = ThreadPoolExecutor(workers, thread_name_prefix="worker")
    elif scheduler == PROCESSES:
        from jobs.processes import ProcessExecutor

        workers = workers or processors()
        opened = ProcessExecutor(workers)
    elif "://" in scheduler:
        from jobs.cluster import ClusterExecutor

        opened = ClusterExecutor(scheduler)
        workers = workers or opened.threads
    else:
        expected = f"{THREADS}, {PROCESSES} or an address such as tls://host:8786"
        raise UsageError(f"{scheduler}: no scheduler: expected {expected}")
    try:
        with quick_turns():
            yield opened, workers
    except BaseException:
        opened.shutdown(wait=False, cancel_futures=True)
        raise
    opened.shutdown()


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
