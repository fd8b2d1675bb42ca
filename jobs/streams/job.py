"""A job that puts TCP streams together, in rounds of tasks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from jobs.rounds import (
    Numbered,
    batches,
    batches_of_parts,
    guesses,
    name_lost,
    read_batches,
    sum_if_known,
    units,
)
from jobs.steps import Progress
from jobs.streams.apart import (
    Answer,
    end_together,
    finish,
    hand_out,
    hold_fragments,
    lay_out,
    memory_of,
)
from jobs.streams.api import Sizes, StreamsReport, Watcher, empty
from jobs.streams.ended import Elsewhere, find_ends_of, leave
from jobs.streams.tasks import SOURCE_ERRORS, Outputs, Parted, part_packets, put_together
from pcap2arrow.errors import ExportError
from pcap2arrow.schema import polars_schema
from pcap2arrow.tasks import NamedTask
from pcap2arrow.times import TimeRange
from pcap2arrow.writing.target import failing_as, open_target
from queries.streams.octets import of_frame
from queries.streams.packets import AT, COLUMNS, LENGTH, NAMING, PART, PAYLOAD, is_tcp, segments
from queries.streams.partial import MANY, Partial, Whole
from queries.streams.reading import Part, Reading, Units, ordered, parts
from queries.streams.rules import Rules
from queries.streams.shifts import MisguessedError, Proof, Shift, Shifts
from queries.streams.spill import ROW, Parting, Piece, Spill, memory

if TYPE_CHECKING:
    from pcap2arrow.dataset.snapshot import Source as Stamp
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
        stamps: dict[str, Stamp] = {}
        ways = self._ways()
        while ways:
            (cut, apart), *ways = ways
            read = parts(self.sources, self._reading(apart=apart), units=cut, stamps=stamps)
            found = list(enumerate(read))
            if apart and not all(part.source is not None or part.is_last for _, part in found):
                ways = ways[-1:]
                continue
            try:
                return self._streams(found, self._reading(apart=apart), tables)
            except MisguessedError:
                pass
            except SOURCE_ERRORS:
                if not apart:
                    raise
                ways = ways[-1:]
            for folder in (self.outputs.temporary, self.outputs.folder):
                if folder is not None:
                    empty(folder)
        raise AssertionError("the last way reads any source")

    def _ways(self) -> list[tuple[Units, bool]]:
        """How large captures are cut into units, and whether octets are read apart; the last way reads any source.

        Where units begin is found by a guess, which is proven later, or by a look at all of the capture.
        """
        octets = self.sizes.task
        exact = partial(units, executor=self.executor, workers=self.workers, octets=octets)
        all_are_needed = self.outputs.hashes or "octets" in self.outputs.tables
        all_are_needed |= self.rules.gaps != "zero" or bool(self.outputs.contents)
        if all_are_needed:
            return [(exact, False)]
        guessed = [(partial(guesses, octets=octets), True)] if self.workers > 1 else []
        return [*guessed, (exact, True), (exact, False)]

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
        parted, parts_, shifts = self._part(found, reading)
        told = (warning for each in parted for warning in each.warnings)
        warnings = (*checked_filter(self.chosen, [each.tally for each in parted]), *told)
        errors = tuple(error for each in parted for error in each.errors)
        buckets: dict[int, list[Piece]] = {}
        for piece in (piece for each in parted for piece in each.pieces):
            buckets.setdefault(piece.bucket, []).append(piece)
        if reading.apart:
            partials = self._put_together_apart(sorted(buckets.items()), parts_, shifts or None)
        else:
            partials = self._put_together(sorted(buckets.items()))
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
    ) -> tuple[list[Parted], Sequence[tuple[int, Part]], Shifts]:
        """The first round: packets into buckets; the parts that octets of them are read from, and their shifts.

        Raises MisguessedError where units do not begin where they were guessed to.
        """
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
        some = batches_of_parts(others, self.sizes.task)
        total = sum_if_known(part.octets for _, part in found)
        read = read_batches(self.executor, self.workers, some, task, given_up)
        parted, shifts = self._gathered(read, [part for _, part in found], reading, total)
        last = [each for each in found if each[1].is_last]
        path = None if in_memory else str(Path(self.outputs.temporary, "fragments.packets"))
        if not reading.apart:
            made = part_packets(last, lambda: reading, parting, path, self.rules, columns)
            return [*parted, made], found, shifts
        for number, part in last:
            octets = str(Path(self.outputs.temporary, "fragments.octets"))
            with Spill(parting, None if path is None else Path(path)) as spill:
                hold_fragments(part.frames(reading), number, octets, self.rules, columns, spill)
            parted.append(Parted(tuple(spill.pieces), (), 0, (), None, tuple(reading.warnings)))
            others.append((number, replace(part, source=partial(of_frame, octets))))
        return parted, others, shifts

    def _gathered(
        self, read: Iterable[Parted], found: Sequence[Part], reading: Reading, total: int | None
    ) -> tuple[list[Parted], Shifts]:
        """What tasks read, with fragments gathered, and how parts that are guesses are shifted."""
        done, parted, proof = 0, list[Parted](), Proof([part.unit for part in found])
        for each in read:
            done += each.octets
            parted.append(each)
            shift = proof.add(each.after)
            for held in each.fragments:
                self._take(reading, held, shift)
            self.watch(Progress("read", done, total))
        if not proof.holds:
            raise MisguessedError
        return parted, proof.shifts

    def _parting(self, found: Sequence[Part], reading: Reading) -> Parting:
        """How flows are parted, so that no bucket takes more memory than it may."""
        if self.outputs.at_once:
            return Parting.into(1)
        expected = sum(part.rows for part in found) * ROW
        if not reading.apart:
            known = max(sum(part.octets or 0 for part in found), expected)
            is_known = all(part.octets is not None for part in found)
            expected = known if is_known else max(known, self.sizes.unknown)
        return Parting.into(min(max(-(-expected // self.sizes.bucket), 1), self.sizes.most_buckets))

    def _take(self, reading: Reading, held: str | pl.DataFrame, shift: Shift | None) -> None:
        """Gather fragments that a task held: what they make may be of several captures."""
        assert reading.fragments is not None
        fragments = pl.read_ipc(held) if isinstance(held, str) else held
        reading.fragments.take(fragments if shift is None else shift.of(fragments))
        if isinstance(held, str):
            Path(held).unlink()

    def _put_together(self, buckets: Sequence[tuple[int, list[Piece]]]) -> list[Partial]:
        """The second round: streams of each bucket."""
        schema = self._schema(apart=False)
        given = schema, self.rules, self.outputs, self.sizes.memory
        tasks = [
            NamedTask(_bucket(str(number)), partial(put_together, str(number), some, *given, elsewhere))
            for (number, some), elsewhere in zip(buckets, self._ended(buckets, schema), strict=True)
        ]
        return [each for several in self._run("write", tasks) for each in several]

    def _ended(
        self, buckets: Sequence[tuple[int, list[Piece]]], schema: pl.Schema
    ) -> Sequence[Elsewhere | None]:
        """Two rounds more where it matters for each bucket when streams of others ended."""
        if not self.rules.as_tcpflow or len(buckets) < 2:
            return [None] * len(buckets)
        stem = str(Path(self.outputs.temporary, "ended"))
        tasks = [
            NamedTask(_bucket(str(number)), partial(leave, some, schema, self.rules, f"{stem}.{number}"))
            for number, some in buckets
        ]
        left = list(self._run("follow", tasks))
        return self._elsewhere(len(buckets), partial(find_ends_of, left, self.rules, stem), stem)

    def _elsewhere(self, groups: int, find: Callable[[], None], path: str) -> Sequence[Elsewhere]:
        for _ in self._run("follow", [NamedTask("streams of all buckets", find)]):
            pass
        return [Elsewhere(path, group) for group in range(groups)]

    def _put_together_apart(
        self,
        buckets: Sequence[tuple[int, list[Piece]]],
        found: Sequence[tuple[int, Part]],
        shifts: Shifts | None,
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
                partial(lay_out, str(number), some, *given, sources if memory(some) > most else {}, shifts),
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
        elsewhere: Sequence[Elsewhere | None] = [None] * len(groups)
        if self.rules.as_tcpflow and any(each.left for each in laid):
            path = str(Path(self.outputs.temporary, "ended"))
            elsewhere = self._elsewhere(len(groups), partial(end_together, groups, self.rules, path), path)
        names = [some[0][0].name for some in groups]
        last = [
            NamedTask(_bucket(name), partial(finish, name, some, self.rules, self.outputs, ended))
            for name, some, ended in zip(names, groups, elsewhere, strict=True)
        ]
        return [each for several in self._run("write", last) for each in several]

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
    found = tuple(sorted(warning for each in partials for warning in each.warnings))
    return StreamsReport(**sums, warnings=(*warnings, *found), of_contents=found, errors=errors)
