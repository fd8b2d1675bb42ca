"""A conversion in steps that need nothing but a shared folder: plan it, write its units anywhere, commit.

The plan says what is written, so that units can be written in any order, on any machine, and more than once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pcap2arrow.conversion import capture as tasks
from pcap2arrow.conversion.capture import Converted, Scanned
from pcap2arrow.conversion.driver import CaptureReport, Conversion, Job
from pcap2arrow.conversion.options import Options
from pcap2arrow.conversion.placed import Unit
from pcap2arrow.conversion.plan import CapturePlan
from pcap2arrow.conversion.unit import WrittenUnit
from pcap2arrow.dataset.log import Dataset
from pcap2arrow.dataset.snapshot import Source as Stamp
from pcap2arrow.errors import Pcap2ArrowError
from pcap2arrow.inputs import Input
from pcap2arrow.savefile.source import check_unchanged


@dataclass(frozen=True, slots=True)
class PlannedCapture:
    """A capture to write: whole where ``plan`` is None, else in units, which the plan does not repeat."""

    found: Input
    stamp: Stamp
    plan: CapturePlan | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A unit of the capture of that number, or the whole of it."""

    capture: int
    unit: Unit | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a part: a unit is ``written``, a whole capture ``converted``, or an ``error`` says why not."""

    capture: int
    written: WrittenUnit | None = None
    converted: Converted | None = None
    error: str | None = None


@dataclass(slots=True)
class Planned:
    """Captures, and their parts in groups of about one unit's octets."""

    captures: list[PlannedCapture] = field(default_factory=list)
    groups: list[list[Part]] = field(default_factory=list)


class Planning(Conversion):
    """Decides about captures as a conversion does, but leaves ``planned`` what it would write.

    Large captures are scanned.  Captures whose content is live get their names at once.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.planned = Planned()
        self._room = 0

    def _write(self, job: Job) -> None:
        scanned = job.scanned if job.scans else None
        units: Sequence[Unit | None] = scanned.plan.units if scanned else (None,)
        number = len(self.planned.captures)
        plan = dataclasses.replace(scanned.plan, units=()) if scanned else None
        self.planned.captures.append(PlannedCapture(job.found, job.stamp, plan))
        for unit in units:
            octets = (job.stamp.size or 0) if unit is None else unit.end - unit.begin.offset
            if octets > self._room:
                self.planned.groups.append([])
                self._room = self._options.block
            self.planned.groups[-1].append(Part(number, unit))
            self._room -= octets
        packets = scanned.plan.packets if scanned else 0
        self._report(CaptureReport(job.found.name, job.found.path, "planned", packets, job.stamp.size or 0))


def write_group(
    parts: Iterable[Part], captures: Mapping[int, PlannedCapture], options: Options, dataset: Dataset
) -> list[Written]:
    """Write parts of captures; one that fails costs no other.  ``captures`` are theirs, by number."""
    return [_write_part(part, captures[part.capture], options, dataset) for part in parts]


def _write_part(part: Part, capture: PlannedCapture, options: Options, dataset: Dataset) -> Written:
    found, plan = capture.found, capture.plan
    try:
        check_unchanged(found.path, found.name, capture.stamp)
        if plan is None or part.unit is None:
            return Written(part.capture, converted=tasks.convert_whole(dataset, found, options))
        unit = tasks.write_part(found, capture.stamp, plan.header, part.unit, options, dataset)
        return Written(part.capture, written=unit)
    except Pcap2ArrowError as error:
        return Written(part.capture, error=str(error))


def finish_planned(
    captures: Sequence[PlannedCapture],
    groups: Sequence[Sequence[int]],
    results: Sequence[Sequence[Written] | None],
    options: Options,
    dataset: Dataset,
) -> tuple[list[tuple[Input, Converted]], list[CaptureReport]]:
    """The captures that are whole, and reports of those that failed or lack units.

    ``groups`` has the captures' numbers of each group's parts, ``results`` what became of each, None for a group that
    has not been written.
    """
    missing: dict[int, list[int]] = {}
    written: dict[int, list[Written]] = {}
    for index, (numbers, result) in enumerate(zip(groups, results, strict=True)):
        for number in numbers if result is None else ():
            missing.setdefault(number, []).append(index)
        for each in result or ():
            written.setdefault(each.capture, []).append(each)
    whole: list[tuple[Input, Converted]] = []
    failed: list[CaptureReport] = []
    for number, capture in enumerate(captures):
        found = capture.found
        error = next((each.error for each in written.get(number, ()) if each.error), None)
        if number in missing:
            error = f"not all of it is written: run unit {' '.join(map(str, dict.fromkeys(missing[number])))}"
        if error is None:
            whole.append((found, _finished(capture, written[number], options, dataset)))
        else:
            failed.append(CaptureReport(found.name, found.path, "failed", error=error))
    return whole, failed


def _finished(
    capture: PlannedCapture, written: Sequence[Written], options: Options, dataset: Dataset
) -> Converted:
    if capture.plan is None:
        return next(each.converted for each in written if each.converted)
    units = sorted((each.written for each in written if each.written), key=lambda unit: unit.begin)
    scanned = Scanned(capture.plan, capture.stamp)
    return tasks.finish(dataset, capture.found, scanned, units, options)
