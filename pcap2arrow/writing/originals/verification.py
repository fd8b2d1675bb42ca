"""``pcap2arrow.verify``: whether datasets give their captures back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pcap2arrow.checksum import crc32
from pcap2arrow.dataset.log import Dataset, open_dataset
from pcap2arrow.dataset.snapshot import LiveCapture
from pcap2arrow.errors import ConflictError, Pcap2ArrowError, SourceError
from pcap2arrow.savefile.source import STANDARD_INPUT, open_source
from pcap2arrow.writing.originals.original import first_difference, rebuild
from pcap2arrow.writing.sources.stored import capture_row


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Whether a capture can be written back as it was.

    ``against`` is ``"source"`` (compared octet for octet) or ``"checksum"`` (the source is gone); ``error`` says what
    differs, None where nothing does.
    """

    name: str
    ok: bool
    against: Literal["source", "checksum"]
    error: str | None = None


def verify(dataset: str | os.PathLike[str]) -> Iterator[VerifyReport]:
    """Write back every capture of a dataset, and compare it with its source or, where that is gone, its checksums.

    Raises DatasetError where there is no dataset; whatever else is wrong is reported.
    """
    opened = open_dataset(dataset)
    for live in opened.snapshot().ordered():
        yield verify_capture(opened, live)


def verify_capture(dataset: Dataset, live: LiveCapture) -> VerifyReport:
    """The same of one capture; nothing is raised."""
    against: Literal["source", "checksum"] = "checksum"
    try:
        row = capture_row(dataset, live)
        if row["frames"] != "referenced" and _source_is_there(live, row):
            against = "source"
            _compare(dataset, live, row)
        else:
            _check(dataset, live, row)
    except (Pcap2ArrowError, OSError) as error:
        return VerifyReport(live.name, False, against, str(error))
    return VerifyReport(live.name, True, against)


def _source_is_there(live: LiveCapture, row: dict[str, Any]) -> bool:
    """Whether the source can be read, and still has the size that it had."""
    if live.source.path == STANDARD_INPUT:
        return False
    try:
        with open_source(live.source.path, name=live.name) as source:
            return bool(source.size == row["size"])
    except SourceError:
        return False


def _compare(dataset: Dataset, live: LiveCapture, row: dict[str, Any]) -> None:
    with open_source(live.source.path, name=live.name) as source:
        at = first_difference(source, rebuild(dataset, live, row))
    if at is not None:
        raise ConflictError(f"{live.name}: differs from {live.source.path} at offset {at}")


def _check(dataset: Dataset, live: LiveCapture, row: dict[str, Any]) -> None:
    block, checksums = row["checksum_block"], row["checksums"]
    at = crc = 0
    found: list[int] = []
    for stretch in rebuild(dataset, live, row):
        view = memoryview(stretch)
        while len(view):
            part = view[: block - at % block]
            crc = crc32(part, crc)
            at += len(part)
            view = view[len(part) :]
            if at % block == 0:
                found.append(crc)
                crc = 0
    if at % block or not at:
        found.append(crc)
    if at != row["size"]:
        raise ConflictError(f"{live.name}: has {at} octets, not {row['size']}")
    wrong = next((k for k, pair in enumerate(zip(found, checksums, strict=True)) if pair[0] != pair[1]), None)
    if wrong is not None:
        raise ConflictError(
            f"{live.name}: differs from its checksum in octets {wrong * block} to {(wrong + 1) * block}"
        )
