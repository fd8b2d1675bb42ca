"""tcpflow's command line, read by its rules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from jobs.letters import Letter, read_letters, sets
from pcap2arrow.errors import UsageError
from queries.streams.style import Style

LIVE = "there is no live capture here: write one with tcpdump -w FILE, and read it with -r FILE"
"""Why live captures are refused."""

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
    its module lies.  ``style`` is that of what is printed, if ``console`` is set: packets as they came, or with
    ``ordered`` streams.  ``warnings`` are of letters that do nothing here.
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
    ordered: bool = False
    style: Style = field(default_factory=Style)
    quiet: bool = False
    shift: int = 0
    rest_are_sources: bool = False
    expression: str = ""
    shown: str | None = None
    warnings: list[str] = field(default_factory=list)


def read_arguments(words: Sequence[str]) -> Arguments:
    """Read a command line as getopt does; after ``-l``, words are files, else an expression.

    Raises UsageError where tcpflow would refuse it, and for live captures.
    """
    found = Arguments()
    rest = read_letters(words, LETTERS, found)
    if found.rest_are_sources:
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


def _take_scanner(found: Arguments, name: str, *, letter: str) -> None:
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


def _refuse(found: Arguments, value: str) -> None:
    raise UsageError(f"-i: {LIVE}")


def _take_function(found: Arguments, value: str) -> None:
    found.scanners.add("python")
    found.function = value


def _console(**style: bool) -> Letter[Arguments]:
    """A letter that prints packets, in a style."""

    def take(found: Arguments, value: str) -> None:
        found.console, found.style = True, replace(found.style, **style)

    return Letter(take)


def _take_ordered(found: Arguments, value: str) -> None:
    found.console = found.ordered = True


def _style(**style: bool) -> Letter[Arguments]:
    """A letter that changes how packets are printed, if they are."""
    return Letter(lambda found, value: setattr(found, "style", replace(found.style, **style)))


def _shows(letter: str, word: str = "") -> Letter[Arguments]:
    return Letter(lambda found, value: setattr(found, "shown", found.shown or letter), word=word)


def _nothing(letter: str = "", *, has_value: bool = False, word: str = "") -> Letter[Arguments]:
    """A letter that does nothing here; with its name, it is said so."""

    def take(found: Arguments, value: str) -> None:
        if letter:
            found.warnings.append(f"warning: -{letter} does nothing here")

    return Letter(take, has_value, word)


LETTERS: dict[str, Letter[Arguments]] = {
    "r": Letter(lambda found, value: found.sources.append(value), has_value=True),
    "R": Letter(lambda found, value: found.finishing.append(value), has_value=True),
    "l": sets("rest_are_sources", True),
    "o": sets("folder", has_value=True),
    "X": sets("report", has_value=True),
    "w": sets("unprocessed", has_value=True),
    "T": sets("template", has_value=True),
    "F": Letter(_take_format, has_value=True),
    "b": Letter(lambda found, value: setattr(found, "limit", _number(value)), has_value=True),
    "m": Letter(lambda found, value: setattr(found, "skip", _number(value)), has_value=True),
    "a": Letter(lambda found, value: found.scanners.update(("http", "md5"))),
    "e": Letter(partial(_take_scanner, letter="e"), has_value=True),
    "E": Letter(partial(_take_scanner, letter="E"), has_value=True),
    "x": Letter(partial(_take_scanner, letter="x"), has_value=True),
    "S": Letter(_take_setting, has_value=True),
    "map": Letter(_take_function, has_value=True, word="map"),
    "I": sets("index", True),
    "K": sets("captures", True),
    "Z": sets("raw_bodies", True),
    "c": _console(),
    "C": _console(heading=False),
    "ordered": Letter(_take_ordered, word="ordered"),
    "B": _style(binary=True),
    "0": _style(newline=False),
    "D": _style(hexadecimal=True),
    "g": _style(colours=True),
    "J": _style(as_json=True),
    "q": sets("quiet", True),
    "h": _shows("h", "help"),
    "H": _shows("H"),
    "V": _shows("V", "version"),
    "i": Letter(_refuse, has_value=True),
    "f": _nothing("f", has_value=True),
    "L": _nothing("L", has_value=True),
    "p": _nothing("p"),
    "P": _nothing("P"),
    "Q": _nothing("Q"),
    "U": _nothing("U", has_value=True, word="relinquish-privileges"),
    "z": _nothing("z", has_value=True, word="chroot"),
    "d": _nothing(has_value=True),
    "s": _nothing(),
    "v": _nothing(word="verbose"),
}
"""What each letter does; those of live captures and of processes nothing, or they are refused."""
