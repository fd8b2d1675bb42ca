"""The same from every scheduler, with any number of workers, on local disks and in an object store: of every job."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.batch import commit_plan, make_plan
from jobs.convert import convert
from jobs.count import count, count_selected
from jobs.export import export_filtered
from jobs.flows.api import flows
from jobs.slices import count_slices, count_slices_selected
from jobs.spools import open_spool
from jobs.streams.api import write_streams
from jobs.verify import verify
from pcap2arrow.conversion.options import Options
from pcap2arrow.inputs import find_captures
from pcap2arrow.times import TimeRange
from queries.filters.compiled import compile_filter
from queries.streams.rules import Rules
from tests import tcp
from tests.commands import PROJECT, SAMPLE, command, live_files, write_capture
from tests.object_store import make_bucket, objects_in, s3_server, store_of

obstore = pytest.importorskip("obstore", reason="obstore is not installed (the extra s3)")
pytest.importorskip("moto", reason="moto is not installed (the extra test)")
pytest.importorskip("cryptography", reason="cryptography is not installed (the extra cluster)")

SMALL = Options(block=1 << 18)
"""Units so small that captures are cut into several."""

STORE = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")

SOME = TimeRange(1_700_000_100 * 10**9, 1_700_000_900 * 10**9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captures that overlap in time: two of several units, one of them of connections, and small ones."""
    folder = tmp_path_factory.mktemp("captures")
    write_capture(folder / "large.pcap", seed=1, octets=2 << 20)
    write_capture(folder / "small.pcap", seed=2, octets=10_000)
    (folder / "sample.pcapng").write_bytes(SAMPLE.read_bytes())
    carried = bytes(range(256)) * 4
    segments = [
        tcp.Segment(len(carried) * (number // 40), carried, source=("10.0.0.1", 1024 + number % 40)).frame()
        for number in range(900)
    ]
    tcp.write(folder / "connections.pcap", segments)
    return folder


@pytest.fixture(scope="module", params=["local", "s3"])
def place(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Where captures are, below ``captures/``, and datasets go."""
    if request.param == "local":
        made = tmp_path_factory.mktemp("place")
        (made / "captures").symlink_to(folder)
        yield str(made)
        return
    before = dict(os.environ)
    with s3_server() as environment:
        bucket = make_bucket("everywhere", environment)
        for path in folder.iterdir():
            obstore.put(store_of(bucket, environment), f"captures/{path.name}", path.read_bytes())
        os.environ |= environment
        try:
            yield bucket
        finally:
            os.environ.clear()
            os.environ |= before


def _tables(place: str, name: str) -> dict[str, bytes]:
    """Files of packets and blocks of a dataset; those of captures name where they came from."""
    environment = {variable: os.environ[variable] for variable in STORE if variable in os.environ}
    is_remote = "://" in place
    files = objects_in(place, name, environment) if is_remote else live_files(Path(place, name))
    return {path: data for path, data in files.items() if path.startswith(("packets/", "blocks/"))}


def _answers(place: str, name: str, out: Path, **scheduling: Any) -> dict[str, Any]:
    """What every job says of a dataset, and of the captures."""
    sources = [f"{place}/{name}", f"{place}/captures/"]
    filters = [compile_filter("udp"), compile_filter("ip[8] > 60")]
    out.mkdir()
    with open_spool(**scheduling, temporary=str(out)) as spool:
        for number, source in enumerate(sources):
            export_filtered([source], str(out / f"{number}.pcapng"), filters[1], spool=spool)
    write_streams(
        sources[:1], rules=Rules(), folder=str(out / "streams"), tables=str(out / "tables"), **scheduling
    )
    return {
        "count": count(sources, **scheduling).packets,
        "filters": count_selected(sources, filters, **scheduling).tally.packets,
        "times": count_slices(sources, SOME, **scheduling).packets,
        "filters and times": count_slices_selected(sources, SOME, filters, **scheduling).tally.packets,
        "flows": flows(sources[:1], temporary=str(out), **scheduling).connections.write_ndjson(),
        "verify": list(verify(sources[0], **scheduling)),
        "files": {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()},
    }


@pytest.fixture(scope="module")
def expected(place: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of a dataset, and all answers, of one thread."""
    assert not convert(find_captures([f"{place}/captures/"]), f"{place}/expected", SMALL, workers=1).failed
    given = {"scheduler": "threads", "workers": 1}
    answers = _answers(place, "expected", tmp_path_factory.mktemp("answers") / "out", **given)
    assert len(answers["files"]) > 40 and all(report.ok for report in answers["verify"])
    return _tables(place, "expected"), answers


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("scheduler", ["threads", "processes", "dask"])
def test_every_job_gives_the_same(
    scheduler: str,
    workers: int,
    place: str,
    expected: tuple[dict[str, bytes], dict[str, Any]],
    tmp_path: Path,
) -> None:
    files, answers = expected
    name, given = f"{scheduler}-{workers}", {"scheduler": scheduler, "workers": workers}
    assert not convert(find_captures([f"{place}/captures/"]), f"{place}/{name}", SMALL, **given).failed
    assert _tables(place, name) == files and len(files) > 10
    assert _answers(place, name, tmp_path / "out", **given) == answers


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_units_in_a_shell_loop_give_the_same(
    workers: int, place: str, expected: tuple[dict[str, bytes], dict[str, Any]]
) -> None:
    name, plan = f"units-{workers}", f"{place}/plan-{workers}"
    made, _ = make_plan(find_captures([f"{place}/captures/"]), f"{place}/{name}", plan, SMALL)
    loop = f"seq 0 {len(made) - 1} | xargs -n 1 -P {workers} {shlex.join(command('unit', plan))}"
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    subprocess.run(["sh", "-c", loop], check=True, env=environment, stdout=subprocess.DEVNULL)
    assert not commit_plan(plan).failed and len(made) > 5
    assert _tables(place, name) == expected[0]
