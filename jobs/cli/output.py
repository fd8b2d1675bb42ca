"""Writing to people and to machines."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from jobs.reports import printable
from pcap2arrow.errors import FilterError, TimeSpecError

_UNBOUNDED = 1_000_000  # columns


def complain(message: str) -> None:
    """A line on standard error."""
    print(f"pcap2arrow: {printable(message)}", file=sys.stderr, flush=True)


def complain_of_text(error: FilterError | TimeSpecError) -> None:
    """What is wrong with a filter expression or a time, on standard error, with the place underlined below it."""
    reason, *excerpt = str(error).split("\n")
    complain(reason)
    for line in excerpt:
        print(printable(line), file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Lines on standard output."""
    for line in text.split("\n"):
        print(printable(line))


def print_json_list(records: Iterable[dict[str, Any]]) -> None:
    """A JSON list with one record per line."""
    lines = ",\n".join(json.dumps(record) for record in records)
    print(f"[\n{lines}\n]" if lines else "[]")


def print_json_line(record: dict[str, Any]) -> None:
    """A record as one line of JSON."""
    print(json.dumps(record), flush=True)


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[str] = ()
) -> None:
    """A table that fits a terminal, or else one with columns as wide as they need to be.

    The columns ``numbers`` are aligned to the right.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    right = set(numbers)
    terminal = sys.stdout.isatty()
    table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=terminal)
    for heading in headings:
        justify: Literal["left", "right"] = "right" if heading in right else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=not terminal)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    if terminal:
        Console().print(table)
        return
    text = io.StringIO()
    Console(file=text, width=_UNBOUNDED).print(table)
    for line in text.getvalue().splitlines():
        print(line.rstrip())
