"""Exporting the packets that filters select."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcap2arrow.errors import FilterError, UsageError

if TYPE_CHECKING:
    from jobs.filters import FilterLine
    from pcap2arrow.writing.target import ExportReport
    from queries.exports import FilterSelection
    from queries.filters.compiled import Filter

_LONGEST_SLUG = 48


@dataclass(frozen=True, slots=True)
class FilteredExport:
    """What was written, by the number of the filter, and what users should know of the filters.

    ``errors`` are of filters that are wrong, or mean nothing on any packet: nothing was written for them.
    """

    reports: dict[int, ExportReport]
    warnings: tuple[str, ...]
    errors: tuple[str, ...] = ()


def export_filtered(sources: Sequence[str], target: str, chosen: Filter, **settings: Any) -> FilteredExport:
    """Write the packets that a filter selects as :func:`pcap2arrow.export` does, with its settings.

    Raises FilterError where it means nothing on any packet.
    """
    from pcap2arrow.writing.api import export
    from queries.exports import FilterSelection

    selection = FilterSelection([chosen])
    report = export(sources, target, selection=selection, **settings)
    return FilteredExport({0: report}, _warnings(selection))


def export_lines(
    sources: Sequence[str], folder: str, lines: Sequence[FilterLine], **settings: Any
) -> FilteredExport:
    """Write a capture into the folder for each line of a file of filters, in one pass over the sources.

    A file's name is the number of the line and what the expression says, as in ``001-tcp-port-443.pcap``.  The
    reports are by the numbers of lines.  Raises UsageError where there can't be such a folder.
    """
    from pcap2arrow.writing.api import export_each
    from queries.exports import FilterSelection

    sound = [line for line in lines if not isinstance(line.filter, FilterError)]
    selection = FilterSelection([f for line in lines if not isinstance(f := line.filter, FilterError)])
    digits = max(3, len(str(lines[-1].number)))

    def target(place: int, format: str) -> Path:
        _make_folder(folder)
        name = capture_name(sound[place].number, sound[place].text, digits=digits)
        return Path(folder, f"{name}.{'pcapng' if format == 'pcapng' else 'pcap'}")

    reports: dict[int, ExportReport] = {}
    if sound:
        with suppress(FilterError):  # of every filter: their lines say so
            reports = export_each(sources, target, selection, **settings)
    wrong = {line.number: line.filter for line in lines if isinstance(line.filter, FilterError)}
    for place, line in enumerate(sound):
        if (refusal := selection.tally.refusal(place)) is not None:
            wrong[line.number] = refusal
    texts = {line.number: line.text for line in lines}
    return FilteredExport(
        {sound[place].number: report for place, report in reports.items()},
        _warnings(selection),
        tuple(f"line {number}: {texts[number]}: {error.reason}" for number, error in sorted(wrong.items())),
    )


def _make_folder(folder: str) -> None:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}: expected a folder for the captures") from error


def capture_name(number: int, expression: str, *, digits: int = 3) -> str:
    """A file's name, without extension, for what the expression in that line selects."""
    words = re.sub(r"[^a-z0-9.]+", "-", expression.lower()).strip("-.")
    slug = words[:_LONGEST_SLUG].rstrip("-.")
    return f"{number:0{digits}}-{slug}" if slug else f"{number:0{digits}}"


def _warnings(selection: FilterSelection) -> tuple[str, ...]:
    from jobs.count import filter_warnings

    return tuple(filter_warnings(selection.filters, selection.tally))
