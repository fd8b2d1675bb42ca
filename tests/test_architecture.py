"""What the packages may import, how large their files may grow, and how light they start."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import SAMPLE, run

PROJECT = Path(__file__).resolve().parent.parent

MAY_IMPORT = {
    "pcap2arrow": {"pcap2arrow"},
    "queries": {"queries", "pcap2arrow"},
    "jobs": {"jobs", "queries", "pcap2arrow"},
}
"""Which of the project's packages each may import: never one that stands above it."""

ONLY_IN_JOBS = {"dask", "distributed"}
LONGEST_FILE = 500


def _files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (PROJECT / folder).rglob("*.py"))


def _imported(path: Path) -> Iterator[str]:
    """First words of all modules that a file imports, inside functions too; its own package if relative."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            own_package = path.relative_to(PROJECT).parts[0]
            yield own_package if node.level else (node.module or "").partition(".")[0]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package: str) -> None:
    files = _files(package)
    forbidden = MAY_IMPORT.keys() - MAY_IMPORT[package] | (set() if package == "jobs" else ONLY_IN_JOBS)
    against = [(str(path), name) for path in files for name in _imported(path) if name in forbidden]
    assert (against, bool(files)) == ([], True)


def test_no_file_is_too_long() -> None:
    lengths = {
        str(path.relative_to(PROJECT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in _files(*MAY_IMPORT, "tests", "examples")
    }
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def _loaded_by(statement: str) -> set[str]:
    """First words of the modules that a fresh interpreter has after a statement."""
    program = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


HEAVY = {"numpy", "pyarrow", "polars", "dask", "distributed", "dpkt", "fsspec", "rich"}


@pytest.mark.parametrize("package", ["pcap2arrow", "queries", "jobs"])
def test_packages_load_nothing_heavy(package: str) -> None:
    loaded = _loaded_by(f"import {package}")
    assert package in loaded
    assert loaded & HEAVY == set()


def test_the_command_line_loads_nothing_heavy() -> None:
    loaded = _loaded_by("from jobs.cli import main")
    assert "jobs" in loaded
    assert loaded & HEAVY == set()


def test_the_command_loads_pandas_for_functions_of_users_alone(tmp_path: Path) -> None:
    """Arrow does it for every array, where pandas is installed: here is one that can't be loaded."""
    (tmp_path / "pandas.py").write_text("raise RuntimeError('this is pandas')", encoding="utf-8")
    (tmp_path / "function.py").write_text("import pandas\n", encoding="utf-8")
    given = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{PROJECT}"}
    dataset, target = tmp_path / "dataset", tmp_path / "target.pcapng"
    run("convert", SAMPLE, "-o", dataset, environment=given)
    run("export", dataset, "--start", "0", "-w", target, environment=given)
    run("streams", dataset, "--tables", tmp_path / "tables", "--scheduler", "processes", environment=given)
    words = ("tcpflow", "-r", SAMPLE, "-e", "python", "--map", "function:each", "-o", tmp_path / "flows")
    assert "RuntimeError: this is pandas" in run(*words, code=None, environment=given).stderr
