"""Settings of Dask's: ours, those of users, and how long a scheduler is waited for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import dask.config
import pytest

from jobs.cluster.settings import settings
from jobs.executors import open_executor
from pcap2arrow.errors import UsageError
from tests.commands import PROJECT


@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_a_scheduler_that_does_not_answer_is_an_error_that_names_it(kind: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if kind == "silent":
            listener.listen()
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        begin = time.monotonic()
        with (
            dask.config.set({"pcap2arrow.reached-within": "3s", "distributed.comm.timeouts.connect": "2s"}),
            pytest.raises(UsageError, match=f"{address}: can't reach the scheduler"),
            open_executor(address),
        ):
            raise AssertionError
        assert time.monotonic() - begin < 60


# Settings


def test_settings_of_ours_give_way_to_those_of_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = settings()
    assert ours["distributed.scheduler.worker-saturation"] == 1.0
    assert ours["distributed.comm.timeouts.tcp"] == "12s"
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION", "1.1")  # as Dask itself has it
    with dask.config.set({"distributed.comm.timeouts.tcp": "20s"}):
        theirs = settings()
    assert ours.keys() - theirs.keys() == {
        "distributed.scheduler.worker-saturation",
        "distributed.comm.timeouts.tcp",
    }


def test_a_file_of_users_is_read_and_counts(tmp_path: Path) -> None:
    (tmp_path / "pcap2arrow.yaml").write_text(
        "pcap2arrow:\n  workers-within: 7s\ndistributed:\n  scheduler:\n    allowed-failures: 9\n"
    )
    program = (
        "import dask.config; from jobs.cluster.settings import seconds, settings\n"
        "with dask.config.set(settings()):\n"
        "    print(seconds('pcap2arrow.workers-within'), dask.config.get('distributed.scheduler.allowed-failures'),"
        " dask.config.get('distributed.scheduler.worker-saturation'))"
    )
    environment = os.environ | {"DASK_CONFIG": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "7.0 9 1.0\n"
