"""Proof that a dataset gives its captures back, by threads, processes or a cluster."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future

from jobs.executors import THREADS, open_executor
from jobs.isolation import USUAL_LIMITS, Limits
from pcap2arrow.dataset.log import open_dataset
from pcap2arrow.errors import QuarantineError
from pcap2arrow.writing.verification import VerifyReport, verify_capture


def verify(
    dataset: str | os.PathLike[str],
    *,
    scheduler: str = THREADS,
    workers: int | None = None,
    limits: Limits = USUAL_LIMITS,
    tell_dashboard: Callable[[str], object] | None = None,
) -> Iterator[VerifyReport]:
    """Verify captures as :func:`pcap2arrow.verify` does, one task each, and report them in the same order.

    A capture whose task kills its worker is reported, and costs no other.  Raises DatasetError where there is no
    dataset, UsageError where the scheduler can't be reached, SchedulerError where it is lost.
    """
    opened = open_dataset(dataset)
    waiting: deque[tuple[str, Future[VerifyReport]]] = deque()
    with open_executor(scheduler, workers, limits=limits, tell_dashboard=tell_dashboard) as (
        executor,
        workers,
    ):
        for live in opened.snapshot().ordered():
            waiting.append((live.name, executor.submit(verify_capture, opened, live)))
            if len(waiting) > 2 * workers:
                yield _report(*waiting.popleft())
        while waiting:
            yield _report(*waiting.popleft())


def _report(name: str, task: Future[VerifyReport]) -> VerifyReport:
    try:
        return task.result()
    except QuarantineError as error:
        return VerifyReport(name, False, "checksum", f"{name}: {error}")
