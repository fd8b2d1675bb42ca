"""Filter expressions as users give them: one, or a file with one per line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pcap2arrow.errors import FilterError, UsageError

if TYPE_CHECKING:
    from queries.filters.compiled import Filter
    from queries.filters.language.names import Names

STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class FilterLine:
    """A line of a file of expressions: its ``number`` from 1, its ``text``, and the filter, or why there is none."""

    number: int
    text: str
    filter: Filter | FilterError


def read_filters(path: str, *, names: Names, netmask: int) -> list[FilterLine]:
    """The expressions of a file (``-``: standard input), one per line; blank lines and those from # on are left out.

    Raises UsageError where the file can't be read or holds no expression.
    """
    try:
        text = sys.stdin.read() if path == STANDARD_INPUT else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"can't read the filters in {path}: {error}") from error
    lines = [
        FilterLine(number, line.strip(), _compiled(line.strip(), names, netmask))
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise UsageError(f"{path}: holds no filter: expected one expression per line")
    return lines


def _compiled(text: str, names: Names, netmask: int) -> Filter | FilterError:
    from queries.filters.compiled import compile_filter

    try:
        return compile_filter(text, names=names, netmask=netmask)
    except FilterError as error:
        return error
