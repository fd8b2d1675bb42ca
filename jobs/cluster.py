"""An executor on a Dask cluster; the only module that knows Dask."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

import dask.config
from distributed import Client, KilledWorker
from distributed import Future as RemoteFuture
from distributed.comm.core import CommClosedError
from distributed.security import Security

from jobs.outcomes import settle
from pcap2arrow.errors import SchedulerError, UsageError

_T = TypeVar("_T")

_ADDRESS = re.compile(r"(tcp|tls)://[^\s/]+:\d{1,5}")
_WAIT_FOR_WORKERS = 30  # seconds

TIMEOUTS = {
    "distributed.comm.timeouts.connect": "5s",
    "distributed.comm.timeouts.tcp": "12s",  # how soon a lost host is noticed; 11 s is the least allowed
}
"""Settings of Dask's that hold while a client is connected."""


class ClusterExecutor(Executor):
    """Runs tasks on the workers of the Dask scheduler at ``address``; ``threads`` tells how many at once.

    Certificates for ``tls://`` come from Dask's configuration.  A result is released as soon as it is here,
    so that a worker that dies takes nothing finished with it.  Raises UsageError without a scheduler, or
    without workers.
    """

    def __init__(self, address: str) -> None:
        with ExitStack() as opened:
            opened.enter_context(dask.config.set(TIMEOUTS))
            try:
                client = Client(address, security=_security(address), set_as_default=False)
            except (OSError, RuntimeError) as error:
                raise UsageError(f"{address}: can't reach the scheduler: {error}") from error
            opened.enter_context(client)
            try:
                client.wait_for_workers(1, timeout=_WAIT_FOR_WORKERS)
            except TimeoutError as error:
                raise UsageError(f"{address}: no workers after {_WAIT_FOR_WORKERS} s") from error
            self.threads: int = sum(client.nthreads().values())
            self._client, self._opened = client, opened.pop_all()

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
        self._opened.close()


def _security(address: str) -> Security:
    """What Dask's configuration says about certificates, which ``tls://`` needs."""
    if _ADDRESS.fullmatch(address) is None:
        raise UsageError(f"{address}: no scheduler: expected tcp://host:port or tls://host:port")
    security = Security()
    if address.startswith("tls:") and security.get_connection_args("client")["ssl_context"] is None:
        raise UsageError(f"{address}: no certificates: set distributed.comm.tls in Dask's configuration")
    return security


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
