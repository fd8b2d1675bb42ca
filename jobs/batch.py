"""Conversions for batch systems: a plan, its units as commands of their own, and a commit at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from jobs.convert import anywhere, open_target
from jobs.executors import THREADS, open_executor, processors
from jobs.limits import USUAL_LIMITS, Limits
from pcap2arrow.conversion.api import ConversionReport
from pcap2arrow.conversion.driver import Conversion, Watcher
from pcap2arrow.conversion.options import Options
from pcap2arrow.conversion.planfile import PlanFile, check_no_plan, create_plan, open_plan
from pcap2arrow.conversion.planning import Planning, finish_planned, write_group
from pcap2arrow.dataset.log import Dataset, open_dataset
from pcap2arrow.errors import UsageError
from pcap2arrow.inputs import Inputs
from pcap2arrow.savefile.source import STANDARD_INPUT


@dataclass(frozen=True, slots=True)
class WrittenGroup:
    """What a unit of a plan came to: ``packets`` of captures of which it wrote parts, and ``errors``, each with the
    capture's name.
    """

    index: int
    packets: int
    errors: tuple[str, ...]


def make_plan(
    found: Inputs,
    dataset: str | os.PathLike[str],
    place: str | os.PathLike[str],
    options: Options,
    *,
    scheduler: str = THREADS,
    workers: int | None = None,
    limits: Limits = USUAL_LIMITS,
    tell_dashboard: Callable[[str], object] | None = None,
    replace: bool = False,
    rehash: bool = False,
    watch: Watcher = lambda event: None,
) -> tuple[PlanFile, ConversionReport]:
    """Plan a conversion, and write the plan to a folder or URL; what there is to scan runs on a scheduler.

    Paths in the plan are absolute: units run where captures, dataset and plan lie at the same places.  Raises
    UsageError where nothing could begin, DatasetError or SchedulerError where something fails later.
    """
    if any(capture.path == STANDARD_INPUT for capture in found.captures):
        raise UsageError("standard input can't be planned: its units could not read it again")
    check_no_plan(place)
    with open_executor(scheduler, workers, limits=limits, tell_dashboard=tell_dashboard) as (
        executor,
        workers,
    ):
        target = open_target(dataset)
        planning = Planning(
            target, options, executor, workers=workers, replace=replace, rehash=rehash, watch=watch
        )
        reports = planning.run(map(anywhere, found.captures))
    plan = create_plan(place, planning.planned, dataset=target.store.url, options=options, replace=replace)
    return plan, ConversionReport(reports, found.left_out)


def run_units(place: str | os.PathLike[str], indexes: Iterable[int]) -> Iterator[WrittenGroup]:
    """Write units of the plan in a folder or at a URL, one after another.

    Writing one again changes nothing.  Raises UsageError where there is no such plan or unit.
    """
    plan = open_plan(place)
    dataset = _dataset(plan)
    groups = [(index, *plan.group(index)) for index in indexes]
    for index, parts, captures in groups:
        result = write_group(parts, captures, plan.options, dataset)
        plan.write_result(index, result)
        yield WrittenGroup(
            index,
            sum(each.written.packets for each in result if each.written)
            + sum(each.converted.capture.packets for each in result if each.converted),
            tuple(f"{captures[each.capture].found.name}: {each.error}" for each in result if each.error),
        )


def commit_plan(place: str | os.PathLike[str], *, watch: Watcher = lambda event: None) -> ConversionReport:
    """Make the captures of a plan visible of which every unit is written; the others are reported as failed.

    Raises UsageError where there is no plan.
    """
    plan = open_plan(place)
    dataset = _dataset(plan)
    whole, failed = finish_planned(plan.captures, plan.groups, plan.results(), plan.options, dataset)
    for report in failed:
        watch(report)
    workers = processors()
    with ThreadPoolExecutor(workers, thread_name_prefix="worker") as executor:
        conversion = Conversion(
            dataset, plan.options, executor, workers=workers, replace=plan.replace, watch=watch
        )
        return ConversionReport((*failed, *conversion.commit(whole)), 0)


def _dataset(plan: PlanFile) -> Dataset:
    return open_dataset(plan.dataset)
