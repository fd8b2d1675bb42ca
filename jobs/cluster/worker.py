"""What a worker of a cluster does for a task of ours."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from typing import TypeVar

from distributed import get_worker

from jobs.isolation import Isolation
from jobs.limits import Limits

_T = TypeVar("_T")

_of_threads: dict[tuple[int, Limits], Isolation] = {}


def run_task(task: Callable[[], _T], limits: Limits) -> _T:
    """Run a task in a process beside that of the worker, which it can't take down; each thread has one of its own.

    Raises QuarantineError where the task kills it again and again, or passes the limits; the memory is what the worker
    may have.
    """
    mine = threading.get_ident(), limits
    if mine not in _of_threads:
        _of_threads[mine] = Isolation(limits, _room(limits))
        atexit.register(_of_threads[mine].close)
    return _of_threads[mine].run(task)


def _room(limits: Limits) -> int:
    worker = get_worker()
    share: int | None = worker.memory_manager.memory_limit
    if limits.memory is not None or share is None:
        return limits.room(worker.state.nthreads)
    return share // int(worker.state.nthreads)
