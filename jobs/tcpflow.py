"""tcpflow's command line, done with streams."""

from __future__ import annotations

import getopt
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pcap2arrow.errors import ExportError, UsageError

if TYPE_CHECKING:
    from queries.streams.bucket import Bucket
    from queries.streams.console import Style
    from queries.streams.naming import Template

SHORT = "ab:BcCd:De:E:f:F:ghi:IJKlL:m:o:pPqQr:R:sS:T:U:vVw:x:X:z:Z0"
LONG = ["chroot=", "help", "relinquish-privileges=", "verbose", "version"]
_LETTERS = {"chroot": "z", "help": "h", "relinquish-privileges": "U", "verbose": "v", "version": "V"}

_LIVE = "there is no live capture here: write one with tcpdump -w FILE, and read it with -r FILE"
_NOT_YET = {
    "R": "carrying on with flows of earlier files is not there yet",
    "w": "captures of what was left out are not there yet: pcap2arrow export -f EXPR writes packets",
    "K": "captures of flows are not there yet: pcap2arrow export -f EXPR writes packets",
    "a": "HTTP and plots are not there yet: -e md5 puts MD5 into the report",
}
_WITHOUT_EFFECT = "fLpPQUz"
_PREFIXES = {
    "k": "%K/",
    "m": "%M000-%M999/%M%K/",
    "g": "%G000000-%G999999/%G%M000-%G%M999/%G%M%K/",
    "t": "%tT",
    "T": "%T",
}
"""What letters of ``-F`` put in front of names."""

_SCANNERS = frozenset({"md5", "tcpdemux"})
_NOT_YET_SCANNERS = frozenset({"http", "netviz", "wifiviz", "python"})
_REPORT = "report.xml"


@dataclass(slots=True)
class Arguments:
    """What a command line of tcpflow's asks for.

    ``sources`` are captures or datasets.  ``folder`` gets the files, ``report`` is where the report goes (None: to the
    folder).  ``template`` is that of names, ``prefix`` what comes before it.  ``following``
    is False where the scanner that finds streams is switched off.  ``warnings`` are of letters that do
    nothing here.
    """

    sources: list[str] = field(default_factory=list)
    folder: str | None = None
    report: str | None = None
    with_report: bool = True
    template: str | None = None
    prefix: str = ""
    count_all: bool = False
    limit: int | None = None
    skip: int | None = None
    following: bool = True
    storing: bool = True
    md5: bool = False
    index: bool = False
    console: bool = False
    heading: bool = True
    binary: bool = False
    newline: bool = True
    hexadecimal: bool = False
    colours: bool = False
    as_json: bool = False
    shift: int = 0
    expression: str = ""
    shown: str | None = None
    warnings: list[str] = field(default_factory=list)


def read_arguments(words: Sequence[str]) -> Arguments:
    """Read a command line as getopt does; after ``-l``, words are files, else an expression.

    Raises UsageError where tcpflow would refuse it, for live captures, and for what is not there yet.
    """
    try:
        options, rest = getopt.gnu_getopt(list(words), SHORT, LONG)
    except getopt.GetoptError as error:
        raise UsageError(f"{error.msg} (-h lists the letters)") from None
    found = Arguments()
    for option, value in options:
        name = option.lstrip("-")
        _take(found, _LETTERS.get(name, name), value)
    if any(option == "-l" for option, _ in options):
        found.sources += rest
    else:
        found.expression = " ".join(rest)
    if found.md5 and not found.storing:
        raise UsageError("post_processing currently requires storing output.")
    return found


def _take(found: Arguments, letter: str, value: str) -> None:
    if letter in _NOT_YET:
        raise UsageError(f"-{letter}: {_NOT_YET[letter]}")
    if letter == "i":
        raise UsageError(f"-i: {_LIVE}")
    if letter in _WITHOUT_EFFECT:
        found.warnings.append(f"warning: -{letter} does nothing here")
        return
    match letter:
        case "r":
            found.sources.append(value)
        case "o":
            found.folder = value
        case "X":
            found.report = value
        case "T":
            found.template = value
        case "F":
            _take_format(found, value)
        case "b":
            found.limit = _number(value)
        case "m":
            found.skip = _number(value)
        case "e" | "E" | "x":
            _take_scanner(found, letter, value)
        case "S":
            _take_setting(found, value)
        case "h" | "V":
            found.shown = found.shown or letter
        case _:
            _take_console(found, letter)


def _take_console(found: Arguments, letter: str) -> None:
    """Letters of what is printed, and the index."""
    match letter:
        case "I":
            found.index = True
        case "c":
            found.console = True
        case "C":
            found.console, found.heading = True, False
        case "B":
            found.binary = True
        case "0":
            found.newline = False
        case "D":
            found.hexadecimal = True
        case "g":
            found.colours = True
        case "J":
            found.as_json = True


def _number(text: str) -> int:
    """A number as atoi(3) reads it."""
    digits = re.match(r"\s*[+-]?\d+", text, re.ASCII)
    return max(int(digits[0]) if digits else 0, 0)


def _take_format(found: Arguments, letters: str) -> None:
    for letter in letters:
        if letter == "c":
            found.count_all = True
        elif letter == "X":
            found.storing = False
        elif letter == "M":
            found.md5 = True
        elif letter in _PREFIXES:
            found.prefix = _PREFIXES[letter] + found.prefix
        else:
            raise UsageError(f"-F{letter}: invalid option: there are c, k, m, g, t, T, X and M")


def _take_scanner(found: Arguments, letter: str, name: str) -> None:
    if letter == "x":
        found.md5 = found.md5 and name != "md5"
        found.following = found.following and name != "tcpdemux"
        return
    if name in _NOT_YET_SCANNERS:
        raise UsageError(f"-{letter} {name}: that scanner is not there yet: there is md5")
    if name not in _SCANNERS:
        raise UsageError(f"-{letter} {name}: no such scanner: there is md5")
    if letter == "e":
        found.md5 |= name == "md5"
    else:
        found.following, found.md5 = name == "tcpdemux", False


def _take_setting(found: Arguments, text: str) -> None:
    name, _, value = text.partition("=")
    if name == "tdelta":
        try:
            found.shift = int(value)
        except ValueError:
            raise UsageError(f"-S {text}: expected a number of seconds") from None
    elif name == "enable_report":
        found.with_report = value not in ("0", "NO", "no", "false")
    else:
        found.warnings.append(f"warning: -S {name} does nothing here")


def template(arguments: Arguments) -> Template:
    """The template of names.  Raises UsageError where it is wrong, or names would leave the folder."""
    from queries.streams.naming import DEFAULT, Template

    text = arguments.template or DEFAULT
    if arguments.count_all:
        text = text.replace("%C%c", "c%#")
    return Template(arguments.prefix + text, complete=arguments.count_all)


def run(arguments: Arguments, *, write: Callable[[bytes], object]) -> tuple[str, ...]:
    """Do what the command line asks for; ``write`` gets what is printed.  The result is what was wrong in captures.

    Raises FilterError, UsageError, and errors of sources and targets.
    """
    from jobs.streams import read_bucket
    from queries.filters.compiled import compile_filter
    from queries.streams.rules import SKIP, Rules

    if not arguments.sources:
        raise UsageError(f"no capture to read: {_LIVE}")
    names = template(arguments)
    chosen = compile_filter(arguments.expression) if arguments.expression else None
    rules = Rules(SKIP if arguments.skip is None else arguments.skip, arguments.limit, as_tcpflow=True)
    folder = Path(arguments.folder or ".")
    if arguments.storing or arguments.with_report:
        _make(folder)
    if not arguments.following:
        _store(None, arguments, names, folder)
        return ()
    read = read_bucket(arguments.sources, rules=rules, chosen=chosen, shift=arguments.shift)
    if read.bucket is not None and arguments.console:
        _print(read.bucket, arguments, names, write)
    _store(read.bucket, arguments, names, folder)
    return read.errors


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from error


def _print(bucket: Bucket, arguments: Arguments, names: Template, write: Callable[[bytes], object]) -> None:
    from queries.streams.console import printed

    folder = f"{arguments.folder}/" if arguments.folder else ""
    for line in printed(bucket, _style(arguments), names, folder=folder):
        write(line)


def _style(arguments: Arguments) -> Style:
    from queries.streams.console import Style

    return Style(
        arguments.heading,
        arguments.binary,
        arguments.newline,
        arguments.hexadecimal,
        arguments.colours,
        arguments.as_json,
    )


def _store(bucket: Bucket | None, arguments: Arguments, template: Template, folder: Path) -> None:
    """Write files and their report; what is printed is not stored."""
    from pcap2arrow import __version__
    from queries.streams.dfxml import report

    storing = arguments.storing and not arguments.console
    names: dict[int, str] = {}
    digests = None
    if bucket is not None and storing:
        names = bucket.names(template, taken=_files(folder))
        bucket.write_files(names, folder)
        if arguments.index:
            _write_index(bucket, names, folder)
        if arguments.md5:
            digests = bucket.digests()["md5"]
    if arguments.with_report:
        shown = {stream: str(folder / name) for stream, name in names.items()}
        target = Path(arguments.report) if arguments.report else folder / _REPORT
        _write_text(target, report(bucket, shown, digests, version=__version__))


def _files(folder: Path) -> set[str]:
    """Names that are taken."""
    return {
        str((Path(root) / name).relative_to(folder)) for root, _, names in os.walk(folder) for name in names
    }


def _write_index(bucket: Bucket, names: dict[int, str], folder: Path) -> None:
    """Beside each file one of lines OFFSET|TIME|OCTETS, one for each segment, with the nanoseconds of its time."""
    for stream, lines in bucket.index_lines(sorted(names)):
        _write_text(folder / f"{names[stream]}.findx", lines)


def _write_text(path: Path, parts: Iterable[str]) -> None:
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(parts)
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}") from error
