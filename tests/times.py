"""The table of times as arguments, what tcpslice makes of them, and the time zone of the C library."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from tests.blocks import pcap_header, pcap_record

SECOND = 10**9
TABLE = Path(__file__).parent / "slices" / "times.txt"
ZONES = ["UTC", "America/Los_Angeles", "Europe/Berlin"]
FIRST_PACKETS = {"1990": 654321098_765400_000, "2024": 1709210096_999999_000}
CASES = [(zone, capture) for zone in ZONES for capture in FIRST_PACKETS]

MOMENTS = [
    0,
    1,
    28800,
    10**9,
    654321098,
    1709210096,
    1711846799,
    1711846800,
    1729987200,
    1729990800,
    2**31 - 1,
]
"""Seconds since 1970, some of them where daylight saving begins and ends."""

MORE_ZONES = [
    *ZONES,
    "Asia/Kathmandu",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Pacific/Apia",
    "EST5EDT",
    "<+0330>-3:30",
    "AAA3BBB,J60/0,J300/0:30",
    "NZST-12NZDT,M9.5.0,M4.1.0/3",
]


@dataclass(frozen=True, slots=True)
class TimeRow:
    """A line of the table: the argument, and what is expected of it where it is not what tcpslice says."""

    argument: str
    default: str
    exceptions: dict[frozenset[str], str]

    def expected(self, zone: str, capture: str) -> str:
        """What the table says for a case: ``=``, or a time or refusal, with ``≠`` before it."""
        found = [value for where, value in self.exceptions.items() if where <= {zone, capture}]
        return found[-1] if found else self.default

    @property
    def follows_tcpslice(self) -> bool:
        """Whether all cases are such that tcpslice is right where it accepts them."""
        return not any(value.startswith("≠") for value in (self.default, *self.exceptions.values()))


def table() -> list[TimeRow]:
    """The rows of the table."""
    lines = TABLE.read_text(encoding="utf-8").split("\n")
    return [_row(line) for line in lines if line and not line.startswith("##")]


def _row(line: str) -> TimeRow:
    argument, *expectations = line.split("\t")
    default, *exceptions = expectations or ["="]
    pairs = [each.split(": ", 1) for each in exceptions]
    return TimeRow(argument, default, {frozenset(where.split()): value for where, value in pairs})


def time_or_reason(expected: str, capture: str) -> int | str:
    """What an expectation means: ``1000``, ``+3600`` (after the first packet of the capture), ``!reason``."""
    value = expected.removeprefix("≠")
    if value.startswith("!"):
        return value[1:]
    return int(Decimal(value) * SECOND) + (FIRST_PACKETS[capture] if value.startswith("+") else 0)


@dataclass(frozen=True, slots=True)
class Tcpslice:
    """tcpslice in a folder that holds the two captures to count from."""

    program: str
    folder: Path

    def run(self, *words: str, zone: str) -> subprocess.CompletedProcess[str]:
        """Run it in the folder of the captures, in a time zone."""
        environment = {"TZ": zone, "PATH": os.environ["PATH"]}
        return subprocess.run(
            [self.program, *words], cwd=self.folder, env=environment, capture_output=True, text=True
        )

    def answer(self, *arguments: str, zone: str, capture: str) -> int | str | None:
        """The last of one or two times; or the reason why there is none; None where one is a file's name to it."""
        done = self.run("-d", "--", *arguments, f"{capture}.pcap", zone=zone)
        if done.returncode:
            reason = done.stderr.strip().removeprefix("tcpslice: ")
            return None if reason.startswith("bad pcap file") else reason
        start, stop = done.stdout.splitlines()
        seconds, microseconds = (stop if len(arguments) > 1 else start).split("\t")[1].split(".")
        return int(seconds) * SECOND + int(microseconds) * 1000  # more than six digits are not carried over


def write_capture(path: Path, *moments: int) -> None:
    """A capture with a packet of each time."""
    records = [
        pcap_record("<", bytes(60), seconds=moment // SECOND, fraction=moment % SECOND // 1000)
        for moment in moments
    ]
    path.write_bytes(pcap_header("<") + b"".join(records))


@contextmanager
def c_zone(zone: str) -> Iterator[None]:
    """Functions of the C library take that time zone."""
    before = os.environ["TZ"]
    os.environ["TZ"] = zone
    time.tzset()
    try:
        yield
    finally:
        os.environ["TZ"] = before
        time.tzset()
