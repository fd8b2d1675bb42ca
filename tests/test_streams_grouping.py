"""Streams are the same however the input is cut, whoever works on it, and whatever fits in memory."""

from __future__ import annotations

import itertools
import json
import random
import resource
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from distributed import LocalCluster

import pcap2arrow
from jobs.streams.api import TABLES, write_streams
from pcap2arrow.errors import FilterError
from queries.filters.compiled import compile_filter
from queries.streams.naming import Template
from queries.streams.rules import Rules
from tests import commands, http_streams, tcp
from tests.test_streams_tcpflow import TINY, random_frames

_HEADER = 24
_START = 1_700_000_000


def _outcome(
    sources: Sequence[Path], folder: Path, *, rules: Rules | None = None, **settings: object
) -> list[object]:
    """Files by name and tables; without what depends on where a packet was read."""
    tables = folder / "tables"
    write_streams(
        sources,
        rules=rules or Rules(),
        folder=str(folder / "files"),
        tables=str(tables),
        hashes=True,
        octets=True,
        **settings,  # type: ignore[arg-type]
    )
    found = [pl.read_parquet(tables / f"{name}.parquet") for name in (*TABLES, "octets")]
    found[1] = found[1].drop("capture_id", "frame_number")
    assert sorted(path.name for path in folder.iterdir()) == ["files", "tables"]
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "files").rglob("*"))
        if path.is_file()
    }
    return [files, *(table.to_dict(as_series=False) for table in found)]


def _cut(whole: Path, frames: Sequence[bytes], places: Sequence[int], folder: Path) -> list[Path]:
    """A capture in files that end before these frames."""
    folder.mkdir()
    octets = whole.read_bytes()
    ends = [_HEADER, *itertools.accumulate((16 + len(frame) for frame in frames), initial=_HEADER)][1:]
    files = []
    for number, (first, stop) in enumerate(itertools.pairwise([0, *places, len(frames)])):
        files.append(folder / f"{number:03}.pcap")
        files[-1].write_bytes(octets[:_HEADER] + octets[ends[first] : ends[stop]])
    return files


@pytest.mark.parametrize("as_tcpflow", [False, True])
def test_a_cut_at_any_packet_changes_nothing(as_tcpflow: bool, tmp_path: Path) -> None:
    words = "S:@9 S:@5< abc@10 xyz@6< dXf@13 def@13 F:@16 late@16 S:@90 new@91 R:@94 F:@9< more@95"
    frames = [each.frame() for each in tcp.segments(words)]
    tcp.write(tmp_path / "whole.pcap", frames)
    rules = Rules(as_tcpflow=as_tcpflow)
    whole = _outcome([tmp_path / "whole.pcap"], tmp_path / "out", rules=rules)
    for at in range(1, len(frames)):
        files = _cut(tmp_path / "whole.pcap", frames, [at], tmp_path / f"cut {at}")
        assert _outcome(files, tmp_path / f"out {at}", rules=rules) == whole


def test_fifty_cuts_tiny_buckets_and_any_number_of_workers_change_nothing(tmp_path: Path) -> None:
    frames = random_frames(3)[:600]
    tcp.write(tmp_path / "whole.pcap", frames)
    whole = _outcome([tmp_path / "whole.pcap"], tmp_path / "out")
    assert len(whole[0]) > 20  # type: ignore[arg-type]
    chance = random.Random(5)
    files = _cut(
        tmp_path / "whole.pcap", frames, sorted(chance.sample(range(1, len(frames)), 50)), tmp_path / "cut"
    )
    chance.shuffle(files)
    for workers in (1, 7):
        found = _outcome(files, tmp_path / f"out {workers}", workers=workers, sizes=TINY)
        assert found == whole
    pcap2arrow.convert(files, tmp_path / "dataset")
    assert _outcome([tmp_path / "dataset"], tmp_path / "of dataset", workers=2, sizes=TINY) == whole
    found = _outcome(
        [tmp_path / "dataset"], tmp_path / "by processes", scheduler="processes", workers=2, sizes=TINY
    )
    assert found == whole


@pytest.mark.parametrize(
    "workers", [2, pytest.param(1, marks=pytest.mark.long), pytest.param(7, marks=pytest.mark.long)]
)
def test_a_cluster_changes_nothing(workers: int, tmp_path: Path) -> None:
    """Of workers that are processes, in units of one capture, and with files that wait for their names."""
    frames = random_frames(3)[:600]
    tcp.write(tmp_path / "whole.pcap", frames)
    places = sorted(random.Random(6).sample(range(1, len(frames)), 9))
    files = _cut(tmp_path / "whole.pcap", frames, places, tmp_path / "cut")
    whole = _outcome(files, tmp_path / "out")
    named = _outcome(files, tmp_path / "named", template=Template("%N-%T"))
    how = {"threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(n_workers=workers, **how) as cluster:  # type: ignore[no-untyped-call]
        settings = {"scheduler": cluster.scheduler_address, "sizes": TINY}
        assert _outcome(files, tmp_path / "of cluster", **settings) == whole
        found = _outcome(files, tmp_path / "of cluster, named", template=Template("%N-%T"), **settings)
        assert found == named


def test_units_of_one_capture(tmp_path: Path) -> None:
    """A capture that several tasks read, from places in its midst."""
    frames = random_frames(4)[:900]
    tcp.write(tmp_path / "whole.pcap", frames)
    whole = _outcome([tmp_path / "whole.pcap"], tmp_path / "out")
    assert _outcome([tmp_path / "whole.pcap"], tmp_path / "tiny", workers=2, sizes=TINY) == whole


@pytest.mark.parametrize("template", ["%N/%A.%a", "%T", "%S-%B%b%v", "x"])
def test_names_that_wait_for_all_streams(template: str, tmp_path: Path) -> None:
    tcp.write(tmp_path / "whole.pcap", random_frames(2))
    chosen = Template(template)
    whole = _outcome([tmp_path / "whole.pcap"], tmp_path / "out", template=chosen)
    assert _outcome([tmp_path / "whole.pcap"], tmp_path / "tiny", template=chosen, sizes=TINY) == whole
    streams = pl.read_parquet(tmp_path / "out" / "tables" / "streams.parquet")
    assert sorted(streams["name"].drop_nulls()) == sorted(name[len("files/") :] for name in whole[0])  # type: ignore[attr-defined]


def test_octets_are_those_of_the_files(tmp_path: Path) -> None:
    tcp.write(tmp_path / "whole.pcap", random_frames(6))
    files = _outcome([tmp_path / "whole.pcap"], tmp_path / "out", sizes=TINY)[0]
    tables = tmp_path / "out" / "tables"
    names = dict(pl.read_parquet(tables / "streams.parquet").select("stream", "name").iter_rows())
    content = {name: bytearray() for name in names.values() if name}
    for stream, offset, octets in pl.read_parquet(tables / "octets.parquet").iter_rows():
        whole = content[names[stream]]
        whole.extend(bytes(offset - len(whole)) + octets)
    assert {f"files/{name}": bytes(octets) for name, octets in content.items()} == files


def test_what_is_found_in_streams_is_the_same(tmp_path: Path) -> None:
    """Transactions of HTTP, bodies, and results of a function: of one bucket in memory, of many, of other names."""
    turns = [
        (
            http_streams.request("GET", f"/{each}"),
            http_streams.response(b"%d" % each * 90 + b"\xff" * (each % 2), "Content-Type: text/html"),
        )
        for each in range(40)
    ]
    path = http_streams.write(tmp_path / "a.pcap", turns)

    def found(name: str, **settings: object) -> list[object]:
        tables, files = tmp_path / name / "tables", tmp_path / name / "files"
        report = write_streams(
            [path],
            rules=Rules(),
            folder=str(files),
            tables=str(tables),
            octets=True,
            with_http=True,
            function="codecs:decode",
            **settings,  # type: ignore[arg-type]
        )
        assert len(report.warnings) == 20
        content = {
            str(each.relative_to(files)): each.read_bytes() for each in files.rglob("*") if each.is_file()
        }
        read = [pl.read_parquet(tables / f"{table}.parquet") for table in (*TABLES, "octets", "http")]
        return [content, report, *(table.to_dict(as_series=False) for table in read)]

    whole = found("whole")
    assert sum("HTTPBODY" in name for name in whole[0]) == 40  # type: ignore[attr-defined]
    assert found("tiny", sizes=TINY, workers=2) == whole
    named = found("named", template=Template("%N-%T"))
    assert found("named, tiny", template=Template("%N-%T"), sizes=TINY) == named


def test_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    tcp.write(tmp_path / "whole.pcap", random_frames(1))
    with pytest.raises(FilterError):
        write_streams(
            [tmp_path / "whole.pcap"],
            rules=Rules(),
            folder=str(tmp_path / "out"),
            chosen=compile_filter("wlan type mgt"),
            sizes=TINY,
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole.pcap"]
    assert not list((tmp_path / "out").iterdir())


def test_steps_are_told_as_lines_of_json(tmp_path: Path) -> None:
    done = commands.run("streams", commands.SAMPLE, "--tables", tmp_path / "tables", "--octets", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["event"] for each in events] == ["step", "step", "summary"]
    assert events[-1]["streams"] == 4
    assert (tmp_path / "tables" / "octets.parquet").exists()
    assert (
        "--tables"
        in commands.run("streams", commands.SAMPLE, "-o", tmp_path / "f", "--octets", code=2).stderr
    )


_FRAME = tcp.Segment(0, b"A").frame()


def _many(sequence: np.ndarray, *, flags: np.ndarray | int = 16, source: np.ndarray | None = None) -> bytes:
    """Records of frames with one octet each, 10 µs apart."""
    count = len(sequence)
    record = np.zeros((count, 16 + len(_FRAME)), np.uint8)
    time = np.arange(count) * 10
    for column, values in ((0, _START + time // 10**6), (4, time % 10**6)):
        record[:, column : column + 4] = values.astype("<u4").view(np.uint8).reshape(count, 4)
    record[:, 8:12] = record[:, 12:16] = np.frombuffer(len(_FRAME).to_bytes(4, "little"), np.uint8)
    record[:, 16:] = np.frombuffer(_FRAME, np.uint8)
    record[:, 54:58] = (sequence % (1 << 32)).astype(">u4").view(np.uint8).reshape(count, 4)
    record[:, 63] = flags
    if source is not None:
        record[:, 42:46] = source.astype(">u4").view(np.uint8).reshape(count, 4)
    return record.tobytes()


def _hostile(kind: str, count: int) -> bytes:
    chance = np.random.default_rng(7)
    each = np.arange(count)
    match kind:
        case "one octet each, shuffled":
            return _many(chance.permutation(count))
        case "one octet each, backwards":
            return _many(count - each)
        case "every third octet, backwards, as tcpflow":
            return _many(3 * (count - each))
        case "terabytes of holes":
            return _many(each * 16_000_000)
        case "half-open":
            return _many(each, flags=2, source=each + (10 << 24))
        case "SYN after SYN":
            return _many(chance.integers(0, 1 << 32, count), flags=2)
        case "every second octet, after FIN":
            first = _many(np.array([0, 2 * count]), flags=np.array([16, 1]))
            return first + _many(2 * chance.permutation(count) + 2)
    raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "one octet each, shuffled",
        "one octet each, backwards",
        "every third octet, backwards, as tcpflow",
        "terabytes of holes",
        "half-open",
        "SYN after SYN",
        "every second octet, after FIN",
    ],
)
@pytest.mark.parametrize(
    "count",
    [pytest.param(20_000, id="some"), pytest.param(1_000_000, id="a million", marks=pytest.mark.long)],
)
def test_hostile_streams_stay_within_bounds(kind: str, count: int, tmp_path: Path) -> None:
    """Processor time, memory and disk, each limited by the system."""
    path = tmp_path / "hostile.pcap"
    tcp.write(path, [])
    path.write_bytes(path.read_bytes() + _hostile(kind, count))
    words = commands.command("streams", path, "--tables", tmp_path / "tables", "-o", tmp_path / "files")
    words += ["--compat", "tcpflow"] if kind.endswith("tcpflow") else []

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (60 + count // 5_000,) * 2)

    done = subprocess.run(words, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 0, done.stderr
    if kind == "terabytes of holes":
        assert f"{(count - 1) * 15_999_999} missing" in done.stdout
    written = sum(each.stat().st_blocks * 512 for each in tmp_path.rglob("*") if each.is_file())
    blocks = (
        0 if kind.startswith(("one", "every third")) else 8192 * count
    )  # of files with holes, or an octet each
    assert written < path.stat().st_size * 5 + blocks
