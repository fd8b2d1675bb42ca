"""Three hosts, as network namespaces: a scheduler with the driver, and two workers, of which one loses its link."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from jobs.cluster.settings import FILE
from jobs.convert import convert
from pcap2arrow.conversion.options import Options
from pcap2arrow.inputs import find_captures
from tests.commands import PROJECT, live_files, write_capture

SMALL = Options(block=1 << 16)
NETWORK = "10.77.66"
PORT = 8786

DRIVER = """
import sys
from jobs.convert import convert
from pcap2arrow.conversion import capture
from pcap2arrow.conversion.driver import Step
from pcap2arrow.conversion.options import Options
from pcap2arrow.inputs import find_captures
from tests import poison

capture.write_part = poison.write_and_tell
found, dataset, scheduler = sys.argv[1:]
report = convert(
    find_captures([found]), dataset, Options(block=1 << 16), scheduler=scheduler,
    watch=lambda event: print(isinstance(event, Step) and event.packets, flush=True),
)
assert not report.failed, report.failed
"""
"""Converts in small, slow units."""


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True)


@contextmanager
def _hosts() -> Iterator[list[str]]:
    """Names of three namespaces on one bridge, at 10.77.66.1 and so on; skips where they can't be made."""
    if shutil.which("ip") is None:
        pytest.skip("needs ip: apt-get install -y iproute2")
    names = [f"p2a-{os.getpid()}-{number}" for number in range(4)]
    switch, *hosts = names
    with ExitStack() as made:
        try:
            for name in names:
                _ip(f"netns add {name}")
                made.callback(_ip, f"netns delete {name}")
            _ip(f"-n {switch} link add bridge type bridge")
            _ip(f"-n {switch} link set bridge up")
            for number, host in enumerate(hosts, 1):
                _ip(f"-n {switch} link add port{number} type veth peer name eth0 netns {host}")
                _ip(f"-n {switch} link set port{number} master bridge up")
                _ip(f"-n {host} addr add {NETWORK}.{number}/24 dev eth0")
                _ip(f"-n {host} link set eth0 up")
                _ip(f"-n {host} link set lo up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces can't be made here: {error.stderr.strip()}")
        yield names


def _start(host: str, words: list[str], log: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "DASK_CONFIG": str(FILE)}
    with log.open("wb") as out:
        return subprocess.Popen(
            ["ip", "netns", "exec", host, sys.executable, *words], env=environment, stdout=out, stderr=out
        )


def _wait(holds: Callable[[], bool], seconds: float) -> float:
    """How long it takes until that holds."""
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < seconds
        time.sleep(0.05)
    return time.monotonic() - begin


@pytest.mark.long
def test_a_host_that_is_cut_off_is_noticed_and_the_result_is_right(tmp_path: Path) -> None:
    capture = tmp_path / "large.pcap"
    write_capture(capture, seed=1, octets=5 << 20)
    convert(find_captures([capture]), tmp_path / "expected", SMALL)
    dask = ["-c", "from dask.__main__ import main; main()"]
    address = f"tcp://{NETWORK}.1:{PORT}"
    with _hosts() as (switch, *hosts), ExitStack() as running:

        def begin(host: str, name: str, words: list[str]) -> subprocess.Popen[bytes]:
            process = _start(host, words, tmp_path / f"{name}.log")
            running.callback(process.wait)
            running.callback(process.terminate)
            return process

        def log(name: str) -> str:
            return (tmp_path / f"{name}.log").read_text()

        begin(hosts[0], "scheduler", [*dask, "scheduler", "--host", address, "--no-dashboard"])
        for number in (1, 2):
            words = [
                "worker",
                address,
                "--nthreads",
                "1",
                "--local-directory",
                str(tmp_path),
                "--no-dashboard",
            ]
            begin(hosts[number], f"worker-{number}", [*dask, *words])
        _wait(lambda: log("scheduler").count("Register worker") == 2, 120)
        script = tmp_path / "driver.py"
        script.write_text(DRIVER)
        driver = begin(hosts[0], "driver", [str(script), str(capture), str(tmp_path / "dataset"), address])
        _wait(lambda: log("driver").count("\n") > 90, 120)  # the first 80 are scans
        _ip(f"-n {switch} link set port3 down")
        noticed = _wait(lambda: "Remove worker" in log("scheduler"), 60)
        begun = time.monotonic()
        assert driver.wait(120) == 0, log("driver")
        print(f"noticed after {noticed:.1f} s, ended {time.monotonic() - begun:.1f} s later")
        assert noticed <= 15
    assert live_files(tmp_path / "dataset") == live_files(tmp_path / "expected")
