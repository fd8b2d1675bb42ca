"""Command lines of letters, as getopt(3) reads them, out of one table that says what each letter does."""

from __future__ import annotations

import getopt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pcap2arrow.errors import UsageError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Letter(Generic[_T]):
    """What a letter does to what a command line asks for, given its value, empty if it has none.

    ``word`` is its long option; of what has no letter it is the whole name.  With ``ends``, nothing behind it counts.
    """

    take: Callable[[_T, str], object]
    has_value: bool = False
    word: str = ""
    ends: bool = False


def read_letters(
    words: Sequence[str],
    letters: Mapping[str, Letter[_T]],
    found: _T,
    *,
    refuse: Callable[[str], UsageError] = lambda reason: UsageError(f"{reason} (-h lists the letters)"),
) -> list[str]:
    """Do to ``found`` what the letters say, one after another; the result are the words that are none.

    Letters may stand behind such words, too; ``--`` ends them.  For one that there is not, and where a value is
    missing, raises what ``refuse`` makes of the reason.
    """
    short = "".join(
        f"{name}:" if each.has_value else name for name, each in letters.items() if len(name) == 1
    )
    long = {each.word: each for each in letters.values() if each.word}
    names = [f"{word}=" if each.has_value else word for word, each in long.items()]
    try:
        options, rest = getopt.gnu_getopt(list(words), short, names)
    except getopt.GetoptError as error:
        raise refuse(error.msg) from None
    for option, value in options:
        name = option.lstrip("-")
        letter = long[name] if option.startswith("--") else letters[name]
        letter.take(found, value)
        if letter.ends:
            return []
    return rest


def sets(name: str, value: object = None, *, has_value: bool = False, word: str = "") -> Letter[Any]:
    """A letter that sets an attribute: to this value, or to its own."""
    return Letter(lambda found, text: setattr(found, name, text if has_value else value), has_value, word)
