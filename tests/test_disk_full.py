"""Disks that are full: a clear error that names the file, nothing half-done, and the same result once there is room.

A limit on the size of files stands for one kind (``File too large``), a small file system for the other.
"""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pcap2arrow
from pcap2arrow.dataset import open_dataset
from tests import tcp
from tests.commands import live_files, run, start, write_capture

FULL = ("File too large", "No space left on device")


@dataclass(frozen=True, slots=True)
class Job:
    """A command that writes to the folder ``OUT``; ``SOURCE`` and ``DATASET`` stand for what it reads.

    ``results`` are what it makes there, of which nothing is to be seen where it fails.
    """

    words: str
    results: tuple[str, ...]

    def line(self, out: Path, folder: Path) -> list[str]:
        places = {"OUT": str(out), "SOURCE": str(folder / "captures"), "DATASET": str(folder / "dataset")}
        return [
            place + word[len(name) :]
            if (name := word.partition("/")[0]) in places and (place := places[name])
            else word
            for word in self.words.split()
        ]


JOBS = {
    "convert": Job("convert SOURCE -o OUT/dataset", ()),
    "compact": Job("compact OUT/dataset", ()),
    "export": Job("export DATASET -w OUT/merged.pcap", ("merged.pcap",)),
    "export of a capture": Job("export SOURCE/a.pcap -f tcp -w OUT/merged.pcap", ("merged.pcap",)),
    "original": Job("export DATASET --capture a.pcap --format original -w OUT/a.pcap", ("a.pcap",)),
    "streams": Job("streams DATASET -o OUT/streams --tables OUT/tables --octets", ("streams/*", "tables/*")),
    "flows": Job("flows DATASET -o OUT/flows.parquet", ("flows.parquet",)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captures, and a dataset of them."""
    folder = tmp_path_factory.mktemp("captures")
    captures = folder / "captures"
    captures.mkdir()
    rng = random.Random(1)
    frames = []
    for number in range(300):
        port = 1024 + number % 40
        data = rng.randbytes(1000)
        frames.append(tcp.Segment(1000 * (number // 40), data, source=("10.0.0.1", port)).frame())
    tcp.write(captures / "a.pcap", frames)
    for number in range(4):
        write_capture(captures / f"{number}.pcap", seed=number, octets=30_000)
    run("convert", captures, "-o", folder / "dataset")
    return folder


def _prepare(name: str, out: Path, folder: Path) -> None:
    if name == "compact":
        shutil.copytree(folder / "dataset", out / "dataset")


def _results(name: str, out: Path) -> dict[str, bytes]:
    """All that a job made; of a dataset what its log names."""
    if name in ("convert", "compact"):
        return live_files(out / "dataset")
    files = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bytes]]:
    """What a job makes where there is room."""
    known: dict[str, dict[str, bytes]] = {}

    def results(name: str) -> dict[str, bytes]:
        if name not in known:
            out = tmp_path_factory.mktemp("room")
            _prepare(name, out, folder)
            run(*JOBS[name].line(out, folder))
            known[name] = _results(name, out)
        return known[name]

    return results


def _assert_clean(name: str, out: Path, folder: Path, errors: str) -> None:
    """The error is one line that names a file and says why; nothing half-done is there."""
    assert "Traceback" not in errors and "internal error" not in errors and "panicked" not in errors, errors
    last = errors.strip().splitlines()[-1]
    assert any(reason in last for reason in FULL) and "/" in last, errors
    for pattern in JOBS[name].results:
        assert list(out.glob(pattern)) == []
    if name not in ("convert", "compact"):
        assert [path for path in out.rglob("*") if path.is_file()] == []
    elif (out / "dataset" / "_manifest" / f"{0:020d}.json").exists():
        assert all(report.ok for report in pcap2arrow.verify(out / "dataset"))
    if name == "compact":
        before = open_dataset(folder / "dataset").snapshot()
        assert open_dataset(out / "dataset").snapshot() == before


def _run_limited(name: str, out: Path, folder: Path, **settings: Any) -> bool:
    """Run a job that may lack room; whether it did, and then nothing but an error is left."""
    process = start(*JOBS[name].line(out, folder), **settings)
    _, errors = process.communicate(timeout=120)
    if process.returncode == 0:
        return False
    assert process.returncode in (1, 2), (process.returncode, errors)
    _assert_clean(name, out, folder, errors)
    return True


def _with_limit(name: str, folder: Path, tmp_path: Path, expected: dict[str, bytes], sizes: int) -> None:
    largest = max(map(len, expected.values()))
    refused = 0
    for number in range(sizes):
        rng = random.Random(f"{name} {number}")
        limit = rng.randrange(1, 1000) if number == 0 else rng.randrange(1, largest)
        out = tmp_path / str(number)
        out.mkdir()
        _prepare(name, out, folder)
        refused += _run_limited(
            name,
            out,
            folder,
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
        run(*JOBS[name].line(out, folder))
        assert _results(name, out) == expected
    assert refused


@contextmanager
def _small_disk(where: Path, size: int) -> Iterator[Path]:
    """A file system of so many octets; skips where none may be mounted."""
    where.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", where]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("needs to mount a tmpfs")
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


def _on_small_disks(name: str, folder: Path, tmp_path: Path, expected: dict[str, bytes], sizes: int) -> None:
    least = 4096
    if name == "compact":
        least += sum(-(-p.stat().st_size // 4096) * 4096 for p in (folder / "dataset").rglob("*.*"))
    whole = sum(map(len, expected.values()))
    refused = 0
    for number in range(sizes):
        size = random.Random(f"{name} {number}").randrange(least, least + whole)
        with _small_disk(tmp_path / str(number), size) as out:
            _prepare(name, out, folder)
            refused += _run_limited(name, out, folder)
            more = ["mount", "-o", f"remount,size={size + 10 * whole + (8 << 20)}", out]
            subprocess.run(more, check=True, capture_output=True)
            run(*JOBS[name].line(out, folder))
            assert _results(name, out) == expected
    assert refused


@pytest.mark.parametrize("sizes", [1, pytest.param(20, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", JOBS)
def test_files_that_may_not_grow(
    name: str, sizes: int, folder: Path, tmp_path: Path, expected: Callable[[str], dict[str, bytes]]
) -> None:
    _with_limit(name, folder, tmp_path, expected(name), sizes)


@pytest.mark.long
@pytest.mark.parametrize("name", JOBS)
def test_disks_of_twenty_sizes(
    name: str, folder: Path, tmp_path: Path, expected: Callable[[str], dict[str, bytes]]
) -> None:
    _on_small_disks(name, folder, tmp_path, expected(name), 20)
