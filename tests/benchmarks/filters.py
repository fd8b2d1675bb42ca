"""Filters against tcpdump: time in process and as a whole process, as one table.

Run by hand, on a machine with nothing else to do::

    python tests/benchmarks/filters.py [--bytes 1e9] [--pairs 5] [--tenfold FOLDER]

A capture of about ``--bytes`` octets of real traffic is built on a memory file system and converted. Then
every filter is counted by ``tcpdump --count``, by ``pcap2arrow count``, and in a process that has loaded
everything before, in turn, ``--pairs`` times after a round that warms up; ratios are those of the medians.
With ``--tenfold``, whole processes are measured on ten times as much, in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

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

PORT, HOST = "tcp port 443", "host 10.200.1.1"
FLAGS, LENGTH = "tcp[13] & 3 != 0", "ip[2:2] > 500"
GET = "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420"
TEN = (
    *(PORT, "udp port 53", "tcp[13] & 2 != 0", "ip[8] < 5", "host 10.1.2.3", "arp", "icmp", "net 10.0.0.0/8"),
    *("len > 1000", "ip6 and tcp"),
)
INSIDE = """
import json, sys, time
from datetime import datetime, timezone
import polars as pl
import pcap2arrow
from jobs.count import count_selected
from queries.exports import FilterSelection
from queries.filters.compiled import compile_filter
dataset = sys.argv[1]
after = datetime(2100, 1, 1, tzinfo=timezone.utc)
for line in sys.stdin:
    texts, target = json.loads(line)
    begin = time.perf_counter()
    if target:
        chosen = FilterSelection([compile_filter(text) for text in texts])
        packets = [pcap2arrow.export([dataset], target, selection=chosen).packets]
    elif texts:
        packets = count_selected([dataset], [compile_filter(text) for text in texts]).tally.packets
    else:
        packets = [pcap2arrow.scan(dataset).filter(pl.col("time") > after).select(pl.len()).collect().item()]
    print(json.dumps([time.perf_counter() - begin, packets]), flush=True)
"""


class Inside:
    """A process that has loaded everything, and counts or exports on demand."""

    def __init__(self, dataset: Path) -> None:
        command = [sys.executable, "-c", INSIDE, str(dataset)]
        environment = os.environ | {"PYTHONPATH": str(PROJECT)}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def count(self, *filters: str, target: Path | None = None) -> tuple[float, list[int]]:
        """Seconds that it took, and the counts; without filters, of a range of time that holds nothing.

        With a ``target``, what the filter selects is written there.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([filters, target and str(target)]) + "\n")
        self._process.stdin.flush()
        seconds, packets = json.loads(self._process.stdout.readline())
        return seconds, packets


def tcpdump_count(capture: Path, expression: str) -> Command:
    """The real tool's count."""
    return Command(["tcpdump", "-r", str(capture), "--count", expression])


def check(inside: Inside, capture: Path) -> None:
    """End the benchmark where an answer is not that of tcpdump."""
    for expression in (PORT, HOST, FLAGS, LENGTH, GET):
        command = ["tcpdump", "-O", "-r", str(capture), "--count", expression]
        expected = int(subprocess.run(command, capture_output=True, check=True).stdout.split()[0])
        _, (packets,) = inside.count(expression)
        if packets != expected:
            sys.exit(f"{expression}: {packets} packets, but tcpdump counts {expected}")


def whole_processes(folder: Path, capture: Path, dataset: Path) -> dict[str, Command]:
    """Commands to measure, by name."""
    ours_out, theirs_out = folder / "ours.pcap", folder / "theirs.pcap"
    write = ("-w", str(theirs_out))
    return {
        f"tcpdump: {PORT}": tcpdump_count(capture, PORT),
        f"count: {PORT}": Command(ours("count", dataset, "-f", PORT)),
        "tcpdump -w": Command(["tcpdump", "-r", str(capture), *write, PORT], theirs_out),
        "export": Command(ours("export", dataset, "-f", PORT, "-w", ours_out), ours_out),
    }


def whole_figures(medians: dict[str, Run], prefix: str = "") -> list[Figure]:
    """The figures of whole processes."""
    counting = medians[f"tcpdump: {PORT}"].wall / medians[f"count: {PORT}"].wall
    writing = medians["export"].wall / medians["tcpdump -w"].wall
    return [
        Figure(f"{prefix}{PORT}: whole process, faster", counting, "x", 1.2, at_least=True),
        Figure(f"{prefix}filter to pcap: whole process, time", writing, "x", 1.5),
    ]


def export_figure(folder: Path, inside: Inside, capture: Path, pairs: int) -> Figure:
    """What a process that has loaded everything takes to write what a filter selects."""
    target, theirs = folder / "inside.pcap", folder / "theirs.pcap"
    command = Command(["tcpdump", "-r", str(capture), "-w", str(theirs), PORT], theirs)
    taken: list[tuple[float, float]] = []
    for _ in range(pairs + 1):
        target.unlink(missing_ok=True)
        seconds, _ = inside.count(PORT, target=target)
        taken.append((seconds, run(command).wall))
    mine, real = (statistics.median(column) for column in zip(*taken[1:], strict=True))
    print(f"  {'filter to pcap':50}{mine:8.3f} s{real:10.3f} s by tcpdump")
    return Figure("filter to pcap, in process: time", mine / real, "x", 1.5)


def inside_figures(inside: Inside, capture: Path, pairs: int) -> list[Figure]:
    """The figures of a process that has loaded everything, and counts."""
    asked = {text: (text,) for text in (PORT, FLAGS, LENGTH, GET, HOST)} | {"ten": TEN, "no time": ()}
    times: dict[str, list[float]] = {name: [] for name in asked}
    theirs: dict[str, list[float]] = {text: [] for text in (PORT, FLAGS, LENGTH, GET, HOST)}
    for number in range(pairs + 1):
        for name, filters in asked.items():
            seconds, _ = inside.count(*filters)
            other = run(tcpdump_count(capture, name)).wall if name in theirs else 0.0
            if number:
                times[name].append(seconds)
                if name in theirs:
                    theirs[name].append(other)
    mine = {name: statistics.median(taken) for name, taken in times.items()}
    real = {name: statistics.median(taken) for name, taken in theirs.items()}
    for name, seconds in mine.items():
        print(f"  {name:50}{seconds:8.3f} s{real.get(name, 0.0):10.3f} s by tcpdump")
    return [
        Figure(f"{PORT}: faster", real[PORT] / mine[PORT], "x", 5, at_least=True),
        Figure(f"{FLAGS}: faster", real[FLAGS] / mine[FLAGS], "x", 2, at_least=True),
        Figure(f"{LENGTH}: faster", real[LENGTH] / mine[LENGTH], "x", 2, at_least=True),
        Figure("GET accessor: time", mine[GET] / real[GET], "x", 1.5),
        Figure("absent host: time", mine[HOST] / real[HOST], "x", 0.2),
        Figure("time range outside: time", mine["no time"] / real[PORT], "x", 0.05),
        Figure("ten filters in one pass, against one", mine["ten"] / mine[PORT], "x", 3),
    ]


def tenfold(folder: Path, octets: float) -> list[Figure]:
    """Whole processes on ten times as much."""
    with tempfile.TemporaryDirectory(prefix="pcap2arrow-benchmark-", dir=folder) as name:
        capture, dataset = build_capture(Path(name, "tenfold.pcap"), octets * 10), Path(name, "dataset")
        run(Command(ours("convert", capture, "-o", dataset, "--workers", "2"), dataset))
        return whole_figures(measure(whole_processes(Path(name), capture, dataset), 1), "tenfold: ")


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bytes", type=float, default=1e9, help="octets of the capture (default 1e9)")
    parser.add_argument("--pairs", type=int, default=5, help="rounds after the one that warms up (default 5)")
    parser.add_argument("--tenfold", type=Path, metavar="FOLDER", help="ten times as much, too, in FOLDER")
    options = parser.parse_args()
    need("tcpdump")
    with workplace() as folder:
        capture, dataset = build_capture(folder / "large.pcap", options.bytes), folder / "dataset"
        run(Command(ours("convert", capture, "-o", dataset, "--workers", "2"), dataset))
        print(f"processors {os.cpu_count()}, load {os.getloadavg()[0]:.2f}, pairs {options.pairs}")
        print(f"{capture.name}: {size_of(capture) / 1e6:.0f} MB")
        inside = Inside(dataset)
        check(inside, capture)
        results = inside_figures(inside, capture, options.pairs)
        results.append(export_figure(folder, inside, capture, options.pairs))
        medians = measure(whole_processes(folder, capture, dataset), options.pairs)
        results += whole_figures(medians)
    if options.tenfold is not None:
        results += tenfold(options.tenfold, options.bytes)
    print_tables(medians, results)


if __name__ == "__main__":
    main()
