"""TCP streams of datasets and captures, as files and as tables."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.executors import THREADS, load_ahead, open_executor
from jobs.limits import USUAL_LIMITS, Limits
from jobs.sources import found_by_all
from jobs.steps import Progress
from pcap2arrow.errors import UsageError
from pcap2arrow.times import EVER, TimeRange

if TYPE_CHECKING:
    from queries.filters.compiled import Filter
    from queries.streams.naming import Template
    from queries.streams.rules import Rules

TABLES = ("streams", "segments", "gaps")
"""Tables that can be written, each to a Parquet file of its name; with HTTP, ``http`` is one more."""

Watcher = Callable[[Progress], object]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How memory is bounded: octets of sources for each task and for each bucket, octets of memory that a bucket may
    take, and that buckets may which are ``finished`` together.  What is written does not depend on them: they are for
    tests.
    """

    task: int = 80 << 20
    bucket: int = 40 << 20
    finished: int = 20 << 20
    memory: int = 192 << 20
    most_buckets: int = 128
    unknown: int = 1 << 30


@dataclass(frozen=True, slots=True)
class StreamsReport:
    """What was found: ``streams`` (``files`` of them with octets), their ``octets``, how many are ``missing``.

    ``conflicts`` is how many streams contradict themselves.  ``warnings`` are of the filter, fragments and holes, and
    (``of_contents`` are these alone) of what was looked for in streams; ``errors`` are of captures.
    """

    streams: int = 0
    files: int = 0
    octets: int = 0
    missing: int = 0
    conflicts: int = 0
    warnings: tuple[str, ...] = ()
    of_contents: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


def write_streams(
    sources: Iterable[str | os.PathLike[str]],
    *,
    rules: Rules,
    folder: str | None = None,
    tables: str | None = None,
    template: Template | None = None,
    chosen: Filter | None = None,
    times: TimeRange = EVER,
    hashes: bool = False,
    octets: bool = False,
    with_http: bool = False,
    raw_bodies: bool = False,
    function: str | None = None,
    path: str | None = None,
    scheduler: str = THREADS,
    workers: int | None = None,
    limits: Limits = USUAL_LIMITS,
    tell_dashboard: Callable[[str], object] | None = None,
    temporary: str | None = None,
    report: str | None = None,
    index: bool = False,
    watch: Watcher = lambda progress: None,
    sizes: Sizes = Sizes(),
) -> StreamsReport:
    """Write the TCP streams of sources: a file each to ``folder``, and :data:`TABLES` to the folder ``tables``.

    Folders are made; ``folder`` has to be empty.  ``chosen`` and ``times`` select packets first.  ``hashes`` puts MD5
    and SHA-256 into the table of streams; ``octets`` writes a table of the octets, too.  Tasks run on a scheduler (see
    :func:`~jobs.executors.open_executor`): it changes nothing of what is written, nor do its workers.  What does not
    fit in memory is in the folder ``temporary`` meanwhile, or beside what is written.

    ``with_http`` writes the bodies of HTTP messages beside streams, decoded unless they are to be ``raw_bodies``, and
    the table ``http``; ``function`` puts what a function that it names as ``module:function`` (looked for in the folder
    ``path`` first) says of each stream into the column ``result``.  With either of them and another template than the
    default, where names have to wait for all streams, all is done at once, in memory.
    ``report`` is the file for tcpflow's report, and with ``index`` each file has an index beside it as tcpflow's: of
    streams that have their usual names.

    Raises FilterError where the filter means nothing on any packet, UsageError, and errors of sources and targets.
    """
    from jobs.scratch import scratch
    from jobs.streams.contents import HTTP, Contents

    contents = Contents(with_http, raw_bodies, function, path)
    contents.check()
    if folder is not None:
        make_empty(folder)
    if tables is not None:
        make_folder(tables)
    more = [name for name, is_wanted in (("octets", octets), (HTTP, with_http)) if is_wanted]
    wanted = (*TABLES, *more) if tables is not None else ()
    with (
        scratch(temporary or str(Path(tables or folder or ".").absolute().parent)) as made,
        _emptied_on_failure(folder),
        open_executor(scheduler, workers, limits=limits, tell_dashboard=tell_dashboard) as (
            executor,
            workers,
        ),
    ):
        load_ahead(executor, workers, scheduler, "jobs.streams.apart")
        from jobs.streams.job import Job
        from jobs.streams.tasks import Outputs
        from queries.streams.naming import Template

        template = template or Template()
        outputs = Outputs(made, folder, wanted, template, hashes, contents, report, index)
        job = Job(
            found_by_all(sources, scheduler),
            rules,
            chosen,
            times,
            outputs,
            executor,
            workers,
            scheduler == THREADS,
            sizes,
            watch,
        )
        return job.run(tables)


@contextmanager
def _emptied_on_failure(folder: str | None) -> Iterator[None]:
    """Have nothing half-done in a folder where the ``with`` block fails."""
    try:
        yield
    except BaseException:
        if folder is not None:
            empty(folder)
        raise


def empty(folder: str) -> None:
    """Delete all that is in a folder."""
    for entry in Path(folder).iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


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
