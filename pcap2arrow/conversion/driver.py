"""Converting many captures: which are new, what runs where, and commits in batches.

The driver decides and commits; tasks read and write.  Tasks are plain functions of picklable arguments, handed to any
:class:`concurrent.futures.Executor`: threads, processes, or a cluster.  A large capture is scanned in ranges and
written in units; a small or compressed one is converted by one task.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pcap2arrow.conversion import capture as tasks
from pcap2arrow.conversion.capture import Converted, Scanned
from pcap2arrow.conversion.options import Options
from pcap2arrow.conversion.scan import RangeScan, block_count, ranges
from pcap2arrow.conversion.task import Outcome, Task
from pcap2arrow.conversion.unit import WrittenUnit
from pcap2arrow.dataset.change import plan_change
from pcap2arrow.dataset.log import Dataset
from pcap2arrow.dataset.snapshot import LiveCapture, Snapshot
from pcap2arrow.dataset.snapshot import Source as Stamp
from pcap2arrow.errors import ConflictError, Pcap2ArrowError, QuarantineError, SchedulerError
from pcap2arrow.inputs import Input
from pcap2arrow.savefile.source import STANDARD_INPUT, compression_of, peek_stored, stamp

_SPLIT_FROM = 2  # blocks: a smaller capture is one task

_BATCH = 64
_BATCH_SECONDS = 1.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CaptureReport:
    """What became of one capture.

    ``status`` is ``"converted"``, ``"unchanged"`` (live already), ``"named"`` (its content was live under another
    name), ``"planned"`` (by :class:`~pcap2arrow.conversion.planning.Planning`) or ``"failed"``.  ``error`` says why
    it failed, or what damage there is in a converted one.
    """

    name: str
    path: str
    status: str
    packets: int = 0
    size: int = 0
    error: str | None = None
    workers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """A task that has ended: ``packets`` were written (0 by a scan), ``octets`` were read, by ``worker``."""

    name: str
    packets: int
    octets: int
    worker: str
    seconds: float


Watcher = Callable[[Step | CaptureReport], None]


@dataclass(slots=True)
class Job:
    """A capture on its way."""

    found: Input
    stamp: Stamp
    scans: dict[int, RangeScan] = field(default_factory=dict)
    wanted: int = 0
    scanned: Scanned | None = None
    units: dict[int, WrittenUnit] = field(default_factory=dict)
    workers: dict[str, None] = field(default_factory=dict)
    confirmed: bool = False
    failed: bool = False


class Conversion:
    """A run over captures: made, then :meth:`run` once."""

    def __init__(
        self,
        dataset: Dataset,
        options: Options,
        executor: Executor,
        *,
        workers: int,
        replace: bool = False,
        rehash: bool = False,
        spool: str | None = None,
        watch: Watcher = lambda event: None,
    ) -> None:
        self._dataset, self._options, self._executor = dataset, options, executor
        self._workers, self._spool, self._watch = max(workers, 1), spool, watch
        self._replace, self._rehash = replace, rehash
        self._snapshot: Snapshot = dataset.snapshot()
        self._live_sizes = {live.source.size for live in self._snapshot.captures.values()}
        self._ready: deque[tuple[Task, Callable[[Job, Any], None], Job]] = deque()
        self._running: dict[Future[Outcome], tuple[Task, Callable[[Job, Any], None], Job]] = {}
        self._waiting: list[tuple[Job, Converted]] = []
        self._last_commit = time.monotonic()
        self._reports: list[CaptureReport] = []

    def run(self, captures: Iterable[Input]) -> tuple[CaptureReport, ...]:
        """Convert the captures; each ends in one report, a failed one too.  What is reported is committed."""
        inputs = iter(_named_once(captures, self._refuse))
        self._work(partial(self._feed, inputs))
        return tuple(self._reports)

    def commit(self, written: Sequence[tuple[Input, Converted]]) -> tuple[CaptureReport, ...]:
        """Make captures visible that were written elsewhere; each ends in one report."""
        for first in range(0, len(written), _BATCH):
            self._waiting = [
                (Job(found, converted.capture.source), converted)
                for found, converted in written[first : first + _BATCH]
            ]
            self._work(lambda: bool(self._ready))
        return tuple(self._reports)

    def _work(self, has_more: Callable[[], bool]) -> None:
        """Run tasks and commit until there is nothing left, and ``has_more`` says that no more comes."""
        try:
            while has_more() or self._running or self._waiting:
                self._submit()
                self._collect()
                self._commit_if_due()
        except BaseException:
            for future in self._running:
                future.cancel()
            raise

    def _feed(self, inputs: Iterable[Input]) -> bool:
        """Begin captures while workers are free; the result says whether anything is left to submit."""
        for found in inputs if len(self._ready) < self._workers else ():
            self._begin(found)
            if len(self._ready) >= self._workers:
                break
        return bool(self._ready)

    def _submit(self) -> None:
        while self._ready and len(self._running) < 2 * self._workers:
            task, then, job = self._ready.popleft()
            if job.failed:
                continue
            self._running[self._executor.submit(task)] = task, then, job

    def _collect(self) -> None:
        done, _ = wait(self._running, timeout=_BATCH_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            task, then, job = self._running.pop(future)
            try:
                outcome = future.result()
                job.workers[outcome.worker] = None
                self._report_step(job, outcome)
                if not job.failed:
                    then(job, outcome.value)
            except QuarantineError as error:
                self._fail(job, f"{job.found.name}: offset {task.offset}: {error}")
            except (SchedulerError, BrokenExecutor):
                raise
            except Pcap2ArrowError as error:
                self._fail(job, str(error))
            except Exception as error:
                _logger.debug("converting %s", job.found.path, exc_info=True)
                self._fail(job, f"{job.found.name}: internal error: {type(error).__name__}: {error}")

    def _fail(self, job: Job, error: str) -> None:
        """Report a capture as failed, once, whichever of its tasks fail; the rest of them is not begun."""
        if not job.failed:
            job.failed = True
            self._refuse(job.found, error)

    def _report_step(self, job: Job, outcome: Outcome) -> None:
        value, packets, octets = outcome.value, 0, 0
        if isinstance(value, WrittenUnit):
            packets, octets = value.packets, value.octets
        elif isinstance(value, RangeScan):
            octets = sum(block.end - block.begin.offset for block in value.blocks)
        elif isinstance(value, Converted):
            packets, octets = value.capture.packets, (1 if job.scanned else 2) * value.plan.size
        elif isinstance(value, Scanned):
            octets = value.plan.size if not job.scans else 0
        self._watch(Step(job.found.name, packets, octets, outcome.worker, outcome.seconds))

    def _refuse(self, found: Input, error: str) -> None:
        self._report(CaptureReport(found.name, found.path, "failed", error=error))

    def _report(self, report: CaptureReport) -> None:
        self._reports.append(report)
        self._watch(report)

    def _begin(self, found: Input) -> None:
        """Decide how a capture is read, or that it need not be."""
        try:
            job = Job(found, stamp(found.path))
            live = self._snapshot.captures.get(found.name)
            if live and self._is_unread(live, job.stamp):
                self._report(
                    CaptureReport(found.name, found.path, "unchanged", live.packets, job.stamp.size or 0)
                )
                return
            split = found.path != STANDARD_INPUT and not compression_of(peek_stored(found.path))
        except Pcap2ArrowError as error:
            self._refuse(found, str(error))
            return
        blocks = block_count(job.stamp.size or 0, self._options.block)
        if split and blocks >= _SPLIT_FROM:
            parts = ranges(blocks, blocks)
            job.wanted = len(parts)
            block = self._options.block
            for first, last in parts:
                scan = partial(tasks.scan_part, found, first, last, self._options)
                part = Task(scan, first * block, (last + 1 - first) * block)
                self._ready.append((part, self._scanned_part, job))
        elif job.stamp.size is not None and job.stamp.size in self._live_sizes:
            self._whole(job, partial(tasks.scan_alone, found, self._options, self._spool), self._scanned)
        else:
            self._write(job)

    def _whole(self, job: Job, run: Callable[[], Any], then: Callable[[Job, Any], None]) -> None:
        """Have something done with a capture as a whole."""
        self._ready.append((Task(run, 0, job.stamp.size), then, job))

    def _is_unread(self, live: LiveCapture, found: Stamp) -> bool:
        """Whether a live capture is this file, by its stamp.  Raises ConflictError where only the options differ."""
        if live.source != found or (found.mtime_ns is None and found.etag is None):
            return False
        if live.options != self._options.text and not self._replace:
            raise ConflictError(
                f"{live.name} is in the dataset, converted with other options ({live.options}; now "
                f"{self._options.text}): remove it, or replace it"
            )
        return live.options == self._options.text and not self._rehash

    def _scanned_part(self, job: Job, scan: RangeScan) -> None:
        job.scans[scan.first] = scan
        if len(job.scans) == job.wanted:
            scans = [job.scans[first] for first in sorted(job.scans)]
            join = partial(tasks.join_parts, job.found, job.stamp, scans, self._options)
            self._whole(job, join, self._scanned)

    def _scanned(self, job: Job, scanned: Scanned) -> None:
        job.scanned = scanned
        live = self._live_content(scanned.plan.identity)
        if live:
            self._confirm(job, scanned, live)
        else:
            self._write(job)

    def _write(self, job: Job) -> None:
        """Have a capture written: unit by unit if it was scanned in ranges, else by one task."""
        if not (job.scans and job.scanned):
            whole = partial(tasks.convert_whole, self._dataset, job.found, self._options, self._spool)
            self._whole(job, whole, self._converted)
            return
        plan = job.scanned.plan
        job.wanted = len(plan.units)
        for unit in sorted(plan.units, key=lambda each: -each.packets):  # no long one is left for the end
            write = partial(
                tasks.write_part, job.found, job.stamp, plan.header, unit, self._options, self._dataset
            )
            task = Task(write, unit.begin.offset, unit.end - unit.begin.offset)
            self._ready.append((task, self._wrote, job))

    def _live_content(self, identity: str) -> LiveCapture | None:
        """A live capture of that content, converted as now."""
        names = self._snapshot.names.get(int(identity[:16], 16), ())
        same = (self._snapshot.captures[name] for name in names)
        return next(
            (live for live in same if (live.identity, live.options) == (identity, self._options.text)), None
        )

    def _confirm(self, job: Job, scanned: Scanned, live: LiveCapture) -> None:
        """Have the source compared with the table, octet by octet, before it counts as the same content."""
        job.confirmed = True
        confirm = partial(tasks.confirm, self._dataset, job.found, scanned, live, self._options, self._spool)
        self._whole(job, confirm, self._converted)

    def _wrote(self, job: Job, unit: WrittenUnit) -> None:
        job.units[unit.begin] = unit
        if len(job.units) == job.wanted and job.scanned:
            units = [job.units[begin] for begin in sorted(job.units)]
            self._converted(job, tasks.finish(self._dataset, job.found, job.scanned, units, self._options))

    def _converted(self, job: Job, converted: Converted) -> None:
        self._waiting.append((job, converted))

    def _commit_if_due(self) -> None:
        idle = not (self._running or self._ready)
        late = time.monotonic() - self._last_commit >= _BATCH_SECONDS
        if not self._waiting or not (idle or late or len(self._waiting) >= _BATCH):
            return
        self._last_commit = time.monotonic()
        batch, self._waiting = self._waiting, []
        doubtful = [pair for pair in batch if self._must_confirm(*pair)]
        fresh = [pair for pair in batch if not self._must_confirm(*pair)]
        try:
            self._commit(fresh)
        except ConflictError:
            for pair in fresh:
                try:
                    self._commit([pair])
                except ConflictError as error:
                    self._refuse(pair[0].found, str(error))
        for job, converted in doubtful:
            live = self._live_content(converted.capture.identity)
            if live:
                self._confirm(job, Scanned(converted.plan, job.stamp), live)
            else:
                self._waiting.append((job, converted))

    def _must_confirm(self, job: Job, converted: Converted) -> bool:
        """Whether the same content went live, under another name, while this capture was converted."""
        live = self._live_content(converted.capture.identity)
        return live is not None and live.name != converted.capture.name and not job.confirmed

    def _commit(self, batch: list[tuple[Job, Converted]]) -> None:
        captures = [converted.capture for _, converted in batch]
        before: list[Snapshot] = []

        def build(snapshot: Snapshot) -> Any:
            before[:] = [snapshot]
            return plan_change(snapshot, captures, replace=self._replace)

        self._snapshot = self._dataset.commit(build)
        earlier: set[str] = set()
        for job, converted in batch:
            capture, plan = converted.capture, converted.plan
            status = _status(before[0], capture, earlier)
            earlier.add(capture.identity)
            found, workers = job.found, tuple(job.workers)
            self._report(
                CaptureReport(found.name, found.path, status, capture.packets, plan.size, plan.error, workers)
            )


def _status(before: Snapshot, capture: LiveCapture, earlier: set[str]) -> str:
    """What a commit did for a capture; ``earlier`` are identities that came before it in the same commit."""
    same = [live for live in before.of_content(capture) if live.options == capture.options]
    if any(live.name == capture.name for live in same):
        return "unchanged"
    return "named" if same or capture.identity in earlier else "converted"


def _named_once(captures: Iterable[Input], refuse: Callable[[Input, str], None]) -> Iterable[Input]:
    """The captures whose name no earlier one has; the others are refused."""
    taken: dict[str, str] = {}
    for found in captures:
        if taken.setdefault(found.name, found.path) == found.path:
            yield found
        else:
            refuse(
                found,
                f"{found.path}: {taken[found.name]} has the name {found.name!r} already: name their folder",
            )
