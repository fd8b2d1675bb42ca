"""A job that puts TCP streams together, in rounds of tasks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import polars as pl

from jobs.count import checked_filter
from jobs.executors import run_all
from jobs.rounds import Numbered, batches, name_lost, read_batches, sum_if_known, units
from jobs.steps import Progress
from jobs.streams.apart import (
    Answer,
    Answered,
    Elsewhere,
    end_together,
    finish,
    hand_out,
    hold_fragments,
    lay_out,
    memory_of,
)
from jobs.streams.api import Sizes, StreamsReport, Watcher, empty
from jobs.streams.tasks import SOURCE_ERRORS, Outputs, Parted, part_packets, put_together
from pcap2arrow.errors import ExportError
from pcap2arrow.reading.api import polars_schema
from pcap2arrow.tasks import NamedTask
from pcap2arrow.times import TimeRange
from pcap2arrow.writing.target import failing_as, open_target
from queries.streams.octets import of_frame
from queries.streams.packets import AT, COLUMNS, LENGTH, NAMING, PART, PAYLOAD, is_tcp, segments
from queries.streams.partial import MANY, Partial, Whole
from queries.streams.reading import Part, Reading, ordered, parts
from queries.streams.rules import Rules
from queries.streams.spill import ROW, Parting, Piece, Spill, memory

if TYPE_CHECKING:
    from queries.filters.compiled import Filter

_FILE_BLOCK = 1 << 12
"""Octets that file systems take at least for a run between two holes."""


@dataclass(slots=True)
class Job:
    """What is written, of what, and who works on it."""

    sources: Sequence[str | os.PathLike[str]]
    rules: Rules
    chosen: Filter | None
    times: TimeRange
    outputs: Outputs
    executor: Executor
    workers: int
    in_process: bool
    sizes: Sizes
    watch: Watcher

    def run(self, tables: str | None) -> StreamsReport:
        """Write files and tables, these to the folder ``tables``; see :func:`~jobs.streams.api.write_streams`.

        Octets that turn out to be damaged where headers are not are left out, with all of their part: from the start.
        """
        cut = partial(units, executor=self.executor, workers=self.workers, octets=self.sizes.task)
        found = list(enumerate(parts(self.sources, self._reading(), units=cut)))
        if not self._can_be_apart([part for _, part in found]):
            return self._streams(found, self._reading(), tables)
        try:
            return self._streams(found, self._reading(apart=True), tables)
        except SOURCE_ERRORS:
            for folder in (self.outputs.temporary, self.outputs.folder):
                if folder is not None:
                    empty(folder)
            return self._streams(found, self._reading(), tables)

    def _reading(self, *, apart: bool = False) -> Reading:
        return Reading(
            columns=self._columns(),
            chosen=self.chosen,
            where=is_tcp(self.rules),
            views=True,
            defrag=self.rules.defrag and not self.rules.as_tcpflow,
            apart=apart,
            of_tcp=True,
            times=self.times,
        )

    def _streams(
        self, found: Sequence[tuple[int, Part]], reading: Reading, tables: str | None
    ) -> StreamsReport:
        parted, parts_ = self._part(found, reading)
        told = (warning for each in parted for warning in each.warnings)
        warnings = (*checked_filter(self.chosen, [each.tally for each in parted]), *told)
        errors = tuple(error for each in parted for error in each.errors)
        buckets: dict[int, list[Piece]] = {}
        for piece in (piece for each in parted for piece in each.pieces):
            buckets.setdefault(piece.bucket, []).append(piece)
        put_together = self._put_together_apart if reading.apart else self._put_together
        partials = put_together(sorted(buckets.items()), parts_)
        if partials and (self.outputs.tables or not self.outputs.final):
            self._finish(Whole(partials), tables)
        if self.outputs.report is not None:
            from jobs.streams.report import write_report_of_buckets

            write_report_of_buckets(self.outputs.report, partials)
        return _report(partials, (*warnings, *self._warnings(partials)), errors)

    def _warnings(self, partials: Sequence[Partial]) -> Iterator[str]:
        """What to say of holes, each of which costs a file system the rest of a block."""
        names = "octets", "gaps", "missing"
        octets, gaps, missing = (sum(getattr(each, name) for each in partials) for name in names)
        blocks = gaps * _FILE_BLOCK
        if self.outputs.folder is not None and self.rules.gaps == "zero" and blocks > MANY:
            yield (
                f"warning: {gaps} holes: files of {octets + missing} octets take about {octets + blocks} on disk "
                f"for the {octets} that there are; --gaps skip leaves holes out"
            )

    def _can_be_apart(self, found: Sequence[Part]) -> bool:
        """Whether octets may be read once more, where headers tell that they are needed."""
        all_are_needed = self.outputs.hashes or "octets" in self.outputs.tables
        all_are_needed |= self.rules.gaps != "zero" or bool(self.outputs.contents)
        return not all_are_needed and all(part.source is not None or part.is_last for part in found)

    def _columns(self) -> tuple[str, ...]:
        needed = ("time", *self.outputs.template.columns)
        if self.outputs.report is not None:
            needed = (*needed, "eth_src", "eth_dst", "frame_len")
        left_out = {"frame_len", *NAMING} - set(needed)
        if not self.rules.as_tcpflow:
            left_out |= {"filter_len", "ip_proto"}
        return tuple(each for each in COLUMNS if each not in left_out)

    def _schema(self, *, apart: bool) -> pl.Schema:
        """Columns of segments, without what they carried."""
        empty = polars_schema().to_frame()
        unused = PAYLOAD if self.outputs.report is not None else ("caplen", PAYLOAD)
        schema = segments(ordered(empty, 0, self._columns()), self.rules).drop(unused).schema
        more = {LENGTH: pl.UInt32(), PART: pl.UInt32(), AT: pl.UInt64()} if apart else {}
        return pl.Schema({**schema, **more})

    def _part(
        self, found: Sequence[tuple[int, Part]], reading: Reading
    ) -> tuple[list[Parted], Sequence[tuple[int, Part]]]:
        """The first round: packets into buckets; and the parts that octets of them are read from."""
        parting = self._parting([part for _, part in found], reading)
        in_memory = parting.buckets == 1 and self.in_process
        schema = self._schema(apart=reading.apart)
        columns = (*schema.names(), *(() if reading.apart else (PAYLOAD,)))
        files = count()

        def task(some: Sequence[Numbered]) -> Callable[[], Parted]:
            path = None if in_memory else str(Path(self.outputs.temporary, f"{next(files)}.packets"))
            return partial(part_packets, some, reading.again, parting, path, self.rules, columns)

        def given_up(error: str) -> Parted:
            return Parted((), (), 0, (error,), None)

        others = [each for each in found if not each[1].is_last]
        some = batches(others, lambda each: each[1].octets, self.sizes.task)
        total = sum_if_known(part.octets for _, part in found)
        done, parted = 0, []
        for each in read_batches(self.executor, self.workers, some, task, given_up):
            done += each.octets
            parted.append(each)
            for held in each.fragments:
                self._take(reading, held)
            self.watch(Progress("read", done, total))
        last = [each for each in found if each[1].is_last]
        path = None if in_memory else str(Path(self.outputs.temporary, "fragments.packets"))
        if not reading.apart:
            return [*parted, part_packets(last, lambda: reading, parting, path, self.rules, columns)], found
        for number, part in last:
            octets = str(Path(self.outputs.temporary, "fragments.octets"))
            with Spill(parting, None if path is None else Path(path)) as spill:
                hold_fragments(part.frames(reading), number, octets, self.rules, columns, spill)
            parted.append(Parted(tuple(spill.pieces), (), 0, (), None, tuple(reading.warnings)))
            others.append((number, replace(part, source=partial(of_frame, octets))))
        return parted, others

    def _parting(self, found: Sequence[Part], reading: Reading) -> Parting:
        """How flows are parted, so that no bucket takes more memory than it may."""
        if (self.rules.as_tcpflow and not reading.apart) or self.outputs.at_once:
            return Parting.into(1)
        expected = sum(part.rows for part in found) * ROW
        if not reading.apart:
            known = max(sum(part.octets or 0 for part in found), expected)
            is_known = all(part.octets is not None for part in found)
            expected = known if is_known else max(known, self.sizes.unknown)
        return Parting.into(min(max(-(-expected // self.sizes.bucket), 1), self.sizes.most_buckets))

    def _take(self, reading: Reading, held: str | pl.DataFrame) -> None:
        """Gather fragments that a task held: what they make may be of several captures."""
        assert reading.fragments is not None
        if isinstance(held, str):
            reading.fragments.take(pl.read_ipc(held))
            Path(held).unlink()
        else:
            reading.fragments.take(held)

    def _put_together(
        self, buckets: Sequence[tuple[int, list[Piece]]], found: Sequence[tuple[int, Part]]
    ) -> list[Partial]:
        """The second round: streams of each bucket."""
        schema = self._schema(apart=False)
        given = schema, self.rules, self.outputs, self.sizes.memory
        tasks = [
            NamedTask(_bucket(str(number)), partial(put_together, str(number), some, *given))
            for number, some in buckets
        ]
        return [each for several in self._run("write", tasks) for each in several]

    def _put_together_apart(
        self, buckets: Sequence[tuple[int, list[Piece]]], found: Sequence[tuple[int, Part]]
    ) -> list[Partial]:
        """Three rounds more: streams of each bucket, octets of each part, and what these say."""
        if not buckets:
            return []
        schema = self._schema(apart=True)
        most = self.sizes.memory // 4  # twice as much again is taken meanwhile
        sources = {number: part.source for number, part in found if part.source is not None}
        given = schema, self.rules, self.outputs, most
        follow = [
            NamedTask(
                _bucket(str(number)),
                partial(lay_out, str(number), some, *given, sources if memory(some) > most else {}),
            )
            for number, some in buckets
        ]
        laid = [each for several in self._run("follow", follow) for each in several]
        stretches = [stretch for each in laid for stretch in each.stretches]
        reads = [
            NamedTask(part.name, partial(hand_out, number, part.source, stretches, self.outputs), part.octets)
            for number, part in found
            if part.source is not None
        ]
        answers: list[list[Answer]] = [[] for _ in stretches]
        for several in self._run("octets", reads):
            for answer in several:
                answers[answer.stretch].append(answer)
        of_stretch = iter(answers)
        answered = [(each, [next(of_stretch) for _ in each.stretches]) for each in laid]
        groups = list(batches(answered, memory_of, self.sizes.finished))
        last = [
            NamedTask(_bucket(name), partial(finish, name, some, self.rules, self.outputs, elsewhere))
            for name, some, elsewhere in zip(
                [some[0][0].name for some in groups], groups, self._elsewhere(groups), strict=True
            )
        ]
        return [each for several in self._run("write", last) for each in several]

    def _elsewhere(self, groups: Sequence[Sequence[Answered]]) -> Sequence[Elsewhere | None]:
        """For each group of buckets when the streams of others ended, where that decides what becomes of its own."""
        if not self.rules.as_tcpflow or not any(laid.left for some in groups for laid, _ in some):
            return [None] * len(groups)
        path = str(Path(self.outputs.temporary, "ended"))
        task = NamedTask("streams of all buckets", partial(end_together, groups, self.rules, path))
        return [each for found in self._run("follow", [task]) for each in found]

    def _run(self, step: str, tasks: Sequence[NamedTask]) -> Iterator[Any]:
        """Run the tasks of a round; one that kills its worker ends the job."""
        for done, each in enumerate(run_all(self.executor, self.workers, tasks, lost=name_lost), 1):
            yield each
            self.watch(Progress(step, done, len(tasks)))

    def _finish(self, whole: Whole, tables: str | None) -> None:
        """The last round: number and name all streams, and write their tables, which appear together."""
        if not self.outputs.final:
            self._rename(whole)
        with ExitStack() as appearing, ThreadPoolExecutor(2) as threads:
            targets = [Path(str(tables), f"{table}.parquet") for table in self.outputs.tables]
            files = [appearing.enter_context(open_target(target))[0] for target in targets]
            written = zip(self.outputs.tables, files, targets, strict=True)
            for each in [threads.submit(_write, whole, *one) for one in written]:
                each.result()

    def _rename(self, whole: Whole) -> None:
        folder = Path(self.outputs.folder) if self.outputs.folder is not None else None
        for bucket, stream, name in whole.name(self.outputs.template):
            if folder is not None:
                _move(
                    folder / self.outputs.number(Path(whole.partials[bucket].stem).name, stream),
                    folder / name,
                )


def _write(whole: Whole, table: str, file: IO[bytes], target: Path) -> None:
    with failing_as(target):
        whole.write(table, file)
        file.flush()


def _bucket(name: str) -> str:
    """What is to be said of a bucket that kills its workers."""
    return f"streams of bucket {name}"


def _move(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    except OSError as error:
        raise ExportError(f"{target}: {error.strerror}") from error


def _report(partials: Sequence[Partial], warnings: tuple[str, ...], errors: tuple[str, ...]) -> StreamsReport:
    names = "streams", "files", "octets", "missing", "conflicts"
    sums = {name: sum(getattr(each, name) for each in partials) for name in names}
    more = sorted(warning for each in partials for warning in each.warnings)
    return StreamsReport(**sums, warnings=(*warnings, *more), errors=errors)
