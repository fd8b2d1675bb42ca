"""Credentials are found by workers in their environment, and told to nobody: a canary is looked for everywhere."""

from __future__ import annotations

import os
import pickle
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobs.convert import open_target
from pcap2arrow.conversion.driver import Conversion
from pcap2arrow.conversion.options import Options
from pcap2arrow.inputs import find_captures
from tests.commands import SAMPLE, start, write_capture

obstore = pytest.importorskip("obstore", reason="obstore is not installed (the extra s3)")
server = pytest.importorskip("moto.server", reason="moto is not installed (the extra test)")

SECRET = "canary-7d21"
ID = "canary-id-93"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket whose credentials are in the environment."""
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    endpoint = "http://{}:{}".format(*moto.get_host_and_port())
    given = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    for name, value in (given | {"AWS_REGION": "us-east-1"}).items():
        monkeypatch.setenv(name, value)
    with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bucket", method="PUT")):
        yield "s3://bucket"
    moto.stop()


def _objects() -> dict[str, bytes]:
    names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
    config = {name.lower(): os.environ[name] for name in names}
    options: Any = {"allow_http": True}
    store = obstore.store.S3Store("bucket", config=config, client_options=options)
    paths = [meta["path"] for batch in obstore.list(store) for meta in batch]
    return {path: bytes(obstore.get(store, path).bytes()) for path in paths}


class _Recording(ThreadPoolExecutor):
    """Keeps tasks as others than threads send them."""

    def __init__(self) -> None:
        super().__init__(2)
        self.sent: list[bytes] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.sent.append(pickle.dumps((fn, args, kwargs)))
        return super().submit(fn, *args, **kwargs)


def test_tasks_hold_no_credentials(bucket: str, tmp_path: Path) -> None:
    write_capture(tmp_path / "large.pcap", seed=1, octets=300_000)
    with _Recording() as executor:
        conversion = Conversion(open_target(f"{bucket}/dataset"), Options(block=1 << 16), executor, workers=2)
        reports = conversion.run(find_captures([tmp_path]).captures)
    assert [report.status for report in reports] == ["converted"]
    assert len(executor.sent) > 8
    assert not any(canary.encode() in sent for sent in executor.sent for canary in (SECRET, ID))


def test_a_cluster_tells_no_credentials(bucket: str, tmp_path: Path) -> None:
    """Not even where everything is logged; one capture fails."""
    (tmp_path / "sample.pcapng").write_bytes(SAMPLE.read_bytes())
    (tmp_path / "cut.pcapng").write_bytes(SAMPLE.read_bytes()[:-100])
    words = (
        "convert",
        tmp_path,
        "-o",
        f"{bucket}/dataset",
        "--on-error",
        "strict",
        "--scheduler",
        "dask",
        "--json",
    )
    process = start(*words, environment=os.environ | {"PCAP2ARROW_DEBUG": "1"})
    lines: set[str] = set()
    while process.returncode is None:
        with suppress(psutil.Error):
            here = psutil.Process(process.pid)
            lines |= {" ".join(each.cmdline()) for each in (here, *here.children(recursive=True))}
        with suppress(subprocess.TimeoutExpired):
            printed, errors = process.communicate(timeout=0.2)
    assert process.returncode == 1, errors
    assert '"converted": 1' in printed and '"failed": 1' in printed
    assert len(lines) > 3
    objects = _objects()
    assert any(path.startswith("dataset/_manifest/") for path in objects)
    told = [printed, errors, *lines, *(data.decode("latin-1") for data in objects.values())]
    assert not any(canary in text for text in told for canary in (SECRET, ID))
