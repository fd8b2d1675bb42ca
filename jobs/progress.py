"""How far a conversion is: a bar on a terminal, or a line of JSON per event."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pcap2arrow.conversion.driver import CaptureReport, Step, Watcher
from pcap2arrow.inputs import Input

if TYPE_CHECKING:
    from rich.console import Console

_ROUNDS = 2  # every octet is read twice: scanned, then written


class Tally:
    """What is done, and what there is to do, from the events of a conversion.

    ``packets`` counts packets that were written, ``octets`` those of captures that are done (half of them
    once they are scanned), ``total`` those of all captures.  It is None where sizes are not known in advance
    (standard input, URLs), and grows while compressed captures are read.
    """

    def __init__(self, captures: Iterable[Input]) -> None:
        self.packets = 0
        self._expected = {capture.name: _size(capture.path) for capture in captures}
        self._known = None not in self._expected.values()
        self._left = sum(size or 0 for size in self._expected.values()) * _ROUNDS
        self._read: dict[str, int] = {}
        self._read_in_all = 0

    @property
    def octets(self) -> float:
        """Octets of captures that are done."""
        return self._read_in_all / _ROUNDS

    @property
    def total(self) -> float | None:
        """Octets of all captures; None if that is not known."""
        return self.octets + self._left / _ROUNDS if self._known else None

    def add(self, event: Step | CaptureReport) -> None:
        """Count an event."""
        if isinstance(event, Step):
            self.packets += event.packets
            self._read_in_all += event.octets
            self._left -= self._credit(event.name, event.octets)
        else:
            self._left -= self._credit(event.name, (self._expected.get(event.name) or 0) * _ROUNDS)

    def _credit(self, name: str, octets: int) -> int:
        """How many of the octets were still expected of a capture."""
        before = self._read.get(name, 0)
        expected = (self._expected.get(name) or 0) * _ROUNDS
        self._read[name] = min(before + octets, expected)
        return self._read[name] - before


def _size(path: str) -> int | None:
    """Size of a local file; None if it is no local file."""
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):
        return None


@contextmanager
def progress_bar(captures: Iterable[Input], console: Console) -> Iterator[Watcher]:
    """Show a bar with packets, octets, rate and time left while the block runs; the watcher feeds it."""
    from rich import progress as rich

    tally = Tally(captures)
    columns = (
        rich.BarColumn(),
        rich.TextColumn("{task.fields[packets]:,} packets"),
        rich.DownloadColumn(),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=tally.total, packets=0)

        def watch(event: Step | CaptureReport) -> None:
            tally.add(event)
            progress.update(bar, completed=tally.octets, total=tally.total, packets=tally.packets)

        yield watch


def event_lines(out: TextIO) -> Callable[[Step | CaptureReport], None]:
    """A watcher that writes each event as a line of JSON: ``{"event": "step" | "capture", …}``."""

    def watch(event: Step | CaptureReport) -> None:
        kind = "step" if isinstance(event, Step) else "capture"
        print(json.dumps({"event": kind} | dataclasses.asdict(event)), file=out, flush=True)

    return watch
