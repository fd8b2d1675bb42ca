"""An executor of processes that survives tasks which crash, eat memory, or never end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from jobs.isolation import Isolation
from jobs.limits import USUAL_LIMITS, Limits
from jobs.outcomes import settle

_T = TypeVar("_T")

_Submitted = tuple[Callable[[], Any], Future[Any]]


class ProcessExecutor(Executor):
    """Runs tasks in ``workers`` processes on this machine, each of which is started when there is work for it.

    A task that kills its process again and again, or passes ``limits``, fails with QuarantineError (see
    :class:`~jobs.isolation.Isolation`).  No other task is touched.
    """

    def __init__(self, workers: int, limits: Limits = USUAL_LIMITS) -> None:
        self._isolation = partial(Isolation, limits, limits.room(workers))
        self._most = workers
        self._lock = threading.Lock()
        self._waiting: SimpleQueue[_Submitted | None] = SimpleQueue()
        self._unfinished = 0
        self._workers: list[tuple[threading.Thread, Isolation]] = []
        self._closing = False

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Run ``fn(*args, **kwargs)``, which has to be picklable, and its result too."""
        outcome: Future[_T] = Future()
        with self._lock:
            if self._closing:
                raise RuntimeError("no task can be submitted after shutdown")
            self._waiting.put((partial(fn, *args, **kwargs) if args or kwargs else fn, outcome))
            self._unfinished += 1
            if len(self._workers) < min(self._most, self._unfinished):
                isolation = self._isolation()
                thread = threading.Thread(target=self._serve, args=(isolation,), name="serve", daemon=True)
                self._workers.append((thread, isolation))
                thread.start()
        return outcome

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: when all tasks are done, or at once if not ``wait``."""
        with self._lock:
            self._closing = True
        if cancel_futures:
            with suppress(Empty):
                while (left := self._waiting.get_nowait()) is not None:
                    left[1].cancel()
        for _, isolation in self._workers:
            self._waiting.put(None)
            if not wait:
                isolation.stop()
        for thread, _ in self._workers:
            thread.join()

    def _serve(self, isolation: Isolation) -> None:
        """Have tasks run by a process, one after another; a thread of this process does nothing else."""
        while (submitted := self._waiting.get()) is not None:
            task, outcome = submitted
            settle(outcome, partial(isolation.run, task))
            with self._lock:
                self._unfinished -= 1
        isolation.close()
