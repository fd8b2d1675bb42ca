"""An executor on a Dask cluster; the only module that knows Dask."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from functools import partial
from typing import Any, TypeVar

import dask.config
from distributed import Client, KilledWorker
from distributed import Future as RemoteFuture
from distributed.comm.core import CommClosedError

from jobs.outcomes import settle
from pcap2arrow.errors import SchedulerError, UsageError

_T = TypeVar("_T")

_WAIT_FOR_WORKERS = 30  # seconds

_TIMEOUTS = {
    "distributed.comm.timeouts.connect": "5s",
    "distributed.comm.timeouts.tcp": "12s",  # how soon a lost host is noticed; 11 s is the least allowed
}


class ClusterExecutor(Executor):
    """Runs tasks on the workers of the Dask scheduler at ``address``; ``threads`` tells how many at once.

    Certificates for ``tls://`` come from Dask's configuration.  A result is released as soon as it is here,
    so that a worker that dies takes nothing finished with it.  Raises UsageError without a scheduler, or
    without workers.
    """

    def __init__(self, address: str) -> None:
        self._config = dask.config.set(_TIMEOUTS)
        try:
            self._client = Client(address, set_as_default=False)
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            self._config.__exit__(None, None, None)
            raise UsageError(f"{address}: can't reach the scheduler: {error}") from error
        try:
            self._client.wait_for_workers(1, timeout=_WAIT_FOR_WORKERS)
        except TimeoutError as error:
            self.shutdown(wait=False)
            raise UsageError(f"{address}: no workers after {_WAIT_FOR_WORKERS} s") from error
        self.threads: int = sum(self._client.nthreads().values())

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Run ``fn(*args, **kwargs)``, which has to be picklable, and its result too, on some worker."""
        outcome: Future[_T] = Future()
        try:
            remote = self._client.submit(fn, *args, **kwargs, pure=False)
        except (OSError, RuntimeError) as error:
            raise SchedulerError(f"lost the scheduler: {error}") from error
        remote.add_done_callback(partial(_end, outcome))
        return outcome

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster: what has not begun is dropped, what runs there ends without effect."""
        self._client.close()
        self._config.__exit__(None, None, None)


def _end(outcome: Future[_T], remote: RemoteFuture[_T]) -> None:
    def result() -> _T:
        try:
            value: _T = remote.result()
            return value
        except KilledWorker as error:
            raise SchedulerError(f"workers died of this task: {error}") from error
        except (CancelledError, CommClosedError) as error:
            raise SchedulerError(f"lost the scheduler: {error}") from error
        finally:
            remote.release()

    settle(outcome, result)
