"""Hostile captures end in a clear error or a salvage report: no traceback, bounded time and memory."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import pcap2arrow
from pcap2arrow.errors import Pcap2ArrowError, SourceError
from pcap2arrow.inputs import find_captures
from pcap2arrow.savefile.source import open_source
from tests.blocks import pcap_header, pcap_record
from tests.captures import captures
from tests.conftest import CorpusCapture
from tests.crafted import Crafted, crafted

PROJECT = Path(__file__).resolve().parent.parent
MEMORY = 700 << 20
SECONDS = 60

_WORDS = st.sampled_from((0, 1, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF, 0x0A0D0D0A, 0x00040001))


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A built capture with bits flipped, words replaced, and stretches cut out, doubled or put in."""
    data = bytearray(draw(captures()).data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(("bit", "word", "word", "cut", "delete", "double", "insert")))
        if kind == "bit" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "word":
            order = draw(st.sampled_from("<>"))
            data[at & ~3 : (at & ~3) + 4] = struct.pack(order + "I", draw(_WORDS))
        elif kind == "cut":
            del data[at:]
        elif kind == "delete":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 200))]
        else:
            data[at:at] = draw(st.binary(min_size=1, max_size=30))
    return bytes(data)


@given(data=_mutated())
def test_mutated_capture_comes_back_or_is_refused(data: bytes) -> None:
    """What can be read at all comes back octet for octet; what is damaged says where."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, dataset, again = folder / "capture", folder / "dataset", folder / "again"
        source.write_bytes(data)
        try:
            table = pcap2arrow.read_capture(source)
        except Pcap2ArrowError as error:
            assert re.search(r"capture: offset \d+: expected .+, found ", str(error))
            return
        pcap2arrow.convert([source], dataset)
        source.unlink()
        (live,) = pcap2arrow.info([dataset])
        assert live["packets"] == table.num_rows
        assert live["complete"] or re.search(r"offset \d+: expected .+, found ", live["error"])
        pcap2arrow.export([dataset], again, capture="capture", format="original")
        assert again.read_bytes() == data


@given(data=_mutated())
def test_strict_refuses_what_salvage_reports(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "capture")
        source.write_bytes(data)
        try:
            complete = pcap2arrow.info([source])[0]["complete"]
            salvaged = pcap2arrow.read_capture(source)
        except Pcap2ArrowError:
            complete = False
        if complete:
            assert pcap2arrow.read_capture(source, on_error="strict").equals(salvaged)
        else:
            with pytest.raises(Pcap2ArrowError):
                pcap2arrow.read_capture(source, on_error="strict")


def test_mutated_captures_of_the_corpus_come_back_or_are_refused(
    manifest: list[CorpusCapture], tmp_path: Path
) -> None:
    """Real captures, each with a few octets changed and perhaps its end gone."""
    rng = random.Random(20)
    small = [row for row in manifest if row.is_capture and 100 < row.size < 50_000]
    mutated = {}
    for number, row in enumerate(rng.sample(small, 60)):
        data = bytearray(row.path.read_bytes())
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        mutated[f"{number:03}"] = bytes(data[: rng.choice((len(data), rng.randrange(30, len(data))))])
    for name, content in mutated.items():
        (tmp_path / name).write_bytes(content)
    report = pcap2arrow.convert([tmp_path / name for name in mutated], tmp_path / "dataset")
    refused = {failed.name: failed.error or "" for failed in report.failed}
    assert [error for error in refused.values() if not re.search(r": offset \d+: expected ", error)] == []
    pcap2arrow.export(tmp_path / "dataset", f"{tmp_path}/again/", format="original")
    again = {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    assert again == {name: content for name, content in mutated.items() if name not in refused}
    assert len(again) > 40


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run of the command ended; ``peak`` is octets of memory, ``cpu`` seconds of processor time."""

    code: int
    out: str
    err: str
    peak: int
    cpu: float


_LAUNCHER = f"""
import json, resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS}))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
code = subprocess.run(sys.argv[2:]).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump([code, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime], file)
"""
"""Starts the command from a small process: what it starts begins with the peak of the process that starts it."""


def _run(*words: str | Path) -> Finished:
    """Run the command with warnings as errors, and little time."""
    command = [sys.executable, "-W", "error", "-c", "from jobs.cli import main; main()", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    with tempfile.TemporaryDirectory() as folder:
        usage = Path(folder, "usage.json")
        launch = [sys.executable, "-c", _LAUNCHER, str(usage), *command]
        done = subprocess.run(launch, capture_output=True, text=True, env=environment)
        code, peak, cpu = json.loads(usage.read_text())
    return Finished(code, done.stdout, done.stderr, peak, cpu)


def _assert_civil(run: Finished, codes: Iterable[int]) -> None:
    assert run.code in codes, run.err
    assert "Traceback" not in run.err
    assert "Warning" not in run.err
    assert run.peak < MEMORY


@dataclass(frozen=True, slots=True)
class Conversion:
    """All crafted captures converted by one command, and what ``info`` says about each."""

    run: Finished
    dataset: Path
    info: dict[str, dict[str, Any]]


CRAFTED = {capture.name: capture for capture in crafted()}


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    folder = tmp_path_factory.mktemp("hostile")
    for capture in CRAFTED.values():
        (folder / capture.name).write_bytes(capture.data)
    dataset = folder / "dataset"
    sources = [folder / name for name in CRAFTED]
    run = _run("convert", *sources, "-o", dataset, "--workers", "2")
    for source in sources:
        source.unlink()
    info = json.loads(_run("info", dataset, "--json").out)
    return Conversion(run, dataset, {row["name"]: row for row in info})


def test_crafted_captures_are_converted_in_little_time_and_memory(converted: Conversion) -> None:
    _assert_civil(converted.run, [1])
    assert converted.run.cpu < SECONDS


@pytest.mark.parametrize("capture", CRAFTED.values(), ids=CRAFTED)
def test_crafted_capture_keeps_its_packets(capture: Crafted, converted: Conversion) -> None:
    live = converted.info.get(capture.name)
    if capture.packets is None:
        assert live is None
        assert re.search(rf"{capture.name}: offset \d+: expected .+, found ", converted.run.err)
        return
    assert live is not None
    if capture.damage_at is None:
        assert (live["packets"], live["complete"], live["error"]) == (capture.packets, True, None)
    else:
        assert live["packets"] >= capture.packets
        assert live["error"].startswith(f"offset {capture.damage_at}: expected ")
        assert f"offset {capture.damage_at}: " in converted.run.err


def test_crafted_captures_come_back_octet_for_octet(converted: Conversion, tmp_path: Path) -> None:
    _assert_civil(_run("export", converted.dataset, "-w", f"{tmp_path}/again/", "--format", "original"), [0])
    kept = {name: capture.data for name, capture in CRAFTED.items() if capture.packets is not None}
    assert {path.name for path in (tmp_path / "again").iterdir()} == kept.keys()
    assert [name for name, data in kept.items() if (tmp_path / "again" / name).read_bytes() != data] == []


@pytest.mark.parametrize("start", [0, 1_700_000_000])
def test_time_stamps_all_over_make_few_partitions(start: int, tmp_path: Path) -> None:
    """Ten thousand packets, each on a day of its own."""
    records = (pcap_record("<", bytes(60), seconds=start + 86_400 * day) for day in range(10_000))
    source = tmp_path / "capture"
    source.write_bytes(pcap_header("<") + b"".join(records))
    pcap2arrow.convert([source], tmp_path / "dataset")
    folders = {
        match for path in pcap2arrow.files(tmp_path / "dataset") for match in re.findall(r"date=[^/]*", path)
    }
    assert "date=other" in folders
    assert 2 < len(folders) <= 65
    lengths = pcap2arrow.scan(tmp_path / "dataset").select("caplen").collect()
    assert (lengths.height, lengths["caplen"].sum()) == (10_000, 600_000)


ZEROS = 300 << 20


def _bomb() -> bytes:
    return pcap_header("<") + bytes(ZEROS)


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(lambda data: bz2.compress(data), id="bzip2"),
        pytest.param(lambda data: lzma.compress(data, preset=0), id="xz"),
        pytest.param(lambda data: zstandard.ZstdCompressor().compress(data), id="zstd"),
    ],
)
def test_decompression_bomb_is_refused(packed: Any, tmp_path: Path) -> None:
    (tmp_path / "bomb").write_bytes(packed(_bomb()))
    assert (tmp_path / "bomb").stat().st_size < ZEROS / 2048
    run = _run("convert", tmp_path / "bomb", "-o", tmp_path / "dataset")
    _assert_civil(run, [1])
    assert re.search(r"bomb: .*2048", run.err)
    assert run.cpu < SECONDS / 2


def test_a_zip_of_several_files_is_refused_with_the_reason(tmp_path: Path) -> None:
    """Alone; in a folder it is left out, as what is no capture."""
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for name in ("a.pcap", "b.pcap"):
            archive.writestr(name, pcap_header("<"))
    refused = pytest.raises(SourceError, match="expected a zip archive of one file, found one of 2")
    with refused, open_source(str(tmp_path / "two.zip")):
        raise AssertionError
    found = find_captures([tmp_path])
    assert (found.captures, found.left_out) == ((), 1)


def test_zstd_stream_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=30, write_content_size=False)
    data = pcap_header("<") + os.urandom(1000)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "greedy").write_bytes(compressor.compress(data) + compressor.flush())
    run = _run("convert", tmp_path / "greedy", "-o", tmp_path / "dataset")
    _assert_civil(run, [1])
    assert run.peak < 400 << 20


def test_large_gzip_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """gzip's ratio can't pass the limit: a long one is read, to the disk and not to memory."""
    record = pcap_record("<", bytes(65_000), seconds=1_700_000_000)
    (tmp_path / "long").write_bytes(gzip.compress(pcap_header("<") + record * 5_000, 1))
    run = _run("convert", tmp_path / "long", "-o", tmp_path / "dataset")
    _assert_civil(run, [0])
    assert pcap2arrow.scan(tmp_path / "dataset").select("caplen").collect().height == 5_000
