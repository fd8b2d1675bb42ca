"""Capture to table to capture: nothing is lost, with the source gone."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lz4.frame
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings

import pcap2arrow
from tests.captures import Capture, captures
from tests.conftest import CorpusCapture
from tests.oracles.reader import DamageError
from tests.oracles.reader import packets as plain_packets


@contextmanager
def _folder() -> Iterator[Path]:
    """A fresh folder for one example."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _write(folder: Path, data: bytes, name: str = "capture") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@given(capture=captures())
def test_original_comes_back_with_the_source_gone(capture: Capture) -> None:
    with _folder() as folder:
        source, dataset = _write(folder, capture.data), folder / "dataset"
        pcap2arrow.convert([source], dataset)
        source.unlink()
        pcap2arrow.export([dataset], folder / "again", capture="capture", format="original")
        assert (folder / "again").read_bytes() == capture.data


@given(capture=captures())
def test_original_comes_back_from_the_archive(capture: Capture) -> None:
    with _folder() as folder:
        source, dataset = _write(folder, capture.data), folder / "dataset"
        pcap2arrow.convert([source], dataset, frames="referenced")
        pcap2arrow.export([dataset], folder / "again", capture="capture", format="original")
        assert (folder / "again").read_bytes() == capture.data


def _frames(table: pa.Table) -> list[bytes]:
    return [
        header + rest
        for header, rest in zip(table["header"].to_pylist(), table["rest"].to_pylist(), strict=True)
    ]


@given(capture=captures())
def test_table_holds_what_was_built(capture: Capture) -> None:
    with _folder() as folder:
        table = pcap2arrow.read_capture(_write(folder, capture.data))
    expected = {
        "frame_number": list(range(1, len(capture.packets) + 1)),
        "interface_id": [packet.interface for packet in capture.packets],
        "link_type": [packet.link_type for packet in capture.packets],
        "time": [packet.time for packet in capture.packets],
        "caplen": [packet.caplen for packet in capture.packets],
        "filter_len": list(capture.filter_lens),
        "frame_len": [packet.frame_len for packet in capture.packets],
        "record_offset": [packet.record_offset for packet in capture.packets],
    }
    if capture.cut_at is not None:  # what is left of the last record may look like records
        table = table.slice(0, len(capture.packets))
    found = {
        name: table[name].cast(pa.int64()).to_pylist() if name == "time" else table[name].to_pylist()
        for name in expected
    }
    assert found == expected
    assert _frames(table) == [packet.data for packet in capture.packets]


def _zipped(octets: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("folder")
        archive.writestr("folder/a capture", octets)
    return target.getvalue()


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "lz4": lz4.frame.compress,
    "zip": _zipped,
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@settings(max_examples=10)
@given(capture=captures())
def test_compressed_copy_gives_the_same_table(compression: str, capture: Capture) -> None:
    """Told by its magic number: the name says nothing."""
    with _folder() as folder:
        plain = pcap2arrow.read_capture(_write(folder, capture.data))
        packed = pcap2arrow.read_capture(_write(folder, COMPRESSIONS[compression](capture.data), "packed"))
    assert packed.equals(plain)


@dataclass(frozen=True, slots=True)
class ConvertedCorpus:
    """Captures converted into one dataset, their source removed, every one exported again."""

    captures: tuple[CorpusCapture, ...]
    dataset: Path
    exported: Path
    info: dict[str, dict[str, Any]]


@pytest.fixture(scope="module", params=[12, pytest.param(1, marks=pytest.mark.long)])
def converted(
    request: pytest.FixtureRequest, manifest: list[CorpusCapture], tmp_path_factory: pytest.TempPathFactory
) -> ConvertedCorpus:
    """All damaged captures of the corpus, and one in so many of the sound ones."""
    captures = tuple(row for n, row in enumerate(manifest) if n % request.param == 0 or not row.sound)
    folder = tmp_path_factory.mktemp("corpus")
    source, dataset, exported = folder / "corpus", folder / "dataset", folder / "exported"
    for row in captures:
        copy = source / row.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(row.path, copy)
    pcap2arrow.convert([source], dataset, workers=2)
    shutil.rmtree(source)
    pcap2arrow.export([dataset], f"{exported}/", format="original")
    return ConvertedCorpus(
        captures, dataset, exported, {row["name"]: row for row in pcap2arrow.info([dataset])}
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_corpus_comes_back_with_the_source_gone(converted: ConvertedCorpus) -> None:
    live = [row for row in converted.captures if row.is_capture and row.name in converted.info]
    assert len(live) > len(converted.captures) - 20
    lost = [row.name for row in live if _sha256(converted.exported / row.name) != row.sha256]
    assert lost == []


def test_info_of_the_corpus_is_what_the_real_tools_say(converted: ConvertedCorpus) -> None:
    """Packets, first and last time of every capture that tcpdump or tshark reads without error."""
    sound = [row for row in converted.captures if row.sound]
    assert len(sound) > 100
    expected = {row.name: (row.packets, row.first_ns, row.last_ns) for row in sound}
    nothing: dict[str, Any] = {}
    found = {
        name: tuple(converted.info.get(name, nothing).get(key) for key in ("packets", "first_ns", "last_ns"))
        for name in expected
    }
    assert {name: (found[name], expected[name]) for name in expected if found[name] != expected[name]} == {}


def test_damaged_captures_of_the_corpus_keep_what_tcpdump_prints(converted: ConvertedCorpus) -> None:
    """And the report names the offset where the plain reader stops."""
    wrong = []
    for row in converted.captures:
        live = converted.info.get(row.name)
        stopped = _where_the_plain_reader_stops(row.path) if row.is_capture else None
        if live is None or stopped is None:
            continue
        named = f"offset {stopped}:" in (live["error"] or "") or (stopped < 24 and live["error"])
        if live["complete"] or live["packets"] < row.packets_tcpdump or not named:
            wrong.append((row.name, live, stopped))
    assert wrong == []


def _where_the_plain_reader_stops(path: Path) -> int | None:
    try:
        for _ in plain_packets(path):
            pass
    except DamageError as error:
        return error.offset
    return None


@pytest.mark.long
def test_corpus_is_verified_against_its_checksums(converted: ConvertedCorpus) -> None:
    reports = list(pcap2arrow.verify(converted.dataset))
    assert len(reports) == len(converted.info)
    assert {report.against for report in reports} == {"checksum"}
    assert [report for report in reports if not report.ok] == []


def test_gzipped_copies_of_the_corpus_give_the_same_tables(
    manifest: list[CorpusCapture], tmp_path: Path
) -> None:
    """One in ten of the captures."""
    differ = []
    for row in [row for row in manifest if row.is_capture and row.tcpdump_rc == 0][::10]:
        packed = tmp_path / "packed"
        packed.write_bytes(gzip.compress(row.path.read_bytes(), 1))
        same = pcap2arrow.read_capture(packed).equals(pcap2arrow.read_capture(row.path))
        if not same:
            differ.append(row.name)
    assert differ == []
