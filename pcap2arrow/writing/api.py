"""``pcap2arrow.export`` and ``write_capture``: packet tables back to captures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pcap2arrow.errors import ExportError, UsageError
from pcap2arrow.writing.ahead import ahead
from pcap2arrow.writing.formats import Format, Layout, check_format, encode, plan_layout
from pcap2arrow.writing.merge import Run, merge
from pcap2arrow.writing.packets import Packets
from pcap2arrow.writing.selection import Selection, Wanted
from pcap2arrow.writing.sources import Sources, open_streams
from pcap2arrow.writing.stream import Stream, Traits
from pcap2arrow.writing.target import ExportReport, Target, open_target, write_octets
from pcap2arrow.writing.whole import export_originals

if TYPE_CHECKING:
    import pyarrow as pa


def export(
    sources: Sources,
    target: Target,
    *,
    capture: str | None = None,
    format: Format = "auto",
    snaplen: int | None = None,
    selection: Selection | None = None,
) -> ExportReport:
    """Write the packets of datasets and captures to one capture, or with ``original`` captures as they were.

    ``target`` is a path, ``-`` for standard output, or a binary file.  ``capture`` picks one by its name.  ``format``:
    ``pcap`` (microseconds), ``nspcap`` (nanoseconds), ``pcapng``; ``auto`` takes pcap, with nanoseconds only if a time
    stamp needs them, or pcapng where link types or interfaces differ or a time does not fit.  ``snaplen`` cuts
    packets.  Several captures are merged by time.  ``selection`` chooses packets; the order is that of all packets,
    and the format one that could hold them all.  ``original`` writes one capture octet for octet, or, where
    ``target`` is a folder or ends in ``/``, every capture under its name.

    A file appears when it is whole.  Raises ExportError, SourceError, DatasetError, UsageError, FilterError.

    >>> pcap2arrow.export("dataset", "all.pcap").packets                                          # doctest: +SKIP
    12345
    """
    _check(format, snaplen)
    if format == "original" and selection is not None:
        raise UsageError(
            "original: writes whole captures, not some of their packets: expected another format"
        )
    with open_streams(sources, capture) as streams:
        if format == "original":
            return export_originals(streams, target)
        return _export(streams, lambda number, format: target, format, snaplen, selection)[0]


def export_each(
    sources: Sources,
    target: Callable[[int, str], Target],
    selection: Selection,
    *,
    capture: str | None = None,
    format: Format = "auto",
    snaplen: int | None = None,
) -> dict[int, ExportReport]:
    """Write packets to several captures in one pass over the sources: to each those that are chosen for it.

    ``target`` says where the capture of a number goes, given the format (pcap, nspcap or pcapng).  The reports are by
    number; captures that no packet can go to are not written.  Otherwise as :func:`export`, without ``original``.
    """
    _check(format, snaplen)
    if format == "original":
        raise UsageError(
            "original: writes whole captures, not some of their packets: expected another format"
        )
    with open_streams(sources, capture) as streams:
        return _export(streams, target, format, snaplen, selection)


def _check(format: Format, snaplen: int | None) -> None:
    check_format(format)
    if snaplen is not None and (snaplen < 1 or format == "original"):
        raise UsageError("snaplen: expected a number from 1, and a format other than original")


def _export(
    streams: list[Stream],
    target: Callable[[int, str], Target],
    format: Format,
    snaplen: int | None,
    selection: Selection | None,
) -> dict[int, ExportReport]:
    if not streams:
        raise ExportError("there is no capture to export")
    traits = [stream.traits() for stream in streams]
    layout = plan_layout(traits, format, snap_length=snaplen)
    begun = [0] if selection is None else selection.begin(_link_types(traits))
    runs = []
    for stream, of, numbers in zip(streams, traits, layout.numbers, strict=True):
        wanted = Wanted(selection, is_pcapng=layout.format == "pcapng" and bool(of.blocks))
        alone = len(streams) == 1
        packets = stream.packets(numbers, wanted, alone=alone)
        runs.append(Run(of.bound, ahead(packets) if alone else packets))
    with ExitStack() as opened:
        files = {number: opened.enter_context(open_target(target(number, layout.format))) for number in begun}
        octets = {number: write_octets(file, layout.preamble) for number, (file, _) in files.items()}
        counts = dict.fromkeys(files, 0)
        names = {number: name for number, (_, name) in files.items()}
        for number, rows, records in ahead(_encoded(merge(runs), layout, names)):
            octets[number] += write_octets(files[number][0], records)
            counts[number] += rows
    return {number: ExportReport(counts[number], octets[number], (names[number],)) for number in files}


def _link_types(captures: Iterable[Traits]) -> frozenset[int]:
    return frozenset(of.interfaces[number].link_type for of in captures for number in of.used)


def _encoded(
    batches: Iterator[Packets], layout: Layout, names: dict[int, str]
) -> Iterator[tuple[int, int, pa.Buffer]]:
    """For each batch and each capture to write: its number, packets, and their records."""
    for batch in batches:
        for number, name in names.items():
            packets = batch.of_target(number)
            if len(packets):
                yield number, len(packets), encode(packets, layout, name=name)


def write_capture(table: pa.Table, target: Target, *, format: Format = "auto") -> ExportReport:
    """Write the rows of a packet table, in their order, to one capture.

    The table needs the columns ``time``, ``caplen``, ``frame_len``, ``link_type``, ``header`` and ``rest``.  Formats
    as in :func:`export`, without ``original``; what the table does not know (names, comments) is not written.
    Raises ExportError where a column is missing, or the format can't hold the packets.

    >>> table = pcap2arrow.read_capture("a.pcap")                                                 # doctest: +SKIP
    >>> pcap2arrow.write_capture(table.filter(pc.field("src_port") == 443), "b.pcap").packets     # doctest: +SKIP
    """
    from pcap2arrow.writing.tables import split_by_link_type

    check_format(format)
    if format == "original":
        raise UsageError("format: a table of packets is no original: expected pcap, nspcap, pcapng or auto")
    rows, traits = split_by_link_type(table)
    layout = plan_layout([traits], format, snap_length=None)
    batch = rows(layout.numbers[0])
    with open_target(target) as (file, name):
        octets = write_octets(file, layout.preamble) + write_octets(file, encode(batch, layout, name=name))
    return ExportReport(len(batch), octets, (name,))
