"""Two workers against one, by scheduler; and what a scheduler costs for each unit.

Run by hand, on a machine with nothing else to do::

    python tests/benchmarks/cluster.py [--bytes 5e8 | --capture FILE] [--pairs 1] [--units 10000]

A capture of about ``--bytes`` octets of real traffic is built on a memory file system, or ``--capture`` taken.
Conversions, counts by a filter of four terms, and streams are run with one worker and with two on threads, processes
and a Dask cluster of this machine, in turn; then ``--units`` tasks that do nothing are handed to each of them, and
what a scheduler costs for each is carried on to 1 000 cores.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

from measure import Command, Figure, Run, build_capture, measure, ours, print_tables, run, size_of, workplace

from jobs.executors import open_executor, run_all

SCHEDULERS = ("threads", "processes", "dask")
_FILTER = "tcp[13] & 2 != 0 or ip[2:2] > 1000 or udp port 53 or net 10.0.0.0/8"
_CORES = 1000
_UNDER_WAY = 2 * _CORES  # units at once, as for that many
_UNIT = 80 << 20


def commands(folder: Path, capture: Path, dataset: Path) -> dict[str, Command]:
    """What is run, by job, scheduler and workers."""
    out = folder / "out"
    words = {
        "convert": (("convert", capture, "-o", out), out),
        "filter": (("count", dataset, "-f", _FILTER), None),
        "streams": (("streams", dataset, "--tables", out), out),
    }
    return {
        f"{job} {scheduler} {workers}": Command(
            ours(*given, "--scheduler", scheduler, "--workers", str(workers)), output
        )
        for job, (given, output) in words.items()
        for scheduler in SCHEDULERS
        for workers in (1, 2)
    }


def seconds_per_unit(scheduler: str, units: int) -> tuple[float, float]:
    """What a unit takes that does nothing, with two workers that have started and many units under way.

    By the clock, where the workers share the machine, and of this process' time, which a Dask scheduler is part of.
    """
    nothing = partial(time.sleep, 0)
    with open_executor(scheduler, 2) as (executor, workers):
        list(run_all(executor, workers, [nothing] * 4))
        begin, worked = time.perf_counter(), time.process_time()
        list(run_all(executor, _UNDER_WAY // 2, [nothing] * units))
        return (time.perf_counter() - begin) / units, (time.process_time() - worked) / units


def figures(medians: dict[str, Run]) -> list[Figure]:
    """How much faster two workers are than one."""
    return [
        Figure(
            f"{name.removesuffix(' 1')}: two workers",
            medians[name].wall / medians[f"{name.removesuffix('1')}2"].wall,
            "x",
            1.6,
            at_least=True,
        )
        for name in medians
        if name.endswith(" 1")
    ]


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bytes", type=float, default=5e8, help="octets of the capture (default 5e8)")
    parser.add_argument("--capture", type=Path, help="a capture that is there, instead")
    parser.add_argument("--pairs", type=int, default=1, help="rounds after the one that warms up (default 1)")
    parser.add_argument("--units", type=int, default=10_000, help="units that do nothing (default 10000)")
    parser.add_argument(
        "--unit-seconds", type=float, default=1.0, help="work of a unit of 80 MiB, where it is not measured"
    )
    options = parser.parse_args()
    results: list[Figure] = []
    unit: float = options.unit_seconds
    medians: dict[str, Run] = {}
    if options.pairs:
        with workplace() as folder:
            capture = options.capture or build_capture(folder / "large.pcap", options.bytes)
            dataset = folder / "dataset"
            run(Command(ours("convert", capture, "-o", dataset)))
            medians = measure(commands(folder, capture, dataset), options.pairs)
            results = figures(medians)
            unit = medians["convert processes 1"].cpu / max(size_of(capture) / _UNIT, 1)
    for scheduler in SCHEDULERS:
        cost, own = seconds_per_unit(scheduler, options.units)
        results.append(Figure(f"{scheduler}: a unit of {options.units}", cost * 1000, "ms", 5))
        results.append(Figure(f"{scheduler}: of that, driver and scheduler", own * 1000, "ms", 5))
        if scheduler == "dask":
            print(
                f"a unit of 80 MiB is {unit:.2f} s of work: one scheduler keeps {unit / own:.0f} cores busy"
            )
            print(f"on {_CORES} cores it is {min(unit / own / _CORES, 1):.0%} of what they could do")
    print_tables(medians, results)


if __name__ == "__main__":
    main()
