"""A capture as a whole: from its octets to what a commit makes visible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from pcap2arrow import schema
from pcap2arrow.conversion.options import Options
from pcap2arrow.conversion.parquet import write_table
from pcap2arrow.conversion.placed import Unit
from pcap2arrow.conversion.plan import CapturePlan, digest, plan_capture
from pcap2arrow.conversion.scan import RangeScan, block_count, prove, scan_range
from pcap2arrow.conversion.unit import WrittenUnit, write_unit
from pcap2arrow.dataset.log import Dataset
from pcap2arrow.dataset.snapshot import LiveCapture
from pcap2arrow.dataset.snapshot import Source as Stamp
from pcap2arrow.errors import ConflictError, DatasetError
from pcap2arrow.inputs import Input
from pcap2arrow.savefile.pcap import PcapHeader
from pcap2arrow.savefile.reader import Position, read_header
from pcap2arrow.savefile.source import Source, open_source, stamp

_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Scanned:
    """A capture after the first round: its plan, and its stamp from before it was read."""

    plan: CapturePlan
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Converted:
    """A capture that is written and waits for its commit; its plan tells of damage."""

    capture: LiveCapture
    plan: CapturePlan


def scan_whole(source: Source, options: Options) -> CapturePlan:
    """Scan a capture from its first octet to its last.  Raises FormatError where it is no capture."""
    header = read_header(source)
    last = block_count(source.size, options.block) - 1
    scan = scan_range(source, header, 0, last, begin=Position(0), block=options.block)
    return plan_capture(source, header, scan.blocks, scan.end or Position(0), options)


def scan_alone(found: Input, options: Options, spool: str | None = None) -> Scanned:
    """Scan a capture without writing anything."""
    before = stamp(found.path)
    with open_source(found.path, name=found.name, spool=spool, before=before) as source:
        return Scanned(scan_whole(source, options), before)


def scan_part(found: Input, first: int, last: int, options: Options) -> RangeScan:
    """Scan blocks ``first`` to ``last`` of a capture that is not compressed."""
    with open_source(found.path, name=found.name) as source:
        return scan_range(source, read_header(source), first, last, block=options.block)


def join_parts(found: Input, before: Stamp, scans: Sequence[RangeScan], options: Options) -> Scanned:
    """The plan of a capture whose ranges were scanned apart; those that guessed wrong are scanned again.

    Raises SourceError where the capture is no longer what ``before`` says.
    """
    with open_source(found.path, name=found.name, before=before) as source:
        header = read_header(source)

        def rescan(scan: RangeScan, begin: Position) -> RangeScan:
            return scan_range(source, header, scan.first, scan.last, begin=begin, block=options.block)

        blocks, end = prove(scans, rescan)
        plan = plan_capture(source, header, blocks, end, options)
    return Scanned(plan, before)


def write_part(
    found: Input, before: Stamp, header: PcapHeader | None, unit: Unit, options: Options, dataset: Dataset
) -> WrittenUnit:
    """Write one unit of a capture that is not compressed.

    Raises SourceError where the capture is no longer what ``before`` says.
    """
    with open_source(found.path, name=found.name, before=before) as source:
        return write_unit(source, header, unit, options, dataset)


def convert_whole(dataset: Dataset, found: Input, options: Options, spool: str | None = None) -> Converted:
    """Convert a capture by one worker, in one go.

    Raises FormatError, SourceError or LimitError where it can't be read, or changes meanwhile.
    """
    before = stamp(found.path)
    with open_source(found.path, name=found.name, spool=spool, before=before) as source:
        plan = scan_whole(source, options)
        units = [write_unit(source, plan.header, unit, options, dataset) for unit in plan.units]
    return finish(dataset, found, Scanned(plan, before), units, options)


def confirm(
    dataset: Dataset,
    found: Input,
    scanned: Scanned,
    live: LiveCapture,
    options: Options,
    spool: str | None = None,
) -> Converted:
    """Compare a capture with the live one of the same identity; the result shares that one's files.

    Raises ConflictError where they differ.  Without stored frames the identity has to do.
    """
    if options.frames == "stored":
        from pcap2arrow.writing.originals.original import first_difference, rebuild

        with open_source(found.path, name=found.name, spool=spool) as source:
            at = first_difference(source, rebuild(dataset, live))
        if at is not None:
            raise ConflictError(
                f"{found.name}: has the identity of {live.name}, but differs from it at offset {at}"
            )
    return announce(dataset, found, scanned, options, files=live.files)


def finish(
    dataset: Dataset, found: Input, scanned: Scanned, units: Sequence[WrittenUnit], options: Options
) -> Converted:
    """Write the capture's row, and check that what was written holds every octet of it."""
    plan = scanned.plan
    _check_tiling(plan, units)
    files = tuple(file for unit in units for file in unit.files)
    return announce(dataset, found, scanned, options, files=files)


def announce(
    dataset: Dataset, found: Input, scanned: Scanned, options: Options, *, files: tuple[Any, ...] = ()
) -> Converted:
    """The capture as a commit takes it, with a new row of the captures table beside ``files``."""
    plan, who = scanned.plan, scanned.stamp
    row = capture_row(plan, found, who, options)
    key = digest(plan.identity, found.name, who.path, str(who.mtime_ns), options.text)
    table = pa.Table.from_pylist([row], schema=schema.capture_schema())
    file = write_table(dataset, f"captures/{plan.identity[:16]}-{key}.parquet", table, "captures")
    capture = LiveCapture(
        name=found.name,
        capture_id=plan.capture_id,
        identity=plan.identity,
        options=options.text,
        packets=plan.packets,
        first_time=_fitting(plan.times.first),
        source=who,
        files=(*(shared for shared in files if shared.table != "captures"), file),
    )
    return Converted(capture, plan)


def _fitting(time: int | None) -> int | None:
    """A time that a time stamp can hold, else None."""
    return time if time is not None and time in _INT64 else None


def _check_tiling(plan: CapturePlan, units: Sequence[WrittenUnit]) -> None:
    at = 0
    for unit in units:
        if unit.begin != at or unit.octets != unit.end - unit.begin:
            raise DatasetError(f"{plan.name}: blocks and records do not tile the capture at offset {at}")
        at = unit.end
    if at != plan.size:
        raise DatasetError(f"{plan.name}: blocks and records end at offset {at} of {plan.size}")


def capture_row(plan: CapturePlan, found: Input, who: Stamp, options: Options) -> dict[str, Any]:
    """The capture's row of the captures table."""
    times, header = plan.times, plan.header
    return {
        "capture_id": plan.capture_id,
        "name": _text(found.name),
        "path": _text(who.path),
        "identity": plan.identity,
        "size": plan.size,
        "stored_size": who.size,
        "compression": plan.compression,
        "checksum_block": options.block,
        "checksums": list(plan.checksums),
        "link_types": list(plan.link_types),
        "packets": plan.packets,
        "first_ns": None if times.first is None else Decimal(times.first),
        "last_ns": None if times.last is None else Decimal(times.last),
        "min_time": times.least,
        "max_time": times.greatest,
        "frames": options.frames,
        "complete": not plan.damaged,
        "error": plan.error,
        "damaged": plan.damaged,
        "damage": [{"offset": gap.offset, "length": gap.length, "reason": gap.reason} for gap in plan.damage],
        **(_section_row(plan.end) if header is None else _header_row(header)),
    }


def _text(name: str) -> str:
    """A file name as text that any tool can read, where its octets are no UTF-8 too."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _header_row(header: PcapHeader) -> dict[str, Any]:
    major, minor = header.version
    return {
        "format": "pcap",
        "byte_order": "little" if header.order == "<" else "big",
        "version": f"{major}.{minor}",
        "ticks": header.ticks,
        "snap_length": header.snap_length,
        "link_word": header.link_word,
        "fcs_present": header.fcs_present,
        "fcs_len": header.fcs_len,
        "interfaces": None,
    }


def _section_row(end: Position) -> dict[str, Any]:
    section = end.section
    return {
        "format": "pcapng",
        "byte_order": "little" if section.order == "<" else "big",
        "version": None,
        "ticks": None,
        "snap_length": None,
        "link_word": None,
        "fcs_present": None,
        "fcs_len": None,
        "interfaces": [
            {field: getattr(interface, field) for field in type(interface).__slots__}
            for interface in section.interfaces
        ],
    }
