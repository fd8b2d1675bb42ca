"""A conversion as people and programs watch it."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from jobs.batch import commit_plan, make_plan, run_units
from jobs.cli.output import complain, print_json_line, say
from jobs.convert import convert, fitting_scheduler
from jobs.own_process import keep_memory
from jobs.progress import event_lines, progress_bar
from jobs.reports import conversion_problems, conversion_summary, converted_octets, plural
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
    return _tell(report, begin, as_json=as_json)


def run_planning(
    captures: Iterable[str],
    dataset: str,
    place: str,
    *,
    frames: Frames,
    on_error: OnError,
    partition_by: PartitionBy,
    as_json: bool,
    scheduler: str | None,
    workers: int | None,
    **settings: Any,
) -> int:
    """Plan a conversion, show how far that is, and report; the result is the exit code."""
    begin = time.monotonic()
    found = find_captures(captures)
    settings |= {"scheduler": scheduler or fitting_scheduler(found, workers), "workers": workers}
    options = Options(frames, on_error, partition_by)
    with _watcher(found, as_json=as_json) as watch:
        plan, report = make_plan(found, dataset, place, options, watch=watch, **settings)
    code = _tell(report, begin, as_json=as_json, units=len(plan))
    if not as_json:
        last = (
            f": pcap2arrow unit {place} 0 to {len(plan) - 1}, then pcap2arrow commit {place}"
            if len(plan)
            else ""
        )
        say(f"{plural(len(plan), 'unit')} to write{last}")
    return code


def write_units(place: str, indexes: Iterable[int], *, as_json: bool) -> int:
    """Write units of a plan, and report each; the result is the exit code."""
    keep_memory()
    failed = False
    for group in run_units(place, indexes):
        failed |= bool(group.errors)
        if as_json:
            print_json_line({"event": "unit"} | dataclasses.asdict(group))
        else:
            say(f"unit {group.index}: {plural(group.packets, 'packet')}")
        for error in group.errors:
            complain(f"failed: {error}")
    return 1 if failed else 0


def commit_planned(place: str, *, as_json: bool) -> int:
    """Commit a plan, and report; the result is the exit code."""
    begin = time.monotonic()
    watch = event_lines(sys.stdout) if as_json else lambda event: None
    return _tell(commit_plan(place, watch=watch), begin, as_json=as_json)


def _tell(report: ConversionReport, begin: float, *, as_json: bool, **more: Any) -> int:
    """Say what became of captures; the result is the exit code."""
    seconds = max(time.monotonic() - begin, 1e-9)
    if as_json:
        print_json_line(_summary(report, seconds) | more)
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
        **{status: counts[status] for status in ("converted", "named", "planned", "unchanged", "failed")},
        "damaged": len(report.damaged),
        "left_out": report.left_out,
        "packets": report.packets,
        "octets": converted_octets(report),
        "seconds": round(seconds, 3),
    }
