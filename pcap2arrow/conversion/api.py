"""``pcap2arrow.convert``: captures into a dataset, on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pcap2arrow import schema
from pcap2arrow.conversion.driver import CaptureReport, Conversion, Watcher
from pcap2arrow.conversion.options import Frames, OnError, Options, PartitionBy
from pcap2arrow.dataset.log import Dataset, create_dataset
from pcap2arrow.inputs import find_captures
from pcap2arrow.turns import quick_turns


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """What became of every capture, in the order in which they ended; ``left_out`` counts files that are none."""

    captures: tuple[CaptureReport, ...]
    left_out: int

    @property
    def failed(self) -> tuple[CaptureReport, ...]:
        """Captures that are not in the dataset because they could not be read or contradict it."""
        return tuple(report for report in self.captures if report.status == "failed")

    @property
    def damaged(self) -> tuple[CaptureReport, ...]:
        """Captures that are in the dataset, but not complete."""
        return tuple(report for report in self.captures if report.status != "failed" and report.error)

    @property
    def packets(self) -> int:
        """Packets that this run added."""
        return sum(report.packets for report in self.captures if report.status == "converted")


def open_for_writing(dataset: str | os.PathLike[str]) -> Dataset:
    """The dataset at a path or URL, made if there is none.  Raises DatasetError where something else is."""
    settings = {"schema": str(schema.VERSION), "made_by": "pcap2arrow"}
    return create_dataset(dataset, settings=settings, exist_ok=True)


def convert(
    captures: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    dataset: str | os.PathLike[str],
    *,
    frames: Frames = "stored",
    on_error: OnError = "salvage",
    replace: bool = False,
    rehash: bool = False,
    partition_by: PartitionBy = "date",
    workers: int | None = None,
    watch: Watcher = lambda event: None,
) -> ConversionReport:
    """Convert captures into the dataset at a path or URL, which is made if there is none.

    ``captures`` are files, folders (walked), globs, URLs, or ``-``; captures are told by their octets.  ``frames``:
    packets' octets are ``stored``, only ``referenced`` in the archive, or given up (``none``).  ``on_error``: keep
    what a damaged capture holds (``salvage``) or refuse it (``strict``).  ``replace``: a capture whose name or content
    is live otherwise takes that one's place.  ``rehash``: read captures too whose file has not changed since they were
    converted (by size, time and inode or ETag), which otherwise are skipped.  ``workers`` threads, as many as there
    are cores unless given.  ``watch`` is called with every :class:`~pcap2arrow.conversion.driver.Step` and
    ``CaptureReport``.

    A capture is visible whole or not at all, and converting it again changes nothing.  One that fails is reported and
    costs no other.  Raises SourceError where an argument names nothing, DatasetError where the dataset can't be
    written, UsageError for an unknown option.

    >>> report = pcap2arrow.convert("captures/", "dataset")                                   # doctest: +SKIP
    >>> [(failed.name, failed.error) for failed in report.failed]                             # doctest: +SKIP
    []
    """
    options = Options(frames, on_error, partition_by)
    found = find_captures([captures] if isinstance(captures, str | os.PathLike) else captures)
    workers = workers or os.cpu_count() or 1
    with quick_turns(), ThreadPoolExecutor(workers, thread_name_prefix="worker") as executor:
        conversion = Conversion(
            open_for_writing(dataset),
            options,
            executor,
            workers=workers,
            replace=replace,
            rehash=rehash,
            watch=watch,
        )
        return ConversionReport(conversion.run(found.captures), found.left_out)
