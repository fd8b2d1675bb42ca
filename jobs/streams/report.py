"""The report of tcpflow, of streams in memory or of those that were put together bucket by bucket."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from pcap2arrow import __version__
from pcap2arrow.writing.target import failing_as
from queries.merging import Run, merged, read_written, write_frames
from queries.streams.bucket import Bucket
from queries.streams.dfxml import Findings, Objects, most_open, report
from queries.streams.partial import Partial

_TABLES = _CLOSED, _OPEN, _EVENTS = "closed", "open", "events"


def write_objects(
    bucket: Bucket, names: Mapping[int, str], folder: str | None, findings: Findings, stem: str
) -> None:
    """Write what the report says of a bucket's streams to files that begin with ``stem``."""
    found = Objects.of(bucket, shown(names, folder), findings)
    for table in _TABLES:
        write_frames(f"{stem}.{table}", [getattr(found, table)])


def write_indexes(bucket: Bucket, names: Mapping[int, str], folder: str) -> None:
    """Beside each file one of lines OFFSET|TIME|OCTETS, one for each segment, with the nanoseconds of its time."""
    for stream, lines in bucket.index_lines(sorted(names)):
        path = Path(folder, f"{names[stream]}.findx")
        with failing_as(path), path.open("w", encoding="utf-8") as file:
            file.writelines(lines)


def shown(names: Mapping[int, str], folder: str | None) -> dict[int, str]:
    """Files as the report names them."""
    before = str(Path(folder or ".", "x"))[:-1]
    return {stream: before + name for stream, name in names.items()}


def write_report_of_buckets(target: str, partials: Sequence[Partial]) -> None:
    """Write the report of buckets of which there is what :func:`write_objects` wrote."""
    events = [read_written(each.path(_EVENTS)) for each in partials]
    counts = sum(each.streams for each in partials), sum(each.packets for each in partials)
    _write(target, _in_order(partials), events, *counts)


def _in_order(partials: Sequence[Partial]) -> Iterator[pl.DataFrame]:
    for table in (_CLOSED, _OPEN):
        paths = [each.path(table) for each in partials]
        yield from (
            merged([Run(len(read_written(path, ["frame_number"])), path) for path in paths]) if paths else ()
        )


def write_report(target: str, bucket: Bucket | None, names: Mapping[int, str], findings: Findings) -> None:
    """Write the report of streams in memory, if there are any; ``names`` are those of files as it shows them."""
    if bucket is None:
        _write(target, [], [], 0, 0)
        return
    found, streams = Objects.of(bucket, names, findings), bucket.followed.streams
    _write(target, [found.closed, found.open], [found.events], len(streams), int(streams.packets.sum()))


def _write(
    target: str, objects: Iterable[pl.DataFrame], events: Sequence[pl.DataFrame], flows: int, packets: int
) -> None:
    counts = {"max_open_flows": most_open(events), "total_flows": flows, "total_packets": packets}
    texts = (some["text"] for some in objects)
    with failing_as(target), Path(target).open("w", encoding="utf-8") as file:
        file.writelines(report(texts, counts, version=__version__, usage=_usage()))


def _usage() -> dict[str, object]:
    """What the work took so far, under the names that tcpflow's report has: seconds, KiB, counts."""
    own, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    sums = {
        "minflt": "ru_minflt",
        "majflt": "ru_majflt",
        "nswap": "ru_nswap",
        "inblock": "ru_inblock",
        "oublock": "ru_oublock",
    }
    return {
        "utime": f"{own.ru_utime + workers.ru_utime:.6f}",
        "stime": f"{own.ru_stime + workers.ru_stime:.6f}",
        "maxrss": max(own.ru_maxrss, workers.ru_maxrss),
        **{name: getattr(own, field) + getattr(workers, field) for name, field in sums.items()},
    }
