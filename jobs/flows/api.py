"""Connections of datasets and captures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.executors import THREADS, load_ahead, open_executor, run_all
from jobs.limits import USUAL_LIMITS, Limits
from jobs.sources import found_by_all
from jobs.streams.api import Sizes
from pcap2arrow.errors import UsageError
from pcap2arrow.schema import polars_schema
from pcap2arrow.tasks import NamedTask
from pcap2arrow.times import EVER, TimeRange

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import polars as pl

    from jobs.flows.tasks import Read
    from pcap2arrow.dataset.snapshot import Source as Stamp
    from queries.filters.compiled import Filter
    from queries.merging import Run
    from queries.streams.reading import Part, Reading

FORMATS = (".parquet", ".csv", ".ndjson", ".jsonl")
"""Endings of files that connections can be written to."""

SIZES = Sizes()
"""How memory is bounded."""

_SHARE = 4
"""How many times as large sources are as what connections are made of, at least."""

_ROW = 150
"""Octets of what connections are made of, for each packet, about."""

_SUMMED = 256
"""Octets of memory that it takes to sum connections up, for each packet, about."""


@dataclass(frozen=True, slots=True)
class Flows:
    """The connections table, what users should know of the filter, and what was wrong in captures."""

    connections: pl.DataFrame
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundFlows:
    """The connections in ``runs`` of rows in order, what users should know of the filter, and what was wrong."""

    runs: Sequence[Run]
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    def frames(self) -> Iterator[pl.DataFrame]:
        """The connections table, in frames, at least one."""
        from queries.flows.connections import numbered
        from queries.merging import merged

        first = 0
        for rows in merged(self.runs):
            yield numbered(rows, first)
            first += len(rows)


def flows(
    sources: Iterable[str | os.PathLike[str]],
    *,
    chosen: Filter | None = None,
    times: TimeRange = EVER,
    defrag: bool = True,
    scheduler: str = THREADS,
    workers: int | None = None,
    limits: Limits = USUAL_LIMITS,
    tell_dashboard: Callable[[str], object] | None = None,
    temporary: str | None = None,
    sizes: Sizes = SIZES,
) -> Flows:
    """The connections of all sources together, in memory; see :func:`find_flows`."""
    import polars as pl

    with find_flows(
        sources,
        chosen=chosen,
        times=times,
        defrag=defrag,
        scheduler=scheduler,
        workers=workers,
        limits=limits,
        tell_dashboard=tell_dashboard,
        temporary=temporary,
        sizes=sizes,
    ) as found:
        return Flows(pl.concat(found.frames(), rechunk=True), found.warnings, found.errors)


@contextmanager
def find_flows(
    sources: Iterable[str | os.PathLike[str]],
    *,
    chosen: Filter | None = None,
    times: TimeRange = EVER,
    defrag: bool = True,
    scheduler: str = THREADS,
    workers: int | None = None,
    limits: Limits = USUAL_LIMITS,
    tell_dashboard: Callable[[str], object] | None = None,
    temporary: str | None = None,
    sizes: Sizes = SIZES,
) -> Iterator[FoundFlows]:
    """Find the connections of all sources together: a context in which their table can be read, frame by frame.

    They are of TCP, UDP and ICMP; ``chosen`` and ``times`` select packets first.

    With ``defrag``, fragments count as the packet that they make, which is of the frame that completes it.  Tasks run
    on a scheduler (see :func:`~jobs.executors.open_executor`), which changes nothing of the result, nor do its workers;
    what does not fit in memory is in the folder ``temporary`` meanwhile, else that of the system, or the current one if
    it is a cluster that has to reach it.

    Raises FilterError where the filter means nothing on any packet, UsageError, and errors of sources.
    """
    from jobs.scratch import reached_by_all, scratch

    with (
        scratch(reached_by_all(temporary, scheduler)) as folder,
        open_executor(scheduler, workers, limits=limits, tell_dashboard=tell_dashboard) as (
            executor,
            workers,
        ),
    ):
        load_ahead(executor, workers, scheduler, "jobs.flows.tasks")
        yield _Job(
            found_by_all(sources, scheduler),
            chosen,
            times,
            defrag,
            executor,
            workers,
            folder,
            scheduler == THREADS,
            sizes,
        ).run()


@dataclass(frozen=True, slots=True)
class _Job:
    sources: Sequence[str | os.PathLike[str]]
    chosen: Filter | None
    times: TimeRange
    defrag: bool
    executor: Executor
    workers: int
    folder: str
    in_process: bool
    sizes: Sizes

    def run(self) -> FoundFlows:
        from jobs.count import checked_filter
        from jobs.flows.tasks import Held, sum_up
        from jobs.rounds import name_lost

        done = self._read_all()
        warnings = (
            *checked_filter(self.chosen, [read.tally for read in done]),
            *(each for read in done for each in read.notices),
        )
        buckets: dict[int, list[Held]] = {0: [Held(0, _none())]}
        for bucket, held in (packets for read in done for packets in read.packets):
            buckets.setdefault(bucket, []).append(held)
        most = max(self.sizes.memory // _SUMMED, 1)
        tasks = [
            NamedTask(
                f"connections of bucket {bucket}",
                partial(
                    sum_up,
                    held,
                    most,
                    str(Path(self.folder, f"{bucket}.again")),
                    in_memory=self.in_process and len(buckets) == 1,
                ),
            )
            for bucket, held in buckets.items()
        ]
        runs = list(run_all(self.executor, self.workers, tasks, lost=name_lost))
        return FoundFlows(runs, warnings, tuple(error for read in done for error in read.errors))

    def _read_all(self) -> list[Read]:
        """Packets by bucket; where units of captures begin is guessed, and looked for if that was wrong."""
        from jobs.rounds import guesses, units
        from queries.flows.packets import COLUMNS, is_flow
        from queries.streams.reading import Reading, parts
        from queries.streams.shifts import MisguessedError

        octets = self.sizes.task
        exact = partial(units, executor=self.executor, workers=self.workers, octets=octets)
        guessed = [partial(guesses, octets=octets)] if self.workers > 1 else []
        stamps: dict[str, Stamp] = {}
        for cut in (*guessed, exact):
            reading = Reading(
                columns=COLUMNS,
                chosen=self.chosen,
                where=is_flow(),
                views=True,
                defrag=self.defrag,
                times=self.times,
            )
            with suppress(MisguessedError):
                found = list(parts(self.sources, reading, units=cut, stamps=stamps))
                return self._read(found, reading)
        raise AssertionError("what is not guessed is not guessed wrongly")

    def _read(self, found: Sequence[Part], reading: Reading) -> list[Read]:
        """Packets by bucket: of all parts, and of the fragments that these hold.

        Raises MisguessedError where units do not begin where they were guessed to.
        """
        from jobs.flows.tasks import Read, frames, read_packets
        from jobs.rounds import batches_of_parts, read_batches
        from queries.flows.buckets import Parting
        from queries.streams.shifts import MisguessedError, Proof

        unknown = self.sizes.unknown // _SHARE
        packets = sum(unknown if part.octets is None else part.rows * _ROW for part in found)
        parting = Parting(min(max(-(-packets // self.sizes.bucket), 1), self.sizes.most_buckets))
        in_memory = self.in_process and parting.buckets == 1

        def path(name: object) -> str | None:
            return None if in_memory else str(Path(self.folder, str(name)))

        numbers = count()

        def task(some: Sequence[tuple[int, Part]]) -> Callable[[], Read]:
            return partial(read_packets, some, reading.again, parting, path(next(numbers)))

        def given_up(error: str) -> Read:
            return Read((), (), (error,), (), None, None)

        others = [each for each in enumerate(found) if not each[1].is_last]
        some = batches_of_parts(others, self.sizes.task)
        done, proof = [], Proof([part.unit for part in found])
        for read in read_batches(self.executor, self.workers, some, task, given_up):
            shift = proof.add(read.after)
            done.append(read if shift is None else read.shifted(shift))
            for held in frames(read.fragments):
                assert reading.fragments is not None
                reading.fragments.take(held if shift is None else shift.of(held))
        if not proof.holds:
            raise MisguessedError
        last = [each for each in enumerate(found) if each[1].is_last]
        return [*done, read_packets(last, lambda: reading, parting, path("fragments"))]


def _none() -> pl.DataFrame:
    """No packets, with all columns."""
    import polars as pl

    from queries.flows.packets import COLUMNS, flow_columns
    from queries.streams.packets import PLACE, TURN

    order = {TURN: pl.lit(0, dtype=pl.Int64), PLACE: pl.lit(0, dtype=pl.UInt32)}
    return flow_columns(polars_schema().to_frame().select(COLUMNS).with_columns(**order))


def check_target(path: str) -> None:
    """Refuse a file whose ending says no format.  Raises UsageError."""
    if Path(path).suffix not in FORMATS:
        raise UsageError(f"{path}: expected a file that ends with {', '.join(FORMATS)}")


def write_flows(frames: Iterable[pl.DataFrame], path: str) -> None:
    """Write the frames of the table in the format that the file's ending says; in text, durations are seconds.

    Raises UsageError for another ending, ExportError where the file can't be written.
    """
    import polars as pl
    import pyarrow.parquet as pq

    from pcap2arrow.writing.target import open_target

    check_target(path)
    durations = pl.col("duration", "handshake_rtt").dt.total_nanoseconds() / 1e9
    with open_target(path) as (file, _), ExitStack() as opened:
        writer = None
        for number, some in enumerate(frames):
            match Path(path).suffix:
                case ".parquet":
                    table = some.to_arrow()
                    writer = writer or opened.enter_context(
                        pq.ParquetWriter(file, table.schema, compression="zstd")
                    )
                    writer.write_table(table)
                case ".csv":
                    text = some.with_columns(durations).write_csv(include_header=not number)
                    file.write(text.encode())
                case _:
                    file.write(some.with_columns(durations).write_ndjson().encode())
