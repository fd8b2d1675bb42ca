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
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SHARED = PROJECT.parent / "shared"
MEMORY_FILE_SYSTEM = Path("/dev/shm")

TSHARK_FIELDS = (
    *("frame.number", "frame.time_epoch", "frame.cap_len", "eth.type"),
    *("ip.src", "ip.dst", "ip.proto", "ip.ttl"),
    *("tcp.srcport", "tcp.dstport", "tcp.flags", "udp.srcport"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a command took: seconds of wall clock and processor, octets of memory at the peak."""

    wall: float
    cpu: float
    peak: int


@dataclass(frozen=True, slots=True)
class Command:
    """A command to measure, and what it writes, which is removed before each run."""

    words: list[str]
    output: Path | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table: what was measured, and the floor that it must keep."""

    name: str
    value: float
    unit: str
    floor: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.floor if self.at_least else self.value <= self.floor


def ours(*words: str | Path) -> list[str]:
    """The command ``pcap2arrow`` as installed beside this interpreter, else from the checkout."""
    installed = Path(sys.executable).with_name("pcap2arrow")
    start = (
        [str(installed)]
        if installed.exists()
        else [sys.executable, "-c", "from jobs.cli import main; main()"]
    )
    return start + [str(word) for word in words]


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run(command: Command) -> Run:
    """Run a command to its end and measure it; a failing one ends the benchmark."""
    if command.output is not None:
        remove(command.output)
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "TZ": "UTC"}
    with tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command.words, stdout=subprocess.DEVNULL, stderr=errors, env=environment, cwd=PROJECT
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            sys.exit(f"{' '.join(command.words)}: exit code {process.returncode}\n{errors.read().decode()}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def size_of(path: Path) -> int:
    """Octets of a file, or of all files in a folder."""
    return sum(
        entry.stat().st_size for entry in (path.rglob("*") if path.is_dir() else (path,)) if entry.is_file()
    )


def build_capture(target: Path, octets: float, *words: str) -> Path:
    """Build a capture of about that many octets from the shared corpus."""
    script = SHARED / "tools" / "make_capture.py"
    command = [sys.executable, str(script), str(target), str(SHARED / "corpus")]
    subprocess.run([*command, "--target-bytes", str(octets), *words], check=True)
    return target


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder on the memory file system (or where temporary files go), removed at the end."""
    place = MEMORY_FILE_SYSTEM if os.access(MEMORY_FILE_SYSTEM, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="pcap2arrow-benchmark-", dir=place) as folder:
        yield Path(folder)


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


def measure(runs: dict[str, Command], pairs: int) -> dict[str, Run]:
    """Medians of ``pairs`` rounds after one that warms up."""
    taken: dict[str, list[Run]] = {name: [] for name in runs}
    for number in range(pairs + 1):
        for name, command in runs.items():
            result = run(command)
            if number:
                taken[name].append(result)
        print(f"round {number} of {pairs} done", file=sys.stderr)

    def median(values: list[Run], part: Callable[[Run], float]) -> float:
        return statistics.median(map(part, values))

    return {
        name: Run(
            median(results, lambda run: run.wall),
            median(results, lambda run: run.cpu),
            max(run.peak for run in results),
        )
        for name, results in taken.items()
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


def print_tables(medians: dict[str, Run], results: list[Figure]) -> None:
    """Print what each command took, then each figure beside its floor."""
    print(f"{'command':34}{'wall s':>10}{'cpu s':>10}{'peak MB':>10}")
    for name, run_ in medians.items():
        print(f"{name:34}{run_.wall:10.3f}{run_.cpu:10.3f}{run_.peak / 1e6:10.0f}")
    print(f"\n{'figure':46}{'measured':>12}{'floor':>12}  met")
    for figure in results:
        floor = f"{'>=' if figure.at_least else '<='} {figure.floor:g}"
        value = f"{figure.value:.3g} {figure.unit}".strip()
        print(f"{figure.name:46}{value:>12}{floor:>12}  {'yes' if figure.met else 'NO'}")


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bytes", type=float, default=1e9, help="octets of each capture (default 1e9)")
    parser.add_argument("--pairs", type=int, default=5, help="rounds after the one that warms up (default 5)")
    parser.add_argument("--full-tshark", action="store_true", help="tshark reads the whole capture, too")
    parser.add_argument("--tenfold", type=Path, metavar="FOLDER", help="convert ten times as much, in FOLDER")
    options = parser.parse_args()
    if not SHARED.is_dir():
        sys.exit("needs the shared corpus in ../shared")
    for tool in ("tcpdump", "tshark"):
        if shutil.which(tool) is None:
            sys.exit(f"needs {tool}: apt-get install -y {tool}")
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
