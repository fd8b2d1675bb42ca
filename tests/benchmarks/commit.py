"""What a commit costs, and opening a dataset of many captures.

Run by hand, on a machine with nothing else to do::

    python tests/benchmarks/commit.py [--commits 1000] [--captures 10000] [--folder FOLDER]

Two tables. The first: captures of four small files each are written and committed one by one; milliseconds
for the files and for the commit alone, everything synced to the disk, at the start and at the end of the
run; and, beside it, what the disk takes for one synced file. The second: a dataset of ``--captures`` such
captures is opened by a new process; milliseconds for opening and reading the log, and for listing its files.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from pcap2arrow.dataset import Dataset, create_dataset, plan_change  # noqa: E402
from tests.datasets import capture, put  # noqa: E402

OPENING = """
import sys, time
import polars
from pcap2arrow.dataset import open_dataset

start = time.perf_counter()
snapshot = open_dataset(sys.argv[1]).snapshot()
opened = time.perf_counter()
files = snapshot.files("packets")
print((opened - start) * 1e3, (time.perf_counter() - opened) * 1e3, len(snapshot.captures), len(files))
"""


def main() -> None:
    """Run both benchmarks and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--commits", type=int, default=1000)
    parser.add_argument("--captures", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="where to work; the disk that is measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        committing(Path(folder), arguments.commits)
        opening(Path(folder), arguments.captures)


def committing(folder: Path, commits: int) -> None:
    """Commit captures one by one and print medians."""
    dataset = create_dataset(folder / "commits", settings={})
    writing, committed = [], []
    for number in range(commits):
        mine = capture(f"{number}", number)
        start = time.perf_counter()
        put(dataset, mine, sync=True)
        written = time.perf_counter()
        dataset.commit(lambda snapshot, mine=mine: plan_change(snapshot, [mine]))
        writing.append((written - start) * 1e3)
        committed.append((time.perf_counter() - written) * 1e3)
    tenth = max(1, commits // 10)
    print(f"{commits} commits, ms          median  first tenth  last tenth    p99")
    for label, times in (("commit", committed), ("four files", writing)):
        ends = statistics.median(times[:tenth]), statistics.median(times[-tenth:])
        p99 = sorted(times)[int(len(times) * 0.99)]
        print(f"{label:22}{statistics.median(times):12.2f}{ends[0]:13.2f}{ends[1]:12.2f}{p99:7.2f}")
    print(f"{'one synced file':22}{statistics.median(bare_files(folder, tenth)):12.2f}")


def bare_files(folder: Path, count: int) -> list[float]:
    """Milliseconds to write a file of an entry's size, sync it and sync its folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    times = []
    for number in range(count):
        start = time.perf_counter()
        with (folder / f"bare-{number}").open("xb") as file:
            file.write(b"x" * 1000)
            file.flush()
            os.fsync(file.fileno())
        os.fsync(descriptor)
        times.append((time.perf_counter() - start) * 1e3)
    os.close(descriptor)
    return times


def opening(folder: Path, captures: int) -> None:
    """Commit many captures in batches and print how long another process takes to open the dataset."""
    dataset = create_dataset(folder / "captures", settings={})
    for first in range(0, captures, 1000):
        batch(dataset, range(first, min(first + 1000, captures)))
    for entries, label in ((100, "checkpoint and no entry"), (199, "checkpoint and 99 entries")):
        while dataset.snapshot().version < entries:
            number = captures + dataset.snapshot().version
            batch(dataset, range(number, number + 1))
        runs = [open_once(dataset) for _ in range(7)]
        opened, listed, live, files = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"{label}: {live:.0f} captures open in {opened:.0f} ms, {files:.0f} files in {listed:.0f} ms")


def batch(dataset: Dataset, numbers: range) -> None:
    """Commit captures whose files are empty: only the log counts here."""
    mine = [capture(f"{number}", number) for number in numbers]
    put(dataset, *mine)
    dataset.commit(lambda snapshot: plan_change(snapshot, mine))


def open_once(dataset: Dataset) -> list[float]:
    """What a new process prints on opening the dataset."""
    command = [sys.executable, "-c", OPENING, dataset.url]
    return [float(word) for word in subprocess.check_output(command, cwd=PROJECT, text=True).split()]


if __name__ == "__main__":
    main()
