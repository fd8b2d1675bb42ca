"""Slices and merges against tcpslice and mergecap: time in process and as whole processes, as one table.

Run by hand, on a machine with nothing else to do::

    python tests/benchmarks/slices.py [--bytes 1e9] [--pairs 5] [--capture FILE] [--tenfold FOLDER]

A capture of about ``--bytes`` octets of real traffic is built on a memory file system (or ``--capture`` is taken) and
converted. The middle hundredth of its time is then cut out by tcpslice from the capture, and by ``pcap2arrow export``
from the dataset, as a whole process and in one that has loaded everything before; eight captures that share its
packets in turn are merged by mergecap, tcpslice and ``pcap2arrow export``. Files have to be the same. With
``--tenfold`` two slices are cut out of ten times as much, in FOLDER: the middle hundredth of its time, which holds ten
times the packets, and a tenth of that, which should take as long as the slice of the first capture.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from measure import (
    PROJECT,
    Command,
    Figure,
    Run,
    build_capture,
    measure,
    need,
    ours,
    print_tables,
    run,
    size_of,
    workplace,
)

PARTS = 8
_MEMORY = 700e6
INSIDE = """
import json, sys, time
import polars
import pcap2arrow
from pcap2arrow.times import TimeRange
for line in sys.stdin:
    dataset, target, start, end = json.loads(line)
    begin = time.perf_counter()
    packets = pcap2arrow.export([dataset], target, times=TimeRange(start, end)).packets
    print(json.dumps([time.perf_counter() - begin, packets]), flush=True)
"""


class Inside:
    """A process that has loaded everything, and slices on demand."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", INSIDE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
        )  # fmt: skip

    def slice(self, dataset: Path, target: Path, start: int, end: int) -> float:
        """Seconds that it took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(dataset), str(target), start * 10**9, end * 10**9]) + "\n")
        self._process.stdin.flush()
        seconds, packets = json.loads(self._process.stdout.readline())
        if not packets:
            sys.exit("the slice holds no packet")
        return float(seconds)

    def end(self) -> None:
        """End the process."""
        self._process.communicate()


def middle(capture: Path, part: int) -> tuple[int, int]:
    """That part of a capture's time around its middle, in whole seconds."""
    told = subprocess.run(["tcpslice", "-R", str(capture)], capture_output=True, text=True, check=True).stdout
    first, last = (float(time) for time in told.split("\t")[1:])
    middle, width = (first + last) / 2, (last - first) / part
    return int(middle - width / 2), int(middle + width / 2)


def check(*files: Path) -> None:
    """End the benchmark where files differ."""
    for other in files[1:]:
        if not filecmp.cmp(files[0], other, shallow=False):
            sys.exit(f"{files[0].name} and {other.name} differ")


def slicing(
    folder: Path, capture: Path, dataset: Path, pairs: int, times: tuple[int, int], prefix: str = ""
) -> tuple[dict[str, Run], list[Figure]]:
    """A slice of whole seconds, as whole processes and inside of one."""
    start, end = times
    theirs, mine, within = folder / "theirs.pcap", folder / "ours.pcap", folder / "inside.pcap"
    cut = (str(start), str(end))
    runs = {
        f"{prefix}tcpslice": Command(["tcpslice", "-w", str(theirs), *cut, str(capture)], theirs),
        f"{prefix}export": Command(
            ours("export", dataset, "--start", cut[0], "--end", cut[1], "-w", mine), mine
        ),
        f"{prefix}count": Command(ours("count", dataset, "--start", cut[0], "--end", cut[1])),
    }
    medians, inside, seconds = measure(runs, pairs), Inside(), []
    for number in range(pairs + 2):
        taken = inside.slice(dataset, within, start, end)
        if number > 1:
            seconds.append(taken)
    inside.end()
    check(theirs, mine, within)
    wall = statistics.median(seconds)
    print(f"  {prefix}slice: {size_of(theirs) / 1e6:.1f} MB in {wall:.3f} s inside of a process")
    ratio = wall / medians[f"{prefix}tcpslice"].wall
    return medians, [
        Figure(f"{prefix}slice, in process: time", ratio, "x", 2),
        Figure(f"{prefix}slice, whole process", medians[f"{prefix}export"].wall, "s", 0.5),
    ]


def share_out(capture: Path, folder: Path) -> list[Path]:
    """Eight captures that get the packets of a little-endian pcap in turn."""
    paths = [folder / f"part{k}.pcap" for k in range(PARTS)]
    files = [path.open("wb") for path in paths]
    data = np.memmap(capture, np.uint8, "r")
    at, number = 24, 0
    for file in files:
        file.write(data[:24].tobytes())
    view, waiting = memoryview(data), [bytearray() for _ in paths]
    while at + 16 <= len(data):
        end = at + 16 + int.from_bytes(view[at + 8 : at + 12], "little")
        waiting[number % PARTS] += view[at:end]
        if len(waiting[number % PARTS]) > 1 << 20:
            files[number % PARTS].write(waiting[number % PARTS])
            waiting[number % PARTS].clear()
        at, number = end, number + 1
    for file, rest in zip(files, waiting, strict=True):
        file.write(rest)
        file.close()
    return paths


def merging(folder: Path, capture: Path, pairs: int) -> tuple[dict[str, Run], list[Figure]]:
    """Eight captures to one, from files and from a dataset, and without duplicates."""
    with ProcessPoolExecutor(1) as apart:  # commands begin with the peak of the process that starts them
        parts = apart.submit(share_out, capture, folder).result()
    dataset = folder / "parts"
    run(Command(ours("convert", *parts, "-o", dataset, "--workers", "2"), dataset))
    names = ("mergecap", "tcpslice", "files", "stored", "dropping")
    made = {name: folder / f"{name}.pcap" for name in names}
    words = [str(part) for part in parts]
    runs = {
        "mergecap": Command(["mergecap", "-F", "pcap", "-w", str(made["mergecap"]), *words[::-1]], made["mergecap"]),
        "tcpslice -D": Command(["tcpslice", "-D", "-w", str(made["tcpslice"]), *words], made["tcpslice"]),
        "merge of captures": Command(ours("export", *parts, "-w", made["files"]), made["files"]),
        "merge of a dataset": Command(ours("export", dataset, "-w", made["stored"]), made["stored"]),
        "merge --dedupe sources": Command(
            ours("export", *parts, "--dedupe", "sources", "-w", made["dropping"]), made["dropping"]
        ),
    }  # fmt: skip
    medians = measure(runs, pairs)
    check(made["files"], made["stored"], made["tcpslice"])
    base = medians["mergecap"].wall
    return medians, [
        Figure("merge of 8 captures: time, to mergecap", medians["merge of captures"].wall / base, "x", 1),
        Figure(
            "merge of a dataset of 8: time, to mergecap", medians["merge of a dataset"].wall / base, "x", 1
        ),
        Figure(
            "merge without duplicates: time, to mergecap",
            medians["merge --dedupe sources"].wall / base,
            "x",
            2,
        ),
        Figure("merges: peak memory", max(run.peak for run in medians.values()) / 1e6, "MB", _MEMORY / 1e6),
    ]


def tenfold(folder: Path, octets: float, pairs: int) -> tuple[dict[str, Run], list[Figure]]:
    """The middle hundredth of ten times as much, in process; and a tenth of it."""
    with tempfile.TemporaryDirectory(prefix="pcap2arrow-benchmark-", dir=folder) as name:
        capture, dataset = build_capture(Path(name, "tenfold.pcap"), octets * 10), Path(name, "dataset")
        run(Command(ours("convert", capture, "-o", dataset, "--workers", "2"), dataset))
        place, large, small = Path(name), "tenfold, a hundredth: ", "tenfold, a thousandth: "
        runs, (inside, _) = slicing(place, capture, dataset, pairs, middle(capture, 100), large)
        more, further = slicing(place, capture, dataset, pairs, middle(capture, 1000), small)
        return runs | more, [inside, *further]


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bytes", type=float, default=1e9, help="octets of the capture (default 1e9)")
    parser.add_argument("--pairs", type=int, default=5, help="rounds after the one that warms up (default 5)")
    parser.add_argument(
        "--capture", type=Path, metavar="FILE", help="a capture to take, instead of building one"
    )
    parser.add_argument("--tenfold", type=Path, metavar="FOLDER", help="ten times as much, too, in FOLDER")
    options = parser.parse_args()
    need("tcpslice", "mergecap")
    with workplace() as folder:
        capture = options.capture or build_capture(folder / "large.pcap", options.bytes)
        dataset = folder / "dataset"
        run(Command(ours("convert", capture, "-o", dataset, "--workers", "2"), dataset))
        print(f"processors {os.cpu_count()}, load {os.getloadavg()[0]:.2f}, pairs {options.pairs}")
        print(f"{capture.name}: {size_of(capture) / 1e6:.0f} MB")
        medians, results = slicing(folder, capture, dataset, options.pairs, middle(capture, 100))
        merged, figures = merging(folder, capture, options.pairs)
    if options.tenfold is not None:
        more, further = tenfold(options.tenfold, options.bytes, options.pairs)
        merged, figures = merged | more, figures + further
    print_tables(medians | merged, results + figures)


if __name__ == "__main__":
    main()
