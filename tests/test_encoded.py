"""Records that are merged as they stand in their captures, and those of datasets that wait in a temporary file."""

from __future__ import annotations

import random
import subprocess
import tempfile
import weakref
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pcap2arrow
from pcap2arrow.errors import ExportError
from pcap2arrow.times import TimeRange
from pcap2arrow.writing.merging import direct, waiting
from pcap2arrow.writing.merging.arrangement import Arrangement
from pcap2arrow.writing.merging.duplicates import Recent
from pcap2arrow.writing.records import encoded
from pcap2arrow.writing.records.encoded import Encoded
from pcap2arrow.writing.records.formats import Format
from pcap2arrow.writing.records.packets import Packets
from pcap2arrow.writing.sources import reader
from tests.blocks import pcap_header, pcap_record
from tests.conftest import CorpusCapture
from tests.oracles.reader import whole_packets
from tests.slicing import SECOND, write_capture

T = 1_000_000_000 * SECOND
_SETS, _SINGLE = 30, 60
_HEADER = 24


def _pcaps(manifest: Sequence[CorpusCapture]) -> list[CorpusCapture]:
    return [
        c for c in manifest if c.format == "pcap" and c.sound and 1 < c.packets < 2000 and c.tcpdump_rc == 0
    ]


def test_merges_are_those_of_mergecap(
    manifest: list[CorpusCapture], tool: Callable[[str], str], tmp_path: Path
) -> None:
    """Octet for octet but for the header; mergecap takes the last capture first where times are the same."""
    draw, compared = random.Random(5), 0
    of_type: dict[frozenset[int], list[CorpusCapture]] = defaultdict(list)
    for capture in _pcaps(manifest):
        if capture.time_digits <= 6:
            of_type[capture.link_types].append(capture)
    kinds = [several for several in of_type.values() if len(several) > 4]
    while compared < _SETS:
        paths = [capture.path for capture in draw.sample(draw.choice(kinds), 2 + compared % 3)]
        words = [tool("mergecap"), "-F", "pcap", "-w", tmp_path / "theirs", *paths[::-1]]
        if subprocess.run(words, capture_output=True).returncode:
            continue
        report = pcap2arrow.export(paths, tmp_path / "ours", format="pcap")
        ours, theirs = ((tmp_path / name).read_bytes()[_HEADER:] for name in ("ours", "theirs"))
        assert ours == theirs, paths
        assert report.octets == _HEADER + len(ours)
        compared += 1


def test_records_that_stand_are_those_made_of_columns(manifest: list[CorpusCapture], tmp_path: Path) -> None:
    """A snap length that cuts nothing has records made anew; the captures are of any kind."""
    captures = _pcaps(manifest)
    for capture in captures[:: len(captures) // _SINGLE]:
        reports = [
            pcap2arrow.export([capture.path], tmp_path / name, snaplen=cut)
            for name, cut in (("stand", None), ("made", 1 << 30))
        ]
        stand, made = ((tmp_path / name).read_bytes() for name in ("stand", "made"))
        assert stand == made, capture.name
        assert reports[0].packets == reports[1].packets == capture.packets


def test_odd_records_are_written_as_ever(tmp_path: Path) -> None:
    """Sub-seconds of a second and more, big-endian captures, lengths that change places."""
    records = {
        "fraction": pcap_header("<") + pcap_record("<", b"one", seconds=5, fraction=3_000_007),
        "big-endian": pcap_header(">") + pcap_record(">", b"two", seconds=6, fraction=1),
        "plain": pcap_header("<") + pcap_record("<", b"three", seconds=7, fraction=2) * 2,
    }
    paths = [tmp_path / name for name in records]
    for path in paths:
        path.write_bytes(records[path.name])
    pcap2arrow.export(paths, tmp_path / "out")
    found = [(packet.time, packet.data) for packet in whole_packets(tmp_path / "out")]
    late = (7 * SECOND + 2000, b"three")
    assert found == [(6 * SECOND + 1000, b"two"), late, late, (8 * SECOND + 7000, b"one")]


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five captures of one time, which all begin at once; packets step back, and are alike in time."""
    folder, draw = tmp_path_factory.mktemp("captures"), random.Random(6)
    return [
        write_capture(
            folder / f"{k}.pcap",
            [
                (T + (draw.randrange(n, n + 40) if n else 0) * SECOND, draw.randbytes(draw.randrange(900)))
                for n in range(700)
            ],
        )
        for k in range(5)
    ]


@pytest.fixture(scope="module")
def dataset(captures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dataset") / "dataset"
    assert not pcap2arrow.convert(captures, target).failed
    return target


@pytest.mark.parametrize("room", [0, 1 << 20, 1 << 30])
@pytest.mark.parametrize("format", ["pcap", "nspcap", "pcapng"])
def test_datasets_merge_alike_in_memory_and_by_files(
    room: int,
    format: Format,
    captures: list[Path],
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for limit, octets in ((waiting, "_ROOM"), (direct, "_ENCODED_AT_ONCE"), (direct, "_LEAST_BATCH")):
        monkeypatch.setattr(limit, octets, room if limit is waiting else 20_000)
    pcap2arrow.export(captures, tmp_path / "captures", format=format)
    times = TimeRange(T + 100 * SECOND, T + 400 * SECOND)
    pcap2arrow.export(captures, tmp_path / "slice", format=format, times=times)
    pcap2arrow.export([dataset], tmp_path / "dataset", format=format)
    pcap2arrow.export([dataset], tmp_path / "slice of it", format=format, times=times)
    whole, part = (tmp_path / "captures").read_bytes(), (tmp_path / "slice").read_bytes()
    assert (tmp_path / "dataset").read_bytes() == whole
    assert (tmp_path / "slice of it").read_bytes() == part
    assert len(whole_packets(tmp_path / "captures")) == 3500 > len(whole_packets(tmp_path / "slice")) > 0
    how = Arrangement(duplicates=Recent(packets=1000))
    reports = [
        pcap2arrow.export(source, tmp_path / name, format=format, snaplen=1, arrangement=how)
        for source, name in ((captures, "captures"), ([dataset], "dataset"))
    ]
    assert (tmp_path / "dataset").read_bytes() == (tmp_path / "captures").read_bytes()
    assert reports[0].packets == reports[1].packets and 0 < (reports[0].packets or 0) < 3500


def test_a_unit_that_waits_in_a_file_takes_no_memory(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = reader.packets_of_table
    units: list[weakref.ref[object]] = []
    still_held = []

    def noted(*words: Any) -> Packets:
        still_held.append(sum(unit() is not None for unit in units))
        packets = read(*words)
        units.append(weakref.ref(packets.header.start))
        return packets

    monkeypatch.setattr(waiting, "_ROOM", 0)
    monkeypatch.setattr(reader, "packets_of_table", noted)
    pcap2arrow.export([dataset], tmp_path / "out")
    assert still_held == [0] * 5


def test_a_full_temporary_folder_is_told_of(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_ROOM", 0)
    monkeypatch.setattr(tempfile, "tempdir", "/dev/full")  # no folder at all
    with pytest.raises(ExportError, match="/dev/full"):
        pcap2arrow.export([dataset], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lengths", [[40] * 50, [90_000, 40, 40, 70_000], [200_000], [16] * 3 + [300_000]])
@pytest.mark.parametrize("shuffled", [False, True])
def test_stretches_are_the_records(
    lengths: list[int], shuffled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoded, "_STRETCH", 1000)
    data = np.frombuffer(random.Random(7).randbytes(sum(lengths)), np.uint8)
    records = Encoded.in_a_row(np.arange(len(lengths)), np.array(lengths, np.int64), data)
    rows = np.random.default_rng(8).permutation(len(lengths)) if shuffled else np.arange(len(lengths))
    expected = [bytes(data[sum(lengths[:row]) :][: lengths[row]]) for row in rows]
    taken = records.take(rows)
    assert b"".join(map(bytes, taken.stretches())) == b"".join(expected)
    assert list(records.take(slice(0)).stretches()) == []


def test_a_stretch_of_rows_lets_go_of_buffers() -> None:
    parts = [Encoded.in_a_row(np.arange(3), np.full(3, 20), np.zeros(60, np.uint8)) for _ in range(4)]
    whole = Encoded.concat(parts)
    assert [len(whole.take(slice(*rows)).octets.buffers) for rows in ((0, 12), (4, 8), (9, 12))] == [4, 2, 1]
