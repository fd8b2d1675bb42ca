"""TCP streams of datasets and captures, as files and as tables."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.executors import THREADS, open_executor, run_all
from pcap2arrow.errors import ExportError, UsageError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import polars as pl

    from jobs.stream_tasks import Outputs, Parted
    from pcap2arrow.conversion.plan import Unit
    from pcap2arrow.inputs import Input
    from queries.filters.compiled import Filter
    from queries.streams.naming import Template
    from queries.streams.partial import Partial, Whole
    from queries.streams.reading import Part, Reading
    from queries.streams.rules import Rules
    from queries.streams.spill import Piece

TABLES = ("streams", "segments", "gaps")
"""Tables that can be written, each to a Parquet file of its name; with HTTP, ``http`` is one more."""

Watcher = Callable[["Progress"], object]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: ``step`` is ``read`` or ``write``; ``octets`` of sources are read of a ``total`` (None: not
    known), or buckets written.
    """

    step: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Sizes:
    """How memory is bounded: octets of sources for each task and for each bucket, and octets of memory that a bucket
    may take.  What is written does not depend on them: they are for tests.
    """

    task: int = 80 << 20
    bucket: int = 64 << 20
    memory: int = 192 << 20
    most_buckets: int = 128
    unknown: int = 1 << 30


@dataclass(frozen=True, slots=True)
class StreamsReport:
    """What was found: ``streams`` (``files`` of them with octets), their ``octets``, how many are ``missing``.

    ``conflicts`` is how many streams contradict themselves.  ``warnings`` are of the filter, and of what was looked for
    in streams, ``errors`` of captures.
    """

    streams: int = 0
    files: int = 0
    octets: int = 0
    missing: int = 0
    conflicts: int = 0
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


def write_streams(
    sources: Iterable[str | os.PathLike[str]],
    *,
    rules: Rules,
    folder: str | None = None,
    tables: str | None = None,
    template: Template | None = None,
    chosen: Filter | None = None,
    hashes: bool = False,
    octets: bool = False,
    with_http: bool = False,
    function: str | None = None,
    scheduler: str = THREADS,
    workers: int | None = None,
    temporary: str | None = None,
    watch: Watcher = lambda progress: None,
    sizes: Sizes = Sizes(),
) -> StreamsReport:
    """Write the TCP streams of sources: a file each to ``folder``, and :data:`TABLES` to the folder ``tables``.

    Folders are made; ``folder`` has to be empty.  ``chosen`` selects packets first.  ``hashes`` puts MD5 and SHA-256
    into the table of streams; ``octets`` writes a table of the octets, too.  Tasks run on a scheduler (see
    :func:`~jobs.executors.open_executor`): it changes nothing of what is written, nor do its workers.  What does not
    fit in memory is in the folder ``temporary`` meanwhile, or beside what is written.

    ``with_http`` writes the bodies of HTTP messages beside streams, and the table ``http``; ``function`` puts what a
    function that it names as ``module:function`` says of each stream into the column ``result``.  With either of them
    all is done at once, in memory.

    Raises FilterError where the filter means nothing on any packet, UsageError, and errors of sources and targets.
    """
    from jobs.stream_tasks import Outputs
    from queries.streams.naming import Template

    template = template or Template()
    if with_http or function is not None:
        from jobs.stream_contents import Contents, write_contents

        if octets:
            raise UsageError("octets as a table: not together with HTTP or a function")
        contents = Contents(with_http, function)
        return write_contents(
            sources, contents, rules, chosen, template, hashes=hashes, folder=folder, tables=tables
        )
    if folder is not None:
        make_empty(folder)
    if tables is not None:
        make_folder(tables)
    wanted = (*TABLES, *(["octets"] if octets else [])) if tables is not None else ()
    with (
        _scratch(temporary, tables or folder) as scratch,
        _emptied_on_failure(folder),
        open_executor(scheduler, workers) as (executor, workers),
    ):
        outputs = Outputs(scratch, folder, wanted, template, hashes)
        job = _Job(
            list(sources), rules, chosen, outputs, executor, workers, scheduler == THREADS, sizes, watch
        )
        return job.run(tables)


@contextmanager
def _scratch(temporary: str | None, beside: str | None) -> Iterator[str]:
    """A new folder for the length of a ``with`` block."""
    where = temporary or str(Path(beside or ".").absolute().parent)
    try:
        made = tempfile.mkdtemp(prefix=".pcap2arrow-", dir=where)
    except OSError as error:
        raise UsageError(f"{where}: {error.strerror}: expected a folder for temporary files") from error
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _emptied_on_failure(folder: str | None) -> Iterator[None]:
    """Have nothing half-done in a folder where the ``with`` block fails."""
    try:
        yield
    except BaseException:
        for entry in Path(folder).iterdir() if folder is not None else ():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        raise


@dataclass(slots=True)
class _Job:
    sources: list[str | os.PathLike[str]]
    rules: Rules
    chosen: Filter | None
    outputs: Outputs
    executor: Executor
    workers: int
    in_process: bool
    sizes: Sizes
    watch: Watcher

    def run(self, tables: str | None) -> StreamsReport:
        from queries.streams.partial import Whole
        from queries.streams.reading import Reading, parts

        reading = Reading(
            columns=self._columns(),
            chosen=self.chosen,
            where=_is_tcp(self.rules),
            views=True,
            defrag=self.rules.defrag and not self.rules.as_tcpflow,
        )
        parted = self._part(list(parts(self.sources, reading, units=self._units)), reading)
        warnings = _filter_warnings(reading, parted)
        errors = tuple(error for each in parted for error in each.errors)
        partials = self._put_together([piece for each in parted for piece in each.pieces])
        if partials:
            self._finish(Whole(partials), tables)
        return _report(partials, warnings, errors)

    def _columns(self) -> tuple[str, ...]:
        from queries.streams.packets import COLUMNS, NAMING

        needed = ("time", *self.outputs.template.columns)
        left_out = {"frame_len", *NAMING} - set(needed)
        return tuple(each for each in COLUMNS if each not in left_out)

    def _schema(self) -> pl.Schema:
        """Columns of segments, without what they carried."""
        from pcap2arrow.reading.api import polars_schema
        from queries.streams.packets import segments
        from queries.streams.reading import ordered

        empty = polars_schema().to_frame()
        return segments(ordered(empty, 0, self._columns()), self.rules).drop("caplen", "payload").schema

    def _units(self, found: Input) -> Sequence[Unit]:
        """The units of a capture that more than one task reads, from a first look at where its records are."""
        from pcap2arrow.conversion.capture import join_parts, scan_part
        from pcap2arrow.conversion.options import Options
        from pcap2arrow.conversion.scan import block_count, ranges
        from pcap2arrow.savefile.source import stamp
        from queries.streams.reading import stored_octets

        octets = stored_octets(found)
        options = Options(block=self.sizes.task)
        blocks = block_count(octets or 0, options.block)
        if blocks < 2 or self.workers < 2:
            return ()
        before = stamp(found.path)
        tasks = [partial(scan_part, found, first, last, options) for first, last in ranges(blocks, blocks)]
        scans = list(run_all(self.executor, self.workers, tasks))
        return join_parts(found, before, scans, options).plan.units

    def _part(self, parts: Sequence[Part], reading: Reading) -> list[Parted]:
        """The first round: packets into buckets."""
        from jobs.stream_tasks import part_packets
        from queries.streams.spill import Parting

        known = sum(part.octets or 0 for part in parts)
        total = None if any(part.octets is None for part in parts) else known
        expected = known if total is not None else max(known, self.sizes.unknown)
        buckets = min(max(-(-expected // self.sizes.bucket), 1), self.sizes.most_buckets)
        parting = Parting.into(1 if self.rules.as_tcpflow else buckets)
        in_memory = buckets == 1 and self.in_process
        columns = (*self._schema().names(), "payload")
        tasks = []
        for number, some in enumerate(
            _batches([part for part in parts if not part.is_last], self.sizes.task)
        ):
            path = None if in_memory else str(Path(self.outputs.temporary, f"{number}.packets"))
            tasks.append(partial(part_packets, some, reading.again, parting, path, self.rules, columns))
        done, found = 0, []
        for each in run_all(self.executor, self.workers, tasks):
            done += each.octets
            found.append(each)
            for held in each.fragments:
                self._take(reading, held)
            self.watch(Progress("read", done, total))
        last = [part for part in parts if part.is_last]
        path = None if in_memory else str(Path(self.outputs.temporary, "fragments.packets"))
        return [*found, part_packets(last, lambda: reading, parting, path, self.rules, columns)]

    def _take(self, reading: Reading, held: str | pl.DataFrame) -> None:
        """Gather fragments that a task held: what they make may be of several captures."""
        import polars as pl

        assert reading.fragments is not None
        if isinstance(held, str):
            reading.fragments.take(pl.read_ipc(held))
            Path(held).unlink()
        else:
            reading.fragments.take(held)

    def _put_together(self, pieces: Sequence[Piece]) -> list[Partial]:
        """The second round: streams of each bucket."""
        from jobs.stream_tasks import put_together

        buckets: dict[int, list[Piece]] = {}
        for piece in pieces:
            buckets.setdefault(piece.bucket, []).append(piece)
        schema = self._schema()
        tasks = [
            partial(put_together, str(number), some, schema, self.rules, self.outputs, self.sizes.memory)
            for number, some in sorted(buckets.items())
        ]
        found: list[Partial] = []
        for done, each in enumerate(run_all(self.executor, self.workers, tasks), 1):
            found += each
            self.watch(Progress("write", done, len(tasks)))
        return found

    def _finish(self, whole: Whole, tables: str | None) -> None:
        """The last round: number and name all streams, and write their tables, which appear together."""
        from pcap2arrow.writing.target import failing_as, open_target

        if not self.outputs.final:
            self._rename(whole)
        with ExitStack() as appearing:
            for table in self.outputs.tables:
                target = Path(str(tables), f"{table}.parquet")
                file, _ = appearing.enter_context(open_target(target))
                with failing_as(target):
                    whole.write(table, file)
                    file.flush()

    def _rename(self, whole: Whole) -> None:
        folder = Path(self.outputs.folder) if self.outputs.folder is not None else None
        for bucket, stream, name in whole.name(self.outputs.template):
            if folder is not None:
                _move(
                    folder / self.outputs.number(Path(whole.partials[bucket].stem).name, stream),
                    folder / name,
                )


def _move(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    except OSError as error:
        raise ExportError(f"{target}: {error.strerror}") from error


def _batches(parts: Sequence[Part], octets: int) -> Iterator[list[Part]]:
    """Parts that one task reads: about so many octets, or one where that is not known."""
    batch: list[Part] = []
    held = 0
    for part in parts:
        size = octets if part.octets is None else part.octets
        if batch and held + size > octets:
            yield batch
            batch, held = [], 0
        batch.append(part)
        held += size
    if batch:
        yield batch


def _is_tcp(rules: Rules) -> pl.Expr:
    from queries.streams.packets import is_tcp

    return is_tcp(rules)


def _filter_warnings(reading: Reading, parted: Sequence[Parted]) -> tuple[str, ...]:
    """What is wrong with the filter.  Raises FilterError where it means nothing on any packet."""
    from jobs.count import filter_warnings
    from queries.select import total

    if reading.selection is None:
        return ()
    tally = total([each.tally for each in parted if each.tally is not None], 1)
    refusal = tally.refusal(0)
    if refusal is not None:
        raise refusal
    return tuple(filter_warnings(reading.selection.filters, tally))


def _report(partials: Sequence[Partial], warnings: tuple[str, ...], errors: tuple[str, ...]) -> StreamsReport:
    sums = {
        name: sum(getattr(each, name) for each in partials)
        for name in ("streams", "files", "octets", "missing", "conflicts")
    }
    return StreamsReport(**sums, warnings=warnings, errors=errors)


def make_empty(folder: str) -> None:
    """Make a folder unless there is one.  Raises UsageError where something is in it."""
    make_folder(folder)
    try:
        if any(Path(folder).iterdir()):
            raise UsageError(f"{folder}: expected a new or empty folder for the streams")
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}: expected a folder for the streams") from error


def make_folder(folder: str) -> None:
    """Make a folder unless there is one.  Raises UsageError where that can't be."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}: expected a folder for the streams") from error
