"""What benchmarks share: captures of any size, commands measured in turn, and a table of figures and floors."""

from __future__ import annotations

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
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
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


def need(*tools: str) -> None:
    """End the program where the shared corpus or a tool is missing."""
    if not SHARED.is_dir():
        sys.exit("needs the shared corpus in ../shared")
    for tool in tools:
        if shutil.which(tool) is None:
            sys.exit(f"needs {tool}: apt-get install -y {tool}")
