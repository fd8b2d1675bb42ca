"""Small files into large ones: nothing is lost, changed or half-done, whoever reads, writes, removes or is killed."""

from __future__ import annotations

import dataclasses
import random
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from polars.testing import assert_frame_equal

import pcap2arrow
from jobs.cli.group import commands
from jobs.convert import convert
from jobs.count import count_selected
from pcap2arrow.compaction import api
from pcap2arrow.conversion.options import Frames, Options
from pcap2arrow.dataset import DataFile, Snapshot, open_dataset
from pcap2arrow.dataset.checkpoint import decode_checkpoint, encode_checkpoint
from pcap2arrow.dataset.entry import Entry, decode_entry, encode_entry
from pcap2arrow.dataset.snapshot import Change, Stretch, whole_files
from pcap2arrow.errors import DatasetError
from pcap2arrow.inputs import find_captures
from pcap2arrow.reading.files import greatest, nulls, read_batches, read_file, read_frame
from queries.filters.compiled import compile_filter
from tests.blocks import pcap_header, pcap_record
from tests.commands import SAMPLE, json_lines, run, start, write_capture
from tests.datasets import capture

SMALL = Options(block=1 << 15)
"""Units so small that captures of some kilobytes have several."""

DAY = 86_400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captures: of several units, of several days that alternate, in both byte orders, damaged, empty, with a twin."""
    folder = tmp_path_factory.mktemp("captures")
    for number in range(4):
        write_capture(folder / f"small-{number}.pcap", seed=number, octets=9_000 + 20_000 * number)
    for name, order in (("days.pcap", "<"), ("days-big.pcap", ">")):
        records = [
            pcap_record(order, bytes(160 + n), seconds=1_700_000_000 + n % 3 * DAY + n, fraction=7 * n)
            for n in range(120)
        ]
        header = pcap_header(order, link_word=0 if order == ">" else 1)
        (folder / name).write_bytes(header + b"".join(records))
    (folder / "empty.pcap").write_bytes(pcap_header("<"))
    shutil.copy(SAMPLE, folder)
    shutil.copy(SAMPLE, folder / "twin.pcapng")
    (folder / "damaged.pcapng").write_bytes(SAMPLE.read_bytes()[:-100])
    return folder


@pytest.fixture(scope="module")
def converted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _convert(folder, tmp_path_factory.mktemp("converted") / "dataset")


@pytest.fixture
def dataset(converted: Path, tmp_path: Path) -> Path:
    """A dataset of its own for a test."""
    shutil.copytree(converted, tmp_path / "dataset")
    return tmp_path / "dataset"


def _convert(folder: Path, dataset: Path, *, frames: Frames = "stored") -> Path:
    options = Options(frames, block=SMALL.block)
    assert not convert(find_captures([folder]), dataset, options, workers=1).failed
    return dataset


def _packets(dataset: Path) -> pl.DataFrame:
    return pcap2arrow.scan(dataset).sort("capture_id", "frame_number").collect()


def _files(dataset: Path) -> dict[str, int]:
    """Number of live files of each table."""
    return {
        table: len(pcap2arrow.files(dataset, table=table))  # type: ignore[arg-type]
        for table in ("packets", "captures", "blocks")
    }


def assert_holds(dataset: Path, folder: Path, names: set[str], where: Path) -> None:
    """The dataset gives exactly these captures back, all rows of its files are live, and every file is there."""
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir()
    pcap2arrow.export([dataset], where, format="original")
    written = {path.name: path.read_bytes() for path in where.iterdir()}
    assert written == {name: (folder / name).read_bytes() for name in names}
    snapshot = open_dataset(dataset).snapshot()
    for table in ("packets", "captures", "blocks"):
        rows = sum(pq.read_metadata(path).num_rows for path in pcap2arrow.files(dataset, table=table))  # type: ignore[arg-type]
        assert rows == sum(file.rows for file in snapshot.files(table))  # type: ignore[arg-type]


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_compacted_it_holds_the_same_in_fewer_files(folder: Path, dataset: Path, tmp_path: Path) -> None:
    before, info, packets = _files(dataset), pcap2arrow.info(dataset), _packets(dataset)
    version = open_dataset(dataset).snapshot().version
    pcap2arrow.export([dataset], tmp_path / "before.pcapng")
    report = pcap2arrow.compact(dataset)
    after = _files(dataset)
    assert (report.before, report.left) == (sum(before.values()), 0)
    days = len({path.rsplit("/", 2)[1] for path in pcap2arrow.files(dataset)})
    assert days > 3 and after == {"packets": days, "captures": 1, "blocks": 1}
    assert len(report.files) == report.after == days + 2
    assert open_dataset(dataset).snapshot().version == version + 1
    assert_holds(dataset, folder, _names(folder), tmp_path / "original")
    assert all(each.ok for each in pcap2arrow.verify(dataset))
    assert pcap2arrow.info(dataset) == info
    assert_frame_equal(_packets(dataset), packets)
    pcap2arrow.export([dataset], tmp_path / "after.pcapng")
    assert (tmp_path / "after.pcapng").read_bytes() == (tmp_path / "before.pcapng").read_bytes()
    again = pcap2arrow.compact(dataset)
    assert (again.before, again.files) == (0, ())


@pytest.fixture(scope="module")
def compacted(converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    dataset = tmp_path_factory.mktemp("compacted") / "dataset"
    shutil.copytree(converted, dataset)
    pcap2arrow.compact(dataset)
    return dataset


def _answer(dataset: Path, words: Sequence[str]) -> tuple[str, bytes]:
    """What the command says and writes, run in this process."""
    done = CliRunner().invoke(commands, [words[0], str(dataset), *words[1:]], catch_exceptions=False)
    output = Path(words[-1])
    return done.output, output.read_bytes() if words[-2:-1] == ("-w",) else b""


@pytest.mark.parametrize(
    "words",
    [
        ("count",),
        ("count", "-f", "udp and ip[8] = 64"),
        ("count", "-f", "greater 300"),
        ("count", "--start", "+1d", "--end", "+2d"),
        ("count", "--start", "+2s", "--end", "+60s", "-f", "udp or less 190"),
        ("flows", "--json"),
        ("export", "-f", "udp", "-w"),
        ("export", "--start", "+1d", "--end", "+1d20s", "-w"),
        ("export", "--connections", "-f", "udp", "-w"),
    ],
)
def test_answers_are_the_same(
    words: tuple[str, ...], converted: Path, compacted: Path, tmp_path: Path
) -> None:
    if words[-1] == "-w":
        words = (*words, str(tmp_path / "out.pcapng"))
    assert _answer(compacted, words) == _answer(converted, words)


def test_stretches_are_read_as_files_were(converted: Path, compacted: Path) -> None:
    """By every function that reads files, and what statistics told of files."""
    before, after = open_dataset(converted), open_dataset(compacted)
    for live in before.snapshot().ordered()[::3]:
        files = zip(live.files, after.snapshot().captures[live.name].files, strict=True)
        for old, new in files:
            assert new.stretch and new.ranges == old.ranges and new.rows == old.rows
            table = read_file(before, old)
            assert read_file(after, new).equals(table)
            batches = list(read_batches(after, new, columns=None, rows=7))
            assert max(map(len, batches)) <= 7
            if old.table == "packets":
                frame = read_frame(after, new, columns=["frame_number", "rest"])
                assert_frame_equal(frame, read_frame(before, old, columns=["frame_number", "rest"]))
                for column in ("caplen", "order_time"):
                    assert greatest(after, new, "caplen") == greatest(before, old, "caplen")
                    assert nulls(after, new, column) == nulls(before, old, column)
    both = [dataset.snapshot().files("packets") for dataset in (before, after)]
    assert sum(file.rows for file in both[0]) == sum(file.rows for file in whole_files(both[1]))
    assert all(file.stretch is None for file in whole_files(both[1]))
    assert whole_files(both[1][:-1])[-1].stretch is not None


def test_the_same_dataset_becomes_the_same_files(dataset: Path, compacted: Path) -> None:
    pcap2arrow.compact(dataset, workers=3)
    for path in pcap2arrow.files(compacted):
        assert (dataset / Path(path).relative_to(compacted)).read_bytes() == Path(path).read_bytes()


def test_filters_see_the_byte_order_of_each_capture(converted: Path, compacted: Path) -> None:
    filters = [compile_filter(text) for text in ("ip", "not ip", "len < 100", "udp port 53 or tcp")]
    expected, found = (count_selected([each], filters).tally for each in (converted, compacted))
    assert (found.packets, found.seen) == (expected.packets, expected.seen)


def test_what_shares_files_is_removed_replaced_and_named(folder: Path, dataset: Path, tmp_path: Path) -> None:
    """Where captures leave a shared file, no row of theirs stays in what the log names."""
    pcap2arrow.compact(dataset)
    names = _names(folder)
    pcap2arrow.remove(dataset, ["small-3.pcap", "days.pcap", "twin.pcapng"])
    names -= {"small-3.pcap", "days.pcap", "twin.pcapng"}
    assert_holds(dataset, folder, names, tmp_path / "out")
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(folder / "days.pcap", other / "small-1.pcap")
    shutil.copy(folder / "small-2.pcap", other / "second-name.pcap")
    replaced = convert(find_captures([other]), dataset, SMALL, replace=True)
    assert {each.name: each.status for each in replaced.captures} == {
        "small-1.pcap": "converted",
        "second-name.pcap": "named",
    }
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    shutil.copytree(other, mixed, dirs_exist_ok=True)
    names |= {"second-name.pcap"}
    assert_holds(dataset, mixed, names, tmp_path / "out")
    pcap2arrow.compact(dataset)
    assert_holds(dataset, mixed, names, tmp_path / "out")
    pcap2arrow.vacuum(dataset, older_than=timedelta(0))
    assert_holds(dataset, mixed, names, tmp_path / "out")
    assert all(each.ok for each in pcap2arrow.verify(dataset))
    pcap2arrow.remove(dataset, names)
    assert _files(dataset) == {"packets": 0, "captures": 0, "blocks": 0}


def test_new_captures_join_old_ones(folder: Path, dataset: Path, tmp_path: Path) -> None:
    pcap2arrow.compact(dataset)
    later = tmp_path / "later"
    later.mkdir()
    write_capture(later / "later.pcap", seed=99, octets=20_000)
    convert(find_captures([later]), dataset, SMALL)
    assert pcap2arrow.compact(dataset, target=1 << 30).after == 3
    shutil.copytree(folder, later, dirs_exist_ok=True)
    assert_holds(dataset, later, _names(later), tmp_path / "out")


@pytest.mark.parametrize("frames", ["referenced", "none"])
def test_without_octets(frames: Frames, folder: Path, tmp_path: Path) -> None:
    """Captures that were converted in two ways share no file."""
    dataset = _convert(folder, tmp_path / "dataset", frames=frames)
    write_capture(tmp_path / "a.pcap", seed=50, octets=9_000)
    write_capture(tmp_path / "b.pcap", seed=51, octets=9_000)
    convert(find_captures([tmp_path / "a.pcap", tmp_path / "b.pcap"]), dataset, SMALL)
    packets = _packets(dataset)
    pcap2arrow.compact(dataset)
    assert_frame_equal(_packets(dataset), packets)
    assert _files(dataset)["captures"] == 2
    stored = [pq.read_schema(path).names.count("rest") for path in pcap2arrow.files(dataset)]
    assert sorted(stored)[-2:] == [0, 1]
    if frames == "referenced":
        assert all(each.ok for each in pcap2arrow.verify(dataset))


def test_a_target_bounds_files(dataset: Path) -> None:
    sizes = [Path(path).stat().st_size for path in pcap2arrow.files(dataset)]
    target = 5 * max(sizes)
    pcap2arrow.compact(dataset, target=target)
    assert all(Path(path).stat().st_size < target for path in pcap2arrow.files(dataset))
    assert 3 < len(pcap2arrow.files(dataset)) < len(sizes)


def test_what_happens_meanwhile_counts(
    folder: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A capture that is removed while files are written is in none of them, one that comes stays, names too."""
    write, done = api.write_join, threading.Event()
    second = tmp_path / "second"
    second.mkdir()
    shutil.copy(folder / "days.pcap", second / "again.pcap")

    def write_and_meddle(*arguments: object) -> object:
        result = write(*arguments)  # type: ignore[arg-type]
        if not done.is_set():
            done.set()
            pcap2arrow.remove(dataset, ["small-0.pcap"])
            convert(find_captures([second]), dataset, SMALL)
        return result

    monkeypatch.setattr(api, "write_join", write_and_meddle)
    report = pcap2arrow.compact(dataset, workers=1)
    assert report.left == 3 and report.after > 0
    shutil.copytree(folder, second, dirs_exist_ok=True)
    names = _names(second) - {"small-0.pcap"}
    assert_holds(dataset, second, names, tmp_path / "out")
    monkeypatch.undo()
    assert pcap2arrow.compact(dataset).left == 0
    assert_holds(dataset, second, names, tmp_path / "out")


def test_readers_are_not_disturbed(dataset: Path) -> None:
    """Each look sees the state before or after; a snapshot from before is read until a vacuum much later."""
    expected = _packets(dataset).select("capture_id", "frame_number", "caplen")
    old, seen, stop = open_dataset(dataset).snapshot(), set[int](), threading.Event()

    def read() -> Iterator[None]:
        while not stop.is_set():
            columns = pcap2arrow.scan(dataset).select("capture_id", "frame_number", "caplen")
            assert_frame_equal(columns.sort("capture_id", "frame_number").collect(), expected)
            seen.add(open_dataset(dataset).snapshot().version)
            yield

    failures: list[BaseException] = []

    def reader() -> None:
        try:
            list(read())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=reader)
    thread.start()
    try:
        while not seen:
            time.sleep(0.01)
        pcap2arrow.compact(dataset)
        pcap2arrow.vacuum(dataset)
        time.sleep(0.3)
    finally:
        stop.set()
        thread.join()
    assert not failures and seen == {old.version, old.version + 1}
    opened = open_dataset(dataset)
    assert sum(len(read_file(opened, file, columns=["caplen"])) for file in old.files("packets")) == len(
        expected
    )


def _kill_at_moments(converted: Path, folder: Path, tmp_path: Path, kills: int) -> None:
    begin = time.perf_counter()
    shutil.copytree(converted, tmp_path / "timed")
    run("compact", tmp_path / "timed")
    length = time.perf_counter() - begin
    versions = set()
    for number in range(kills):
        dataset = tmp_path / f"killed-{number}"
        shutil.copytree(converted, dataset)
        process = start("compact", dataset, "--workers", "2")
        time.sleep(random.Random(number).uniform(0.4, 1.1) * length)
        process.kill()
        process.communicate()
        versions.add(open_dataset(dataset).snapshot().version)
        assert_holds(dataset, folder, _names(folder), tmp_path / "out")
        pcap2arrow.compact(dataset)
        pcap2arrow.vacuum(dataset, older_than=timedelta(0))
        assert_holds(dataset, folder, _names(folder), tmp_path / "out")
        left = [path for path in dataset.rglob("*.*") if path.suffix in (".parquet", ".tmp")]
        assert len(left) == sum(_files(dataset).values())
    assert len(versions) <= 2


def test_killed_it_leaves_what_was_there(converted: Path, folder: Path, tmp_path: Path) -> None:
    _kill_at_moments(converted, folder, tmp_path, 2)


@pytest.mark.long
def test_killed_at_fifty_moments(converted: Path, folder: Path, tmp_path: Path) -> None:
    _kill_at_moments(converted, folder, tmp_path, 50)


def test_the_command_tells_what_it_does(dataset: Path, folder: Path, tmp_path: Path) -> None:
    files = sum(_files(dataset).values())
    said = run("compact", dataset, "--dry-run").stdout
    assert said.startswith(f"{files} files would become ") and sum(_files(dataset).values()) == files
    *steps, summary = json_lines(run("compact", dataset, "--json").stdout)
    assert [step["event"] for step in steps] == ["step"] * len(steps) and steps[-1]["done"] == steps[-1][
        "total"
    ]
    assert (summary["before"], summary["after"], summary["dry_run"]) == (files, len(summary["files"]), False)
    assert run("compact", dataset).stdout == "0 files became 0: 0 B before, 0 B now\n"
    assert "pcap2arrow compact dataset" in run("compact", "--help").stdout
    assert "no dataset" in run("compact", tmp_path / "absent", code=2).stderr
    assert run("compact", dataset, "--target", "many", code=2).stderr


def test_a_damaged_file_is_an_error_and_changes_nothing(dataset: Path) -> None:
    path = Path(pcap2arrow.files(dataset)[0])
    path.write_bytes(path.read_bytes()[:-3])
    before = open_dataset(dataset).snapshot()
    with pytest.raises(DatasetError, match=path.name):
        pcap2arrow.compact(dataset)
    assert open_dataset(dataset).snapshot() == before


def test_a_stretch_is_kept_by_the_log() -> None:
    whole = capture("a", 1)
    shared = tuple(
        DataFile(file.path, file.table, file.rows, file.size, file.ranges, Stretch(number, 90 + number, 3))
        for number, file in enumerate(whole.files)
    )
    held = dataclasses.replace(whole, files=shared)
    entry = Entry("id", 1, Change(add=(held,)))
    assert decode_entry(encode_entry(entry), path="p") == entry
    assert b'"format":2' in encode_entry(entry)
    assert b'"format":1' in encode_entry(Entry("id", 1, Change((whole,))))
    snapshot = Snapshot.of(4, [held, capture("b", 2)])
    assert decode_checkpoint(encode_checkpoint(snapshot), version=4, path="p") == snapshot
    for stretch in (Stretch(-1, 9, 0), Stretch(9, 9, 0), Stretch(0, 9, -1)):
        with pytest.raises(DatasetError, match="can't be"):
            dataclasses.replace(shared[0], stretch=stretch)
