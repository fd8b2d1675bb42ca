"""Object stores that fail: through a proxy that refuses, hangs, resets and cuts, nothing is lost or wrong."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

import pcap2arrow
from jobs.convert import convert
from jobs.count import count_selected
from pcap2arrow.conversion.options import Options
from pcap2arrow.dataset import create_dataset, open_dataset
from pcap2arrow.errors import DatasetError, SourceError, UsageError
from pcap2arrow.inputs import find_captures
from pcap2arrow.reading.files import read_file, read_frame
from pcap2arrow.savefile.source import open_source
from queries.filters.compiled import compile_filter
from tests import datasets
from tests.commands import SAMPLE, write_capture
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.object_store import make_bucket, objects_in, s3_server, store_of

obstore = pytest.importorskip("obstore", reason="obstore is not installed (the extra s3)")
pytest.importorskip("moto", reason="moto is not installed (the extra test)")

SMALL = Options(block=1 << 16)


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_server() as environment:
        yield environment


@pytest.fixture
def place(server: dict[str, str], request: pytest.FixtureRequest) -> str:
    """A new bucket."""
    return make_bucket(f"bucket-{abs(hash(request.node.name))}", server)


def _reach(proxy: FaultProxy, server: dict[str, str], patch: pytest.MonkeyPatch) -> None:
    """Have clients of this process talk to the proxy, and wait for no answer longer than some seconds."""
    for name, value in (server | {"AWS_ENDPOINT_URL": proxy.url, "PCAP2ARROW_STORE_TIMEOUT": "3"}).items():
        patch.setenv(name, value)


def _upstream(server: dict[str, str]) -> str:
    return server["AWS_ENDPOINT_URL"].removeprefix("http://")


def _work_through(proxy: FaultProxy, place: str, folder: Path, out: Path, server: dict[str, str]) -> None:
    """Convert captures of a store into a dataset there, compact it, and export everything from it."""
    shutil.rmtree(out, ignore_errors=True)
    report = convert(find_captures([f"{place}/captures/"]), f"{place}/dataset", SMALL, workers=4)
    assert [(failed.name, failed.error) for failed in report.failed] == []
    names = {path.name for path in folder.iterdir()}
    assert {capture.name for capture in report.captures} == names
    pcap2arrow.compact(f"{place}/dataset", workers=4)
    out.mkdir()
    pcap2arrow.export([f"{place}/dataset"], out, format="original")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    pcap2arrow.export([f"{place}/dataset"], f"{place}/merged.pcapng")
    again = convert(find_captures([f"{place}/captures/"]), f"{place}/dataset", SMALL, workers=4)
    assert {capture.status for capture in again.captures} == {"unchanged"}
    added = [live.name for change in open_dataset(f"{place}/dataset").changes(0) for live in change.add]
    assert sorted(added) == sorted([*names, *names])  # by the conversion and by the compaction, each once


def _many(tmp_path: Path, count: int) -> Path:
    folder = tmp_path / "captures"
    folder.mkdir()
    for number in range(count):
        write_capture(folder / f"{number}.pcap", seed=number, octets=3_000)
    write_capture(folder / "large.pcap", seed=count, octets=1 << 17)
    shutil.copy(SAMPLE, folder)
    return folder


def _faulty_conversions(
    server: dict[str, str],
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    captures: int,
    least: int,
) -> None:
    folder = _many(tmp_path, captures)
    for path in folder.iterdir():
        obstore.put(store_of(place, server), f"captures/{path.name}", path.read_bytes())
    with fault_proxy(_upstream(server), seed=7) as proxy:
        _reach(proxy, server, monkeypatch)
        _work_through(proxy, place, folder, tmp_path / "out", server)
    print(f"{proxy.total} requests, {dict(proxy.faults)}")
    assert proxy.total >= least and len(proxy.faults) >= 5
    pcap2arrow.convert([folder], tmp_path / "local")
    pcap2arrow.export([tmp_path / "local"], tmp_path / "merged.pcapng")
    merged = objects_in(place, "merged.pcapng", server) or objects_in(place, "", server)
    assert (tmp_path / "merged.pcapng").read_bytes() in merged.values()


def test_faults_of_a_store_are_absorbed(
    server: dict[str, str], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _faulty_conversions(server, place, tmp_path, monkeypatch, captures=2, least=150)


@pytest.mark.long
def test_faults_of_two_thousand_requests_are_absorbed(
    server: dict[str, str], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _faulty_conversions(server, place, tmp_path, monkeypatch, captures=150, least=2_000)


def _writers(server: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch, commits: int) -> FaultProxy:
    """Eight writers at once, each with so many commits."""
    with fault_proxy(_upstream(server), seed=3) as proxy:
        _reach(proxy, server, monkeypatch)
        url = f"{place}/dataset"
        create_dataset(url, settings={})

        def write(writer: int) -> list[int]:
            dataset = open_dataset(url)
            mine = [datasets.capture(f"{writer}/{n}", 1_000 * writer + n) for n in range(commits)]
            return [datasets.convert(dataset, each).version for each in mine]

        with ThreadPoolExecutor(8) as pool:
            versions = [version for of_writer in pool.map(write, range(8)) for version in of_writer]
        dataset = open_dataset(url)
        added = [live.name for change in dataset.changes(0) for live in change.add]
        assert sorted(versions) == list(range(1, 8 * commits + 1))
        assert sorted(added) == sorted(f"{writer}/{n}" for writer in range(8) for n in range(commits))
        assert datasets.damaged(dataset, dataset.snapshot()) == []
    return proxy


def test_eight_writers_at_once_land_once_each(
    server: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = _writers(server, place, monkeypatch, commits=2)
    assert proxy.faults["500 after"] and proxy.faults["503"]


@pytest.mark.long
def test_eight_writers_of_fifty_commits(
    server: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = _writers(server, place, monkeypatch, commits=50)
    print(f"{proxy.total} requests, {dict(proxy.faults)}")
    assert proxy.total >= 2_000


def test_a_store_that_creates_twice_is_refused(
    server: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fault_proxy(_upstream(server), rates={}, unconditional=True) as proxy:
        _reach(proxy, server, monkeypatch)
        with pytest.raises(DatasetError, match="overwrites a file that it should only create if absent"):
            pcap2arrow.convert(SAMPLE, f"{place}/dataset")
    assert objects_in(place, "dataset", server) == {}


@pytest.mark.parametrize("change", ["append", "replace", "truncate"])
def test_an_object_that_changes_is_noticed(
    change: str, server: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the first request for it afterwards, which asks for the object that was there."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    data = random.Random(1).randbytes(5000)
    other = {"append": data + b"more", "replace": data[::-1], "truncate": data[:2500]}[change]
    obstore.put(store_of(place, server), "a.pcap", b"\xd4\xc3\xb2\xa1" + data)
    with open_source(f"{place}/a.pcap") as source:
        assert source.read(4, 100) == data[:100]
        obstore.put(store_of(place, server), "a.pcap", b"\xd4\xc3\xb2\xa1" + other)
        with pytest.raises(SourceError, match="input changed"):
            source.read(4, 100)


def test_a_wrong_timeout_is_an_error(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv("PCAP2ARROW_STORE_TIMEOUT", "soon")
    with pytest.raises(UsageError, match="expected a number of seconds"):
        open_dataset(f"{place}/dataset")


@pytest.fixture(scope="module")
def large(server: dict[str, str]) -> Iterator[tuple[str, FaultProxy]]:
    """A dataset in a store, of a capture of some MiB, and a proxy without faults before it that counts.

    Polars keeps its connections, so there is one proxy for all tests.
    """
    place = f"{make_bucket('bucket-of-ranges', server)}/dataset"
    with (
        fault_proxy(_upstream(server), rates={}) as proxy,
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as folder,
    ):
        _reach(proxy, server, patch)
        patch.setenv("PCAP2ARROW_STORE_TIMEOUT", "20")
        parts = [Path(folder) / f"{number}.pcap" for number in range(12)]
        for number, part in enumerate(parts):
            write_capture(part, seed=number, octets=1 << 20)
        whole = parts[0].read_bytes() + b"".join(part.read_bytes()[24:] for part in parts[1:])
        (Path(folder) / "large.pcap").write_bytes(whole)
        found = find_captures([Path(folder) / "large.pcap", SAMPLE])
        convert(found, place, Options(block=6 << 20))
        yield place, proxy


def _read_column(dataset: str, out: Path) -> None:
    opened = open_dataset(dataset)
    assert (
        sum(len(read_file(opened, f, columns=["time"])) for f in opened.snapshot().files("packets")) > 5_000
    )


def _scan_column(dataset: str, out: Path) -> None:
    assert (
        pcap2arrow.scan(dataset).select(pl.col("frame_len").cast(pl.UInt64).sum()).collect().item()
        > 3_000_000
    )


def _count_filter(dataset: str, out: Path) -> None:
    assert count_selected([dataset], [compile_filter("udp port 53 or tcp")]).tally.packets[0] > 0


def _take_frames_apart(dataset: str, out: Path) -> None:
    opened = open_dataset(dataset)
    file = max(opened.snapshot().files("packets"), key=lambda file: file.size)
    assert len(read_frame(opened, file, columns=["frame_number", "header"])) == file.rows


def _export_one(dataset: str, out: Path) -> None:
    pcap2arrow.export([dataset], out, capture="sample.pcapng", format="original")
    assert out.read_bytes() == SAMPLE.read_bytes()


@pytest.mark.parametrize(
    ("query", "share"),
    [
        (_read_column, 0.10),
        (_scan_column, 0.10),
        (_count_filter, 0.15),
        (_take_frames_apart, 0.15),
        (_export_one, 0.05),
    ],
)
def test_only_what_is_wanted_is_fetched(
    query: Callable[[str, Path], None], share: float, large: tuple[str, FaultProxy], tmp_path: Path
) -> None:
    """Of files of packets: their footers, and the columns that a query needs; never a whole one."""
    dataset, proxy = large
    files = open_dataset(dataset).snapshot().files("packets")
    proxy.requests.clear()
    query(dataset, tmp_path / "out")
    fetched = [each for each in proxy.requests if "/packets/" in each.path and each.method == "GET"]
    assert fetched and all(each.is_range and each.status == 206 for each in fetched)
    octets, whole = sum(each.octets for each in fetched), sum(file.size for file in files)
    print(f"{query.__name__}: {len(fetched)} requests, {octets} of {whole} octets: {octets / whole:.1%}")
    assert octets < share * whole
