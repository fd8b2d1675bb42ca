"""Schedulers: the same files from all of them, and what a task can do to its worker."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import dask.config
import distributed
import pytest
import yaml
from distributed import LocalCluster
from distributed.security import Security
from hypothesis import given
from hypothesis import strategies as st

import pcap2arrow
from jobs.cluster.settings import FILE
from jobs.convert import convert
from jobs.executors import open_executor
from jobs.processes import ProcessExecutor
from jobs.progress import Tally
from jobs.sources import fitting_scheduler
from jobs.verify import verify
from pcap2arrow.conversion.driver import CaptureReport, Step
from pcap2arrow.conversion.options import Options
from pcap2arrow.errors import FormatError, QuarantineError, UsageError
from pcap2arrow.inputs import Input, find_captures
from tests.commands import PROJECT, SAMPLE, SAMPLE_PACKETS, live_files, run, write_capture
from tests.tasks import die, fail, square

ROLES = ("client", "scheduler", "worker")
SMALL = Options(block=1 << 16)
"""Units so small that a capture of a megabyte is shared by several workers."""


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of captures: one of many units, small ones, a damaged one."""
    folder = tmp_path_factory.mktemp("captures")
    write_capture(folder / "large.pcap", seed=1, octets=3 << 20)
    for number in range(2, 6):
        write_capture(folder / f"small-{number}.pcap", seed=number, octets=10_000)
    (folder / "damaged.pcapng").write_bytes(SAMPLE.read_bytes()[:-100])
    return folder


@pytest.fixture(scope="module")
def expected(captures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files that one thread makes of the captures."""
    return _converted(captures, tmp_path_factory.mktemp("expected") / "dataset", "threads", 1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A Dask cluster of two worker processes on this machine."""
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        yield cluster


def _converted(captures: Path, dataset: Path, scheduler: str, workers: int | None) -> dict[str, bytes]:
    steps: list[Step] = []
    report = convert(
        find_captures([captures]),
        dataset,
        SMALL,
        scheduler=scheduler,
        workers=workers,
        watch=lambda event: steps.append(event) if isinstance(event, Step) else None,
    )
    assert report.failed == ()
    assert (len(report.captures), len(report.damaged)) == (6, 1)
    assert sum(step.packets for step in steps) == report.packets
    if workers == 1:
        assert len({step.worker for step in steps}) == 1
    return live_files(dataset)


@pytest.mark.parametrize(("scheduler", "workers"), [("threads", 2), ("processes", 1), ("processes", 2)])
def test_every_scheduler_writes_the_same_files(
    captures: Path, expected: dict[str, bytes], tmp_path: Path, scheduler: str, workers: int
) -> None:
    assert len(expected) > 60
    assert _converted(captures, tmp_path / "dataset", scheduler, workers) == expected


def test_a_cluster_writes_the_same_files(
    captures: Path, expected: dict[str, bytes], cluster: LocalCluster, tmp_path: Path
) -> None:
    assert _converted(captures, tmp_path / "dataset", cluster.scheduler_address, None) == expected


@pytest.mark.parametrize("scheduler", ["threads", "processes", "cluster"])
def test_every_scheduler_verifies_alike(
    captures: Path, tmp_path: Path, scheduler: str, request: pytest.FixtureRequest
) -> None:
    dataset = tmp_path / "dataset"
    convert(find_captures([captures]), dataset, SMALL)
    next((dataset / "packets").rglob("*.parquet")).write_bytes(b"damaged")
    expected = list(pcap2arrow.verify(dataset))
    assert [report.ok for report in expected].count(False) == 1
    if scheduler == "cluster":
        scheduler = request.getfixturevalue("cluster").scheduler_address
    assert list(verify(dataset, scheduler=scheduler, workers=2)) == expected


def test_the_command_runs_on_a_cluster_from_any_folder(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "sample.pcapng").write_bytes(SAMPLE.read_bytes())
    words = ("convert", "sample.pcapng", "-o", "dataset", "--scheduler", cluster.scheduler_address)
    assert "1 capture: 1 converted" in run(*words, cwd=tmp_path).stdout
    run("convert", tmp_path / "sample.pcapng", "-o", tmp_path / "by-threads")
    assert live_files(tmp_path / "dataset") == live_files(tmp_path / "by-threads")


def test_a_cluster_with_tls_lets_in_those_with_its_certificate(
    tool: Callable[[str], str], tmp_path: Path
) -> None:
    for who in ("ours", "stranger"):
        words = f"req -x509 -newkey rsa:2048 -nodes -keyout {who}.key -out {who}.pem -days 2 -subj /CN={who}"
        subprocess.run([tool("openssl"), *words.split()], cwd=tmp_path, check=True, capture_output=True)

    def reach(address: str, who: str) -> int:
        ends = {"ca-file": "pem", "client.cert": "pem", "client.key": "key"}
        files = {f"distributed.comm.tls.{name}": str(tmp_path / f"{who}.{end}") for name, end in ends.items()}
        with dask.config.set(files if who else {}), open_executor(address) as (executor, _):
            return executor.submit(square, 7).result(30)

    keys = {f"tls_{role}_{end}": str(tmp_path / f"ours.{end}") for role in ROLES for end in ("key", "pem")}
    files = {name.replace("_pem", "_cert"): file for name, file in keys.items()}
    security = Security(tls_ca_file=str(tmp_path / "ours.pem"), require_encryption=True, **files)
    settings = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0", "protocol": "tls://"}
    with LocalCluster(security=security, **settings) as cluster:
        address = cluster.scheduler_address
        for where, who, reason in (
            (address, "stranger", "TLS certificate does not match"),
            (address, "absent", "can't reach the scheduler"),
            (address, "", "no certificates"),
            (address.replace("tls:", "tcp:"), "", "can't reach the scheduler"),
        ):
            with pytest.raises(UsageError, match=reason):
                reach(where, who)
        assert reach(address, "ours") == 49


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(100))


def _overwrite(path: Path) -> None:
    """Other octets of a packet, at the same length."""
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")


def _replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    other.rename(path)


def _truncate(path: Path) -> None:
    os.truncate(path, 100_000)


@pytest.mark.parametrize("change", [_append, _overwrite, _replace, _truncate])
def test_a_capture_that_changes_meanwhile_fails_once(
    change: Callable[[Path], None], captures: Path, tmp_path: Path
) -> None:
    """However many of its tasks fail; the others are not begun, and nothing of it is committed."""
    changing = tmp_path / "changing.pcap"
    changing.write_bytes((captures / "large.pcap").read_bytes())
    changed = []

    def watch(event: Step | CaptureReport) -> None:
        if isinstance(event, Step) and event.packets and not changed:
            changed.append(event)
            change(changing)

    found = find_captures([changing, SAMPLE])
    report = convert(found, tmp_path / "dataset", SMALL, workers=2, watch=watch)
    assert sorted((capture.name, capture.status) for capture in report.captures) == [
        ("changing.pcap", "failed"),
        ("sample.pcapng", "converted"),
    ]
    (failed,) = report.failed
    assert failed.error is not None and "input changed" in failed.error
    assert run("count", tmp_path / "dataset").stdout == f"{SAMPLE_PACKETS}\n"


def test_the_configuration_for_clusters_sets_what_dask_knows() -> None:
    settings = yaml.safe_load((PROJECT / "deploy" / "dask.yaml").read_text())

    def names(part: Any) -> Iterator[tuple[str, ...]]:
        for name, value in part.items():
            yield from ((name, *rest) for rest in names(value)) if isinstance(value, dict) else ((name,),)

    known = set(names(yaml.safe_load(Path(distributed.__file__).with_name("distributed.yaml").read_text())))
    assert set(names(settings)) <= known
    timeouts = settings["distributed"]["comm"]["timeouts"]
    assert timeouts == yaml.safe_load(FILE.read_text())["distributed"]["comm"]["timeouts"]


# Executors


@pytest.mark.parametrize("scheduler", ["threads", "processes", "cluster"])
def test_tasks_and_their_errors_come_back(scheduler: str, request: pytest.FixtureRequest) -> None:
    if scheduler == "cluster":
        scheduler = request.getfixturevalue("cluster").scheduler_address
    with open_executor(scheduler, 2) as (executor, workers):
        futures = [executor.submit(square, number) for number in range(20)]
        failing = executor.submit(fail, "a.pcap")
        assert [future.result(30) for future in futures] == [number * number for number in range(20)]
        with pytest.raises(FormatError) as caught:
            failing.result(30)
    assert (caught.value.path, caught.value.offset, workers) == ("a.pcap", 7, 2)


def test_a_task_that_kills_its_process_fails_alone(tmp_path: Path) -> None:
    executor = ProcessExecutor(2)
    try:
        good = [executor.submit(square, number) for number in range(3)]
        bad = executor.submit(die, str(tmp_path / "mark"))
        good += [executor.submit(square, number) for number in range(3, 8)]
        wait([*good, bad], timeout=60)
        good += [executor.submit(square, number) for number in range(8, 10)]  # by a new pool
        assert [future.result(30) for future in good] == [number * number for number in range(10)]
        with pytest.raises(QuarantineError, match="its worker died 3 times: SIGKILL"):
            bad.result(0)
    finally:
        executor.shutdown()
    assert (tmp_path / "mark").exists()


def test_leaving_in_a_hurry_ends_worker_processes() -> None:
    begin = time.monotonic()
    tasks: list[Future[None]] = []
    with pytest.raises(KeyboardInterrupt), open_executor("processes", 2) as (executor, _):
        assert executor.submit(square, 2).result(30) == 4
        tasks += [executor.submit(time.sleep, 300) for _ in range(5)]
        raise KeyboardInterrupt
    assert time.monotonic() - begin < 150
    assert all(task.done() or task.cancel() for task in tasks)


def test_worker_processes_end_when_their_driver_is_killed(tmp_path: Path) -> None:
    program = """
import os, sys, time
from jobs.processes import ProcessExecutor
if __name__ == "__main__":
    executor = ProcessExecutor(1)
    print(executor.submit(os.getpid).result(), flush=True)
    executor.submit(time.sleep, 300)
    time.sleep(300)
"""
    script = tmp_path / "driver.py"
    script.write_text(program)
    driver = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # the death of its tracked semaphores is told there
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
    )
    assert driver.stdout is not None
    worker = int(driver.stdout.readline())
    driver.kill()
    driver.wait()
    driver.stdout.close()
    assert _ends(worker)


def _ends(process: int) -> bool:
    """Whether a process that is no child of this one ends within some seconds."""
    for _ in range(200):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


# Progress


@given(
    sizes=st.lists(st.integers(0, 10**12), max_size=5),
    steps=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10**12)), max_size=30),
)
def test_progress_never_passes_its_total_and_meets_it(
    sizes: list[int], steps: list[tuple[int, int]], tmp_path: Path
) -> None:
    """Sizes are of sparse files; steps read more than a size where it was compressed, or less where it failed."""
    captures = []
    for number, size in enumerate(sizes):
        path = tmp_path / str(number)
        with path.open("wb") as file:
            file.truncate(size)
        captures.append(Input(str(number), str(path)))
    tally = Tally(captures)
    assert tally.total == sum(sizes)
    for number, octets in steps:
        if number < len(sizes):
            tally.add(Step(str(number), 1, octets, "worker", 0.1))
            assert tally.total is not None and tally.octets <= tally.total
    read = tally.octets
    for capture in captures:
        tally.add(CaptureReport(capture.name, capture.path, "converted"))
    assert tally.total == tally.octets == read


def test_progress_without_sizes_has_no_total() -> None:
    tally = Tally([Input("stdin", "-"), Input("a.pcap", "s3://bucket/a.pcap")])
    tally.add(Step("stdin", 3, 600, "worker", 0.1))
    assert (tally.total, tally.octets, tally.packets) == (None, 300, 3)


def test_a_dataset_is_as_large_as_its_captures(tmp_path: Path) -> None:
    """Payloads that occur again are in it once, but processes put streams of all of them together."""
    write_capture(tmp_path / "large.pcap", seed=1, octets=140 << 20)
    run("convert", tmp_path / "large.pcap", "-o", tmp_path / "large")
    run("convert", SAMPLE, "-o", tmp_path / "small")
    assert sum(file.stat().st_size for file in (tmp_path / "large").rglob("*.parquet")) < 28 << 20
    assert fitting_scheduler([str(tmp_path / "large")], 2) == "processes"
    assert fitting_scheduler([str(tmp_path / "small")], 2) == "threads"
