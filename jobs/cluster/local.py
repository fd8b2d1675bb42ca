"""A Dask cluster of processes on this machine, for the length of a job, that nobody else can use."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dask.config
from distributed import LocalCluster
from distributed.security import Security

from jobs.cluster.settings import log_level
from jobs.limits import Limits
from pcap2arrow.errors import SchedulerError, UsageError

_LOOPBACK = "127.0.0.1"
PATIENCE = {"pcap2arrow.reached-within": "2 minutes", "distributed.comm.timeouts.connect": "30s"}
"""Settings of a cluster that we started: it is there, however long a busy machine takes to answer."""

_NO_ROUTES: dict[str, list[str]] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}


@contextmanager
def local_cluster(
    workers: int, limits: Limits, tell_dashboard: Callable[[str], object] | None = None
) -> Iterator[tuple[str, Security]]:
    """The address of a scheduler that has so many workers of one thread, and what lets a client in.

    All connections are encrypted, and both ends show a certificate that is made for this cluster alone; its key is
    held in memory, and ends with the cluster.  There is a dashboard, on loopback, only where ``tell_dashboard`` takes
    its address.  Raises UsageError without the package ``cryptography``, SchedulerError where workers don't start.
    """
    security = _new_certificate()
    address = f"{_LOOPBACK}:{0 if tell_dashboard is None else _free_port()}"
    origin: dict[str, list[str]] = {
        "distributed.scheduler.dashboard.bokeh-application.allow_websocket_origin": [address]
    }
    with dask.config.set(_NO_ROUTES if tell_dashboard is None else origin):
        try:
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=limits.room(workers),
                security=security,
                protocol="tls://",
                host=_LOOPBACK,
                dashboard_address=address,
                scheduler_kwargs={"dashboard": tell_dashboard is not None},
                silence_logs=log_level(),
                env=dict(os.environ),  # as it is now: the server that makes processes may be older
            )
        except (OSError, RuntimeError) as error:
            raise SchedulerError(f"can't start a cluster on this machine: {error}") from error
        with cluster:
            if tell_dashboard is not None:
                tell_dashboard(cluster.dashboard_link)
            yield cluster.scheduler_address, security


def _new_certificate() -> Any:
    try:
        return Security.temporary()
    except ImportError as error:
        raise UsageError(
            "a cluster on this machine needs the package cryptography: pip install 'pcap2arrow[cluster]'"
        ) from error


def _free_port() -> int:
    """A port that is free now: the dashboard has to know its own before it starts."""
    with socket.socket() as free:
        free.bind((_LOOPBACK, 0))
        port: int = free.getsockname()[1]
        return port
