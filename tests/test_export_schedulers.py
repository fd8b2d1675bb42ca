"""Exports whose captures tasks read: the same octets from every scheduler, for everything that an export can do."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import jobs.spools
from jobs.cli import export as verb
from jobs.convert import convert
from jobs.executors import open_executor, run_all
from jobs.isolation import ATTEMPTS
from pcap2arrow.conversion.options import Options
from pcap2arrow.errors import QuarantineError, UsageError
from pcap2arrow.inputs import find_captures
from tests.commands import SAMPLE, write_capture
from tests.tasks import leave

EXPORTS = {
    "all": "-w OUT/all.pcap",
    "one": "--capture large.pcap -w OUT/one.pcap",
    "chosen": "-f 'udp or ip[8] > 60' -w OUT/chosen.pcapng --format pcapng",
    "by time": "--start +1s --end +300s -w OUT/slice.pcap",
    "chosen by time": "-f tcp --start +1s --end +300s -w OUT/slice.pcap",
    "none": "-f 'port 7777' -w OUT/none.pcap",
    "by line": "--filters LINES -w OUT",
    "parted": "--max-packets 300 -w OUT/part.pcap",
    "parted by time": "-f udp --every 200s -w OUT/part-%H%M%S.pcap",
    "without duplicates": "--dedupe sources --offset large.pcap=0.5 -w OUT/all.pcap",
    "in a row": "--concat --snaplen 60 -w OUT/all.pcap",
    "of connections": "--connections -f 'udp port 53' -w OUT/whole.pcap",
    "as they were": "--format original -w OUT/",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captures that overlap in time, and a dataset that has one of them in several units; lines of filters."""
    folder = tmp_path_factory.mktemp("exports")
    captures = folder / "captures"
    captures.mkdir()
    write_capture(captures / "large.pcap", seed=1, octets=700_000)
    write_capture(captures / "small.pcap", seed=2, octets=20_000)
    (captures / "sample.pcapng").write_bytes(SAMPLE.read_bytes())
    (folder / "lines").write_text("udp\nip[8] > 60 and tcp\nport 7777\n")
    report = convert(find_captures([captures]), folder / "dataset", Options(block=1 << 16))
    assert not report.failed
    return folder


@pytest.fixture(scope="module")
def processes() -> Iterator[Callable[..., Any]]:
    """Opens what is open already: an executor of two processes."""
    with open_executor("processes", 2) as opened:
        yield lambda *scheduler, **settings: nullcontext(opened)


def _exported(folder: Path, source: str, words: str, out: Path, *more: str) -> dict[str, bytes]:
    """The files that a command line writes."""
    out.mkdir()
    line = shlex.split(words.replace("OUT", str(out)).replace("LINES", str(folder / "lines")))
    assert verb.command.main([str(folder / source), *line, *more], standalone_mode=False) == 0
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "source"),
    [(name, "dataset") for name in EXPORTS] + [(name, "captures") for name in ("all", "by line", "in a row")],
)
def test_tasks_change_nothing(
    name: str,
    source: str,
    folder: Path,
    processes: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = _exported(folder, source, EXPORTS[name], tmp_path / "expected")
    monkeypatch.setattr(jobs.spools, "open_executor", processes)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert _exported(folder, source, EXPORTS[name], tmp_path / "out", "--scheduler", "processes") == expected
    assert expected


@pytest.mark.long
@pytest.mark.parametrize("workers", ["1", "2", "5"])
@pytest.mark.parametrize("scheduler", ["processes", "dask"])
def test_any_scheduler_and_number_of_workers_changes_nothing(
    folder: Path, tmp_path: Path, scheduler: str, workers: str
) -> None:
    for number, words in enumerate(EXPORTS.values()):
        for source in ("captures", "dataset"):
            expected = _exported(folder, source, words, tmp_path / f"{number}-{source}-expected")
            out = tmp_path / f"{number}-{source}"
            more = ("--scheduler", scheduler, "--workers", workers, "--temp-dir", str(tmp_path))
            assert _exported(folder, source, words, out, *more) == expected
            assert not list(tmp_path.glob(".pcap2arrow-*"))


@pytest.mark.long
def test_a_task_that_kills_its_worker_is_told_by_the_name_of_its_capture(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.spools, "run_all", partial(_poisoned, run_all))
    with pytest.raises(QuarantineError, match=f"^large.pcap: given up: its worker died {ATTEMPTS} times"):
        _exported(folder, "captures", EXPORTS["all"], tmp_path / "out", "--scheduler", "processes")
    assert not list((tmp_path / "out").iterdir())


def _poisoned(run: Callable[..., Any], executor: Any, workers: int, tasks: Any, **settings: Any) -> Any:
    """Runs tasks; those of a large capture leave."""
    return run(
        executor,
        workers,
        (replace(task, run=leave) if task.name == "large.pcap" else task for task in tasks),
        **settings,
    )


def test_standard_input_is_read_by_this_process_only() -> None:
    with pytest.raises(UsageError, match="standard input is read by threads only"):
        verb.command.main(["-", "-w", "x.pcap", "--scheduler", "processes"], standalone_mode=False)
