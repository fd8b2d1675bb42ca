"""How far a job of several steps is: a bar on a terminal, or a line of JSON per event."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: in its ``step`` so much is ``done`` of a ``total`` (None: not known).

    Octets of sources are ``read``, ``exported`` or ``verified``; what else a step counts, the job says.
    """

    step: str
    done: int
    total: int | None


@contextmanager
def watch_steps(*, as_json: bool) -> Iterator[Callable[[Progress], None]]:
    """Show how far a job of several steps is: a bar on a terminal, or lines of JSON if these are asked for."""
    if as_json:
        yield lambda progress: print_event("step", dataclasses.asdict(progress))
        return
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich import progress as rich
    from rich.console import Console

    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.TimeRemainingColumn())
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        bar = shown.add_task("")
        yield lambda progress: shown.update(
            bar, description=progress.step, completed=progress.done, total=progress.total
        )


def print_event(kind: str, event: dict[str, Any]) -> None:
    """An event as a line of JSON on standard output."""
    print(json.dumps({"event": kind} | event), flush=True)
