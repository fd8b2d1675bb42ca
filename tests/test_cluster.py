"""A Dask cluster of this machine: who gets in, what it gives away, and that all schedulers give the same."""

from __future__ import annotations

import os
import shlex
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask.config
import psutil
import pytest
from distributed.security import Security

from jobs.cluster.local import local_cluster
from jobs.cluster.settings import settings
from jobs.convert import convert
from jobs.count import count, count_selected
from jobs.executors import open_executor
from jobs.limits import USUAL_LIMITS
from jobs.slices import count_slices, count_slices_selected
from pcap2arrow.conversion.options import Options
from pcap2arrow.errors import UsageError
from pcap2arrow.inputs import find_captures
from pcap2arrow.times import TimeRange
from queries.filters.compiled import compile_filter
from tests.commands import PROJECT, SAMPLE, command, json_lines, live_files, run, write_capture
from tests.tasks import square

pytest.importorskip("cryptography", reason="cryptography is not installed (the extra cluster)")

SMALL = Options(block=1 << 16)
"""Units so small that a capture of a megabyte is shared by several workers."""

TLS_ALERT = b"\x15"
TLS = "distributed.comm.tls"


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, Security]]:
    """A cluster of two workers: its address, and what lets a client in."""
    with dask.config.set(settings()), local_cluster(2, USUAL_LIMITS) as cluster:
        yield cluster


@pytest.fixture
def ours(cluster: tuple[str, Security]) -> Iterator[str]:
    """The address, where Dask's configuration has the certificates of the cluster."""
    address, security = cluster
    with dask.config.set(_certificates(security)):
        yield address


def _certificates(security: Security) -> dict[str, Any]:
    return {
        f"{TLS}.ca-file": security.tls_ca_file,
        f"{TLS}.client.cert": security.tls_client_cert,
        f"{TLS}.client.key": security.tls_client_key,
    }


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of captures: one of many units, small ones, a damaged one."""
    folder = tmp_path_factory.mktemp("captures")
    write_capture(folder / "large.pcap", seed=1, octets=2 << 20)
    for number in range(2, 6):
        write_capture(folder / f"small-{number}.pcap", seed=number, octets=10_000)
    (folder / "damaged.pcapng").write_bytes(SAMPLE.read_bytes()[:-100])
    return folder


# Who gets in


@pytest.mark.parametrize("who", ["plain", "without certificate", "stranger"])
def test_others_are_refused(cluster: tuple[str, Security], who: str) -> None:
    address = cluster[0]
    if who == "plain":
        address = address.replace("tls:", "tcp:")
    given = _certificates(Security.temporary()) if who == "stranger" else {}
    with (
        dask.config.set(given),
        pytest.raises(UsageError, match="no certificates" if who == "without certificate" else address),
        open_executor(address),
    ):
        raise AssertionError


def test_a_connection_without_certificate_ends_before_a_word_is_said(cluster: tuple[str, Security]) -> None:
    """Below Dask's client, which refuses to begin one."""
    host, port = cluster[0].removeprefix("tls://").split(":")
    context = ssl.create_default_context(cadata=cluster[1].tls_ca_file)
    context.check_hostname = False
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with (
        socket.create_connection((host, int(port)), timeout=20) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
        context.wrap_socket(plain) as tls,
    ):
        assert tls.recv(1) == b"refused"


def test_the_right_client_gets_in(ours: str) -> None:
    with open_executor(ours) as (executor, workers):
        assert (executor.submit(square, 7).result(60), workers) == (49, 2)


def test_it_listens_on_loopback_alone_and_serves_no_pages(ours: str) -> None:
    here = psutil.Process()
    ports = [
        connection.laddr
        for process in (here, *here.children(recursive=True))
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for address in ports} == {"127.0.0.1"}
    for address in ports:
        answer = b""
        with suppress(ConnectionResetError), socket.create_connection(address, timeout=20) as plain:
            plain.sendall(b"GET /info/main/workers.html HTTP/1.0\r\n\r\n")
            answer = plain.recv(1000)
        assert answer[:1] == TLS_ALERT or answer[:12] in (b"", b"HTTP/1.1 404"), (address, answer)


def test_its_key_is_in_no_file_and_on_no_command_line(cluster: tuple[str, Security]) -> None:
    key = cluster[1].tls_worker_key.encode()
    here = psutil.Process()
    for process in (here, *here.children(recursive=True)):
        for what in ("cmdline", "environ"):
            assert key[40:80] not in Path(f"/proc/{process.pid}/{what}").read_bytes()
    recent = time.time() - 600
    for path in Path(tempfile.gettempdir()).glob("*/dask*"):
        if path.is_file() and path.stat().st_mtime > recent:
            assert key not in path.read_bytes()


# The same from all


def _converted(captures: Path, dataset: Path, scheduler: str) -> dict[str, bytes]:
    report = convert(find_captures([captures]), dataset, SMALL, scheduler=scheduler)
    assert (report.failed, len(report.captures), len(report.damaged)) == ((), 6, 1)
    return live_files(dataset)


def test_a_cluster_with_tls_writes_and_counts_the_same(captures: Path, ours: str, tmp_path: Path) -> None:
    expected = _converted(captures, tmp_path / "by threads", "threads")
    assert len(expected) > 40
    assert _converted(captures, tmp_path / "by cluster", ours) == expected
    counted = {who: _counted(tmp_path / "by cluster", captures, who) for who in ("threads", ours)}
    assert counted[ours] == counted["threads"] and counted[ours][0][0] > 2000


def _counted(dataset: Path, captures: Path, scheduler: str) -> list[list[int]]:
    """Packets that filters select, of all times and of some; and all packets of captures."""
    filters = [compile_filter("udp"), compile_filter("ip[8] > 60")]
    given = {"scheduler": scheduler}
    some = TimeRange(1_700_000_100 * 10**9, 1_700_000_900 * 10**9)
    sources = [str(dataset), str(captures)]
    counted = count_slices_selected(sources, some, filters, **given)
    return [
        count_selected(sources, filters, **given).tally.packets,
        counted.tally.packets,
        [len(counted.errors), count_slices(sources, some, **given).packets, count(sources, **given).packets],
    ]


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_units_of_a_plan_in_a_shell_loop_give_the_same(tmp_path: Path, workers: int) -> None:
    """Of a capture that the command itself cuts."""
    write_capture(tmp_path / "large.pcap", seed=1, octets=200 << 20)
    run("convert", tmp_path / "large.pcap", "-o", tmp_path / "expected", "--scheduler", "dask")
    words = (
        "plan",
        tmp_path / "large.pcap",
        "-o",
        tmp_path / "plan",
        "--dataset",
        tmp_path / "dataset",
        "--json",
    )
    units = json_lines(run(*words).stdout)[-1]["units"]
    assert units == 3
    loop = f"seq 0 {units - 1} | xargs -n 1 -P {workers} {shlex.join(command('unit', tmp_path / 'plan'))}"
    subprocess.run(["sh", "-c", loop], check=True, env=os.environ | {"PYTHONPATH": str(PROJECT)})
    run("commit", tmp_path / "plan")
    assert live_files(tmp_path / "dataset") == live_files(tmp_path / "expected")
