"""Captures, datasets and plans in an object store: moto's S3 on loopback."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import SAMPLE, SAMPLE_PACKETS, json_lines, live_files, run, write_capture
from tests.object_store import SECRET, make_bucket, objects_in, s3_server, store_of

obstore = pytest.importorskip("obstore", reason="obstore is not installed (the extra s3)")
pytest.importorskip("moto", reason="moto is not installed (the extra test)")


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with s3_server() as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captures, one of them compressed."""
    folder = tmp_path_factory.mktemp("captures")
    (folder / "sample.pcapng").write_bytes(SAMPLE.read_bytes())
    write_capture(folder / "other.pcap", seed=1, octets=200_000)
    subprocess.run(["gzip", "-k", folder / "other.pcap"], check=True)
    (folder / "none.txt").write_text("no capture")
    return folder


@pytest.fixture
def bucket(request: pytest.FixtureRequest, environment: dict[str, str], folder: Path) -> str:
    """A new bucket with the captures below ``captures/``."""
    made = make_bucket(f"bucket-{abs(hash(request.node.name))}", environment)
    for path in folder.iterdir():
        obstore.put(store_of(made, environment), f"captures/{path.name}", path.read_bytes())
    return made


def _tables(objects: dict[str, bytes]) -> dict[str, bytes]:
    """Files of packets and blocks; those of captures name where they came from."""
    return {path: data for path, data in objects.items() if path.startswith(("packets/", "blocks/"))}


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_a_dataset_in_a_store_has_the_files_of_a_local_one(
    scheduler: str, bucket: str, folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    run("convert", folder, "-o", tmp_path / "local")
    words = ("convert", f"{bucket}/captures/", "-o", f"{bucket}/dataset", "--scheduler", scheduler, "--json")
    done = run(*words, environment=environment)
    summary = json_lines(done.stdout)[-1]
    assert (summary["captures"], summary["failed"], summary["left_out"]) == (3, 0, 1)
    objects = objects_in(bucket, "dataset", environment)
    assert _tables(objects) == _tables(live_files(tmp_path / "local"))
    assert not any(SECRET.encode() in data for data in objects.values())
    assert SECRET not in done.stdout + done.stderr
    again = json_lines(run(*words, environment=environment).stdout)[-1]
    assert (again["unchanged"], again["converted"]) == (3, 0)


def test_queries_and_exports_give_what_they_give_of_a_local_dataset(
    bucket: str, folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    run("convert", folder, "-o", tmp_path / "local")
    remote = f"{bucket}/dataset"
    run("convert", f"{bucket}/captures/", "-o", remote, environment=environment)
    for words in (("count",), ("count", "-f", "udp"), ("count", "--start", "+1"), ("flows", "--json")):
        here = run(words[0], tmp_path / "local", *words[1:]).stdout
        assert run(words[0], remote, *words[1:], environment=environment).stdout == here
    run("export", tmp_path / "local", "-f", "udp", "-w", tmp_path / "local.pcapng")
    run("export", remote, "-f", "udp", "-w", tmp_path / "remote.pcapng", environment=environment)
    expected = (tmp_path / "local.pcapng").read_bytes()
    assert (tmp_path / "remote.pcapng").read_bytes() == expected
    run("export", remote, "-f", "udp", "-w", f"{bucket}/out/udp.pcapng", environment=environment)
    assert objects_in(bucket, "out", environment) == {"udp.pcapng": expected}
    attributes = obstore.get(store_of(bucket, environment), "out/udp.pcapng").attributes
    assert attributes["Content-Type"] == "application/pcap"
    assert run("verify", remote, environment=environment).stdout


def test_captures_are_read_where_they_are(bucket: str, environment: dict[str, str]) -> None:
    urls = [f"{bucket}/captures/sample.pcapng", f"{bucket}/captures/*.pcapng"]
    for url in urls:
        assert run("count", url, environment=environment).stdout == f"{SAMPLE_PACKETS}\n"


def test_a_plan_in_astore_of(bucket: str, environment: dict[str, str]) -> None:
    plan = f"{bucket}/plan"
    run("plan", f"{bucket}/captures/", "-o", plan, "--dataset", f"{bucket}/dataset", environment=environment)
    run("unit", plan, 0, environment=environment)
    assert "3 captures: 2 converted, 1 named" in run("commit", plan, environment=environment).stdout
    told = objects_in(bucket, "plan", environment)
    assert not any(SECRET.encode() in data for data in told.values())


def test_what_is_not_there_is_an_error_of_one_line(bucket: str, environment: dict[str, str]) -> None:
    for words in (
        ("count", f"{bucket}/absent.pcap"),
        ("convert", "s3://no-such-bucket/captures/", "-o", f"{bucket}/dataset"),
        ("export", f"{bucket}/captures/sample.pcapng", "-w", "s3://no-such-bucket/out.pcap"),
    ):
        failed = run(*words, code=None, environment=environment)
        assert failed.returncode in (1, 2)
        assert failed.stderr.count("\n") == 1 and "internal error" not in failed.stderr, failed.stderr
