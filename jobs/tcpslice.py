"""What tcpslice does with its letters: reports times, writes what lies between two of them, and tells of sessions."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import TYPE_CHECKING, Literal

from jobs.letters import Letter, read_letters, sets
from pcap2arrow.errors import Pcap2ArrowError, SourceError, UsageError

if TYPE_CHECKING:
    from pcap2arrow.times import Times
    from pcap2arrow.writing.copy import Head
    from pcap2arrow.writing.merging.arrangement import Arrangement
    from pcap2arrow.writing.records.encoded import Encoded
    from pcap2arrow.writing.records.formats import Layout
    from pcap2arrow.writing.sources.reader import Reader
    from pcap2arrow.writing.sources.slices import Slice, Span

USAGE = """\
Usage: pcap2arrow tcpslice [-DdhlRrtv] [-w file]
                [ -s types [ -e seconds ] [ -f format ] ]
                [start-time [end-time]] file ..."""

Style = Literal["raw", "readable", "ymdhmsu"]
_NO_TIME = "-"


class LetterError(UsageError):
    """A letter that there is not, or one that lacks its argument."""


@dataclass(slots=True)
class Arguments:
    """What a command line of tcpslice's asks for.

    ``files`` are captures or datasets, ``start`` and ``end`` times as they stand there.  ``reported`` is the style of
    the line for each capture, None without; ``range_shown`` asks for the range.  ``sessions`` asks for those of TCP,
    which are closed after ``idle`` seconds and written to captures of the names that ``session_names`` makes.
    ``compat_duplicates`` looks for duplicates as tcpslice does.  ``reported_twice`` tells of two styles.
    """

    files: list[str] = field(default_factory=list)
    start: str | None = None
    end: str | None = None
    target: str = "-"
    keep_duplicates: bool = False
    compat_duplicates: bool = False
    relative: bool = False
    reported: Style | None = None
    reported_twice: bool = False
    range_shown: bool = False
    sessions: bool = False
    idle: int = 0
    session_names: str | None = None
    verbose: bool = False
    help: bool = False

    @property
    def writes(self) -> bool:
        """Whether packets are to be written, and not times reported."""
        return not (self.help or self.reported or self.range_shown)


def read_arguments(words: Sequence[str]) -> Arguments:
    """Read a command line as tcpslice does: what looks like a time is one, if it is the first or second argument.

    Raises UsageError where tcpslice would refuse it, and for sessions of others than TCP.
    """
    from queries.timespec import is_time

    found = Arguments()
    rest = read_letters(words, LETTERS, found, refuse=lambda reason: LetterError(f"{reason}\n{USAGE}"))
    if found.help:
        return found
    if found.reported_twice:
        raise UsageError("only one of -R, -r, or -t can be specified")
    if rest and is_time(rest[0]):
        found.start = rest.pop(0)
    if rest and is_time(rest[0]):
        found.end = rest.pop(0)
    if not rest:
        raise UsageError("at least one input file must be given")
    found.files = rest
    return found


def _reports(style: Style) -> Letter[Arguments]:
    """A letter that asks for a line for each capture, in a style."""

    def take(found: Arguments, value: str) -> None:
        found.reported_twice |= found.reported is not None
        found.reported = style

    return Letter(take)


def _take_sessions(found: Arguments, value: str) -> None:
    from jobs.sessions import check_types

    check_types(value)
    found.sessions = True


def _take_idle(found: Arguments, value: str) -> None:
    if not value.isdecimal():
        raise UsageError(f"-e: expected seconds, found {value!r}")
    found.idle = int(value)


LETTERS: dict[str, Letter[Arguments]] = {
    "R": _reports("raw"),
    "r": _reports("readable"),
    "t": _reports("ymdhmsu"),
    "d": sets("range_shown", True),
    "D": sets("keep_duplicates", True),
    "compat-dup": sets("compat_duplicates", True, word="compat-dup"),
    "l": sets("relative", True),
    "w": sets("target", has_value=True),
    "s": Letter(_take_sessions, has_value=True),
    "e": Letter(_take_idle, has_value=True),
    "f": sets("session_names", has_value=True),
    "v": sets("verbose", True),
    "h": Letter(lambda found, value: setattr(found, "help", True), word="help", ends=True),
}
"""What each letter does."""


@dataclass(frozen=True, slots=True)
class _Capture:
    """A capture as the command line calls it, of what ``file`` there, with what its header says.

    ``alone`` tells that the file holds no other.
    """

    file: str
    alone: bool
    name: str
    reader: Reader
    head: Head


@dataclass(frozen=True, slots=True)
class Outcome:
    """The lines of the reports, those that tell of sessions, and what users should know of the captures."""

    lines: Sequence[str] = ()
    unclosed: Sequence[str] = ()
    warnings: Sequence[str] = ()


def run(arguments: Arguments, *, zone: tzinfo) -> Outcome:
    """Do what the command line asks for; times without a zone are local in that one.

    Raises TimeSpecError, UsageError, and errors of sources and targets.
    """
    from queries.slices import times_between

    times = times_between(arguments.start, arguments.end, zone=zone)
    with ExitStack() as stack:
        captures = [capture for file in arguments.files for capture in _opened(file, stack)]
        if not arguments.writes:
            return Outcome(list(_report(captures, arguments, times, zone)))
        if arguments.sessions:
            return _write_sessions(captures, arguments, times, zone)
        return Outcome(warnings=_write(captures, arguments, times))


def _opened(file: str, stack: ExitStack) -> list[_Capture]:
    from pcap2arrow.writing.copy import read_head
    from pcap2arrow.writing.sources.named import open_readers
    from pcap2arrow.writing.sources.reader import FileReader

    try:
        readers = stack.enter_context(open_readers(file, None))
        if len(readers) == 1:
            return [_Capture(file, True, file, readers[0], read_head(readers[0]))]
        names = [each.name if isinstance(each, FileReader) else each.capture.name for each in readers]
        return [
            _Capture(file, False, f"{file}/{name}", each, read_head(each))
            for name, each in zip(names, readers, strict=True)
        ]
    except Pcap2ArrowError as error:
        raise SourceError(f"bad pcap file {file}: {error}") from error


def _report(captures: Sequence[_Capture], arguments: Arguments, times: Times, zone: tzinfo) -> Iterator[str]:
    """Lines of first and last times, and of the range."""
    from pcap2arrow.writing.sources.slices import span

    spans = [span(capture.reader) for capture in captures]
    style = arguments.reported or "raw"
    if arguments.reported:
        for capture, of in zip(captures, spans, strict=True):
            written = _writer(style, zone, nanoseconds=capture.head.nanoseconds)
            yield f"{capture.name}\t{written(of.first)}\t{written(of.last)}"
    if arguments.range_shown:
        written = _writer(style, zone, nanoseconds=any(c.head.nanoseconds for c in captures))
        start, stop = _range(spans, times)
        yield f"start\t{written(start)}"
        yield f"stop\t{written(stop)}"


def _range(spans: Sequence[Span], times: Times) -> tuple[int | None, int | None]:
    """Where the range begins and ends: as asked for, else with the first packet and the greatest time."""
    first = min((of.first for of in spans if of.first is not None), default=None)
    greatest = max((of.greatest for of in spans if of.greatest is not None), default=None)
    within = times(first) if callable(times) else times
    return (
        first if within.start is None else within.start,
        greatest if within.end is None else within.end,
    )


def _writer(style: Style, zone: tzinfo, *, nanoseconds: bool) -> Callable[[int | None], str]:
    from queries.timespec import format_raw, format_readable, format_ymdhmsu

    def written(time: int | None) -> str:
        if time is None:
            return _NO_TIME
        if style == "raw":
            return format_raw(time, nanoseconds=nanoseconds)
        if style == "readable":
            return format_readable(time, zone)
        return format_ymdhmsu(time, zone, nanoseconds=nanoseconds)

    return written


def _write(captures: Sequence[_Capture], arguments: Arguments, times: Times) -> list[str]:
    """Write the packets; the result is what users should know."""
    from pcap2arrow.writing.records.formats import UnkeptError
    from pcap2arrow.writing.target import appears_whole

    if appears_whole(arguments.target):
        with suppress(UnkeptError):
            return _write_once(captures, arguments, times, look_ahead=False)
    return _write_once(captures, arguments, times, look_ahead=True)


def _write_once(
    captures: Sequence[_Capture], arguments: Arguments, times: Times, *, look_ahead: bool
) -> list[str]:
    from pcap2arrow.writing.ahead import ahead
    from pcap2arrow.writing.merging.arrangement import slices
    from pcap2arrow.writing.target import open_target, write_octets

    how = _arrangement(captures, arguments)
    parts = slices([capture.reader for capture in captures], times, how)
    layout, warnings = _layout(captures, parts)
    damage: list[str] = []
    stepping_back = 0
    with open_target(arguments.target) as (file, name):
        write_octets(file, layout.preamble)
        with (
            closing(
                _records(captures, parts, layout, how, name, damage.append, look_ahead=look_ahead)
            ) as batches,
            closing(ahead((_stepping_back(b), list(b.stretches())) for b in batches)) as written,
        ):
            for back, stretches in written:
                stepping_back += back
                for octets in stretches:
                    write_octets(file, octets)
    return [*warnings, *_of_stepping_back(stepping_back), *damage]


def _write_sessions(
    captures: Sequence[_Capture], arguments: Arguments, times: Times, zone: tzinfo
) -> Outcome:
    """The same with the packets after the range that complete sessions, a capture for each of these, and their log."""
    from jobs.sessions import SessionFiles, capture_name, completed, find_sessions
    from pcap2arrow.times import TimeRange
    from pcap2arrow.writing.merging.arrangement import slices
    from pcap2arrow.writing.target import open_target, write_octets

    if arguments.session_names is not None:
        capture_name(arguments.session_names, 1)
    how = _arrangement(captures, arguments)
    readers = [capture.reader for capture in captures]
    sessions = find_sessions(_read_from(captures), slices(readers, times, how), arguments.idle)
    whole = slices(readers, TimeRange(sessions.how.start), how)
    layout, warnings = _layout(captures, whole)
    damage: list[str] = []
    stepping_back = 0
    files = (
        None if arguments.session_names is None else SessionFiles(arguments.session_names, layout.preamble)
    )
    with (
        open_target(arguments.target) as (file, name),
        closing(_records(captures, whole, layout, how, name, damage.append)) as batches,
    ):
        write_octets(file, layout.preamble)
        for batch, numbers in completed(batches, sessions):
            for octets in batch.stretches():
                write_octets(file, octets)
            stepping_back += _stepping_back(batch)
            if files is not None:
                files.write(batch, numbers)
    written = _writer("ymdhmsu", zone, nanoseconds=layout.format != "pcap")
    return Outcome(
        list(sessions.log(written, verbose=arguments.verbose)),
        list(sessions.unclosed(written)),
        [*warnings, *_of_stepping_back(stepping_back), *damage],
    )


def _read_from(captures: Sequence[_Capture]) -> list[str]:
    """What the captures are read from once more: files, or the datasets that hold several."""
    from pcap2arrow.writing.sources.reader import FileReader

    found = [c.reader.path if isinstance(c.reader, FileReader) else c.file for c in captures]
    return [path for k, path in enumerate(found) if not k or path != found[k - 1] or captures[k].alone]


def _arrangement(captures: Sequence[_Capture], arguments: Arguments) -> Arrangement:
    from pcap2arrow.writing.merging.arrangement import Arrangement
    from pcap2arrow.writing.merging.duplicates import AcrossSources, LastWritten

    duplicates = LastWritten() if arguments.compat_duplicates else AcrossSources()
    return Arrangement(
        relative=arguments.relative, duplicates=None if arguments.keep_duplicates else duplicates
    )


def _of_stepping_back(packets: int) -> list[str]:
    if not packets:
        return []
    were = "packet is" if packets == 1 else "packets are"
    return [f"{packets} {were} earlier than one before in the same capture; all were kept"]


def _layout(captures: Sequence[_Capture], parts: Sequence[Slice]) -> tuple[Layout, list[str]]:
    """A pcap as the first capture's header has it, or where link types differ a pcapng, and a warning that says so."""
    from jobs.link_types import link_type_text
    from pcap2arrow.writing.copy import pcap_layout
    from pcap2arrow.writing.records.formats import plan_layout

    link_types = frozenset[int]().union(*(capture.head.link_types for capture in captures))
    nanoseconds = any(capture.head.nanoseconds for capture in captures)
    if len(link_types) <= 1:
        return pcap_layout(captures[0].head, nanoseconds=nanoseconds), []
    first = captures[0]
    other = next((c for c in captures if c.head.link_types != first.head.link_types), first)
    told = ", ".join(map(link_type_text, sorted(other.head.link_types)))
    reason = f"file {other.name!r} has link type {told}, and the first file {first.name!r} has "
    reason += ", ".join(map(link_type_text, sorted(first.head.link_types)))
    layout = plan_layout([part.traits() for part in parts], "pcapng", snap_length=None)
    return layout, [f"{reason}: this is a pcapng"]


def _records(
    captures: Sequence[_Capture],
    parts: Sequence[Slice],
    layout: Layout,
    how: Arrangement,
    name: str,
    damaged: Callable[[str], None],
    *,
    look_ahead: bool = True,
) -> Generator[Encoded]:
    from pcap2arrow.writing.copy import parts_of
    from pcap2arrow.writing.merging.arrangement import arranged
    from pcap2arrow.writing.records.selection import Wanted

    wanted = Wanted(as_seen=True, is_pcapng=layout.format == "pcapng", damaged=damaged)
    of_parts = parts_of(parts, [capture.head for capture in captures], layout, wanted)
    return arranged(of_parts, layout, how, name=name, detailed=True, look_ahead=look_ahead)


def _stepping_back(packets: Encoded) -> int:
    return int((packets.known["timed"] & (packets.known["time"] < packets.order)).sum())
