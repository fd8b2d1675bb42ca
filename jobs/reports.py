"""Results as sentences for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcap2arrow.conversion.api import ConversionReport

_STATUSES = {
    "converted": "converted",
    "named": "named (content known)",
    "planned": "planned",
    "unchanged": "unchanged",
    "failed": "failed",
}


def conversion_summary(report: ConversionReport, seconds: float) -> str:
    """What a conversion did, in two lines: what became of captures; packets, octets, time and rate."""
    counts = Counter(capture.status for capture in report.captures)
    told = ", ".join(f"{counts[status]:,} {words}" for status, words in _STATUSES.items() if counts[status])
    damaged = f", {len(report.damaged):,} of them damaged" if report.damaged else ""
    left_out = f"; {plural(report.left_out, 'other file')} left out" if report.left_out else ""
    octets = converted_octets(report)
    rate = f": {octets_text(octets / seconds)}/s, {report.packets / seconds:,.0f} packets/s" if octets else ""
    return (
        f"{plural(len(report.captures), 'capture')}: {told or 'none found'}{damaged}{left_out}\n"
        f"{plural(report.packets, 'packet')}, {octets_text(octets)} in {seconds:.1f} s{rate}"
    )


def converted_octets(report: ConversionReport) -> int:
    """Octets of the captures that a conversion added."""
    return sum(capture.size for capture in report.captures if capture.status == "converted")


def conversion_problems(report: ConversionReport) -> Iterator[str]:
    """A line for each capture that is damaged or failed: what, where, why."""
    for capture in report.damaged:
        yield f"damaged: {named(capture.name, capture.path, capture.error or '')}"
    for capture in report.failed:
        yield f"failed: {named(capture.name, capture.path, capture.error or '')}"


def named(name: str, path: str, error: str) -> str:
    """An error with the capture's name before it, unless it names the capture or its path itself."""
    return error if error.startswith((f"{name}:", f"{path}:")) else f"{name}: {error}"


def plural(count: int, noun: str) -> str:
    """``1 capture``, ``2 captures``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def octets_text(octets: float) -> str:
    """Octets in the largest decimal unit that leaves at least one."""
    for unit in ("B", "kB", "MB", "GB"):
        if octets < 1000:
            return f"{octets:.0f} {unit}" if unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1000
    return f"{octets:.1f} TB"


def time_text(nanoseconds: int | None) -> str:
    """A time as ISO 8601 in UTC; in seconds since 1970 if no calendar has it; nothing for null."""
    if nanoseconds is None:
        return ""
    seconds, rest = divmod(nanoseconds, 10**9)
    try:
        date = datetime(1970, 1, 1) + timedelta(seconds=seconds)
    except OverflowError:
        return f"{seconds}.{rest:09d} s"
    return f"{date.isoformat()}.{rest:09d}Z"


def printable(text: str) -> str:
    """Text that can do nothing to a terminal: control characters and octets that are no text are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
