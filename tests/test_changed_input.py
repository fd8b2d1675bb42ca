"""Captures that change while a job reads them: every job notices, whatever the change, and leaves nothing half-done."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from jobs.cli.group import commands
from pcap2arrow.dataset import open_dataset
from pcap2arrow.errors import Pcap2ArrowError
from pcap2arrow.savefile.source import Source
from tests import tcp
from tests.commands import write_capture

JOBS = {
    "convert": "convert IN OUT/whole.pcap -o OUT/dataset --scheduler threads",
    "info": "info IN",
    "count": "count IN",
    "count of a filter": "count IN -f tcp",
    "count of a time": "count IN --start +1s",
    "export": "export IN -w OUT/result.pcap",
    "export of a filter": "export IN -f tcp -w OUT/result.pcap",
    "merge": "export IN OUT/whole.pcap -w OUT/result.pcap",
    "slice": "export IN --start +1s -w OUT/result.pcap",
    "connections": "export IN --connections -f tcp -w OUT/result.pcap",
    "streams": "streams IN -o OUT/result --scheduler threads",
    "flows": "flows IN -o OUT/result.parquet",
    "tcpdump": "tcpdump -r IN -w OUT/result.pcap tcp",
    "tcpslice": "tcpslice -w OUT/result.pcap +0 +5 IN",
}


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(path.read_bytes()[24:2024])


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(50))
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 10**6))


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[::-1])
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


CHANGES = (_append, _overwrite, _replace, _truncate)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A capture that is read in several windows."""
    frames = [
        tcp.Segment(1000 * n, bytes(900), source=("10.0.0.1", 1024 + n % 9)).frame() for n in range(3000)
    ]
    tcp.write(tmp_path / "changing.pcap", frames)
    write_capture(tmp_path / "whole.pcap", seed=1, octets=20_000)
    return tmp_path / "changing.pcap"


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("job", JOBS)
def test_a_change_is_noticed(
    job: str, change: Callable[[Path], None], capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window, seen = Source.window, list[int]()

    def meddled(self: Source, offset: int, length: int, **settings: Any) -> Any:
        result = window(self, offset, length, **settings)
        if self.name.endswith("changing.pcap") and length > 100_000 and not seen:
            seen.append(offset)
            change(capture)
        return result

    monkeypatch.setattr(Source, "window", meddled)
    words = JOBS[job].replace("IN", str(capture)).replace("OUT", str(tmp_path)).split()
    done = CliRunner().invoke(commands, words, standalone_mode=False)
    assert seen
    error = done.output + done.stderr
    if isinstance(done.exception, Pcap2ArrowError):
        error += str(done.exception)
    else:
        assert done.exception is None, done.exception
        assert done.return_value == 1
    assert "input changed" in error
    if job not in ("streams", "flows"):  # which go on with what they could read of it
        assert not any(tmp_path.glob("result*"))
    if job == "convert":
        assert set(open_dataset(tmp_path / "dataset").snapshot().captures) == {"whole.pcap"}
