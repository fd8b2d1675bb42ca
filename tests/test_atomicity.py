"""Conversions that are killed, interrupted, or run beside others and beside readers."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

import pcap2arrow
from pcap2arrow.dataset import open_dataset
from tests.commands import json_lines, live_files, run, start, write_capture

Seen = dict[int, tuple[int, int]]
"""Per capture id: packets, and packets whose octets are stored."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A folder of captures, the packets of each, and the files of an undisturbed conversion."""

    folder: Path
    packets: dict[str, int]
    files: dict[str, bytes]
    seconds: float


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """A capture of two units, and a few small ones."""
    place = tmp_path_factory.mktemp("archive")
    folder = place / "captures"
    folder.mkdir()
    packets = {"large.pcap": write_capture(folder / "large.pcap", seed=1, octets=90 << 20)}
    for number in range(12):
        name = f"small-{number:02}.pcap"
        packets[name] = write_capture(folder / name, seed=100 + number, octets=100_000)
    begin = time.monotonic()
    run("convert", folder, "-o", place / "dataset")
    return Archive(folder, packets, live_files(place / "dataset"), time.monotonic() - begin)


def _live(dataset: Path) -> dict[str, int]:
    """Packets by capture that a dataset has, of which the tables must hold just as many; none without a dataset."""
    if not (dataset / "_manifest" / f"{0:020}.json").exists():
        return {}
    snapshot = open_dataset(dataset).snapshot()
    held = _seen(dataset)
    assert {capture.capture_id: capture.packets for capture in snapshot.captures.values()} == {
        capture: packets for capture, (packets, _) in held.items()
    }
    return {capture.name: capture.packets for capture in snapshot.captures.values()}


def _seen(dataset: Path) -> Seen:
    counted = (
        pcap2arrow.scan(dataset)
        .group_by("capture_id")
        .agg(pl.len().alias("packets"), pl.col("header").count().alias("stored"))
        .collect()
    )
    return {row["capture_id"]: (row["packets"], row["stored"]) for row in counted.iter_rows(named=True)}


def _kill(archive: Archive, dataset: Path, *, after: float, scheduler: str) -> None:
    """Kill a conversion some time after its start, and see that the dataset is right then, and complete later."""
    process = start("convert", archive.folder, "-o", dataset, "--scheduler", scheduler)
    time.sleep(after)
    process.kill()
    process.communicate()
    assert _live(dataset).items() <= archive.packets.items()
    run("convert", archive.folder, "-o", dataset)
    assert live_files(dataset) == archive.files


def _moments(archive: Archive, count: int) -> list[float]:
    return [random.Random(number).uniform(0.1, archive.seconds) for number in range(count)]


def test_killed_and_run_again_it_is_as_if_undisturbed(archive: Archive, tmp_path: Path) -> None:
    for number, after in enumerate(_moments(archive, 3)):
        scheduler = "processes" if number == 0 else "threads"
        _kill(archive, tmp_path / str(number), after=after, scheduler=scheduler)


@pytest.mark.long
def test_killed_at_twenty_moments(archive: Archive, tmp_path: Path) -> None:
    for number, after in enumerate(_moments(archive, 20)):
        _kill(archive, tmp_path / "dataset", after=after, scheduler=("threads", "processes")[number % 2])
        shutil.rmtree(tmp_path / "dataset")


def test_killed_again_and_again_it_still_ends(archive: Archive, tmp_path: Path) -> None:
    for after in _moments(archive, 2):
        process = start("convert", archive.folder, "-o", tmp_path / "dataset")
        time.sleep(after)
        process.kill()
        process.communicate()
    run("convert", archive.folder, "-o", tmp_path / "dataset")
    assert live_files(tmp_path / "dataset") == archive.files
    run("vacuum", tmp_path / "dataset", "--older-than", "0")
    assert live_files(tmp_path / "dataset") == archive.files
    left = {str(path.relative_to(tmp_path / "dataset")) for path in (tmp_path / "dataset").rglob("*.*")}
    assert {path for path in left if path.endswith((".parquet", ".tmp"))} == set(archive.files)


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_without_room_for_a_file_a_capture_fails_alone(
    archive: Archive, tmp_path: Path, scheduler: str
) -> None:
    """A limit on the size of files stands for a full disk."""
    words = ("convert", archive.folder, "-o", tmp_path / "dataset", "--scheduler", scheduler)
    limit = 1 << 20
    process = start(*words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    printed, errors = process.communicate()
    assert process.returncode == 1, errors
    assert f"{len(archive.packets) - 1} converted, 1 failed" in printed
    assert "failed: large.pcap: " in errors and errors.endswith(": File too large\n")
    assert _live(tmp_path / "dataset").keys() == archive.packets.keys() - {"large.pcap"}
    run("convert", archive.folder, "-o", tmp_path / "dataset")
    assert live_files(tmp_path / "dataset") == archive.files


@pytest.mark.parametrize(
    ("scheduler", "number"),
    [("threads", signal.SIGINT), ("processes", signal.SIGINT), ("processes", signal.SIGTERM)],
)
def test_interrupted_nothing_half_done_is_visible(
    archive: Archive, tmp_path: Path, scheduler: str, number: signal.Signals
) -> None:
    """Ctrl-C in a terminal reaches the whole process group, SIGTERM what was started."""
    words = ("convert", archive.folder, "-o", tmp_path / "dataset", "--scheduler", scheduler, "--json")
    # Warnings are off, as for users: Python has one of a file that was just being opened, and prints it as an error.
    process = start(*words, start_new_session=True, environment={"PYTHONWARNINGS": "ignore"})
    assert process.stdout is not None
    assert '"step"' in process.stdout.readline()
    begin = time.monotonic()
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    printed, errors = process.communicate()
    print(f"{scheduler}: ended after {time.monotonic() - begin:.2f} s")
    said = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[number]
    assert process.returncode == 128 + number
    assert errors.splitlines()[-1:] == [f"pcap2arrow: {said}"] and "Traceback" not in errors
    committed = {event["name"] for event in json_lines(printed) if event["event"] == "capture"}
    assert committed <= _live(tmp_path / "dataset").keys() < archive.packets.keys()
    run("convert", archive.folder, "-o", tmp_path / "dataset")
    assert live_files(tmp_path / "dataset") == archive.files


def test_two_conversions_at_once_both_land(archive: Archive, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    packets = {
        f"other-{n}.pcap": write_capture(other / f"other-{n}.pcap", seed=n, octets=50_000) for n in range(9)
    }
    both = [
        start("convert", archive.folder, "-o", tmp_path / "dataset", "--workers", "1"),
        start("convert", other, archive.folder, "-o", tmp_path / "dataset", "--workers", "1"),
    ]
    for process in both:
        printed, errors = process.communicate()
        assert (process.returncode, errors) == (0, ""), printed
    assert _live(tmp_path / "dataset") == archive.packets | packets
    held = live_files(tmp_path / "dataset")
    assert archive.files.items() <= held.items()
    assert run("count", tmp_path / "dataset").stdout.strip() == str(sum((archive.packets | packets).values()))


def test_converting_again_adds_nothing_and_reads_nothing(archive: Archive, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    run("convert", archive.folder, "-o", dataset)
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    begin = time.monotonic()
    events = json_lines(run("convert", archive.folder, "-o", dataset, "--json").stdout)
    print(f"first time {archive.seconds:.2f} s, again {time.monotonic() - begin:.2f} s")
    assert Counter(event["event"] for event in events) == {"capture": len(archive.packets), "summary": 1}
    assert events[-1]["unchanged"] == len(archive.packets)
    rehashed = json_lines(run("convert", archive.folder, "-o", dataset, "--rehash", "--json").stdout)
    assert sum(event["octets"] for event in rehashed if event["event"] == "step") > 90 << 20
    assert rehashed[-1]["unchanged"] == len(archive.packets)
    after = {path: path.stat().st_mtime_ns for path in dataset.rglob("*") if path.parent.name != "captures"}
    assert {path for path in after if path.is_file()} == {
        path for path in before if path.is_file() and path.parent.name != "captures"
    }
    assert live_files(dataset) == archive.files


@contextmanager
def _reader(look: Callable[[], Seen]) -> Iterator[list[Seen]]:
    """Look again and again while the block runs, from a thread of its own; what was seen, in order."""
    seen: list[Seen] = []
    errors: list[BaseException] = []
    stop = threading.Event()

    def loop() -> None:
        try:
            ending = False
            while not ending:
                ending = stop.is_set()  # before a look that sees how all ended
                seen.append(look())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
    assert errors == []


def test_replace_and_remove_are_atomic_for_a_reader(tmp_path: Path) -> None:
    folder, dataset = tmp_path / "captures", tmp_path / "dataset"
    folder.mkdir()
    names = [f"{number}.pcap" for number in range(8)]
    packets = [write_capture(folder / name, seed=n, octets=200_000) for n, name in enumerate(names)]
    run("convert", folder, "-o", dataset)
    whole = _seen(dataset)
    assert sorted(whole.values()) == sorted((count, count) for count in packets)
    with _reader(lambda: _seen(dataset)) as seen:
        run("convert", folder, "-o", dataset, "--replace", "--frames", "none")
        run("remove", dataset, *names[:4])
    bare = {capture: (count, 0) for capture, (count, _) in whole.items()}
    gone = [frozenset(state) for state in seen]
    for state in seen:
        assert all(found in (whole[capture], bare[capture]) for capture, found in state.items())
        assert len(state) in (8, 4)
    assert (seen[0], len(gone[-1])) == (whole, 4)
    assert bare in seen
    print(f"{len(seen)} looks")
    assert _live(dataset).keys() == set(names[4:])
