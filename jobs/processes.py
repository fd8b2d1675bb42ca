"""An executor of processes that survives a task which kills its process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from jobs.outcomes import settle
from jobs.own_process import keep_memory, start_quickly
from pcap2arrow.errors import SchedulerError

_T = TypeVar("_T")


class ProcessExecutor(Executor):
    """Runs tasks in ``workers`` processes on this machine.

    When a process dies of its task (out of memory, killed, crashed in native code), all tasks that were under
    way are lost with it.  They run again, one at a time and each in a process of its own, so that only the
    one that kills fails, with SchedulerError.  Ctrl-C reaches this process alone; workers end when it does,
    however that is.

    Processes are spawned, not forked: Arrow's and Polars' threads would not survive a fork.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._lock = threading.Lock()
        self._context = get_context("spawn")
        self._stopped, self._stop = self._context.Pipe(duplex=False)
        self._pool = self._new_pool(workers)
        self._alone = ThreadPoolExecutor(1, thread_name_prefix="alone")
        self._closed = False

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Run ``fn(*args, **kwargs)``, which has to be picklable, and its result too."""
        task: Callable[[], _T] = partial(fn, *args, **kwargs)
        outcome: Future[_T] = Future()
        with self._lock:
            try:
                run = _submit(self._pool, task)
            except BrokenProcessPool:
                self._pool.shutdown()
                self._pool = self._new_pool(self._workers)
                run = _submit(self._pool, task)
        run.add_done_callback(partial(self._end, task, outcome))
        return outcome

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: when all tasks are done, or at once if not ``wait``."""
        self._closed = True
        if not wait:
            self._stop.close()
        self._pool.shutdown(cancel_futures=cancel_futures)
        self._alone.shutdown(cancel_futures=cancel_futures)
        self._stop.close()
        self._stopped.close()

    def _new_pool(self, workers: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            workers, mp_context=self._context, initializer=_begin, initargs=(self._stopped,)
        )

    def _end(self, task: Callable[[], _T], outcome: Future[_T], run: Future[_T]) -> None:
        """Hand on how a task ended, or have it run again if its process died."""
        if run.cancelled() or not isinstance(run.exception(), BrokenProcessPool) or self._closed:
            settle(outcome, run.result)
            return
        with suppress(RuntimeError):  # closed meanwhile
            self._alone.submit(self._run_alone, task, outcome)

    def _run_alone(self, task: Callable[[], _T], outcome: Future[_T]) -> None:
        def result() -> _T:
            try:
                with self._new_pool(1) as pool:
                    return _submit(pool, task).result()
            except (BrokenProcessPool, CancelledError) as error:
                raise SchedulerError("the worker process died: killed, out of memory, or crashed") from error

        settle(outcome, result)


def _submit(pool: ProcessPoolExecutor, task: Callable[[], _T]) -> Future[_T]:
    with _interrupts_blocked():
        return pool.submit(task)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes that are made meanwhile never see Ctrl-C: they inherit the mask."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(stopped: Connection) -> None:
    """What a worker does first."""
    start_quickly()
    keep_memory()
    _end_with_driver(stopped)


def _end_with_driver(stopped: Connection) -> None:
    """Make a worker end as soon as the other end of ``stopped`` is closed, by the driver's death too."""

    def watch() -> None:
        with suppress(EOFError, OSError):
            stopped.recv_bytes()
        os._exit(1)

    threading.Thread(target=watch, name="watch", daemon=True).start()
