"""Proof that a dataset gives its captures back, by threads, processes or a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial

from jobs.executors import THREADS, open_executor, run_all
from jobs.limits import USUAL_LIMITS, Limits
from pcap2arrow.dataset.log import open_dataset
from pcap2arrow.errors import QuarantineError
from pcap2arrow.tasks import NamedTask
from pcap2arrow.writing.originals.verification import VerifyReport, verify_capture
from pcap2arrow.writing.progress import Meter


def verify(
    dataset: str | os.PathLike[str],
    *,
    scheduler: str = THREADS,
    workers: int | None = None,
    limits: Limits = USUAL_LIMITS,
    tell_dashboard: Callable[[str], object] | None = None,
    watch: Callable[[int, int | None], object] = lambda done, total: None,
) -> Iterator[VerifyReport]:
    """Verify captures as :func:`pcap2arrow.verify` does, one task each, and report them in the same order.

    ``watch`` is told how many octets of captures are verified, and of how many.  A capture whose task kills its worker
    is reported, and costs no other.  Raises DatasetError where there is no dataset, UsageError where the scheduler
    can't be reached, SchedulerError where it is lost.
    """
    opened = open_dataset(dataset)
    captures = opened.snapshot().ordered()
    meter = Meter([live.source.size for live in captures], watch)
    tasks = (
        NamedTask(live.name, partial(verify_capture, opened, live), live.source.size) for live in captures
    )
    with open_executor(scheduler, workers, limits=limits, tell_dashboard=tell_dashboard) as (
        executor,
        workers,
    ):
        for live, report in zip(captures, run_all(executor, workers, tasks, lost=_lost), strict=True):
            meter.add(live.source.size or 0)
            yield report


def _lost(capture: NamedTask, error: QuarantineError) -> VerifyReport:
    return VerifyReport(capture.name, False, "checksum", f"{capture.name}: {error}")
