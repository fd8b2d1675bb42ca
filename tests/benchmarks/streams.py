"""Streams against tcpflow: time and memory, as one table.

Run by hand, on a machine with nothing else to do::

    python tests/benchmarks/streams.py [--bytes 1e9] [--pairs 3] [--capture FILE]
    python tests/benchmarks/streams.py --connections 30000
    python tests/benchmarks/streams.py --packets 10e6
    python tests/benchmarks/streams.py --half-open 1e6
    python tests/benchmarks/streams.py --syn-after-syn 1e6

A capture of about ``--bytes`` octets of real traffic is built on a memory file system (or is given) and converted.
Then tcpflow writes its streams, and pcap2arrow those of the dataset as tables and as files, and those of the capture as
files, in turn, ``--pairs`` times after a round that warms up; ratios are those of the medians.  With ``--connections``,
the capture is of so many short connections, 40 packets each way, that go on side by side; with ``--packets``, of one
connection of so many packets, of which some are lost, swapped or sent again; with ``--half-open`` and
``--syn-after-syn`` of so many SYN, each from another endpoint, or all between the same two.  Peaks are of one process.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
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

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests import tcp
from tests.blocks import pcap_header

_AT_ONCE = 100  # connections


def commands(folder: Path, capture: Path, dataset: Path) -> dict[str, Command]:
    """Commands to measure, by name."""
    theirs, files, tables = folder / "theirs", folder / "files", folder / "tables"
    return {
        "tcpflow": Command(["tcpflow", "-q", "-o", str(theirs), "-r", str(capture)], theirs),
        "dataset to tables": Command(ours("streams", dataset, "--tables", tables), tables),
        "dataset to files": Command(ours("streams", dataset, "-o", files), files),
        "capture to files": Command(ours("streams", capture, "-o", files), files),
        "dataset to hashes and octets": Command(
            ours("streams", dataset, "--tables", tables, "--hash", "--octets"), tables
        ),
        "dataset to connections": Command(
            ours("flows", dataset, "-o", folder / "c.parquet"), folder / "c.parquet"
        ),
    }


def build_connections(target: Path, connections: int) -> Path:
    """A capture of connections, each of 40 segments each way of 500 octets, a hundred at a time."""
    frame = np.frombuffer(tcp.Segment(0, bytes(500)).frame(), np.uint8)
    count = 80
    with target.open("wb") as file:
        file.write(pcap_header("<"))
        for first in range(0, connections, _AT_ONCE):
            here = np.arange(first, min(first + _AT_ONCE, connections))
            turn, who = np.divmod(np.arange(len(here) * count), len(here))
            backward = turn % 2 == 1
            record = np.empty((len(turn), 16 + len(frame)), np.uint8)
            record[:, 16:] = frame
            time = (first * count + np.arange(len(turn))) * 4

            def put(at: int, values: np.ndarray, kind: str) -> None:
                octets = values.astype(kind).view(np.uint8).reshape(len(values), -1)
                record[:, at : at + octets.shape[1]] = octets  # noqa: B023

            put(0, 1_700_000_000 + time // 10**6, "<u4")
            put(4, time % 10**6, "<u4")
            put(8, np.full(len(turn), len(frame)), "<u4")
            put(12, np.full(len(turn), len(frame)), "<u4")
            address, server = (10 << 24) + here[who] // 50_000, np.full(len(turn), (11 << 24) + 1)
            port = 1024 + here[who] % 50_000
            put(42, np.where(backward, server, address), ">u4")
            put(46, np.where(backward, address, server), ">u4")
            put(50, np.where(backward, 80, port), ">u2")
            put(52, np.where(backward, port, 80), ">u2")
            put(54, 1 + turn // 2 * 500, ">u4")
            file.write(record.tobytes())
    return target


def build_long(target: Path, packets: int) -> Path:
    """A capture of one connection: two segments of 20 octets one way, then one without any the other way."""
    frame = np.frombuffer(tcp.Segment(0, b"a" * 20).frame(), np.uint8)
    answer = np.frombuffer(tcp.segments("@1<")[0].frame(), np.uint8)
    sizes = [16 + len(each) for each in (frame, frame, answer)]
    chance = np.random.default_rng(1)
    with target.open("wb") as file:
        file.write(pcap_header("<"))
        for first in range(0, packets // 3, 1 << 16):
            turns = np.arange(first, min(first + (1 << 16), packets // 3))
            segment = np.stack([2 * turns, 2 * turns + 1], axis=1)
            swapped, again = (chance.random(len(turns)) < share for share in (0.01, 0.005))
            segment[swapped] = segment[swapped][:, ::-1]
            segment[again, 0] -= 10
            record = np.zeros((len(turns), sum(sizes)), np.uint8)
            for number, octets in enumerate((frame, frame, answer)):
                at = sum(sizes[:number])
                time = (3 * turns + number) * 10
                seq = 1 + np.maximum(segment[:, number], 0) * 20 if number < 2 else np.ones(len(turns))
                fields = (1_700_000_000 + time // 10**6, time % 10**6, np.full(len(turns), len(octets)))
                record[:, at : at + 16] = np.stack([*fields, fields[2]], axis=1).astype("<u4").view(np.uint8)
                record[:, at + 16 : at + sizes[number]] = octets
                record[:, at + 54 : at + 58] = seq.astype(">u4")[:, None].view(np.uint8)
            file.write(record.tobytes())
    return target


def build_syn(target: Path, count: int, *, half_open: bool) -> Path:
    """A capture of so many SYN, each of another connection: from another endpoint, or all between the same two."""
    frame = np.frombuffer(tcp.Segment(0, flags=tcp.FLAGS["S"]).frame(), np.uint8)
    number = np.arange(count)
    record = np.zeros((count, 16 + len(frame)), np.uint8)
    record[:, 16:] = frame
    length = np.full(count, len(frame))
    header = np.stack([1_700_000_000 + number // 10**5, number % 10**5 * 10, length, length], axis=1)
    record[:, :16] = header.astype("<u4").view(np.uint8)
    if half_open:
        record[:, 42:46] = ((10 << 24) + number // 50_000).astype(">u4")[:, None].view(np.uint8)
        record[:, 50:52] = (1024 + number % 50_000).astype(">u2")[:, None].view(np.uint8)
    record[:, 54:58] = (number * 7919 % 2**32).astype(">u4")[:, None].view(np.uint8)
    target.write_bytes(pcap_header("<") + record.tobytes())
    return target


def figures(medians: dict[str, Run]) -> list[Figure]:
    """The figures, beside the floors that they must keep."""
    real = medians["tcpflow"].wall
    floors = {"dataset to tables": 2.5, "dataset to files": 1.0, "capture to files": 1.0}
    faster = [
        Figure(f"{name}: faster", real / medians[name].wall, "x", floor, at_least=True)
        for name, floor in floors.items()
    ]
    used = medians["tcpflow"].cpu
    faster += [
        Figure(f"{name}: less processor time", used / medians[name].cpu, "x", floor, at_least=True)
        for name, floor in floors.items()
    ]
    peaks = [
        Figure(f"{name}: peak", medians[name].peak / 1e6, "MB", 700) for name in medians if name != "tcpflow"
    ]
    return faster + peaks


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bytes", type=float, default=1e9, help="octets of the capture (default 1e9)")
    parser.add_argument("--pairs", type=int, default=3, help="rounds after the one that warms up (default 3)")
    parser.add_argument("--connections", type=int, help="short connections instead of real traffic")
    parser.add_argument("--packets", type=float, help="one connection of so many packets instead")
    parser.add_argument("--half-open", type=float, help="so many connections of a SYN each instead")
    parser.add_argument("--syn-after-syn", type=float, help="the same between two endpoints")
    parser.add_argument("--capture", type=Path, help="a capture that is there already")
    options = parser.parse_args()
    need("tcpflow")
    with workplace() as folder:
        capture, dataset = folder / "large.pcap", folder / "dataset"
        if options.capture is not None:
            capture = options.capture
        elif options.connections:
            build_connections(capture, options.connections)
        elif options.packets:
            build_long(capture, int(options.packets))
        elif syn := options.half_open or options.syn_after_syn:
            build_syn(capture, int(syn), half_open=bool(options.half_open))
        else:
            build_capture(capture, options.bytes)
        run(Command(ours("convert", capture, "-o", dataset, "--workers", "2"), dataset))
        print(f"processors {os.cpu_count()}, load {os.getloadavg()[0]:.2f}, pairs {options.pairs}")
        print(f"{capture.name}: {size_of(capture) / 1e6:.0f} MB")
        medians = measure(commands(folder, capture, dataset), options.pairs)
    print_tables(medians, figures(medians))


if __name__ == "__main__":
    main()
