"""Conversion against the real tools: time, processor time, memory and size, as one table.

Run by hand, on a machine with nothing else to do::

    python tests/benchmarks/conversion.py [--bytes 1e9] [--pairs 5] [--tenfold FOLDER] [--full-tshark]

Two captures are built from real traffic by ``../shared/tools/make_capture.py``: one of about ``--bytes``
octets, one as large of small packets. Captures and results lie on a memory file system and are removed at
the end. Every command runs once to warm up; then all of them run in turn, ``--pairs`` times, and medians
count; a ratio is that of the medians. tshark reads a capture of a tenth of the size, built of the same
traffic, unless ``--full-tshark`` is given, and its time is scaled by the octets. Peak memory is the
largest resident set of one process of the command, as ``wait4`` tells it. With ``--tenfold`` a capture
ten times as large is converted once, in FOLDER.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import sys
import tempfile
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

TSHARK_FIELDS = (
    *("frame.number", "frame.time_epoch", "frame.cap_len", "eth.type"),
    *("ip.src", "ip.dst", "ip.proto", "ip.ttl"),
    *("tcp.srcport", "tcp.dstport", "tcp.flags", "udp.srcport"),
)


def commands(folder: Path, octets: float, *, full_tshark: bool) -> dict[str, Command]:
    """Build the captures and give the commands to measure, by name."""
    large = build_capture(folder / "large.pcap", octets)
    small = build_capture(folder / "small.pcap", octets, "--max-len", "160")
    part = large if full_tshark else build_capture(folder / "part.pcap", octets / 10)

    def convert(capture: Path, dataset: str, *words: str) -> Command:
        target = folder / dataset
        return Command(ours("convert", capture, "-o", target, *words), target)

    def copy(capture: Path) -> Command:
        target = folder / f"copy-of-{capture.name}"
        return Command(["tcpdump", "-r", str(capture), "-w", str(target)], target)

    exported = folder / "exported.pcap"
    fields = [word for field in TSHARK_FIELDS for word in ("-e", field)]
    return {
        "convert, 2 workers": convert(large, "dataset", "--workers", "2"),
        "tcpdump -w": copy(large),
        "export": Command(ours("export", folder / "dataset", "-w", exported, "--format", "pcap"), exported),
        "convert, 1 worker": convert(large, "dataset-1", "--workers", "1"),
        "tshark -T fields": Command(["tshark", "-n", "-r", str(part), "-T", "fields", *fields]),
        "convert, referenced": convert(large, "referenced", "--workers", "2", "--frames", "referenced"),
        "convert, small packets": convert(small, "dataset-small", "--workers", "2"),
        "tcpdump -w, small packets": copy(small),
        "--help": Command(ours("--help")),
    }


def figures(folder: Path, medians: dict[str, Run], part_octets: int) -> list[Figure]:
    """The figures that have a floor."""
    octets = size_of(folder / "large.pcap")
    two, copy = medians["convert, 2 workers"], medians["tcpdump -w"]
    tshark = medians["tshark -T fields"].wall * octets / part_octets
    small, small_copy = medians["convert, small packets"], medians["tcpdump -w, small packets"]
    return [
        Figure("convert, faster than tshark -T fields", tshark / two.wall, "x", 25, at_least=True),
        Figure("convert, processor time against tcpdump -w", two.cpu / copy.cpu, "x", 6),
        Figure("  the same for small packets", small.cpu / small_copy.cpu, "x", 10),
        Figure(
            "two workers, faster than one",
            medians["convert, 1 worker"].wall / two.wall,
            "x",
            1.6,
            at_least=True,
        ),
        Figure("convert, peak memory", two.peak / 1e6, "MB", 700),
        Figure("dataset / capture", size_of(folder / "dataset") / octets, "", 0.42),
        Figure("dataset / capture, referenced", size_of(folder / "referenced") / octets, "", 0.07),
        Figure("full export, time against tcpdump -w", medians["export"].wall / copy.wall, "x", 2),
        Figure("pcap2arrow --help", medians["--help"].wall, "s", 0.2),
    ]


def tenfold(folder: Path, octets: float, peak: int) -> list[Figure]:
    """Convert a capture ten times as large: its peak memory, and that against the peak of the first."""
    with tempfile.TemporaryDirectory(prefix="pcap2arrow-benchmark-", dir=folder) as name:
        capture, dataset = build_capture(Path(name, "tenfold.pcap"), octets * 10), Path(name, "dataset")
        large = run(Command(ours("convert", capture, "-o", dataset, "--workers", "2"), dataset))
    return [
        Figure("ten times the capture, peak memory", large.peak / 1e6, "MB", 700),
        Figure("  against that of the first", large.peak / peak, "x", 1.1),
    ]


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bytes", type=float, default=1e9, help="octets of each capture (default 1e9)")
    parser.add_argument("--pairs", type=int, default=5, help="rounds after the one that warms up (default 5)")
    parser.add_argument("--full-tshark", action="store_true", help="tshark reads the whole capture, too")
    parser.add_argument("--tenfold", type=Path, metavar="FOLDER", help="convert ten times as much, in FOLDER")
    options = parser.parse_args()
    need("tcpdump", "tshark")
    with workplace() as folder:
        runs = commands(folder, options.bytes, full_tshark=options.full_tshark)
        part = folder / ("large.pcap" if options.full_tshark else "part.pcap")
        print(f"processors {os.cpu_count()}, load {os.getloadavg()[0]:.2f}, pairs {options.pairs}")
        for capture in sorted({folder / "large.pcap", folder / "small.pcap", part}):
            print(f"{capture.name}: {size_of(capture) / 1e6:.0f} MB")
        medians = measure(runs, options.pairs)
        results = figures(folder, medians, size_of(part))
        if not filecmp.cmp(folder / "exported.pcap", folder / "copy-of-large.pcap", shallow=False):
            sys.exit("the exported capture is not tcpdump's copy")
    if options.tenfold is not None:
        results += tenfold(options.tenfold, options.bytes, medians["convert, 2 workers"].peak)
    print_tables(medians, results)


if __name__ == "__main__":
    main()
