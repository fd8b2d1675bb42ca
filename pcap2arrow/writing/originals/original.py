"""A capture as it was, octet for octet: its records from the packets table, all else from the blocks table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pcap2arrow.checksum import crc32
from pcap2arrow.dataset.log import Dataset
from pcap2arrow.dataset.snapshot import DataFile, LiveCapture
from pcap2arrow.errors import ExportError, SourceError
from pcap2arrow.reading.files import read_batches, read_file
from pcap2arrow.savefile.blocks import PACKET_START, SECTION_HEADER, starts_section
from pcap2arrow.savefile.pcap import PcapHeader, parse_header
from pcap2arrow.savefile.source import Source, open_source
from pcap2arrow.savefile.ticks import from_nanoseconds
from pcap2arrow.writing.records.pieces import Octets, joined
from pcap2arrow.writing.sources.stored import capture_row, units

RECORD_COLUMNS = [
    "interface_id", "time", "caplen", "frame_len", "header", "rest", "record_offset", "time_raw", "record_extra",
]  # fmt: skip
_COPY_STEP = 4 << 20
_BATCH_ROWS = 1 << 16
_BLOCK_ROWS = 1 << 12  # a block's content can be some MiB


def rebuild(dataset: Dataset, capture: LiveCapture, row: dict[str, Any] | None = None) -> Iterator[pa.Buffer]:
    """The octets of a capture, in stretches; who has its :func:`capture_row` already gives it.

    Where frames are only referenced they are copied from the archive.  Raises ExportError where there are no octets,
    or where the archive is gone or no longer the same.
    """
    row = row or capture_row(dataset, capture)
    if row["frames"] == "stored":
        yield from _from_tables(dataset, capture, row)
    elif row["frames"] == "referenced":
        yield from _from_archive(capture, row)
    else:
        raise ExportError(f"{capture.name}: converted with --frames none: there are no octets to write")


def first_difference(source: Source, stretches: Iterable[pa.Buffer]) -> int | None:
    """Offset of the first octet at which a capture differs from its stretches; None where it does not."""
    at = 0
    for stretch in stretches:
        for offset in range(0, stretch.size, _COPY_STEP):
            ours = memoryview(stretch).cast("B")[offset : offset + _COPY_STEP]
            theirs = source.read(at, len(ours))
            if ours != theirs:
                ours_array = np.frombuffer(ours, np.uint8)[: len(theirs)]
                differs = np.flatnonzero(ours_array != np.frombuffer(theirs, np.uint8))
                return at + (int(differs[0]) if len(differs) else len(theirs))
            at += len(ours)
    return None if at == source.size else at


def _from_archive(capture: LiveCapture, row: dict[str, Any]) -> Iterator[pa.Buffer]:
    try:
        with open_source(capture.source.path, name=capture.name) as source:
            if source.size != row["size"]:
                raise ExportError(
                    f"{capture.source.path}: has {source.size} octets, not {row['size']}: input changed"
                )
            for number, checksum in enumerate(row["checksums"]):
                crc, block = 0, row["checksum_block"]
                for offset in range(number * block, min((number + 1) * block, source.size), _COPY_STEP):
                    octets = source.read(offset, min(_COPY_STEP, (number + 1) * block - offset))
                    crc = crc32(octets, crc)
                    yield pa.py_buffer(octets)
                if crc != checksum:
                    raise ExportError(
                        f"{capture.source.path}: octets from {number * block} on differ: input changed"
                    )
    except SourceError as error:
        raise ExportError(f"{capture.name}: its octets are only in the archive: {error}") from error


def _from_tables(dataset: Dataset, capture: LiveCapture, row: dict[str, Any]) -> Iterator[pa.Buffer]:
    frame = _framing(dataset, capture, row)
    for unit in units(capture):
        blocks = _read(dataset, [file for file in unit if file.table == "blocks"], None)
        for packets, gaps in _in_step(_row_groups(dataset, unit), blocks):
            yield _stretch(packets, gaps, frame)


def _row_groups(dataset: Dataset, unit: list[DataFile]) -> Iterator[pa.Table]:
    """Packets of a unit in the capture's order; those of several files at once, since dates may alternate."""
    files = [file for file in unit if file.table == "packets"]
    if len(files) == 1:
        yield from read_batches(dataset, files[0], columns=RECORD_COLUMNS, rows=_BATCH_ROWS)
    elif files:
        yield _read(dataset, files, RECORD_COLUMNS).sort_by("record_offset")


def _read(dataset: Dataset, files: list[DataFile], columns: list[str] | None) -> pa.Table:
    tables = [read_file(dataset, file, columns=columns) for file in files]
    return pa.concat_tables(tables) if tables else None


def _in_step(
    groups: Iterator[pa.Table], blocks: pa.Table | None
) -> Iterator[tuple[pa.Table | None, pa.Table | None]]:
    """Row groups of packets, each with the blocks that lie before its last record; at the end the blocks left."""
    for packets in groups:
        if blocks is None:
            yield packets, None
            continue
        last = pc.max(packets["record_offset"])
        before = pc.less(blocks["offset"], last)
        yield packets, blocks.filter(before)
        blocks = blocks.filter(pc.invert(before))
    if blocks is not None and len(blocks):
        yield None, blocks


@dataclass(frozen=True, slots=True)
class _Framing:
    """How records of a capture were written: the header of a pcap, or of a pcapng its sections and interfaces."""

    header: PcapHeader | None
    section_offset: NDArray[np.int64]
    section_is_big: NDArray[np.bool_]
    interfaces: list[dict[str, Any]]


def _framing(dataset: Dataset, capture: LiveCapture, row: dict[str, Any]) -> _Framing:
    if row["format"] == "pcap":
        first = _read(dataset, [file for file in units(capture)[0] if file.table == "blocks"], ["content"])
        header = parse_header(first["content"][0].as_py(), path=capture.name)
        return _Framing(header, np.empty(0, np.int64), np.empty(0, np.bool_), [])
    offsets, big = (
        [-1],
        [False],
    )  # where the first section header is damaged, blocks are read as little-endian
    for file in capture.files:
        if file.table == "blocks":
            for blocks in read_batches(
                dataset, file, columns=["block_type", "offset", "content"], rows=_BLOCK_ROWS
            ):
                found = blocks.filter(pc.equal(blocks["block_type"], SECTION_HEADER))
                offsets += found["offset"].to_pylist()
                big += [starts_section(content) == ">" for content in found["content"].to_pylist()]
    order = np.argsort(offsets)
    return _Framing(
        None, np.array(offsets, np.int64)[order], np.array(big, np.bool_)[order], row["interfaces"]
    )


def _stretch(packets: pa.Table | None, gaps: pa.Table | None, framing: _Framing) -> pa.Buffer:
    """The octets of some records and the gaps between them."""
    parts = [] if packets is None else _record_parts(packets, framing)
    if gaps is None or not len(gaps):
        return joined(parts)
    content = Octets.column(gaps["content"])
    if packets is None:
        return joined([content])
    offset = np.concatenate([packets["record_offset"].to_numpy(), gaps["offset"].to_numpy()])
    order = np.argsort(offset, kind="stable")
    parts = [Octets.concat([part, Octets.empty(len(gaps))]) for part in parts]
    parts.append(Octets.concat([Octets.empty(len(packets)), content]))
    return joined([part.take(order) for part in parts])


def _record_parts(packets: pa.Table, framing: _Framing) -> list[Octets]:
    heads, tails = _ordinary(packets, framing)
    header, rest = Octets.column(packets["header"]), Octets.column(packets["rest"])
    parts = [heads, header, rest, tails]
    if packets["record_extra"].null_count < len(packets):
        return _with_verbatim(packets, parts, framing)
    return parts


def _with_verbatim(packets: pa.Table, parts: list[Octets], framing: _Framing) -> list[Octets]:
    """The parts with what stood around the packet of verbatim records, in place of what columns say."""
    verbatim = np.asarray(packets["record_extra"].combine_chunks().is_valid())
    extra = Octets.column(packets["record_extra"])
    heads, header, rest, tails = parts
    none = np.zeros(len(packets), np.int64)
    if framing.header is not None:
        head_len = extra.length
    else:
        kind = _block_types(extra, verbatim, _is_big(packets, framing))
        head_len = np.select([kind == number for number in PACKET_START], list(PACKET_START.values()), 0)
    keep = np.where(verbatim, 0, heads.length)
    return [
        heads.cut(0, keep),
        extra.cut(0, head_len),
        header,
        rest,
        tails.cut(0, np.where(verbatim, none, tails.length)),
        extra.cut(head_len),
    ]


def _block_types(extra: Octets, verbatim: NDArray[np.bool_], big: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Type of the block that each verbatim record begins with; those of packets fit one octet, the last or first."""
    kind = np.zeros(len(verbatim), np.int64)
    for number, octets in enumerate(extra.buffers):
        row = np.flatnonzero(verbatim & (extra.buffer == number))
        kind[row] = octets[extra.start[row] + np.where(big[row], 3, 0)]
    return kind


def _is_big(packets: pa.Table, framing: _Framing) -> NDArray[np.bool_]:
    """Which records lie in a section of big-endian order."""
    section = (
        np.searchsorted(framing.section_offset, packets["record_offset"].to_numpy().astype(np.int64)) - 1
    )
    result: NDArray[np.bool_] = framing.section_is_big[section]
    return result


def _ordinary(packets: pa.Table, framing: _Framing) -> tuple[Octets, Octets]:
    """What columns say of the octets before and after each packet."""
    caplen, frame_len = (packets[name].to_numpy().astype(np.uint32) for name in ("caplen", "frame_len"))
    if framing.header is not None:
        heads = _pcap_heads(packets, caplen, frame_len, framing.header)
        return Octets.fixed(heads), Octets.empty(len(packets))
    return _enhanced_blocks(packets, caplen, frame_len, framing)


def _ticks(packets: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.bool_]]:
    """Times in nanoseconds (0 where null), raw ticks, and where the raw ones count."""
    time = packets["time"].cast(pa.int64()).fill_null(0).to_numpy()
    raw = packets["time_raw"]
    return time, raw.fill_null(0).to_numpy(), np.asarray(raw.combine_chunks().is_valid())


def _pcap_heads(
    packets: pa.Table, caplen: NDArray[np.uint32], frame_len: NDArray[np.uint32], header: PcapHeader
) -> NDArray[np.uint32]:
    time, raw, has_raw = _ticks(packets)
    seconds, fraction = np.divmod(time, 1_000_000_000)
    fraction //= 1_000_000_000 // header.ticks
    heads = np.empty((len(packets), 4), dtype=header.order + "u4")
    heads[:, 0] = np.where(has_raw, raw >> np.uint64(32), seconds.astype(np.uint64))
    heads[:, 1] = np.where(has_raw, raw & np.uint64(0xFFFFFFFF), fraction.astype(np.uint64))
    swapped = header.swapped == "always"
    heads[:, 2], heads[:, 3] = (frame_len, caplen) if swapped else (caplen, frame_len)
    return heads


def _enhanced_blocks(
    packets: pa.Table, caplen: NDArray[np.uint32], frame_len: NDArray[np.uint32], framing: _Framing
) -> tuple[Octets, Octets]:
    time, raw, has_raw = _ticks(packets)
    interface = packets["interface_id"].to_numpy().astype(np.int64)
    ticks, first = raw.copy(), np.zeros(len(packets), np.int64)
    sections = [of["section"] for of in framing.interfaces]
    for number in np.unique(interface):
        of = framing.interfaces[number]
        first[interface == number] = sections.index(of["section"])
        rows = (interface == number) & ~has_raw
        if rows.any() and of["resolution"] <= 9:
            ticks[rows] = from_nanoseconds(time[rows], resolution=of["resolution"], offset=of["time_offset"])
    padding = -caplen.astype(np.int64) % 4
    length = (32 + caplen + padding).astype(np.uint32)
    kind = np.full(len(packets), 6)
    words = [
        kind,
        length,
        interface - first,
        ticks >> np.uint64(32),
        ticks & np.uint64(0xFFFFFFFF),
        caplen,
        frame_len,
    ]
    heads = np.stack([word.astype(np.uint32) for word in words], axis=1)
    tails = np.zeros((len(packets), 2), np.uint32)
    tails[:, 1] = length
    big = _is_big(packets, framing)
    heads[big] = heads[big].byteswap()
    tails[big] = tails[big].byteswap()
    return Octets.fixed(heads), Octets.fixed(tails).cut(4 - padding)
