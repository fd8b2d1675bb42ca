"""Workers, drivers and schedulers that die, and captures that kill what reads them."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dask.config
import psutil
import pytest

from jobs import isolation
from jobs.cluster.local import local_cluster
from jobs.cluster.settings import settings
from jobs.convert import convert
from jobs.flows import tasks as flow_tasks
from jobs.flows.api import flows
from jobs.isolation import ATTEMPTS
from jobs.limits import USUAL_LIMITS, Limits
from jobs.streams import job as stream_job
from jobs.streams.api import write_streams
from pcap2arrow.conversion import capture as conversion_tasks
from pcap2arrow.conversion.options import Options
from pcap2arrow.inputs import find_captures
from queries.streams.rules import Rules
from tests import poison, tcp
from tests.commands import PROJECT, live_files, run, start, write_capture

pytest.importorskip("cryptography", reason="cryptography is not installed (the extra cluster)")

SMALL = Options(block=1 << 16)


@pytest.fixture(scope="module", params=["processes", "dask"])
def scheduler(request: pytest.FixtureRequest) -> Iterator[str]:
    """Two workers: processes, or on a Dask cluster with TLS, whose certificates the configuration has then."""
    if request.param == "processes":
        yield "processes"
        return
    with dask.config.set(settings()), local_cluster(2, USUAL_LIMITS) as (address, security):
        names = {"ca-file": "ca_file", "client.cert": "client_cert", "client.key": "client_key"}
        given = {
            f"distributed.comm.tls.{name}": getattr(security, f"tls_{what}") for name, what in names.items()
        }
        with dask.config.set(given):
            yield address


# Poison


def test_captures_that_kill_their_workers_cost_only_themselves(
    scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They exit, crash in native code, eat memory, and never end: in their second unit."""
    folder = tmp_path / "captures"
    folder.mkdir()
    good = [f"good-{number}.pcap" for number in range(4)]
    for seed, name in enumerate([*good, *(f"{name}.pcap" for name in poison.POISONS)]):
        write_capture(folder / name, seed=seed, octets=200_000)
    convert(find_captures([folder / name for name in good]), tmp_path / "expected", SMALL)
    monkeypatch.setattr(conversion_tasks, "write_part", poison.write_part)
    report = convert(
        find_captures([folder]),
        tmp_path / "dataset",
        SMALL,
        scheduler=scheduler,
        workers=2,
        limits=Limits(seconds=10, memory=1 << 29),
    )
    assert {capture.name for capture in report.captures if capture.status == "converted"} == set(good)
    assert live_files(tmp_path / "dataset") == live_files(tmp_path / "expected")
    reasons = {capture.name: capture.error or "" for capture in report.failed}
    ends = {
        "crash.pcap": f"its worker died {ATTEMPTS} times: SIGSEGV",
        "leave.pcap": f"its worker died {ATTEMPTS} times: exit code 3",
        "eat.pcap": "its worker was stopped: it took more than 536,870,912 octets of memory",
        "loop.pcap": "its worker was stopped: it ran for more than 10 s",
    }
    assert reasons.keys() == ends.keys()
    for name, end in ends.items():
        offset = reasons[name].removeprefix(f"{name}: offset ").partition(":")[0]
        assert SMALL.block <= int(offset) < 200_000
        assert reasons[name] == f"{name}: offset {offset}: given up: {end}"


def test_a_capture_that_kills_who_reads_its_streams_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although a task reads several small captures at once."""
    folder = tmp_path / "captures"
    folder.mkdir()
    for number in range(3):
        client = ("10.0.0.1", 1024 + number)
        tcp.write(folder / f"good-{number}.pcap", [tcp.Segment(0, b"octets", source=client).frame()])
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    expected = flows([folder]).connections
    tcp.write(folder / "leave.pcap", [tcp.Segment(0, b"octets").frame()])
    monkeypatch.setattr(flow_tasks, "read_packets", poison.read_packets)
    monkeypatch.setattr(stream_job, "part_packets", poison.part_packets)
    monkeypatch.setattr(isolation, "ATTEMPTS", 1)
    given = {"scheduler": "processes", "workers": 1}
    found = flows([folder], **given)  # type: ignore[arg-type]
    assert found.errors == ("leave.pcap: given up: its worker died 1 times: exit code 3",)
    assert found.connections.equals(expected) and len(expected) == 3
    report = write_streams([folder], rules=Rules(), folder=str(tmp_path / "streams"), **given)  # type: ignore[arg-type]
    assert report.errors == found.errors
    assert len(list((tmp_path / "streams").iterdir())) == report.streams == 3


# Workers


@dataclass(frozen=True, slots=True)
class Archive:
    """A capture of many units, and the files of an undisturbed conversion."""

    capture: Path
    files: dict[str, bytes]

    @property
    def told(self) -> Path:
        """Where units that begin are told."""
        return self.capture.with_suffix(".begun")

    def begun(self) -> Counter[str]:
        """How often each unit was begun, since the last look."""
        lines = self.told.read_text().splitlines()
        self.told.unlink()
        return Counter(line.split()[0] for line in lines)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    place = tmp_path_factory.mktemp("archive")
    write_capture(place / "large.pcap", seed=1, octets=2 << 20)
    convert(find_captures([place / "large.pcap"]), place / "dataset", SMALL)
    return Archive(place / "large.pcap", live_files(place / "dataset"))


@contextmanager
def _killer(told: Path, *, parents: bool, every: float, most: int) -> Iterator[list[int]]:
    """While the block runs, kill who began a unit last, or its parent, ``every`` so many seconds.

    Two units have to be begun between one kill and the next, and no unit is hit again.
    """
    killed: list[int] = []
    hit: set[str] = set()
    stop = threading.Event()

    def loop() -> None:
        seen = 0
        while not stop.wait(every) and len(killed) < most:
            lines = told.read_text().splitlines() if told.exists() else []
            if len(lines) < seen + 3:
                continue
            unit, pid = lines[-1].split()
            if unit in hit:
                continue
            seen = len(lines)
            hit.add(unit)
            with suppress(psutil.Error):
                process = psutil.Process(int(pid))
                victim = process.parent() if parents else process
                assert victim is not None and victim.pid != os.getpid()
                victim.kill()
                killed.append(victim.pid)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def _convert_under_fire(
    archive: Archive,
    dataset: Path,
    scheduler: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    parents: bool,
    every: float = 0.1,
    most: int = 5,
) -> None:
    """Exact files, and no more than one unit for each kill done again; of a worker, one more that had just ended."""
    archive.told.unlink(missing_ok=True)
    monkeypatch.setattr(conversion_tasks, "write_part", poison.write_and_tell)
    with _killer(archive.told, parents=parents, every=every, most=most) as killed:
        report = convert(find_captures([archive.capture]), dataset, SMALL, scheduler=scheduler, workers=2)
    assert report.failed == ()
    assert live_files(dataset) == archive.files
    begun = archive.begun()
    again = sum(begun.values()) - len(begun)
    print(f"{scheduler}: {len(begun)} units, {len(killed)} kills, {again} units again")
    assert killed and again <= len(killed) * (2 if parents else 1)


def test_killed_processes_cost_no_more_than_what_they_ran(
    archive: Archive, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _convert_under_fire(archive, tmp_path / "dataset", scheduler, monkeypatch, parents=False)


def test_killed_workers_of_a_cluster_cost_no_more_than_what_they_ran(
    archive: Archive, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if scheduler == "processes":
        pytest.skip("its workers are the processes of the test before")
    _convert_under_fire(archive, tmp_path / "dataset", scheduler, monkeypatch, parents=True, most=2)


# Drivers and schedulers


def _kill_driver(archive: Archive, dataset: Path, after: float) -> None:
    """Kill a driver, and with it the scheduler, some time after its start: its processes end; run it again."""
    words = ("convert", archive.capture, "-o", dataset, "--workers", "2", "--scheduler")
    process = start(*words, "dask")
    time.sleep(after)
    below = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(below, timeout=20)
    assert [left for left in alive if left.status() != psutil.STATUS_ZOMBIE] == []
    run(*words, "threads")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """A capture of two units, as the command has them."""
    place = tmp_path_factory.mktemp("large")
    write_capture(place / "large.pcap", seed=2, octets=90 << 20)
    run("convert", place / "large.pcap", "-o", place / "dataset")
    return Archive(place / "large.pcap", live_files(place / "dataset"))


def test_a_driver_that_is_killed_leaves_no_process_and_is_finished_by_another(
    large: Archive, tmp_path: Path
) -> None:
    _kill_driver(large, tmp_path / "dataset", 6)
    assert live_files(tmp_path / "dataset") == large.files


@pytest.mark.long
def test_drivers_killed_at_twenty_moments(large: Archive, tmp_path: Path) -> None:
    for number in range(20):
        _kill_driver(large, tmp_path / str(number), random.Random(number).uniform(1, 12))
        assert live_files(tmp_path / str(number)) == large.files


def _dask(*words: str) -> subprocess.Popen[bytes]:
    program = "from dask.__main__ import main; main()"
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-c", program, *words], env=environment, **quiet)  # type: ignore[call-overload,no-any-return]


@contextmanager
def _remote_cluster(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A scheduler and a worker as processes of their own: the address, and the scheduler."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    common = ("--no-dashboard",)
    scheduler = _dask("scheduler", "--host", address, *common)
    words = ("--nthreads", "1", "--nworkers", "1", "--local-directory", str(folder), "--death-timeout", "60")
    worker = _dask("worker", address, *words, *common)
    try:
        yield address, scheduler
    finally:
        for process in (worker, scheduler):
            process.terminate()
            process.wait(60)


def _kill_scheduler(archive: Archive, dataset: Path, folder: Path, after: Callable[[], None]) -> bool:
    """Whether the job was still under way; the dataset is the same in any case, once it has been run again."""
    with _remote_cluster(folder) as (address, scheduler):
        process = start("convert", archive.capture, "-o", dataset, "--scheduler", address, "--json")
        assert process.stdout is not None
        assert '"step"' in process.stdout.readline()
        after()
        scheduler.kill()
        begin = time.monotonic()
        _, errors = process.communicate(timeout=120)
        print(f"noticed after {time.monotonic() - begin:.1f} s")
    assert "Traceback" not in errors
    if process.returncode:
        assert process.returncode == 1, errors
        assert "\npcap2arrow: lost the scheduler" in f"\n{errors}", errors
    run("convert", archive.capture, "-o", dataset)
    assert live_files(dataset) == archive.files
    return process.returncode == 1


def test_a_scheduler_that_is_killed_ends_the_job_and_it_is_finished_later(
    large: Archive, tmp_path: Path
) -> None:
    assert _kill_scheduler(large, tmp_path / "dataset", tmp_path, lambda: None)


@pytest.mark.long
def test_schedulers_killed_at_twenty_moments(large: Archive, tmp_path: Path) -> None:
    under_way = 0
    for number in range(20):
        moment = random.Random(number).uniform(0, 1)
        dataset = tmp_path / str(number)
        under_way += _kill_scheduler(large, dataset, tmp_path, partial(time.sleep, moment))
        shutil.rmtree(dataset)
    print(f"{under_way} of 20 schedulers killed while the job was under way")
    assert under_way > 5


@pytest.mark.long
def test_workers_killed_every_eight_seconds(
    archive: Archive, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "captures"
    folder.mkdir()
    write_capture(folder / "large.pcap", seed=1, octets=8 << 20)
    convert(find_captures([folder]), tmp_path / "expected", SMALL)
    slow = Archive(folder / "large.pcap", live_files(tmp_path / "expected"))
    parents = scheduler != "processes"
    _convert_under_fire(
        slow, tmp_path / "dataset", scheduler, monkeypatch, parents=parents, every=8, most=1000
    )
