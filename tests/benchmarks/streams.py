"""Streams against tcpflow: time and memory, as one table.

Run by hand, on a machine with nothing else to do::

    python tests/benchmarks/streams.py [--bytes 1e9] [--pairs 3]

A capture of about ``--bytes`` octets of real traffic is built on a memory file system and converted. Then tcpflow
writes its streams, and pcap2arrow those of the dataset as tables and as files, and those of the capture as files, in
turn, ``--pairs`` times after a round that warms up; ratios are those of the medians.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from measure import (
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


def commands(folder: Path, capture: Path, dataset: Path) -> dict[str, Command]:
    """Commands to measure, by name."""
    theirs, files, tables = folder / "theirs", folder / "files", folder / "tables"
    return {
        "tcpflow": Command(["tcpflow", "-q", "-o", str(theirs), "-r", str(capture)], theirs),
        "dataset to tables": Command(ours("streams", dataset, "--tables", tables), tables),
        "dataset to files": Command(ours("streams", dataset, "-o", files), files),
        "capture to files": Command(ours("streams", capture, "-o", files), files),
        "dataset to connections": Command(
            ours("flows", dataset, "-o", folder / "c.parquet"), folder / "c.parquet"
        ),
    }


def figures(medians: dict[str, Run]) -> list[Figure]:
    """The figures, beside the floors that they must keep."""
    real = medians["tcpflow"].wall
    floors = {"dataset to tables": 2.5, "dataset to files": 1.0, "capture to files": 1.0}
    faster = [
        Figure(f"{name}: faster", real / medians[name].wall, "x", floor, at_least=True)
        for name, floor in floors.items()
    ]
    peaks = [Figure(f"{name}: peak", medians[name].peak / 1e6, "MB", 700) for name in floors]
    return faster + peaks


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bytes", type=float, default=1e9, help="octets of the capture (default 1e9)")
    parser.add_argument("--pairs", type=int, default=3, help="rounds after the one that warms up (default 3)")
    options = parser.parse_args()
    need("tcpflow")
    with workplace() as folder:
        capture, dataset = build_capture(folder / "large.pcap", options.bytes), folder / "dataset"
        run(Command(ours("convert", capture, "-o", dataset, "--workers", "2"), dataset))
        print(f"processors {os.cpu_count()}, load {os.getloadavg()[0]:.2f}, pairs {options.pairs}")
        print(f"{capture.name}: {size_of(capture) / 1e6:.0f} MB")
        medians = measure(commands(folder, capture, dataset), options.pairs)
    print_tables(medians, figures(medians))


if __name__ == "__main__":
    main()
