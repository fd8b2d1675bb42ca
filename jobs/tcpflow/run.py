"""What tcpflow does, done with streams."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.tcpflow.arguments import LIVE, Arguments
from pcap2arrow.errors import ExportError, UsageError
from pcap2arrow.savefile.source import STANDARD_INPUT

if TYPE_CHECKING:
    from queries.filters.compiled import Filter
    from queries.streams.bucket import Bucket
    from queries.streams.dfxml import Findings
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
    from jobs.functions import load_function
    from jobs.tcpflow.reading import read_bucket
    from queries.filters.compiled import compile_filter
    from queries.streams.rules import SKIP, Rules

    if not arguments.sources and not arguments.finishing:
        raise UsageError(f"no capture to read: {LIVE}")
    names = template(arguments)
    chosen = compile_filter(arguments.expression) if arguments.expression else None
    rules = Rules(SKIP if arguments.skip is None else arguments.skip, arguments.limit, as_tcpflow=True)
    function = None
    if "python" in arguments.scanners and arguments.function:
        function = load_function(arguments.function, path=arguments.path)
    folder = Path(arguments.folder or ".")
    if arguments.storing or arguments.with_report:
        _make(folder)
    if _is_usual(arguments, names, folder):
        return _run_in_buckets(arguments, names, folder, rules, chosen)
    run = _Run(arguments, names, folder, function)
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


def _report(arguments: Arguments, folder: Path) -> str:
    """Where the report goes."""
    return arguments.report or str(folder / _REPORT)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from error


def _is_usual(arguments: Arguments, names: Template, folder: Path) -> bool:
    """Whether streams become files in an empty folder, under the usual names, and nothing else is asked for."""
    if not (arguments.following and arguments.storing and arguments.folder) or arguments.console:
        return False
    others = (
        arguments.finishing,
        arguments.scanners,
        arguments.index,
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
    found = write_streams(
        arguments.sources,
        rules=rules,
        folder=str(folder),
        template=names,
        chosen=chosen,
        report=_report(arguments, folder) if arguments.with_report else None,
        scheduler=fitting_scheduler(arguments.sources, None),
        temporary=str(beside) if os.access(beside, os.W_OK) else tempfile.gettempdir(),
    )
    return Outcome(found.errors)


@dataclass(slots=True)
class _Run:
    """What is done with the streams of a command line, and what became of it."""

    arguments: Arguments
    template: Template
    folder: Path
    function: Callable[[bytes], object] | None
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
        from jobs.streams.report import shown, write_report
        from queries.streams.dfxml import Findings

        arguments = self.arguments
        findings = Findings()
        if bucket is not None and arguments.storing and not arguments.console:
            self.names = bucket.names(self.template, taken=_files(self.folder))
            bucket.write_files(self.names, self.folder)
            if arguments.index:
                _write_index(bucket, self.names, self.folder)
            findings = self._findings(bucket)
        if arguments.with_report:
            write_report(
                _report(arguments, self.folder), bucket, shown(self.names, str(self.folder)), findings
            )

    def _findings(self, bucket: Bucket) -> Findings:
        """What scanners find in streams; bodies of HTTP become files."""
        from queries.streams.dfxml import Findings, Inner

        digests, inner, results = None, {}, {}
        if "md5" in self.arguments.scanners:
            digests = bucket.digests()["md5"]
        if "http" in self.arguments.scanners:
            from queries.http.bodies import Rules, bodies

            rules = Rules(as_tcpflow=True, raw=self.arguments.raw_bodies)
            found = bodies(bucket, self.names, rules, folder=self.folder)
            self.outcome.warnings += found.warnings
            inner = {
                stream: [
                    Inner(each.message.offset, str(self.folder / each.name), each.size)
                    for each in of_stream
                    if each.name is not None
                ]
                for stream, of_stream in found.of_stream.items()
            }
        if self.function is not None:
            from queries.streams.mapping import mapped

            said = mapped(bucket, self.names, self.function, title=self.arguments.function or "")
            results = said.results
            self.outcome.warnings += said.warnings
        return Findings(digests, inner, results)

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


def _write_index(bucket: Bucket, names: Mapping[int, str], folder: Path) -> None:
    """Beside each file one of lines OFFSET|TIME|OCTETS, one for each segment, with the nanoseconds of its time."""
    for stream, lines in bucket.index_lines(sorted(names)):
        _write_text(folder / f"{names[stream]}.findx", lines)


def _write_text(path: Path, parts: Iterable[str]) -> None:
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(parts)
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}") from error
