"""Exports that go to one file after another: by the packets' time, by octets, or by number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.errors import ExportError, UsageError
from pcap2arrow.writing.records.encoded import Encoded
from pcap2arrow.writing.records.packets import BEFORE_ANY_TIME
from pcap2arrow.writing.target import ExportReport, open_target, write_octets

_STEP = 1 << 12
"""Packets that are looked at together, so that many small files take no longer."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBERED = "_{:05d}_%Y%m%d%H%M%S"


@dataclass(frozen=True, slots=True)
class Split:
    """When an export goes on in another file; several of these are possible at once.

    ``every`` so many nanoseconds, counted from the first packet (a packet just at the end belongs to what ends, as
    for ``editcap -i``; no file is without a packet); before a file has more than ``octets``, unless it has one packet;
    or more than ``packets``.  Time is the greatest so far.  Names are told in local time of the ``zone``.
    """

    every: int | None = None
    octets: int | None = None
    packets: int | None = None
    zone: tzinfo = field(default=UTC, compare=False)

    def __post_init__(self) -> None:
        if any(each is not None and each < 1 for each in (self.every, self.octets, self.packets)):
            raise UsageError("split: expected a length of time, or numbers from 1")


class Names:
    """The files' names: those that strftime makes of a pattern and the time of each file's first packet.

    A pattern without ``%`` gets the file's number and time, as by editcap (``out_00000_20240501120000.pcap``).  A name
    that was there before gets ``-1``, ``-2``, … before its extension.
    """

    def __init__(self, pattern: str, zone: tzinfo) -> None:
        self._zone = zone
        self._pattern, self._count = pattern, 0
        self._used: dict[str, int] = {}

    def following(self, time: int) -> str:
        """The name of the next file, whose first packet has that time."""
        pattern = self._pattern
        path = Path(pattern)
        if "%" not in path.name:
            pattern = str(path.with_name(f"{path.stem}{_NUMBERED.format(self._count)}{path.suffix}"))
        local = (_EPOCH + timedelta(seconds=time // 10**9)).astimezone(self._zone)
        name = local.strftime(pattern)
        self._count += 1
        repeats = self._used.get(name, 0)
        self._used[name] = repeats + 1
        if repeats:
            path = Path(name)
            return str(path.with_name(f"{path.stem}-{repeats}{path.suffix}"))
        return name


def check_pattern(pattern: str) -> None:
    """Raise UsageError where strftime would not take the pattern everywhere."""
    wrong = re.search(r"%(?![aAbBcdHIjmMpSUwWxXyYZzeDFTRfGuV%])", pattern)
    if wrong:
        found = pattern[wrong.start() : wrong.start() + 2]
        raise UsageError(f"{pattern}: {found!r} is no field of strftime: %Y%m%d-%H%M%S is a date and time")


@dataclass(slots=True)
class _File:
    """The file that an export has come to: its packets and octets so far, and the last time that belongs to it."""

    how: Split
    head: int
    packets: int = 0
    octets: int = 0
    until: int | None = None
    begun: bool = False

    def begin(self, time: int) -> None:
        """Begin another file with a packet of that time."""
        self.begun, self.packets, self.octets = True, 0, self.head
        if self.how.every is not None and self.until is not None and time > self.until:
            self.until += -(-(time - self.until) // self.how.every) * self.how.every

    def room(self, clock: NDArray[np.int64], lengths: NDArray[np.int64]) -> int:
        """How many of the packets that come now belong to the file."""
        if not self.begun:
            return 0
        room = len(clock)
        if self.how.every is not None:
            if self.until is None and clock[-1] != BEFORE_ANY_TIME:
                first = clock[np.searchsorted(clock, BEFORE_ANY_TIME, side="right")]
                self.until = int(first) + self.how.every
            if self.until is not None and self.until < int(clock[-1]):
                room = min(room, int(np.searchsorted(clock, self.until, side="right")))
        if self.how.packets is not None:
            room = min(room, self.how.packets - self.packets)
        if self.how.octets is not None:
            fitting = int(np.searchsorted(np.cumsum(lengths), self.how.octets - self.octets, side="right"))
            room = min(room, fitting if fitting or self.packets else 1)
        return room


def parts(batches: Iterator[Encoded], preamble: bytes, how: Split) -> Iterator[tuple[bool, Encoded]]:
    """The packets in stretches, each of one file, with whether that file begins with it."""
    file, greatest = _File(how, len(preamble)), BEFORE_ANY_TIME
    for batch in batches:
        clock = np.maximum(np.maximum.accumulate(batch.order), greatest)
        lengths = batch.octets.length
        greatest, at = int(clock[-1]), 0
        while at < len(batch):
            step = slice(at, at + _STEP)
            room = file.room(clock[step], lengths[step])
            begins = room == 0
            if begins:
                file.begin(int(clock[at]))
                room = file.room(clock[step], lengths[step])
            part = slice(at, at + room)
            file.packets += room
            file.octets += int(lengths[part].sum())
            yield begins, batch.take(part)
            at += room


def write_parts(batches: Iterator[Encoded], preamble: bytes, pattern: str, how: Split) -> ExportReport:
    """Write packets, with details, to one file after another.  Raises ExportError, UsageError."""
    check_pattern(pattern)
    names = Names(pattern, how.zone)
    packets, octets, files = 0, 0, list[str]()
    with ExitStack() as opened:
        file: IO[bytes] | None = None
        for begins, part in parts(batches, preamble, how):
            if begins or file is None:
                opened.pop_all().close()
                name = names.following(_first_time(part))
                _make_folder(name)
                file, _ = opened.enter_context(open_target(name))
                files.append(name)
                octets += write_octets(file, preamble)
            packets += len(part)
            octets += sum(write_octets(file, stretch) for stretch in part.stretches())
    return ExportReport(packets, octets, tuple(files))


def _first_time(packets: Encoded) -> int:
    first = packets.known[0]
    return int(first["time"]) if first["timed"] else max(int(packets.order[0]), 0)


def _make_folder(name: str) -> None:
    try:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{name}: {error.strerror or error}") from error
