"""Several writers, killed writers, lost answers, full disks; and what a vacuum may take."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from pcap2arrow.dataset import Dataset, create_dataset, open_dataset, plan_change, remove, vacuum
from pcap2arrow.dataset.local_store import LocalStore
from pcap2arrow.dataset.log import checkpoint_path, entry_path
from pcap2arrow.dataset.store import is_temporary
from pcap2arrow.errors import DatasetError
from tests.datasets import OPTIONS, capture, convert, damaged, data_files, put

PROJECT = Path(__file__).resolve().parent.parent
NOTHING = timedelta(0)
DAY_NS = 86_400 * 10**9


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return create_dataset(tmp_path / "dataset", settings={})


def start_writer(dataset: Dataset, writer: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.datasets", dataset.url, str(writer), str(count)]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until_ready(writer: subprocess.Popen[str]) -> None:
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"


def finish(writer: subprocess.Popen[str]) -> list[int]:
    """The versions that a writer committed."""
    output, errors = writer.communicate(timeout=120)
    assert (writer.returncode, errors) == (0, "")
    return [int(line) for line in output.splitlines() if line != "ready"]


def assert_complete(dataset: Dataset, names: set[str]) -> None:
    """These captures are live, each once and whole, and the log says so from whatever end it is read."""
    snapshot = open_dataset(dataset.url).snapshot()
    assert set(snapshot.captures) == names
    added = [live.name for change in dataset.changes(0) for live in change.add]
    assert sorted(added) == sorted(names)
    assert sum(file.rows for file in snapshot.files("packets")) == 6 * len(names)
    assert damaged(dataset, snapshot) == []


# Several writers


def test_eight_writers_lose_nothing(dataset: Dataset) -> None:
    writers = [start_writer(dataset, number, 20) for number in range(8)]
    versions = [version for writer in writers for version in finish(writer)]
    assert sorted(versions) == list(range(1, 161))
    assert_complete(dataset, {f"{writer}/{number}" for writer in range(8) for number in range(20)})


def test_writers_of_the_same_captures_add_them_once(dataset: Dataset) -> None:
    for writer in [start_writer(dataset, 7, 20) for _ in range(4)]:
        finish(writer)
    assert dataset.snapshot().version == 20
    assert_complete(dataset, {f"7/{number}" for number in range(20)})


def test_several_may_make_a_dataset_at_once(tmp_path: Path) -> None:
    for attempt in range(10):
        url, made, start = tmp_path / str(attempt), list[Dataset](), threading.Barrier(4)

        def make(url: Path = url, made: list[Dataset] = made, start: threading.Barrier = start) -> None:
            start.wait()
            made.append(create_dataset(url, settings={"by": str(threading.get_ident())}, exist_ok=True))

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 4
        assert len({one.settings["by"] for one in made}) == 1


# Killed writers


def kill_at_random_moments(dataset: Dataset, kills: int) -> None:
    """Two writers, killed and started again, until both have been killed so often; then both finish."""
    chance = random.Random(kills)
    count = 2 * kills
    for _ in range(kills // 2):
        writers = [start_writer(dataset, number, count) for number in range(2)]
        for writer in writers:
            wait_until_ready(writer)
        for writer in writers:
            time.sleep(chance.uniform(0, 0.06))
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            writer.communicate()
        snapshot = open_dataset(dataset.url).snapshot()
        assert damaged(dataset, snapshot) == []
    for writer in [start_writer(dataset, number, count) for number in range(2)]:
        finish(writer)
    assert_complete(dataset, {f"{writer}/{number}" for writer in range(2) for number in range(count)})


@pytest.mark.parametrize("kills", [40, pytest.param(1000, marks=pytest.mark.long)])
def test_killed_writers_leave_whole_captures_and_no_mess(dataset: Dataset, kills: int) -> None:
    kill_at_random_moments(dataset, kills)
    root = Path(dataset.url)
    stray = data_files(root) - dataset.snapshot().paths()
    assert len(stray) <= 4 * kills
    report = vacuum(dataset, older_than=NOTHING)
    assert set(report.deleted) >= stray
    assert data_files(root) == dataset.snapshot().paths()
    assert [path for path in root.rglob("*") if is_temporary(path.relative_to(root).as_posix())] == []


# Readers


def test_a_reader_sees_whole_versions_only(dataset: Dataset) -> None:
    """A pair that is always replaced together, and one that comes and goes together."""
    done = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            writer = open_dataset(dataset.url)
            for number in range(60):
                way = f"{OPTIONS} {number}"
                convert(writer, capture("a", 1, options=way), capture("b", 2, options=way), replace=True)
                convert(writer, capture("c", 3), capture("d", 4))
                remove(writer, ["c", "d"])
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=write)
    thread.start()
    following, versions, reads = open_dataset(dataset.url), set(), 0
    while not done.is_set():
        for reader in (following, open_dataset(dataset.url)):
            snapshot = reader.snapshot()
            live = snapshot.captures
            assert ("a" in live, "c" in live) == ("b" in live, "d" in live)
            assert len({live[name].options for name in "ab" if name in live}) <= 1
            assert damaged(reader, snapshot) == []
            versions.add(snapshot.version)
            reads += 1
    thread.join()
    assert failures == []
    assert reads > 20 and len(versions) > 5


class LateStore(LocalStore):
    """A store where a batch of entries grew between the look at its first and the look at the next."""

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        found = super().read_many(paths)
        return [None, *found[1:]] if len(found) > 1 else found


def test_an_entry_that_came_between_two_reads_is_read(dataset: Dataset) -> None:
    for number in range(9):
        convert(dataset, capture(f"{number}", number))
    assert open_dataset(LateStore(Path(dataset.url))).snapshot() == dataset.snapshot()


# Lost answers


class LossyStore(LocalStore):
    """A store whose answers get lost: creates fail, or fail after the fact, or find themselves in the way."""

    chance = random.Random(1)

    def create_if_absent(self, path: str, data: bytes) -> bool:
        fate = self.chance.random() if path.endswith(".json") else 1.0
        if fate < 0.1:
            raise DatasetError(f"{path}: 503 slow down")
        created = super().create_if_absent(path, data)
        if fate < 0.25:
            raise DatasetError(f"{path}: 500 after the fact")
        return created and fate > 0.4


def test_unclear_outcomes_are_cleared_up(tmp_path: Path) -> None:
    dataset = create_dataset(LossyStore(tmp_path / "dataset"), settings={})
    count, versions, failures = 60, list[int](), list[BaseException]()

    def write(writer: int) -> None:
        try:
            own = open_dataset(dataset.store)
            for number in range(count):
                versions.append(convert(own, capture(f"{writer}/{number}", 10_000 * writer + number)).version)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(versions) == list(range(1, 3 * count + 1))
    assert_complete(dataset, {f"{writer}/{number}" for writer in range(3) for number in range(count)})


class BrokenStore(LocalStore):
    """A store that has stopped to take new entries."""

    def create_if_absent(self, path: str, data: bytes) -> bool:
        raise DatasetError(f"{self.location(path)}: Read-only file system")


def test_an_entry_that_can_not_be_written_is_an_error(dataset: Dataset) -> None:
    convert(dataset, capture("a", 1))
    broken = open_dataset(BrokenStore(Path(dataset.url)))
    with pytest.raises(DatasetError, match=rf"{entry_path(2)}: Read-only file system"):
        convert(broken, capture("b", 2))
    assert set(dataset.snapshot().captures) == {"a"}
    assert convert(dataset, capture("b", 2)).version == 2


class NoCheckpointStore(LocalStore):
    """A store that takes entries, but no checkpoint."""

    def write(self, path: str, data: bytes) -> None:
        raise DatasetError(f"{self.location(path)}: No space left on device")


def test_a_checkpoint_that_can_not_be_written_is_no_error(
    dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    full = open_dataset(NoCheckpointStore(Path(dataset.url)))
    full.checkpoint_every = 2
    for number in range(5):
        convert(full, capture(f"{number}", number))
    assert "no checkpoint of version 2" in caplog.text
    assert_complete(dataset, {f"{number}" for number in range(5)})


# Full disks


@contextmanager
def small_disk(folder: Path, octets: int) -> Iterator[Path]:
    """A file system of that size; the test is skipped where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={octets}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no small file system: {error}")
    if done.returncode:
        pytest.skip(f"no small file system: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(dataset: Dataset) -> int:
    """Convert captures until the disk is full; how many are committed."""
    for number in range(10_000):
        try:
            convert(dataset, capture(f"{number}", number))
        except DatasetError as error:
            assert dataset.url in str(error)
            assert "No space left on device" in str(error)
            return number
    raise AssertionError("the disk never filled up")


def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    for size in range(300_000, 700_000, 50_000):
        with small_disk(tmp_path / str(size), size) as disk:
            ballast = disk / "ballast"
            ballast.write_bytes(b"x" * 20_000)
            dataset = create_dataset(disk / "dataset", settings={})
            committed = fill(dataset)
            assert committed > 3
            assert_complete(dataset, {f"{number}" for number in range(committed)})
            assert [path for path in disk.rglob("*") if is_temporary(path.name)] == []
            ballast.unlink()
            convert(dataset, capture(f"{committed}", committed))
            assert_complete(dataset, {f"{number}" for number in range(committed + 1)})


# Vacuum


def make_older(dataset: Dataset, *paths: str, days: float) -> None:
    for path in paths:
        file = Path(dataset.url) / path
        written = file.stat().st_mtime_ns - int(days * DAY_NS)
        os.utime(file, ns=(written, written))


def test_a_vacuum_takes_what_is_stray_and_old(dataset: Dataset) -> None:
    kept, stray, young = capture("a", 1), capture("b", 2), capture("c", 3)
    convert(dataset, kept)
    put(dataset, stray, young)
    temporary = ["packets/date=a/.x.parquet.0.tmp", "_manifest/.x.json.0.tmp"]
    for path in (*temporary, "packets/.young.tmp"):
        (Path(dataset.url) / path).write_bytes(b"torn")
    foreign = ["packets/notes.txt", "packets/x.parquet.bak", "README", "_manifest/notes", "_manifest/x.json"]
    for path in foreign:
        (Path(dataset.url) / path).write_bytes(b"x")
    stray_paths = [file.path for file in stray.files]
    make_older(dataset, *stray_paths, *temporary, *foreign, entry_path(0), entry_path(1), days=2)
    make_older(dataset, *(file.path for file in kept.files), days=400)
    make_older(dataset, *(file.path for file in young.files), days=0.9)

    would = vacuum(dataset, dry_run=True)
    assert would.deleted == tuple(sorted([*stray_paths, *temporary]))
    assert would.octets == sum(file.size for file in stray.files) + 8
    assert vacuum(dataset) == would
    assert vacuum(dataset).deleted == ()
    assert data_files(Path(dataset.url)) == {
        *(file.path for file in (*kept.files, *young.files)), "packets/.young.tmp", *foreign[:2]
    }  # fmt: skip
    assert all((Path(dataset.url) / path).exists() for path in foreign)
    assert_complete(dataset, {"a"})


def test_a_removed_capture_stays_for_its_readers(dataset: Dataset) -> None:
    convert(dataset, capture("a", 1), capture("b", 2))
    removed = [file.path for file in capture("a", 1).files]
    reader = dataset.snapshot()
    remove(dataset, ["a"])
    make_older(dataset, *reader.paths(), entry_path(0), entry_path(1), days=30)
    assert vacuum(dataset).deleted == ()
    assert damaged(dataset, reader) == []
    make_older(dataset, entry_path(2), days=0.9)
    assert vacuum(dataset).deleted == ()
    make_older(dataset, entry_path(2), days=0.2)
    assert vacuum(dataset).deleted == tuple(sorted(removed))
    assert damaged(dataset, dataset.snapshot()) == []


def test_a_file_written_again_is_young_again(dataset: Dataset) -> None:
    """An orphan of a job that died long ago, which the job that runs now has just written once more."""
    wanted = capture("a", 1)
    put(dataset, wanted)
    make_older(dataset, *(file.path for file in wanted.files), days=3)
    put(dataset, wanted)
    assert vacuum(dataset).deleted == ()
    dataset.commit(lambda snapshot: plan_change(snapshot, [wanted]))
    assert_complete(dataset, {"a"})


def test_old_checkpoints_go_and_old_versions_stay_readable(dataset: Dataset) -> None:
    dataset.checkpoint_every = 2
    history = [convert(dataset, capture(f"{number}", number)) for number in range(9)]
    report = vacuum(dataset, older_than=NOTHING)
    assert report.deleted == tuple(checkpoint_path(version) for version in (2, 4, 6))
    assert [open_dataset(dataset.url).snapshot(one.version) for one in history] == history


def test_a_vacuum_beside_writers_takes_nothing_that_lives(dataset: Dataset) -> None:
    writers = [start_writer(dataset, number, 30) for number in range(2)]
    for writer in writers:
        wait_until_ready(writer)
    while any(writer.poll() is None for writer in writers):
        assert vacuum(dataset, older_than=timedelta(seconds=60)).deleted == ()
    for writer in writers:
        finish(writer)
    assert_complete(dataset, {f"{writer}/{number}" for writer in range(2) for number in range(30)})
