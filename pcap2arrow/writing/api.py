"""``pcap2arrow.export`` and ``write_capture``: packet tables back to captures."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pcap2arrow.errors import ExportError, UsageError
from pcap2arrow.times import EVER, Times
from pcap2arrow.writing.ahead import ahead, in_turn
from pcap2arrow.writing.merging.arrangement import MERGED, Arrangement, arranged, slices
from pcap2arrow.writing.merging.direct import Part
from pcap2arrow.writing.merging.duplicates import Recent
from pcap2arrow.writing.progress import Meter, Watch, unwatched
from pcap2arrow.writing.records.encoded import Encoded
from pcap2arrow.writing.records.formats import (
    Format,
    Layout,
    UnkeptError,
    check_format,
    encode,
    is_promised,
    plan_layout,
)
from pcap2arrow.writing.records.selection import Selection, Wanted
from pcap2arrow.writing.records.traits import Traits
from pcap2arrow.writing.sources.named import Sources, open_readers
from pcap2arrow.writing.sources.slices import Slice
from pcap2arrow.writing.target import (
    STANDARD_OUTPUT,
    ExportReport,
    Target,
    appears_whole,
    open_target,
    write_octets,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from pcap2arrow.writing.sources.spool import Spool
    from pcap2arrow.writing.split import Split


def export(
    sources: Sources,
    target: Target,
    *,
    capture: str | None = None,
    format: Format = "auto",
    snaplen: int | None = None,
    selection: Selection | None = None,
    times: Times = EVER,
    arrangement: Arrangement = MERGED,
    split: Split | None = None,
    watch: Watch = unwatched,
    spool: Spool | None = None,
) -> ExportReport:
    """Write the packets of datasets and captures to one capture, or with ``original`` captures as they were.

    ``target`` is a path, ``-`` for standard output, or a binary file.  ``capture`` picks one by its name.  ``format``:
    ``pcap`` (microseconds), ``nspcap`` (nanoseconds), ``pcapng``; ``auto`` takes pcap, with nanoseconds only if a time
    stamp needs them, or pcapng where link types or interfaces differ or a time does not fit.  ``snaplen`` cuts
    packets.  Several captures are merged by time, unless ``arrangement`` says otherwise.  ``times`` is the range that
    packets lie in; ``selection`` chooses among these; the order is that of all packets, and the format one that could
    hold all of the range.  With ``split`` one file follows another, and ``target`` is a pattern for their names.
    ``original`` writes one capture octet for octet, or, where ``target`` is a folder or ends in ``/``, every capture
    under its name.  ``watch`` is told how many octets of the sources are read, and of how many (None: not known).
    With ``spool`` its tasks read the captures, wherever they run, and this process writes.

    A file appears when it is whole.  Raises ExportError, SourceError, DatasetError, UsageError, FilterError, and
    what ``times`` raises where it is a function of the first packet's time.

    >>> pcap2arrow.export("dataset", "all.pcap").packets                                          # doctest: +SKIP
    12345
    """
    _check(format, snaplen)
    if format == "original" and (selection or times or arrangement != MERGED or split):
        raise _no_originals()
    with open_readers(sources, capture) as readers:
        if format == "original":
            from pcap2arrow.writing.originals.whole import export_originals

            return export_originals(readers, target, watch, spool)
        captures = _inside(slices(readers, times, arrangement))
        asked = _Asked(format, snaplen, arrangement, watch)
        if len(captures) == 1 and selection is None and spool is None:
            captures[0].begin()
        if split is None and selection is None and spool is None and appears_whole(target):
            with suppress(UnkeptError):
                return _write(_as_promised(captures, asked), lambda number, format: target)[0]
        ready = _ready(captures, asked, selection, spool)
        if split is None:
            return _write(ready, lambda number, format: target)[0]
        from pcap2arrow.writing.split import write_parts

        if not isinstance(target, str | os.PathLike) or os.fspath(target) == STANDARD_OUTPUT:
            raise UsageError("several files can't go to standard output: expected a pattern for their names")
        pattern = os.fspath(target)
        with closing(ready.batches(pattern, detailed=True)) as batches:
            return write_parts(batches, ready.layout.preamble, pattern, split)


def export_each(
    sources: Sources,
    target: Callable[[int, str], Target],
    selection: Selection,
    *,
    capture: str | None = None,
    format: Format = "auto",
    snaplen: int | None = None,
    times: Times = EVER,
    arrangement: Arrangement = MERGED,
    watch: Watch = unwatched,
    spool: Spool | None = None,
) -> dict[int, ExportReport]:
    """Write packets to several captures in one pass over the sources: to each those that are chosen for it.

    ``target`` says where the capture of a number goes, given the format (pcap, nspcap or pcapng).  The reports are by
    number; captures that no packet can go to are not written.  Otherwise as :func:`export`, without ``original``.
    """
    _check(format, snaplen)
    if format == "original":
        raise _no_originals()
    if isinstance(arrangement.duplicates, Recent):
        raise UsageError(
            "duplicates shortly one after another are found for one capture to write, not for several"
        )
    with open_readers(sources, capture) as readers:
        captures = _inside(slices(readers, times, arrangement))
        asked = _Asked(format, snaplen, arrangement, watch)
        return _write(_ready(captures, asked, selection, spool), target)


def _no_originals() -> UsageError:
    return UsageError("original: writes whole captures, not some of their packets: expected another format")


def _check(format: Format, snaplen: int | None) -> None:
    check_format(format)
    if snaplen is not None and (snaplen < 1 or format == "original"):
        raise UsageError("snaplen: expected a number from 1, and a format other than original")


@dataclass(frozen=True, slots=True)
class _Asked:
    """How sources are to be written."""

    format: Format
    snaplen: int | None
    arrangement: Arrangement
    watch: Watch


@dataclass(frozen=True, slots=True)
class _Ready:
    """What there is to write, and how; ``targets`` are the numbers of the captures that it goes to."""

    parts: Sequence[Part]
    layout: Layout
    targets: Sequence[int]
    arrangement: Arrangement

    def batches(self, name: str, *, detailed: bool = False) -> Generator[Encoded]:
        """The records of all captures, put together; ``name`` is what errors call the export.

        Raises UnkeptError where packets are not what was promised.
        """
        is_promised = any(part.promised is not None for part in self.parts)
        detailed = detailed or len(self.targets) > 1
        return arranged(
            self.parts,
            self.layout,
            self.arrangement,
            name=name,
            detailed=detailed,
            look_ahead=not is_promised,
        )

    def records(self, name: str) -> Iterator[tuple[int, int, Any]]:
        """For each capture to write its number, packets, and octets of records, stretch by stretch."""
        with closing(self.batches(name)) as batches:
            for batch in batches:
                for number in self.targets:
                    chosen = batch.of_target(number) if len(self.targets) > 1 else batch
                    rows = len(chosen)
                    for octets in chosen.stretches():
                        yield number, rows, octets
                        rows = 0


def _inside(captures: Sequence[Slice]) -> Sequence[Slice]:
    """Those that may hold packets of the range, so that a slice takes no longer in a larger archive; one at least."""
    return [capture for capture in captures if not capture.is_outside] or captures[:1]


def _as_promised(captures: Sequence[Slice], asked: _Asked) -> _Ready:
    """What the headers of captures let expect, so that these are read only once.

    Raises UnkeptError where they do not say enough, and the packets do where they are not as expected.
    """
    promises = list(in_turn(capture.promise for capture in captures))
    if not is_promised(promises):
        raise UnkeptError
    return _planned(captures, promises, asked, None, promised=True)


def _ready(
    captures: Sequence[Slice], asked: _Asked, selection: Selection | None, spool: Spool | None
) -> _Ready:
    if not captures:
        raise ExportError("there is no capture to export")
    if spool is not None:
        ready = _planned(captures, spool.traits(captures), asked, selection)
        return replace(ready, parts=_read(ready.parts, spool))
    return _planned(captures, list(in_turn(capture.traits for capture in captures)), asked, selection)


def _read(parts: Sequence[Part], spool: Spool) -> list[Part]:
    """The parts, whose packets tasks have read, so that no record is copied from where it stands."""
    captures = spool.read(*zip(*((part.capture, part.numbers, part.wanted) for part in parts), strict=True))
    return [
        replace(part, capture=capture, records=None) for part, capture in zip(parts, captures, strict=True)
    ]


def _planned(
    captures: Sequence[Slice],
    traits: Sequence[Traits],
    asked: _Asked,
    selection: Selection | None,
    *,
    promised: bool = False,
) -> _Ready:
    if captures[0].times:  # those without a packet in the range count as little as those outside of it
        inside = [place for place, of in enumerate(traits) if of.used] or [0]
        captures, traits = [captures[place] for place in inside], [traits[place] for place in inside]
    layout = plan_layout(traits, asked.format, snap_length=asked.snaplen)
    targets = [0] if selection is None else list(selection.begin(_link_types(traits)))
    is_pcapng = layout.format == "pcapng"
    meter = Meter([capture.reader.size for capture in captures], asked.watch)
    parts = [
        Part(
            source=source,
            capture=capture,
            bound=of.bound,
            records=of.records,
            numbers=numbers,
            wanted=Wanted(selection, is_pcapng=is_pcapng and bool(of.blocks), read=meter.add),
            promised=of if promised else None,
        )
        for source, (capture, of, numbers) in enumerate(zip(captures, traits, layout.numbers, strict=True))
    ]
    return _Ready(parts, layout, targets, asked.arrangement)


def _write(ready: _Ready, target: Callable[[int, str], Target]) -> dict[int, ExportReport]:
    layout = ready.layout
    with ExitStack() as opened:
        files = {n: opened.enter_context(open_target(target(n, layout.format))) for n in ready.targets}
        octets = {number: write_octets(file, layout.preamble) for number, (file, _) in files.items()}
        counts = dict.fromkeys(files, 0)
        names = {number: name for number, (_, name) in files.items()}
        found = opened.enter_context(closing(ahead(ready.records(next(iter(names.values()), "")))))
        for number, packets, records in found:
            octets[number] += write_octets(files[number][0], records)
            counts[number] += packets
    return {number: ExportReport(counts[number], octets[number], (names[number],)) for number in files}


def _link_types(captures: Iterable[Traits]) -> frozenset[int]:
    return frozenset(of.interfaces[number].link_type for of in captures for number in of.used)


def write_capture(table: pa.Table, target: Target, *, format: Format = "auto") -> ExportReport:
    """Write the rows of a packet table, in their order, to one capture.

    The table needs the columns ``time``, ``caplen``, ``frame_len``, ``link_type``, ``header`` and ``rest``.  Formats
    as in :func:`export`, without ``original``; what the table does not know (names, comments) is not written.
    Raises ExportError where a column is missing, or the format can't hold the packets.

    >>> table = pcap2arrow.read_capture("a.pcap")                                                 # doctest: +SKIP
    >>> pcap2arrow.write_capture(table.filter(pc.field("src_port") == 443), "b.pcap").packets     # doctest: +SKIP
    """
    from pcap2arrow.writing.sources.tables import split_by_link_type

    check_format(format)
    if format == "original":
        raise UsageError("format: a table of packets is no original: expected pcap, nspcap, pcapng or auto")
    rows, traits = split_by_link_type(table)
    layout = plan_layout([traits], format, snap_length=None)
    batch = rows(layout.numbers[0])
    with open_target(target) as (file, name):
        octets = write_octets(file, layout.preamble) + write_octets(file, encode(batch, layout, name=name))
    return ExportReport(len(batch), octets, (name,))
