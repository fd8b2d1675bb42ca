"""What tcpdump does with its letters, but for capturing and printing packets: reads, filters, counts, writes."""

from __future__ import annotations

import getopt
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pcap2arrow.errors import FilterError, UsageError

if TYPE_CHECKING:
    from pcap2arrow.writing.copy import Copying, Head, Opened
    from queries.exports import FilterSelection
    from queries.filters.compiled import Filter

SHORT = "aAbB:c:C:dDeE:fF:G:hHi:Ij:JKlLm:M:nNOpqQ:r:s:StT:uUvV:w:W:xXy:Yz:Z:#"
LONG = {
    "absolute-tcp-sequence-numbers": "S",
    "buffer-size=": "B",
    "count": "count",
    "direction=": "Q",
    "dont-verify-checksums": "K",
    "help": "h",
    "immediate-mode": "immediate-mode",
    "interface=": "i",
    "linktype=": "y",
    "list-data-link-types": "L",
    "list-interfaces": "D",
    "list-time-stamp-types": "J",
    "micro": "micro",
    "monitor-mode": "I",
    "nano": "nano",
    "no-optimize": "O",
    "no-promiscuous-mode": "p",
    "number": "#",
    "print": "print",
    "relinquish-privileges=": "Z",
    "snapshot-length=": "s",
    "time-stamp-precision=": "time-stamp-precision",
    "time-stamp-type=": "j",
    "version": "version",
}
"""tcpdump's long options, each with its letter or, where it has none, its name."""

_LIVE = "there is no live capture here: write one with tcpdump -w FILE, and read it with -r FILE"
_PRINTING = "packets can't be printed yet: write them with -w FILE, or count them with --count"
_ROTATION = "there is one output file: cut it with pcap2arrow export"
_REFUSED = {
    **dict.fromkeys([*"iDILBjJpQ", "immediate-mode"], _LIVE),
    **dict.fromkeys("CGWz", _ROTATION),
    "print": _PRINTING,
}
_LARGEST_SNAP_LENGTH = 262_144
_ETHERNET = 1


@dataclass(slots=True)
class Arguments:
    """What a command line of tcpdump's asks for.

    ``sources`` are captures or datasets, read one after another; ``expression`` is what stands there, or in the file
    of ``-F``.  ``optimized`` is False with ``-O``; ``nanoseconds`` None unless they say.
    """

    sources: list[str] = field(default_factory=list)
    target: str | None = None
    limit: int | None = None
    counting: bool = False
    listing: bool = False
    link_type: int | None = None
    filter_file: str | None = None
    expression: str = ""
    optimized: bool = True
    nanoseconds: bool | None = None
    shown: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: ``packets`` counted (None unless asked for), the ``lines`` of a listing, and what was wrong.

    ``warnings`` are of link types for which the expression means nothing, ``errors`` of captures that are damaged.
    """

    packets: int | None = None
    lines: Sequence[str] = ()
    warnings: Sequence[str] = ()
    errors: Sequence[str] = ()


def read_arguments(words: Sequence[str]) -> Arguments:
    """Read a command line as getopt does: letters in clusters, options after the expression too, ``--`` ends them.

    Raises UsageError where tcpdump would refuse it, and for letters of live captures, printing and rotation.
    """
    try:
        options, rest = getopt.gnu_getopt(list(words), SHORT, list(LONG))
    except getopt.GetoptError as error:
        raise UsageError(f"{error.msg} (--help lists the options)") from None
    found = Arguments(expression=" ".join(rest))
    for option, value in options:
        name = option.lstrip("-")
        _take(found, LONG.get(name) or LONG.get(f"{name}=") or name, value)
    if sum(option == "-t" for option, _ in options) > 5:
        raise UsageError("only -t, -tt, -ttt, -tttt and -ttttt are supported")
    return found


def _take(found: Arguments, name: str, value: str) -> None:
    """Take an option into account; those that only change printed lines change nothing."""
    if name in _REFUSED:
        raise UsageError(f"-{name if len(name) == 1 else f'-{name}'}: {_REFUSED[name]}")
    match name:
        case "r":
            found.sources = [value]
        case "V":
            found.sources = _names(value)
        case "w":
            found.target = value
        case "c":
            found.limit = _packet_count(value)
        case "count":
            found.counting = True
        case "d" if found.listing:
            raise UsageError(
                "-dd and -ddd print libpcap's machine code, which is not made here: -d lists the tests"
            )
        case "d":
            found.listing = True
        case "y":
            found.link_type = _link_type(value)
        case "F":
            found.filter_file = value
        case "O":
            found.optimized = False
        case "nano" | "micro":
            found.nanoseconds = name == "nano"
        case "time-stamp-precision":
            found.nanoseconds = _precision(value)
        case "s":
            _check_snap_length(value)
        case "h" | "version":
            found.shown = found.shown or name


def _packet_count(text: str) -> int:
    digits = re.match(r"\s*[+-]?\d+", text, re.ASCII)
    count = int(digits[0]) if digits else 0
    if count <= 0:
        raise UsageError(f"invalid packet count {text}")
    return count


def _link_type(text: str) -> int:
    from jobs.link_types import link_type_number

    return link_type_number(text)


def _precision(text: str) -> bool:
    if text not in ("micro", "nano"):
        raise UsageError("unsupported time stamp precision")
    return text == "nano"


def _check_snap_length(text: str) -> None:
    """It has no effect on a capture that is read."""
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) > _LARGEST_SNAP_LENGTH:
        raise UsageError(f"invalid snaplen {text} (must be >= 0 and <= {_LARGEST_SNAP_LENGTH})")


def _names(path: str) -> list[str]:
    """The captures that a file lists, one per line."""
    try:
        names = [line for line in Path(path).read_text(encoding="utf-8").split("\n") if line]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"can't read {path}: {error}") from error
    if not names:
        raise UsageError(f"{path}: names no capture")
    return names


def run(arguments: Arguments, *, opened: Callable[[str], None] = lambda line: None) -> Outcome:
    """Do what the command line asks for; ``opened`` gets the line that tcpdump writes when a capture is open.

    Raises FilterError, UsageError, and errors of sources and targets.
    """
    if not arguments.sources and arguments.listing:
        link_type = _ETHERNET if arguments.link_type is None else arguments.link_type
        return Outcome(lines=_listed(_filter(arguments), link_type))
    if not arguments.sources:
        raise UsageError(f"no capture to read: {_LIVE}")
    if arguments.target is None and not arguments.counting and not arguments.listing:
        raise UsageError(_PRINTING)
    return _run(arguments, opened)


def _run(arguments: Arguments, opened: Callable[[str], None]) -> Outcome:
    from jobs.count import filter_warnings
    from pcap2arrow.writing.copy import Copying, Opened, copy, joint_head
    from pcap2arrow.writing.records.selection import Wanted
    from pcap2arrow.writing.sources.named import open_readers

    errors: list[str] = []
    with ExitStack() as stack:
        sources: list[Opened] = []
        for source in arguments.sources:
            sources.append(Opened.of(stack.enter_context(open_readers(source, None))))
            opened(_opening(source, sources[-1].head))
        head = joint_head([each.head for each in sources])
        chosen = _filter(arguments)
        if arguments.listing:
            return Outcome(lines=_listed(chosen, head.link_type))
        selection = _selection(chosen, head, optimized=arguments.optimized)
        how = Copying(
            Wanted(selection, as_seen=True, damaged=errors.append),
            arguments.limit,
            head.nanoseconds if arguments.nanoseconds is None else arguments.nanoseconds,
        )
        to = arguments.target
        packets = _count(arguments, sources, how) if to is None else copy(sources, to, how)
    warnings = [] if selection is None else list(filter_warnings(selection.filters, selection.tally))
    return Outcome(packets if arguments.counting else None, warnings=warnings, errors=errors)


def _count(arguments: Arguments, sources: Sequence[Opened], how: Copying) -> int:
    """How many packets are wanted: of datasets, if of all their packets, by several threads."""
    from jobs.count import count_selected
    from pcap2arrow.dataset.api import is_dataset
    from pcap2arrow.writing.copy import count
    from queries.exports import FilterSelection

    selection = how.wanted.selection
    if not isinstance(selection, FilterSelection) or how.limit is not None:
        return count(sources, how)
    if not all(map(is_dataset, arguments.sources)):
        return count(sources, how)
    counted = count_selected(arguments.sources, selection.filters)
    selection.tally.add(counted.tally)
    return counted.tally.packets[0]


def _opening(source: str, head: Head) -> str:
    from jobs.link_types import link_type_text

    link_type = link_type_text(head.link_type)
    return f"reading from file {source}, link-type {link_type}, snapshot length {head.snap_length}"


def _filter(arguments: Arguments) -> Filter:
    from queries.filters.compiled import compile_filter

    if arguments.filter_file is None:
        return compile_filter(arguments.expression)
    try:
        text = Path(arguments.filter_file).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"can't open {arguments.filter_file}: {error.strerror}") from error
    return compile_filter(re.sub(r"#[^\n]*", "", text))


def _listed(chosen: Filter, link_type: int) -> list[str]:
    from queries.filters.listing import listing

    return listing(chosen.for_link_type(link_type).program)


def _selection(chosen: Filter, head: Head, *, optimized: bool) -> FilterSelection | None:
    """The packets that a filter selects, None where that is all.  Raises FilterError as libpcap would.

    An expression that accepts nothing is refused as libpcap's optimiser refuses it, unless that is not to run.
    """
    from queries.exports import FilterSelection

    if chosen.term is None:
        return None
    selection = FilterSelection([chosen])
    selection.begin(link_types := head.link_types or {head.link_type})
    if optimized and all(_accepts_nothing(chosen, link_types)):
        reason, hint = "expression rejects all packets", "with -O it selects none"
        raise FilterError(reason, text=chosen.text, span=(0, len(chosen.text)), hint=hint)
    return selection


def _accepts_nothing(chosen: Filter, link_types: Iterable[int]) -> Iterable[bool]:
    for link_type in link_types:
        try:
            yield chosen.for_link_type(link_type).accepts_nothing
        except FilterError:
            yield True
