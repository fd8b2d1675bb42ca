"""Connections against nfstream: time and memory, as one table.

Run by hand, on a machine with nothing else to do, where nfstream is installed (``pip install nfstream``)::

    python tests/benchmarks/flows.py [--bytes 1e9] [--pairs 3] [--capture FILE]

A capture of about ``--bytes`` octets of real traffic is built on a memory file system (or is given) and converted.
Then nfstream lists its flows without looking into them (``n_dissections=0``), to a CSV file, and pcap2arrow its
connections, of the capture and of the dataset, in turn, ``--pairs`` times after a round that warms up; ratios are those
of the medians.  Peaks are of one process.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
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

_NFSTREAM = """\
import sys
from nfstream import NFStreamer
if __name__ == "__main__":
    print(NFStreamer(sys.argv[1], n_dissections=0, n_meters=int(sys.argv[3])).to_csv(sys.argv[2]))
"""


def commands(folder: Path, capture: Path, dataset: Path) -> dict[str, Command]:
    """Commands to measure, by name."""
    script = folder / "nfstream_flows.py"
    script.write_text(_NFSTREAM)
    theirs, mine = folder / "flows.csv", folder / "connections.parquet"
    meters = str(os.cpu_count() or 1)
    return {
        "nfstream": Command([sys.executable, str(script), str(capture), str(theirs), meters], theirs),
        "capture to connections": Command(ours("flows", capture, "-o", mine), mine),
        "dataset to connections": Command(ours("flows", dataset, "-o", mine), mine),
    }


def figures(medians: dict[str, Run]) -> list[Figure]:
    """The figures, beside the floors that they must keep."""
    real = medians["nfstream"].wall
    mine = {name: taken for name, taken in medians.items() if name != "nfstream"}
    faster = [
        Figure(f"{name}: faster", real / taken.wall, "x", 4, at_least=True) for name, taken in mine.items()
    ]
    return faster + [Figure(f"{name}: peak", taken.peak / 1e6, "MB", 700) for name, taken in mine.items()]


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bytes", type=float, default=1e9, help="octets of the capture (default 1e9)")
    parser.add_argument("--pairs", type=int, default=3, help="rounds after the one that warms up (default 3)")
    parser.add_argument("--capture", type=Path, help="a capture that is there already")
    options = parser.parse_args()
    if importlib.util.find_spec("nfstream") is None:
        sys.exit("needs nfstream: pip install nfstream")
    need()
    with workplace() as folder:
        capture, dataset = options.capture or folder / "large.pcap", folder / "dataset"
        if options.capture is None:
            build_capture(capture, options.bytes)
        run(Command(ours("convert", capture, "-o", dataset, "--workers", "2"), dataset))
        print(f"processors {os.cpu_count()}, load {os.getloadavg()[0]:.2f}, pairs {options.pairs}")
        print(f"{capture.name}: {size_of(capture) / 1e6:.0f} MB")
        medians = measure(commands(folder, capture, dataset), options.pairs)
    print_tables(medians, figures(medians))


if __name__ == "__main__":
    main()
