"""Options that say which packets a verb takes, by time, and how they are put together and parted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from jobs.cli.options import checked
from jobs.cli.times import parse_octets, parse_seconds
from pcap2arrow.errors import UsageError

if TYPE_CHECKING:
    from pcap2arrow.times import TimeRange, Times
    from pcap2arrow.writing.merging.arrangement import Arrangement
    from pcap2arrow.writing.merging.duplicates import Duplicates
    from pcap2arrow.writing.split import Split

_F = TypeVar("_F", bound=Callable[..., Any])

TIMES = (
    "T is 654321098.7654, 21h36m or 9m26d1h54m (units left out are those of the first packet), +1h10m (after it; an "
    "end counts from the start), or 2024-05-01T12:00:00Z."
)


def time_options(function: _F) -> _F:
    """``--start``, ``--end`` and ``--tz``: what :func:`chosen_times` takes."""
    start = click.option("--start", metavar="T", help=f"Only packets of that time or later. {TIMES}")
    end = click.option("--end", metavar="T", help="Only packets of that time or earlier.")
    return start(end(zone_option(function)))


def zone_option(function: _F) -> _F:
    """``--tz``, as ``tz``."""
    return click.option(
        "--tz",
        metavar="ZONE",
        help="Where times without a zone are local, such as Europe/Berlin.  [default: TZ, or the system's zone]",
    )(function)


def chosen_times(*, start: str | None, end: str | None, tz: str | None) -> Times:
    """The range that the options name.  Raises TimeSpecError."""
    from pcap2arrow.times import EVER

    if start is None and end is None and tz is None:
        return EVER
    from queries.slices import times_between
    from queries.zones import resolve_zone

    return times_between(start, end, zone=resolve_zone(tz))


def chosen_range(sources: Sequence[str], *, start: str | None, end: str | None, tz: str | None) -> TimeRange:
    """The same where it is needed before packets are read: relative times count from the first packet of all.

    Raises TimeSpecError, and errors of sources.
    """
    times = chosen_times(start=start, end=end, tz=tz)
    if not callable(times):
        return times
    if "-" in sources:
        raise UsageError(
            "standard input can't be read twice: --start and --end as whole times, not relative ones"
        )
    from jobs.slices import range_of

    return range_of(sources, times)


ARRANGEMENT = ("concat", "concat_newer", "relative", "offset", "dedupe")
SPLIT = ("every", "max_bytes", "max_packets")


def arrangement_options(function: _F) -> _F:
    """Options that say how packets of several captures are put together: :data:`ARRANGEMENT`."""
    concat = click.option("--concat", is_flag=True, help="One capture after another, not merged by time.")
    newer = click.option(
        "--concat-newer",
        is_flag=True,
        help="The same, but of each capture only packets later than all of those before it.",
    )
    relative = click.option(
        "--relative",
        is_flag=True,
        help="Move every capture in time, so that all begin with the first of them.",
    )
    offset = click.option(
        "--offset",
        multiple=True,
        callback=checked(_offset),
        metavar="NAME=SECONDS",
        help="Move a capture in time, to set its clock right: b.pcap=-0.35. May be repeated.",
    )
    dedupe = click.option(
        "--dedupe",
        callback=checked(_duplicates),
        metavar="KIND",
        help="Leave out duplicates: sources (of the same time, lengths and octets as a packet of a capture that is "
        "listed earlier), window=N (of octets that one of the N-1 packets before has, as editcap -D) or seconds=S "
        "(in the S seconds before, as editcap -w).",
    )
    return concat(newer(relative(offset(dedupe(function)))))


def _offset(text: str) -> tuple[str, int]:
    name, _, seconds = text.rpartition("=")
    if not name:
        raise UsageError(f"{text!r}: expected NAME=SECONDS")
    return name, parse_seconds(seconds)


def _duplicates(text: str) -> Duplicates:
    from pcap2arrow.writing.merging.duplicates import parse_duplicates

    return parse_duplicates(text)


def chosen_arrangement(
    *,
    concat: bool,
    concat_newer: bool,
    relative: bool,
    offset: tuple[tuple[str, int], ...],
    dedupe: Duplicates | None,
) -> Arrangement:
    """How packets are put together.  Raises UsageError where options contradict each other."""
    from pcap2arrow.writing.merging.arrangement import Arrangement

    if concat and concat_newer:
        raise click.UsageError("--concat and --concat-newer exclude each other")
    order: Literal["merged", "concat", "concat-newer"] = "concat" if concat else "merged"
    return Arrangement("concat-newer" if concat_newer else order, relative, dict(offset), dedupe)


def split_options(function: _F) -> _F:
    """Options that say when an export goes on in another file: :data:`SPLIT`."""
    every = click.option(
        "--every",
        callback=checked(parse_seconds),
        metavar="LENGTH",
        help="Another file after that time, by the packets' clock: 60 or 0.5 (seconds), 15m, 1h, 1d.",
    )
    octets = click.option(
        "--max-bytes",
        callback=checked(parse_octets),
        metavar="N",
        help="At most N octets a file: 100M, 64MiB.",
    )
    packets = click.option(
        "--max-packets", type=click.IntRange(min=1), metavar="N", help="At most N packets a file."
    )
    return every(octets(packets(function)))


def chosen_split(
    *, every: int | None, max_bytes: int | None, max_packets: int | None, tz: str | None
) -> Split | None:
    """When the export goes on in another file, None: never.  Raises UsageError, TimeSpecError."""
    if every is None and max_bytes is None and max_packets is None:
        return None
    from pcap2arrow.writing.split import Split
    from queries.zones import resolve_zone

    return Split(every, max_bytes, max_packets, resolve_zone(tz))
