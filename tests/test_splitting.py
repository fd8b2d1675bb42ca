"""Ranges of a capture, scanned apart and proven, give what one reading gives."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcap2arrow.conversion.capture import convert_whole, scan_part
from pcap2arrow.conversion.driver import Conversion
from pcap2arrow.conversion.options import Options
from pcap2arrow.conversion.scan import BlockScan, RangeScan, block_count, prove, ranges, scan_range
from pcap2arrow.dataset.log import Dataset, create_dataset
from pcap2arrow.dataset.snapshot import TABLES
from pcap2arrow.inputs import Input
from pcap2arrow.savefile.reader import Position, read_header
from pcap2arrow.savefile.source import open_source
from tests.captures import Capture, captures

RANGES = (1, 2, 7, 64)


def _proven(path: Path, *, block: int, wanted: int) -> tuple[list[BlockScan], Position, int]:
    """Blocks of a capture scanned in ranges, and how many ranges had to be scanned again."""
    again = 0
    with open_source(str(path)) as source:
        header = read_header(source)

        def rescan(scan: RangeScan, begin: Position) -> RangeScan:
            nonlocal again
            again += 1
            return scan_range(source, header, scan.first, scan.last, begin=begin, block=block)

        parts = ranges(block_count(source.size, block), wanted)
        scans = [scan_range(source, header, first, last, block=block) for first, last in parts]
        blocks, end = prove(scans, rescan)
    return blocks, end, again


def _record(payload: bytes, seconds: int, *, order: str = "<") -> bytes:
    return struct.pack(order + "IIII", seconds, 0, len(payload), len(payload)) + payload


def _nested(records: int, *, seed: int) -> bytes:
    """A pcap whose packets carry chains of record headers, as a capture of a transferred pcap does."""
    rng = np.random.default_rng(seed)
    chain = b"".join(
        _record(rng.bytes(int(n)), 1_500_000_000 + k) for k, n in enumerate(rng.integers(1, 60, 40))
    )
    out = struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    for k in range(records):
        cut = int(rng.integers(0, 200))
        out += _record(chain[cut : cut + int(rng.integers(100, 1400))], 1_600_000_000 + k)
    return out


@pytest.mark.parametrize("wanted", RANGES)
def test_payloads_full_of_record_headers_never_move_a_boundary(tmp_path: Path, wanted: int) -> None:
    path = tmp_path / "nested.pcap"
    path.write_bytes(_nested(400, seed=wanted))
    serial, end, _ = _proven(path, block=4096, wanted=1)
    blocks, end_in_ranges, again = _proven(path, block=4096, wanted=wanted)
    assert blocks == serial and end_in_ranges == end
    assert sum(block.packets for block in blocks) == 400
    if wanted > 7:
        assert again > 0  # else the payloads did not mislead any guess, and this shows nothing


@given(capture=captures(), block=st.sampled_from([64, 200, 1024]), wanted=st.sampled_from(RANGES[1:]))
def test_any_capture_in_ranges_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, capture: Capture, block: int, wanted: int
) -> None:
    path = tmp_path_factory.mktemp("ranges") / "capture"
    path.write_bytes(capture.data)
    serial, end, _ = _proven(path, block=block, wanted=1)
    blocks, end_in_ranges, _ = _proven(path, block=block, wanted=wanted)
    assert blocks == serial and end_in_ranges == end


def _files(dataset: Dataset) -> dict[str, bytes]:
    root = Path(dataset.url)
    snapshot = dataset.snapshot()
    paths = [file.path for table in TABLES for file in snapshot.files(table)]
    return {path: (root / path).read_bytes() for path in paths}


_SPLIT = (
    "derived/seqwrap.pcap",
    "derived/huge-caplen.pcap",
    "derived/two-sections-mixed.pcapng",
    "suricata-verify/pgsql/pgsql-5000-query-results/input.pcap",
)


@pytest.mark.parametrize("name", _SPLIT)
def test_files_are_the_same_however_a_capture_is_split(corpus: Path, tmp_path: Path, name: str) -> None:
    """One worker in one go, or many tasks that share a capture: same names, same octets."""
    options = Options(block=2048)
    found = Input("capture", str(corpus / name))
    split = create_dataset(tmp_path / "split", settings={})
    with ThreadPoolExecutor(3) as executor:
        (report,) = Conversion(split, options, executor, workers=3).run([found])
    assert report.status == "converted"
    whole = create_dataset(tmp_path / "whole", settings={})
    converted = convert_whole(whole, found, options)
    paths = {file.path for file in converted.capture.files}
    assert paths == set(_files(split)) and len(paths) > 3
    for path, octets in _files(split).items():
        assert (tmp_path / "whole" / path).read_bytes() == octets


def test_a_range_without_a_record_is_scanned_from_where_the_one_before_ends(tmp_path: Path) -> None:
    path = tmp_path / "long.pcap"
    header = struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    path.write_bytes(header + _record(bytes(100_000), 1) + _record(b"after", 2))
    assert scan_part(Input("long", str(path)), 3, 3, Options(block=8192)).begin is None
    blocks, _, again = _proven(path, block=8192, wanted=64)
    assert [block.packets for block in blocks if block.packets] == [1, 1] and again > 0
