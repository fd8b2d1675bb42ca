"""A conversion as people and programs watch it."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from jobs.cli.output import complain, print_json_line, say
from jobs.convert import convert, fitting_scheduler
from jobs.own_process import keep_memory
from jobs.progress import event_lines, progress_bar
from jobs.reports import conversion_problems, conversion_summary, converted_octets
from pcap2arrow.conversion.api import ConversionReport
from pcap2arrow.conversion.driver import Watcher
from pcap2arrow.conversion.options import Frames, OnError, Options, PartitionBy
from pcap2arrow.inputs import Inputs, find_captures


def run_conversion(
    captures: Iterable[str],
    dataset: str,
    *,
    frames: Frames,
    on_error: OnError,
    partition_by: PartitionBy,
    as_json: bool,
    scheduler: str | None,
    workers: int | None,
    **settings: Any,
) -> int:
    """Convert, show how far it is, and report; the result is the exit code.

    ``scheduler`` is chosen by the input where it is None; ``settings`` are further ones of
    :func:`jobs.convert.convert`.
    """
    keep_memory()
    begin = time.monotonic()
    found = find_captures(captures)
    settings |= {"scheduler": scheduler or fitting_scheduler(found, workers), "workers": workers}
    with _watcher(found, as_json=as_json) as watch:
        report = convert(found, dataset, Options(frames, on_error, partition_by), watch=watch, **settings)
    seconds = max(time.monotonic() - begin, 1e-9)
    if as_json:
        print_json_line(_summary(report, seconds))
    else:
        say(conversion_summary(report, seconds))
    for problem in conversion_problems(report):
        complain(problem)
    return 1 if report.failed or report.damaged else 0


def _watcher(found: Inputs, *, as_json: bool) -> AbstractContextManager[Watcher]:
    if as_json:
        return nullcontext(event_lines(sys.stdout))
    if sys.stderr.isatty():
        from rich.console import Console

        return progress_bar(found.captures, Console(stderr=True))
    return nullcontext(lambda event: None)


def _summary(report: ConversionReport, seconds: float) -> dict[str, Any]:
    counts = Counter(capture.status for capture in report.captures)
    return {
        "event": "summary",
        "captures": len(report.captures),
        **{status: counts[status] for status in ("converted", "named", "unchanged", "failed")},
        "damaged": len(report.damaged),
        "left_out": report.left_out,
        "packets": report.packets,
        "octets": converted_octets(report),
        "seconds": round(seconds, 3),
    }
