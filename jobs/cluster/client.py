"""An executor on a Dask cluster that survives tasks which crash, eat memory, or never end."""

from __future__ import annotations

import asyncio
import pickle
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import CancelledError, Executor, Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import dask.config
from dask.task_spec import Task
from distributed import Client, KilledWorker
from distributed import Future as RemoteFuture
from distributed.comm.core import CommClosedError
from distributed.security import Security
from distributed.utils import silence_logging_cmgr

from jobs.cluster.local import PATIENCE, local_cluster
from jobs.cluster.settings import log_level, seconds, settings
from jobs.cluster.worker import Order, run_task
from jobs.isolation import value_of
from jobs.limits import USUAL_LIMITS, Limits
from jobs.outcomes import settle
from pcap2arrow.errors import QuarantineError, SchedulerError, UsageError

_T = TypeVar("_T")

_ADDRESS = re.compile(r"(tcp|tls)://[^\s/]+:\d{1,5}")
_LOOK_EVERY = 1.0  # seconds
_TOGETHER = 0.002, 0.02
"""Seconds for which tasks wait for others that are submitted with them, and those between one graph and the next."""


class ClusterExecutor(Executor):
    """Runs tasks on the workers of the Dask scheduler at ``address``; ``threads`` tells how many at once.

    Certificates for ``tls://`` are ``security``, or come from Dask's configuration.  No worker begins a task before the
    scheduler has the result of the one before, so that one that dies takes nothing with it but what it runs.

    Tasks run in processes beside those of workers.  One that kills them again and again, passes ``limits``, or whose
    workers are lost as often as Dask allows, fails with QuarantineError.  Where the scheduler is lost, or tasks wait
    while no worker does anything, all of them fail with SchedulerError.

    Raises UsageError where the scheduler can't be reached, or has no workers.
    """

    def __init__(
        self, address: str, *, limits: Limits = USUAL_LIMITS, security: Security | None = None
    ) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._tasks: dict[str, _Task] = {}
        self._unsent: list[_Task] = []
        self._sent = 0.0
        self._moved = time.monotonic()
        self._closing = threading.Event()
        with ExitStack() as opened:
            opened.enter_context(dask.config.set(settings()))
            opened.enter_context(silence_logging_cmgr(log_level()))
            self._client = opened.enter_context(_connected(address, security))
            assert self._client.loop is not None  # as long as it is open
            self._loop = self._client.loop
            self._client.subscribe_topic(self._client.id, self._take)
            self.threads: int = sum(self._client.nthreads().values())
            self._stalled_after = seconds("pcap2arrow.stalled-after")
            self._opened = opened.pop_all()
        self._watch = threading.Thread(target=self._keep_watch, name="watch", daemon=True)
        self._watch.start()

    @classmethod
    def local(
        cls,
        workers: int,
        *,
        limits: Limits = USUAL_LIMITS,
        tell_dashboard: Callable[[str], object] | None = None,
    ) -> ClusterExecutor:
        """One on a cluster of this machine, which ends with it: see :func:`~jobs.cluster.local.local_cluster`."""
        with ExitStack() as opened:
            ours = settings()
            patience = {name: value for name, value in PATIENCE.items() if name in ours}
            opened.enter_context(dask.config.set(ours | patience))
            address, security = opened.enter_context(local_cluster(workers, limits, tell_dashboard))
            executor = cls(address, limits=limits, security=security)
            opened.push(executor._opened.pop_all())
            executor._opened = opened.pop_all()
        return executor

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Run ``fn(*args, **kwargs)``, which has to be picklable, and its result too, on some worker.

        Tasks that are submitted in a row reach the scheduler together: each graph costs it as much as several tasks.
        """
        task = _Task(partial(fn, *args, **kwargs) if args or kwargs else fn)
        with self._lock:
            self._moved = time.monotonic() if not self._tasks else self._moved
            self._tasks[task.key] = task
            self._unsent.append(task)
            is_first = len(self._unsent) == 1
        if is_first:
            self._loop.add_callback(self._send)
        return task.outcome

    async def _send(self) -> None:
        """Hand the scheduler what has been submitted since the last time."""
        least, between = _TOGETHER
        await asyncio.sleep(max(self._sent + between - time.monotonic(), least))
        self._sent = time.monotonic()
        with self._lock:
            tasks, self._unsent = self._unsent, []
        try:
            graph = {task.key: self._on_a_worker(task) for task in tasks}
            sent = self._client.get(graph, [*graph], sync=False, fifo_timeout="0s")
        except BaseException as error:
            is_lost = isinstance(error, OSError | RuntimeError)
            told = SchedulerError(f"lost the scheduler: {error}") if is_lost else error
            for task in tasks:
                self._end(task, partial(_raise, told))
            return
        for task, task.remote in zip(tasks, sent, strict=True):
            task.follower = asyncio.create_task(self._follow(task, task.remote))

    def _on_a_worker(self, task: _Task) -> Task:
        """The task as Dask has it; as one of those that produce data, it waits at the scheduler for a free worker."""
        pickled, seconds = pickle.dumps(task.run), self._limits.time(task.run)
        order = Order(task.key, pickled, seconds, self._limits, self._client.id)
        return Task(task.key, run_task, order, _data_producer=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster: when all tasks are done, or at once if not ``wait``; what runs then has no effect."""
        if wait and not cancel_futures:
            with self._lock:
                outcomes = [task.outcome for task in self._tasks.values()]
            futures.wait(outcomes)
        self._closing.set()
        self._watch.join()
        with suppress(OSError, RuntimeError, ValueError):
            self._client.unsubscribe_topic(self._client.id)
        self._opened.close()

    def _take(self, event: tuple[float, Any]) -> None:
        """Hand on the answer that a worker tells; the scheduler's own events are of the same topic."""
        _, told = event
        if isinstance(told, list | tuple) and (task := self._tasks.get(told[0])) is not None:
            self._end(task, partial(value_of, told[1]))

    async def _follow(self, task: _Task, remote: RemoteFuture[bytes | None]) -> None:
        """Hand on how a task ends whose answer is not told: it has a large one, or none since Dask gave it up."""
        try:
            answer = await remote
            lost = SchedulerError("lost the result of a task")
            self._end(task, partial(_raise, lost) if answer is None else partial(value_of, answer))
        except BaseException as error:
            self._end(task, partial(_raise, task.given_up or _told(error)))

    def _end(self, task: _Task, result: Callable[[], Any]) -> None:
        """Settle a task, once, and let go of what the cluster has of it."""
        with self._lock:
            self._moved = time.monotonic()
            if self._tasks.pop(task.key, None) is None:
                return
        settle(task.outcome, result)
        if task.follower is not None:
            task.follower.cancel()
        if task.remote is not None:
            task.remote.release()

    def _keep_watch(self) -> None:
        """Give all tasks up when nothing moves: Dask may lose sight of them (dask/distributed#3196)."""
        while not self._closing.wait(_LOOK_EVERY):
            with self._lock:
                idle = time.monotonic() - self._moved
                tasks = list(self._tasks.values())
            if tasks and idle > self._stalled_after and not self._is_at_work():
                for task in tasks:
                    task.given_up = SchedulerError(f"nothing has moved on the cluster for {idle:.0f} s")
                    with suppress(OSError, RuntimeError):
                        if task.remote is not None:
                            task.remote.cancel()

    def _is_at_work(self) -> bool:
        """Whether any worker has something to do, for us or for others."""
        try:
            return any(self._client.processing().values())
        except (OSError, RuntimeError):
            return False


@dataclass(slots=True, eq=False)
class _Task:
    """A task under way, here and there."""

    run: Callable[[], Any]
    outcome: Future[Any] = field(default_factory=Future)
    remote: RemoteFuture[bytes | None] | None = None
    follower: asyncio.Task[None] | None = None
    key: str = field(default_factory=lambda: f"task-{uuid.uuid4().hex}")
    """It says nothing of what the task reads: it is in logs and on dashboards."""
    given_up: SchedulerError | None = None


def _told(error: BaseException) -> BaseException:
    """The error as our callers know it."""
    if isinstance(error, KilledWorker):
        return QuarantineError(f"given up: {error.allowed_failures + 1} workers were lost while they ran it")
    if isinstance(error, CancelledError | asyncio.CancelledError | CommClosedError):
        return SchedulerError(f"lost the scheduler: {error}" if str(error) else "lost the scheduler")
    return error


def _raise(error: BaseException) -> None:
    raise error


@contextmanager
def _connected(address: str, security: Security | None) -> Iterator[Client]:
    """A client of a scheduler that has workers.  Raises UsageError where there is none within some time."""
    reached: Future[Client] = Future()
    most = seconds("pcap2arrow.reached-within")
    try:
        begin = partial(Client, address, security=security or _security(address), set_as_default=False)
        threading.Thread(target=settle, args=(reached, begin), daemon=True).start()  # it may wait for ever
        client = reached.result(most)
    except (OSError, RuntimeError) as error:
        reason = str(error) or f"no answer after {most:g} s"
        raise UsageError(f"{address}: can't reach the scheduler: {reason}") from error
    with client:
        most = seconds("pcap2arrow.workers-within")
        try:
            client.wait_for_workers(1, timeout=most)
        except TimeoutError as error:
            raise UsageError(f"{address}: no workers after {most:g} s") from error
        yield client


def _security(address: str) -> Security:
    """What Dask's configuration says about certificates, which ``tls://`` needs."""
    if _ADDRESS.fullmatch(address) is None:
        raise UsageError(f"{address}: no scheduler: expected tcp://host:port or tls://host:port")
    security = Security()
    if address.startswith("tls:") and security.get_connection_args("client")["ssl_context"] is None:
        raise UsageError(f"{address}: no certificates: set distributed.comm.tls in Dask's configuration")
    return security
