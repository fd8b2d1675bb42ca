"""tcpflow's command line, read by its rules."""

from __future__ import annotations

import getopt
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pcap2arrow.errors import UsageError
from queries.streams.style import Style

SHORT = "ab:BcCd:De:E:f:F:ghHi:IJKlL:m:o:pPqQr:R:sS:T:U:vVw:x:X:z:Z0"
LONG = ["chroot=", "help", "map=", "relinquish-privileges=", "verbose", "version"]
_LETTERS = {"chroot": "z", "help": "h", "relinquish-privileges": "U", "verbose": "v", "version": "V"}

LIVE = "there is no live capture here: write one with tcpdump -w FILE, and read it with -r FILE"
"""Why live captures are refused."""

_WITHOUT_EFFECT = "fLpPQUz"
_STYLES = {
    "B": {"binary": True},
    "0": {"newline": False},
    "D": {"hexadecimal": True},
    "g": {"colours": True},
    "J": {"as_json": True},
}
"""What letters change of how packets are printed."""

_PREFIXES = {
    "k": "%K/",
    "m": "%M000-%M999/%M%K/",
    "g": "%G000000-%G999999/%G%M000-%G%M999/%G%M%K/",
    "t": "%tT",
    "T": "%T",
}
"""What letters of ``-F`` put in front of names."""

_SCANNERS = ("http", "md5", "netviz", "python", "tcpdemux", "wifiviz")
_DRAWING = ("netviz", "wifiviz")


@dataclass(slots=True)
class Arguments:
    """What a command line of tcpflow's asks for.

    ``sources`` are captures or datasets; ``finishing`` are those that only finish what these began.  ``folder`` gets
    the files, ``report`` is where the report goes (None: to the folder), ``unprocessed`` where packets go that belong
    to no stream.  ``template`` is that of names, ``prefix`` what comes before it.  ``scanners`` look at streams;
    without ``following``, none are found.  ``function`` is the one of Python, as ``module:function``, ``path`` where
    its module lies.  ``style`` is that of what is printed, if ``console`` is set.  ``warnings`` are of letters that do
    nothing here.
    """

    sources: list[str] = field(default_factory=list)
    finishing: list[str] = field(default_factory=list)
    folder: str | None = None
    report: str | None = None
    unprocessed: str | None = None
    with_report: bool = True
    template: str | None = None
    prefix: str = ""
    count_all: bool = False
    limit: int | None = None
    skip: int | None = None
    following: bool = True
    storing: bool = True
    scanners: set[str] = field(default_factory=set)
    function: str | None = None
    path: str | None = None
    raw_bodies: bool = False
    index: bool = False
    captures: bool = False
    console: bool = False
    style: Style = field(default_factory=Style)
    quiet: bool = False
    shift: int = 0
    expression: str = ""
    shown: str | None = None
    warnings: list[str] = field(default_factory=list)


def read_arguments(words: Sequence[str]) -> Arguments:
    """Read a command line as getopt does; after ``-l``, words are files, else an expression.

    Raises UsageError where tcpflow would refuse it, and for live captures.
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
    _check(found)
    return found


def _check(found: Arguments) -> None:
    if found.scanners and not found.storing:
        raise UsageError("post_processing currently requires storing output.")
    if "python" in found.scanners and not found.function:
        raise UsageError("-e python: expected --map MODULE:FUNCTION, or -S py_module=M -S py_function=F")


def _take(found: Arguments, letter: str, value: str) -> None:
    if letter == "i":
        raise UsageError(f"-i: {LIVE}")
    if letter in _WITHOUT_EFFECT:
        found.warnings.append(f"warning: -{letter} does nothing here")
        return
    match letter:
        case "r":
            found.sources.append(value)
        case "R":
            found.finishing.append(value)
        case "w":
            found.unprocessed = value
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
        case "map":
            found.scanners.add("python")
            found.function = value
        case "h" | "H" | "V":
            found.shown = found.shown or letter
        case _:
            _take_console(found, letter)


def _take_console(found: Arguments, letter: str) -> None:
    """Letters without a value: what is printed, and what is written beside streams."""
    match letter:
        case "a":
            found.scanners |= {"http", "md5"}
        case "I":
            found.index = True
        case "K":
            found.captures = True
        case "Z":
            found.raw_bodies = True
        case "q":
            found.quiet = True
        case "c":
            found.console = True
        case "C":
            found.console, found.style = True, replace(found.style, heading=False)
        case _ if letter in _STYLES:
            found.style = replace(found.style, **_STYLES[letter])


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
            found.scanners.add("md5")
        elif letter in _PREFIXES:
            found.prefix = _PREFIXES[letter] + found.prefix
        else:
            raise UsageError(f"-F{letter}: invalid option: there are c, k, m, g, t, T, X and M")


def _take_scanner(found: Arguments, letter: str, name: str) -> None:
    if name not in _SCANNERS:
        raise UsageError(f"-{letter} {name}: no such scanner: there are {', '.join(_SCANNERS)}")
    if letter == "E":
        found.scanners.clear()
        found.following = name == "tcpdemux"
    if name == "tcpdemux":
        found.following = letter != "x"
    elif letter == "x":
        found.scanners.discard(name)
    elif name in _DRAWING:
        found.warnings.append(f"warning: -{letter} {name} does nothing here: there are no drawings")
    else:
        found.scanners.add(name)


def _take_setting(found: Arguments, text: str) -> None:
    name, _, value = text.partition("=")
    if name == "tdelta":
        try:
            found.shift = int(value)
        except ValueError:
            raise UsageError(f"-S {text}: expected a number of seconds") from None
    elif name == "enable_report":
        found.with_report = value not in ("0", "NO", "no", "false")
    elif name == "py_path":
        found.path = value
    elif name == "py_module":
        found.function = f"{value}:{(found.function or '').partition(':')[2]}"
    elif name == "py_function":
        found.function = f"{(found.function or '').partition(':')[0]}:{value}"
    else:
        hint = ": --map MODULE:FUNCTION runs a function on each stream" if name.endswith("_cmd") else ""
        found.warnings.append(f"warning: -S {name} does nothing here{hint}")
