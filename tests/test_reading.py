"""Reading in windows and in ranges: the result depends on the capture alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcap2arrow.conversion.scan import BlockScan, RangeScan, block_count, prove, ranges, scan_range
from pcap2arrow.errors import FormatError
from pcap2arrow.savefile.batch import Gap
from pcap2arrow.savefile.reader import Position, read_header, read_windows
from pcap2arrow.savefile.source import open_source
from tests import blocks
from tests.captures import Capture, captures
from tests.conftest import CorpusCapture
from tests.oracles.reader import DamageError, Packet, whole_packets
from tests.oracles.reader import packets as plain_packets


def read(path: Path, window: int) -> tuple[list[Packet], list[tuple[int, int]], list[Gap]]:
    """Packets, (begin, end) of everything in the capture, and what is no packet."""
    packets: list[Packet] = []
    tiles: list[tuple[int, int]] = []
    gaps: list[Gap] = []
    with open_source(str(path)) as source:
        header = read_header(source)
        for done, _ in read_windows(source, header, Position(0), stop=source.size, window=window):
            records, base = done.records, done.base
            gaps += done.gaps
            tiles += [(gap.offset, gap.offset + gap.length) for gap in done.gaps]
            for row in range(len(records)):
                begin = base + int(records.start[row])
                tiles.append((begin, begin + int(records.length[row])))
                packet = int(records.packet[row])
                stamped = bool(records.time_valid[row] or records.time_raw_needed[row])
                packets.append(
                    Packet(
                        interface=None if records.interface is None else int(records.interface[row]),
                        link_type=int(records.link_type[row]),
                        fcs_len=int(records.fcs_len[row]),
                        ticks=int(records.time_raw[row]) if stamped else None,
                        time=int(records.time[row]) if records.time_valid[row] else None,
                        frame_len=int(records.frame_len[row]),
                        data=records.data[packet : packet + int(records.caplen[row])].tobytes(),
                        record_offset=begin,
                    )
                )
    return packets, sorted(tiles), gaps


@given(capture=captures(), window=st.sampled_from((64, 100, 1000, 1 << 16)))
def test_windows_hold_what_was_built(capture: Capture, window: int, tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(capture.data)
    packets, tiles, gaps = read(path, window)
    broken = [gap.offset for gap in gaps if gap.kind in ("tail", "damage")]
    if capture.cut_at is None:
        assert packets == list(capture.packets)
        assert broken == []
    else:  # what is left of the last record may look like records
        assert packets[: len(capture.packets)] == list(capture.packets)
        assert broken[0] == capture.cut_at
    ends = [0, *(end for _, end in tiles)]
    assert [begin for begin, _ in tiles] == ends[:-1]
    assert ends[-1] == len(capture.data)


def test_corpus_is_read_as_by_the_plain_reader(manifest: list[CorpusCapture]) -> None:
    """Of damaged captures everything before the damage, which is reported where the plain reader stops.

    Where that is in a file header, the whole header is reported, and reading goes on if it can.
    """
    differences = []
    for capture in (row for row in manifest if row.is_capture):
        expected, stopped = _plainly(capture.path)
        try:
            packets, tiles, gaps = read(capture.path, 1 << 24)
        except FormatError:
            if not expected:
                continue
            raise
        compared = packets if stopped is None else packets[: len(expected)]
        broken = [gap.offset for gap in gaps if gap.expected]
        ends = [0, *(end for _, end in tiles)]
        tiled = [begin for begin, _ in tiles] == ends[:-1] and ends[-1] == capture.size
        if stopped is not None and stopped < 24:
            stopped = 0
        if compared != expected or not tiled or broken[:1] != ([] if stopped is None else [stopped]):
            differences.append((capture.name, len(packets), len(expected), broken[:1], stopped, tiled))
    assert differences == []


def _plainly(path: Path) -> tuple[list[Packet], int | None]:
    """Packets as the plain reader gives them, times that do not fit made None, and where it stops early."""
    found: list[Packet] = []
    try:
        for packet in plain_packets(path):
            fits = packet.time is not None and packet.time < 2**63
            found.append(packet if fits else replace(packet, time=None))
    except DamageError as error:
        return found, error.offset
    return found, None


@given(capture=captures())
def test_filter_len_is_what_libpcap_sees(capture: Capture, tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(capture.data)
    with open_source(str(path)) as source:
        header = read_header(source)
        windows = read_windows(source, header, Position(0), stop=source.size)
        assert [int(n) for done, _ in windows for n in done.records.filter_len] == list(capture.filter_lens)


def _pcap_of(frames: list[bytes], order: str = "<") -> bytes:
    records = [
        blocks.pcap_record(order, frame, seconds=1_700_000_000 + number, fraction=number)
        for number, frame in enumerate(frames)
    ]
    return b"".join([blocks.pcap_header(order), *records])


def _pcapng_of(frames: list[bytes], order: str = "<") -> bytes:
    head = blocks.section_header(order) + blocks.interface_description(order)
    packets = [
        blocks.enhanced_packet(order, frame, ticks=10**15 + number) for number, frame in enumerate(frames)
    ]
    return b"".join([head, *packets])


def _ordinary(rng: random.Random) -> list[bytes]:
    return [rng.randbytes(rng.choice((0, 40, 60, 64, 200, 1500))) for _ in range(600)]


def _full_of_fakes(rng: random.Random) -> list[bytes]:
    """Frames whose payload is a capture in itself, of every kind, at every alignment."""
    inner = [rng.randbytes(40) for _ in range(20)]
    fakes = [fake(inner, order) for fake in (_pcap_of, _pcapng_of) for order in "<>"]
    frames = [rng.randbytes(rng.randrange(20)) + rng.choice(fakes) for _ in range(300)]
    return [frame for frame in frames for _ in range(2)]


def _zeros(rng: random.Random) -> list[bytes]:
    """Zeros look like empty records without end."""
    return [bytes(rng.choice((0, 60, 5000))) for _ in range(400)]


def _scan(path: Path, wanted: int, block: int) -> tuple[list[BlockScan], int]:
    with open_source(str(path)) as source:
        header = read_header(source)

        def again(scan: RangeScan, begin: Position) -> RangeScan:
            return scan_range(source, header, scan.first, scan.last, begin=begin, block=block)

        scans = [
            scan_range(source, header, first, last, block=block)
            for first, last in ranges(block_count(source.size, block), wanted)
        ]
        found, end = prove(scans, again)
    return found, end.offset


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("container", [_pcap_of, _pcapng_of])
@pytest.mark.parametrize("content", [_ordinary, _full_of_fakes, _zeros])
def test_any_number_of_ranges_gives_the_same_scan(
    content: Callable[[random.Random], list[bytes]],
    container: Callable[[list[bytes], str], bytes],
    order: str,
    tmp_path: Path,
) -> None:
    path = tmp_path / "capture"
    path.write_bytes(container(content(random.Random(7)), order))
    truth = whole_packets(path)
    one, end = _scan(path, 1, 4096)
    assert end == path.stat().st_size
    assert sum(scan.packets for scan in one) == len(truth)
    offsets = np.array([packet.record_offset for packet in truth])
    for scan in one:
        assert scan.packets == ((offsets >= scan.begin.offset) & (offsets < scan.end)).sum()
    for wanted in (2, 7, 64):
        assert _scan(path, wanted, 4096) == (one, end)
