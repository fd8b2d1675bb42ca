"""Commits, versions and the rules for captures; what a log may and may not hold."""

from __future__ import annotations

import dataclasses
import json
import logging
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import pcap2arrow
from pcap2arrow.dataset import (
    Change,
    DataFile,
    Dataset,
    LiveCapture,
    Snapshot,
    Source,
    create_dataset,
    open_dataset,
    plan_change,
    remove,
)
from pcap2arrow.dataset.checkpoint import decode_checkpoint, encode_checkpoint
from pcap2arrow.dataset.entry import Entry, decode_entry, encode_entry
from pcap2arrow.dataset.log import checkpoint_path, entry_path
from pcap2arrow.errors import ConflictError, DatasetError
from tests.datasets import DAY, OPTIONS, capture, convert, damaged, put

OTHER_OPTIONS = OPTIONS.replace("stored", "none")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return create_dataset(tmp_path / "dataset", settings={"schema": "1"})


def names(snapshot: Snapshot) -> list[str]:
    return [live.name for live in snapshot.ordered()]


# Making and opening


def test_an_empty_dataset_has_version_0(dataset: Dataset) -> None:
    assert dataset.snapshot() == Snapshot.of(0)
    assert open_dataset(dataset.url).settings == {"schema": "1"}


def test_a_dataset_is_made_once(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="there is a dataset already"):
        create_dataset(dataset.url, settings={"schema": "2"})
    assert create_dataset(dataset.url, settings={"schema": "2"}, exist_ok=True).settings == {"schema": "1"}


def test_there_has_to_be_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"{tmp_path}: no dataset here"):
        open_dataset(tmp_path)


def test_other_peoples_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "packets").mkdir()
    (tmp_path / "packets" / "mine.pcap").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"not empty \(packets/mine\.pcap\)"):
        create_dataset(tmp_path, settings={})
    assert [path.name for path in tmp_path.iterdir()] == ["packets"]


# Commits and versions


def test_a_commit_is_seen_by_everybody(dataset: Dataset) -> None:
    other = open_dataset(dataset.url)
    assert other.snapshot().version == 0
    after = convert(dataset, capture("a", 1), capture("b", 2))
    assert after.version == 1
    assert other.snapshot() == open_dataset(dataset.url).snapshot() == after
    assert after.captures == {"a": capture("a", 1), "b": capture("b", 2)}


def test_a_reader_keeps_its_version(dataset: Dataset) -> None:
    first = convert(dataset, capture("a", 1))
    second = convert(dataset, capture("b", 2))
    remove(dataset, ["a"])
    assert names(first) == ["a"]
    for reader in (dataset, open_dataset(dataset.url)):
        assert [reader.snapshot(1), reader.snapshot(2)] == [first, second]
        assert names(reader.snapshot(3)) == names(reader.snapshot()) == ["b"]
        for version in (-1, 4):
            with pytest.raises(DatasetError, match=f"there is no version {version}"):
                reader.snapshot(version)


def test_an_empty_change_writes_nothing(dataset: Dataset) -> None:
    convert(dataset, capture("a", 1))
    again = dataset.commit(lambda snapshot: plan_change(snapshot, [capture("a", 1)]))
    assert again.version == 1
    assert dataset.store.read(entry_path(2)) is None


def test_a_lost_race_is_run_again_on_what_won(dataset: Dataset) -> None:
    rival = open_dataset(dataset.url)
    put(dataset, capture("a", 1))
    seen = []

    def build(snapshot: Snapshot) -> Change:
        seen.append(snapshot.version)
        if len(seen) < 4:
            convert(rival, capture(f"rival {len(seen)}", 10 + len(seen)))
        return plan_change(snapshot, [capture("a", 1)])

    assert dataset.commit(build).version == 4
    assert seen == [0, 1, 2, 3]
    assert sorted(open_dataset(dataset.url).snapshot().captures) == ["a", "rival 1", "rival 2", "rival 3"]


def test_files_have_to_be_there_whole(dataset: Dataset) -> None:
    wanted = capture("a", 1)
    put(dataset, wanted)
    lost = wanted.files[1].path
    (Path(dataset.url) / lost).unlink()
    with pytest.raises(DatasetError, match=f"{lost}: is missing: it can't be committed"):
        dataset.commit(lambda snapshot: plan_change(snapshot, [wanted]))
    dataset.store.write(lost, b"torn")
    with pytest.raises(DatasetError, match=f"{lost}: has 4 octets, not {wanted.files[1].size}"):
        dataset.commit(lambda snapshot: plan_change(snapshot, [wanted]))
    assert dataset.snapshot().version == 0


# Rules


def test_a_second_name_shares_packets_and_blocks(dataset: Dataset) -> None:
    convert(dataset, capture("a", 1))
    alone = dataclasses.replace(capture("b", 1), packets=0, files=capture("b", 1).files[-1:])
    put(dataset, alone)
    after = dataset.commit(lambda snapshot: plan_change(snapshot, [alone]))
    assert after.captures == {"a": capture("a", 1), "b": capture("b", 1)}
    assert [len(after.files(table)) for table in ("packets", "captures", "blocks")] == [2, 2, 1]
    assert [live.name for live in after.of_content(capture("c", 1))] == ["a", "b"]
    remove(dataset, ["a"])
    assert dataset.snapshot().captures == {"b": capture("b", 1)}
    assert damaged(dataset, dataset.snapshot()) == []


def test_two_names_may_come_at_once(dataset: Dataset) -> None:
    after = convert(dataset, capture("a", 1), capture("b", 1), capture("a", 1))
    assert sorted(after.captures) == ["a", "b"]
    assert len(after.files("packets")) == 2


def test_a_name_holds_one_content(dataset: Dataset) -> None:
    convert(dataset, capture("a", 1), capture("b", 1))
    with pytest.raises(ConflictError, match=r"the dataset holds another capture 'a'.*replace it"):
        convert(dataset, capture("a", 2))
    after = convert(dataset, capture("a", 2), replace=True)
    assert after.version == 2
    assert after.captures == {"a": capture("a", 2), "b": capture("b", 1)}


def test_a_content_is_converted_one_way(dataset: Dataset) -> None:
    convert(dataset, capture("a", 1), capture("b", 1), capture("c", 2))
    for name in ("a", "new"):
        with pytest.raises(ConflictError, match=rf"'{name}' is in the dataset.*frames=stored.*frames=none"):
            convert(dataset, capture(name, 1, options=OTHER_OPTIONS))
    after = convert(dataset, capture("a", 1, options=OTHER_OPTIONS), replace=True)
    assert after.version == 2
    assert {live.options for live in after.of_content(capture("a", 1))} == {OTHER_OPTIONS}
    assert len(after.files("packets")) == 4
    assert after.captures["a"] == capture("a", 1, options=OTHER_OPTIONS)
    assert after.captures["b"].files[:3] == capture("b", 1, options=OTHER_OPTIONS).files[:3]
    assert after.captures["b"].files[3:] == capture("b", 1).files[3:]
    assert damaged(dataset, after) == []


def test_a_capture_id_has_one_content(dataset: Dataset) -> None:
    collision = dataclasses.replace(capture("b", 2), capture_id=capture("a", 1).capture_id)
    convert(dataset, capture("a", 1))
    for replace in (False, True):
        with pytest.raises(ConflictError, match="'a' and 'b' differ, but have the same capture id"):
            convert(dataset, collision, replace=replace)
    in_its_place = dataclasses.replace(collision, name="a")
    assert convert(dataset, in_its_place, replace=True).captures == {"a": in_its_place}


@pytest.mark.parametrize(
    "captures",
    [
        (capture("a", 1), capture("a", 2)),
        (capture("a", 1), capture("a", 1, options=OTHER_OPTIONS)),
        (capture("a", 1), capture("b", 1, options=OTHER_OPTIONS)),
        (capture("a", 1), dataclasses.replace(capture("b", 2), capture_id=capture("a", 1).capture_id)),
        (dataclasses.replace(capture("a", 1), packets=7),),
    ],
    ids=["two contents", "two conversions", "two conversions, two names", "collision", "packets lost"],
)
def test_captures_that_contradict_each_other_are_refused(captures: tuple[LiveCapture, ...]) -> None:
    for replace in (False, True):
        with pytest.raises(ConflictError):
            plan_change(Snapshot.of(0), captures, replace=replace)


def test_a_change_has_to_fit(dataset: Dataset) -> None:
    convert(dataset, capture("a", 1))
    with pytest.raises(ConflictError, match="'b' is not in the dataset"):
        dataset.commit(lambda snapshot: Change(remove=("b",)))
    with pytest.raises(ConflictError, match="'a' is already in the dataset"):
        dataset.commit(lambda snapshot: Change(add=(capture("a", 1),)))
    assert dataset.snapshot().version == 1


def test_captures_are_ordered_by_first_time_then_name() -> None:
    early = [dataclasses.replace(capture(name, n), first_time=t) for n, (name, t) in enumerate(
        [("z", None), ("y", -5), ("b", 0), ("c", 0), ("a", 3)]
    )]  # fmt: skip
    for seed in range(5):
        shuffled = random.Random(seed).sample(early, len(early))
        assert names(Snapshot.of(0, shuffled)) == ["z", "y", "b", "c", "a"]
        assert Snapshot.of(0, shuffled).files("blocks") == tuple(live.files[2] for live in early)


def test_removal_by_name_and_time(dataset: Dataset) -> None:
    timeless = capture("timeless", 9)
    bare = tuple(dataclasses.replace(file, ranges={}) for file in timeless.files)
    convert(dataset, *(capture(str(day), day) for day in range(4)), dataclasses.replace(timeless, files=bare))
    assert remove(dataset, before=2 * DAY + 7) == ("0",)
    assert remove(dataset, before=2 * DAY + 8) == ("1",)
    assert remove(dataset, before=2 * DAY + 8) == ()
    with pytest.raises(ConflictError, match="not in the dataset: 'x', 'y'"):
        remove(dataset, ["3", "x", "y"])
    assert remove(dataset, ["timeless"], before=3 * DAY + 8) == ("timeless", "2")
    assert sorted(dataset.snapshot().captures) == ["3"]


def test_a_dataset_is_handled_by_its_path(dataset: Dataset) -> None:
    after = convert(dataset, capture("a", 1), capture("b", 2))
    assert pcap2arrow.files(dataset.url) == [dataset.path_of(file.path) for file in after.files("packets")]
    assert pcap2arrow.remove(dataset.url, ["a"], before=9 * DAY) == ("a", "b")
    assert pcap2arrow.files(dataset.url) == []
    assert len(pcap2arrow.files(dataset.url, table="blocks", version=1)) == 2
    assert pcap2arrow.vacuum(dataset.url).deleted == ()
    assert pcap2arrow.vacuum(dataset.url, older_than=timedelta(0)).deleted == tuple(sorted(after.paths()))


# What is on disk

ODD = LiveCapture(
    name="caf\udce9/\u2028 \x00\n'\";--.pcap",
    capture_id=2**64 - 1,
    identity="0" * 64,
    options="",
    packets=0,
    first_time=-(2**63),
    source=Source("/\ud800", size=2**63 - 1, mtime_ns=-1, inode=2**64 - 1, etag='W/"é"'),
    files=(),
)
RANGES: dict[str, tuple[int, int]] = {
    "ipv6_src_hi": (0, 2**64 - 1),
    "time": (-(2**63), 2**63 - 1),
    "x": (-1, 2**63),
}


def odd_captures() -> list[LiveCapture]:
    files = tuple(dataclasses.replace(file, ranges=RANGES) for file in capture("c", 3).files)
    return [ODD, capture("a", 1), dataclasses.replace(capture("c", 3), files=files, source=Source("-"))]


def test_an_entry_is_read_as_it_was_written() -> None:
    entry = Entry("ab", 7, Change(tuple(odd_captures()), ("x", "\udcff")), {"schema": "1"})
    data = encode_entry(entry)
    assert decode_entry(data, path="x") == entry
    assert data.isascii() and data.count(b"\n") == 1


@pytest.mark.parametrize("captures", [[], [ODD], odd_captures()], ids=["none", "odd", "many"])
def test_a_checkpoint_is_read_as_it_was_written(captures: list[LiveCapture]) -> None:
    snapshot = Snapshot.of(300, captures)
    back = decode_checkpoint(encode_checkpoint(snapshot), version=300, path="x")
    assert back == snapshot
    assert back.names == snapshot.names


def test_other_tools_read_a_checkpoint() -> None:
    duckdb = pytest.importorskip("duckdb")
    pytest.importorskip("pyarrow")
    import io

    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(encode_checkpoint(Snapshot.of(1, [capture("a", 1), capture("b", 2)]))))
    query = 'select sum(rows), max("greatest.time") from "table" where "table" = \'packets\''
    assert duckdb.from_arrow(table).query("table", query).fetchall() == [(12, 3 * DAY + 7)]


def test_a_checkpoint_is_written_every_hundred_versions(dataset: Dataset) -> None:
    writers = [dataset, open_dataset(dataset.url)]
    for number in range(205):
        convert(writers[number % 2], capture(f"{number % 7}", 1 + number), replace=True)
    stored = [stored.path for stored in dataset.store.list("_manifest/checkpoints")]
    assert sorted(stored) == [checkpoint_path(100), checkpoint_path(200)]
    entries_only = Snapshot.of(-1).after(*dataset.changes(0))
    assert open_dataset(dataset.url).snapshot() == entries_only
    assert open_dataset(dataset.url).snapshot(150) == Snapshot.of(-1).after(*dataset.changes(0)[:151])


def test_a_damaged_checkpoint_is_passed_over(dataset: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    dataset.checkpoint_every = 2
    for number in range(5):
        convert(dataset, capture(f"{number}", number))
    before = dataset.snapshot()
    whole = dataset.store.read(checkpoint_path(4))
    assert whole is not None
    for data in (b"", b"PAR1", whole[:-9], whole[:100] + whole[108:], encode_checkpoint(Snapshot.of(4))[:-1]):
        dataset.store.write(checkpoint_path(4), data)
        with caplog.at_level(logging.WARNING):
            assert open_dataset(dataset.url).snapshot() == before
        assert checkpoint_path(4) in caplog.messages[-1]


def test_a_lost_entry_is_noticed(dataset: Dataset) -> None:
    for number in range(6):
        convert(dataset, capture(f"{number}", number))
    (Path(dataset.url) / entry_path(3)).unlink()
    with pytest.raises(DatasetError, match=rf"{entry_path(3)} is missing"):
        open_dataset(dataset.url).snapshot()


def test_a_newer_log_is_refused(dataset: Dataset) -> None:
    convert(dataset, capture("a", 1))
    future = json.dumps({"format": 3, "what": "ever"}).encode()
    dataset.store.write(entry_path(2), future)
    with pytest.raises(
        DatasetError, match=r"00002\.json: written by a newer release \(log format 3;.*upgrade"
    ):
        dataset.snapshot()
    dataset.store.write(entry_path(0), future)
    with pytest.raises(DatasetError, match="newer release"):
        open_dataset(dataset.url)


PATHS_OUTSIDE = """
/etc/passwd.parquet
../packets/x.parquet
packets/../../x.parquet
packets/./x.parquet
packets//x.parquet
packets/.x.parquet
packets/.hidden/x.parquet
packets/-x.parquet
packets/x.pcap
packets/x.parquet/
packets/a b.parquet
packets/a%2e%2e.parquet
packets/a\\b.parquet
packets/C:x.parquet
packets/é.parquet
packets
packets.parquet
_manifest/00000000000000000000.parquet
captures2/x.parquet
other/x.parquet
s3://bucket/packets/x.parquet
packets/x.parquet?versionId=1
"""


@pytest.mark.parametrize("path", [*PATHS_OUTSIDE.split("\n"), "packets/x\n.parquet", "packets/x.parquet\n",
                                  "packets/\x00.parquet", f"packets/{'x' * 2000}.parquet"])  # fmt: skip
def test_a_path_stays_in_the_dataset(dataset: Dataset, path: str) -> None:
    for action in (dataset.open_output, dataset.open_input, dataset.path_of):
        with pytest.raises(DatasetError, match="is no path of a data file"):
            action(path)  # type: ignore[operator]
    with pytest.raises(DatasetError, match="is no path of a data file"):
        DataFile(path, "packets", 1, 1)
    record = json.loads(encode_entry(Entry("x", 1, Change(add=(capture("a", 1),)))))
    record["add"][0]["files"][0]["path"] = path
    dataset.store.write(entry_path(1), json.dumps(record).encode())
    with pytest.raises(DatasetError, match=r"00001\.json: damaged: .* is no path of a data file"):
        open_dataset(dataset.url).snapshot()


def test_a_file_lies_in_its_tables_folder() -> None:
    with pytest.raises(DatasetError, match="outside the folder of the table 'packets'"):
        DataFile("captures/x.parquet", "packets", 1, 1)


def _record() -> dict[str, Any]:
    record: dict[str, Any] = json.loads(encode_entry(Entry("x", 1, Change(add=(capture("a", 1),)))))
    return record


DAMAGE = """
version                     2
version                     "1"
version                     true
id                          7
add                         {}
add                         [7]
add                         null
remove                      [7]
remove                      ["absent"]
settings                    {"a": 1}
add.0.name                  null
add.0.capture_id            18446744073709551616
add.0.capture_id            -1
add.0.capture_id            1.0
add.0.packets               5
add.0.packets               9223372036854775808
add.0.first_time            9223372036854775808
add.0.identity              "\\ud800"
add.0.source                []
add.0.source.size           "1"
add.0.source.inode          -1
add.0.files                 {}
add.0.files.0.table         "flows"
add.0.files.0.table         "captures"
add.0.files.0.rows          -1
add.0.files.0.size          1e400
add.0.files.0.ranges        []
add.0.files.0.ranges        {"time": [1]}
add.0.files.0.ranges        {"time": [2, 1]}
add.0.files.0.ranges        {"time": [0, 18446744073709551616]}
add.0.files.0.ranges        {"time": ["a", "b"]}
add.0.files.0.ranges        {"\\ud800": [1, 2]}
"""


@pytest.mark.parametrize("line", DAMAGE.strip().splitlines())
def test_damage_in_an_entry_is_named(dataset: Dataset, line: str) -> None:
    where, text = line.split(maxsplit=1)
    *folders, key = where.split(".")
    record = _record()
    inner: Any = record
    for folder in folders:
        inner = inner[int(folder) if folder.isdecimal() else folder]
    inner[key] = json.loads(text)
    dataset.store.write(entry_path(1), json.dumps(record).encode())
    with pytest.raises(DatasetError, match=r"0001\.json: |the log is damaged: "):
        open_dataset(dataset.url).snapshot()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"7", b"\xff", b"[" * 100_000, b'{"format": ' + b"9" * 5000 + b"}"]
)
def test_an_entry_that_is_no_entry_is_named(dataset: Dataset, data: bytes) -> None:
    dataset.store.write(entry_path(1), data)
    with pytest.raises(DatasetError, match=r"0001\.json"):
        open_dataset(dataset.url).snapshot()


@pytest.mark.parametrize("key", _record())
def test_an_entry_without_a_key_is_named(dataset: Dataset, key: str) -> None:
    record = _record()
    del record[key]
    dataset.store.write(entry_path(1), json.dumps(record).encode())
    with pytest.raises(DatasetError, match=rf"0001\.json: damaged: '{key}'"):
        open_dataset(dataset.url).snapshot()
