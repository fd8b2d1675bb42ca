"""Where tasks run: the one place that tells threads, processes and clusters apart."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

from jobs.limits import USUAL_LIMITS, Limits
from pcap2arrow.errors import QuarantineError, UsageError
from pcap2arrow.turns import quick_turns, settle_polars

_T = TypeVar("_T")

THREADS = "threads"
PROCESSES = "processes"
CLUSTER = "dask"


@contextmanager
def open_executor(
    scheduler: str = THREADS,
    workers: int | None = None,
    *,
    limits: Limits = USUAL_LIMITS,
    tell_dashboard: Callable[[str], object] | None = None,
) -> Iterator[tuple[Executor, int]]:
    """An executor for the length of a ``with`` block, and how many tasks it runs at once.

    ``scheduler`` is ``threads`` (of this process), ``processes`` (on this machine), ``dask`` (a cluster of this machine
    that lasts as long as the block), or the address of a Dask scheduler, such as ``tls://scheduler:8786``.  ``workers``
    are as many as there are processors for this process, or threads in the cluster, unless given.  When the block ends
    with an exception, tasks that have not begun are dropped and running ones not waited for.

    A task that kills workers which are processes, or passes ``limits`` there, ends with QuarantineError and costs no
    other.  ``tell_dashboard`` gets the address of the dashboard of ``dask``, which has none without it.

    Raises UsageError for another scheduler, and where the cluster can't be reached or has no workers.

    >>> with open_executor("processes", workers=2) as (executor, workers):  # doctest: +SKIP
    ...     future = executor.submit(task)
    """
    if tell_dashboard is not None and scheduler != CLUSTER:
        raise UsageError(f"a dashboard is of the scheduler {CLUSTER}, not of {scheduler}")
    if scheduler == THREADS:
        workers = workers or processors()
        opened: Executor = ThreadPoolExecutor(workers, thread_name_prefix="worker")
    elif scheduler == PROCESSES:
        from jobs.processes import ProcessExecutor

        workers = workers or processors()
        opened = ProcessExecutor(workers, limits)
    elif scheduler == CLUSTER:
        from jobs.cluster.client import ClusterExecutor

        workers = workers or processors()
        opened = ClusterExecutor.local(workers, limits=limits, tell_dashboard=tell_dashboard)
    elif "://" in scheduler:
        from jobs.cluster.client import ClusterExecutor

        opened = ClusterExecutor(scheduler, limits=limits)
        workers = workers or opened.threads
    else:
        expected = f"{THREADS}, {PROCESSES}, {CLUSTER} or an address such as tls://host:8786"
        raise UsageError(f"{scheduler}: no scheduler: expected {expected}")
    try:
        with quick_turns():
            yield opened, workers
    except BaseException:
        opened.shutdown(wait=False, cancel_futures=True)
        raise
    opened.shutdown()


def run_all(
    executor: Executor,
    workers: int,
    tasks: Iterable[Callable[[], _T]],
    *,
    lost: Callable[[Any, QuarantineError], _T] | None = None,
) -> Iterator[_T]:
    """The results of tasks, in their order; not many more tasks than ``workers`` are under way at once.

    Where one fails, those that have not begun are dropped, and its error is raised once the others have ended, so that
    nothing is written any more; ``lost`` may give a result in place of that of a task that kills its workers, and the
    error that says so.
    """
    if {"numpy", "polars"} <= sys.modules.keys():
        settle_polars()
    running: deque[tuple[Callable[[], _T], Future[_T]]] = deque()

    def first() -> _T:
        task, future = running.popleft()
        try:
            return future.result()
        except QuarantineError as error:
            if lost is None:
                raise
            return lost(task, error)

    try:
        for task in tasks:
            running.append((task, executor.submit(task)))
            if len(running) >= 2 * workers:
                yield first()
        while running:
            yield first()
    except Exception:
        begun = [future for _, future in running if not future.cancel()]
        wait(begun)
        raise
    finally:
        for _, future in running:
            future.cancel()


def load_ahead(executor: Executor, workers: int, scheduler: str, *modules: str) -> None:
    """Have processes start, and load what their tasks need, while this one does.  Others have it, or load it once."""
    if scheduler == PROCESSES:
        for _ in range(min(workers, processors())):
            executor.submit(partial(_load, modules))


def _load(modules: Iterable[str]) -> None:
    for name in modules:
        import_module(name)


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
