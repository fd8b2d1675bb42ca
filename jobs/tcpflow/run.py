"""What tcpflow does, done with streams."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.tcpflow.arguments import LIVE, Arguments
from pcap2arrow.errors import UsageError
from pcap2arrow.savefile.source import STANDARD_INPUT

if TYPE_CHECKING:
    from jobs.streams.contents import Contents
    from queries.filters.compiled import Filter
    from queries.streams.bucket import Bucket
    from queries.streams.naming import Template
    from queries.streams.rules import Rules

_REPORT = "report.xml"


@dataclass(slots=True)
class Outcome:
    """What was wrong: ``errors`` of captures, ``warnings`` of what was found in streams."""

    errors: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)


def template(arguments: Arguments) -> Template:
    """The template of names.  Raises UsageError where it is wrong, or names would leave the folder."""
    from queries.streams.naming import DEFAULT, Template

    text = arguments.template or DEFAULT
    if arguments.count_all:
        text = text.replace("%C%c", "c%#")
    return Template(arguments.prefix + text, complete=arguments.count_all)


def run(arguments: Arguments, *, write: Callable[[bytes], object]) -> Outcome:
    """Do what the command line asks for; ``write`` gets what is printed.

    Raises FilterError, UsageError, and errors of sources and targets.
    """
    from jobs.tcpflow.reading import read_bucket
    from queries.filters.compiled import compile_filter
    from queries.streams.rules import SKIP, Rules

    if not arguments.sources and not arguments.finishing:
        raise UsageError(f"no capture to read: {LIVE}")
    names = template(arguments)
    chosen = compile_filter(arguments.expression) if arguments.expression else None
    rules = Rules(SKIP if arguments.skip is None else arguments.skip, arguments.limit, as_tcpflow=True)
    contents = _contents(arguments)
    contents.check()
    folder = Path(arguments.folder or ".")
    if arguments.storing or arguments.with_report:
        _make(folder)
    if _is_usual(arguments, names, folder):
        return _run_in_buckets(arguments, names, folder, rules, chosen)
    run = _Run(arguments, names, folder, contents)
    if not arguments.following:
        run.store(None)
        return run.outcome
    read = read_bucket(
        arguments.sources,
        rules=rules,
        chosen=chosen,
        shift=arguments.shift,
        finishing=arguments.finishing,
    )
    run.outcome.errors = read.errors
    if read.bucket is not None and arguments.console:
        run.print(read.bucket, write)
    run.store(read.bucket)
    run.write_captures(read.bucket, chosen)
    return run.outcome


def _contents(arguments: Arguments) -> Contents:
    """What scanners look for in streams."""
    from jobs.streams.contents import Contents

    scanners = arguments.scanners
    function = arguments.function if "python" in scanners else None
    return Contents("http" in scanners, arguments.raw_bodies, function or None, arguments.path)


def _report(arguments: Arguments, folder: Path) -> str:
    """Where the report goes."""
    return arguments.report or str(folder / _REPORT)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from error


def _is_usual(arguments: Arguments, names: Template, folder: Path) -> bool:
    """Whether streams become files in an empty folder, under the usual names, each apart from all others."""
    if not (arguments.following and arguments.storing and arguments.folder) or arguments.console:
        return False
    others = (
        arguments.finishing,
        arguments.shift,
        arguments.captures,
        arguments.unprocessed is not None,
        STANDARD_INPUT in arguments.sources,
    )
    return names.is_of_flow and not any(others) and not any(folder.iterdir())


def _run_in_buckets(
    arguments: Arguments, names: Template, folder: Path, rules: Rules, chosen: Filter | None
) -> Outcome:
    """Do that bucket by bucket, so that memory does not grow with the captures."""
    from jobs.sources import fitting_scheduler
    from jobs.streams.api import write_streams

    beside = folder.absolute().parent
    contents = _contents(arguments)
    found = write_streams(
        arguments.sources,
        rules=rules,
        folder=str(folder),
        template=names,
        chosen=chosen,
        hashes="md5" in arguments.scanners,
        with_http=contents.with_http,
        raw_bodies=contents.raw,
        function=contents.function,
        path=contents.path,
        report=_report(arguments, folder) if arguments.with_report else None,
        index=arguments.index,
        scheduler=fitting_scheduler(arguments.sources, None),
        temporary=str(beside) if os.access(beside, os.W_OK) else tempfile.gettempdir(),
    )
    return Outcome(found.errors, list(found.of_contents))


@dataclass(slots=True)
class _Run:
    """What is done with the streams of a command line, and what became of it."""

    arguments: Arguments
    template: Template
    folder: Path
    contents: Contents
    names: dict[int, str] = field(default_factory=dict)
    outcome: Outcome = field(default_factory=Outcome)

    def print(self, bucket: Bucket, write: Callable[[bytes], object]) -> None:
        """Print what packets carried."""
        from queries.streams.console import printed

        arguments = self.arguments
        folder = f"{arguments.folder}/" if arguments.folder else ""
        for line in printed(bucket, arguments.style, self.template, folder=folder, ordered=arguments.ordered):
            write(line)

    def store(self, bucket: Bucket | None) -> None:
        """Write files and their report; what is printed is not stored."""
        from jobs.streams.contents import NOTHING
        from jobs.streams.report import shown, write_indexes, write_report

        arguments, folder = self.arguments, str(self.folder)
        found, digests = NOTHING, None
        if bucket is not None and arguments.storing and not arguments.console:
            self.names = bucket.names(self.template, taken=_files(self.folder))
            bucket.write_files(self.names, self.folder)
            if arguments.index:
                write_indexes(bucket, self.names, folder)
            if "md5" in arguments.scanners:
                digests = bucket.digests()["md5"]
            found = self.contents.look_into(bucket, self.names, folder)
            self.outcome.warnings += found.warnings
        if arguments.with_report:
            write_report(
                _report(arguments, self.folder),
                bucket,
                shown(self.names, folder),
                found.findings(folder, digests),
            )

    def write_captures(self, bucket: Bucket | None, chosen: Filter | None) -> None:
        """Write captures of each stream, and of the packets that belong to none, as they are asked for."""
        arguments = self.arguments
        groups = (arguments.sources, arguments.finishing)
        if arguments.captures and bucket is not None:
            from jobs.tcpflow.captures import write_streams

            write_streams(bucket, self.names, groups, chosen, self.folder)
        if arguments.unprocessed is not None:
            from jobs.tcpflow.captures import write_others

            write_others(bucket, groups, chosen, arguments.unprocessed)


def _files(folder: Path) -> set[str]:
    """Names that are taken."""
    return {
        str((Path(root) / name).relative_to(folder)) for root, _, names in os.walk(folder) for name in names
    }
