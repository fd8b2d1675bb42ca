"""README and the notebooks, run as they stand."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.cli.group import VERBS
from tests.commands import PROJECT, SAMPLE, command

BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", (PROJECT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def _blocks(language: str) -> list[str]:
    return [text for word, text in BLOCKS if word == language]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder with the sample in ``captures`` and ``examples``."""
    for folder in ("captures", "examples"):
        (tmp_path / folder).mkdir()
        shutil.copy(SAMPLE, tmp_path / folder)
    yield tmp_path


def test_first_two_blocks_are_one_line_commands() -> None:
    assert [(word, text.count("\n")) for word, text in BLOCKS[:2]] == [("sh", 1), ("sh", 1)]


def test_first_command_converts_the_sample_and_gives_it_back(place: Path) -> None:
    """All of it but the installation."""
    setup, _, line = BLOCKS[0][1].partition(" && .venv/bin/pcap2arrow convert ")
    assert setup == "python3 -m venv .venv && .venv/bin/pip install --quiet ."
    line = (".venv/bin/pcap2arrow convert " + line).replace(".venv/bin/pcap2arrow", shlex.join(command()))
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(line, shell=True, cwd=place, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 capture: 1 converted" in done.stdout and "sample.pcapng  pcapng       51" in done.stdout


@pytest.mark.parametrize("number", [0, 1])
def test_python_examples_run(number: int, place: Path) -> None:
    program = "".join(_blocks("python")[: number + 1])
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=place, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "192.0.2.53" in done.stdout  # the answer of the resolver, as text


def test_every_verb_is_in_the_overview() -> None:
    overview = next(text for text in _blocks("") if "pcap2arrow convert" in text)
    assert tuple(line.split()[1] for line in overview.splitlines()) == VERBS


def test_the_notebook_runs() -> None:
    """Its code cells, one after the other, in its folder; the last one exports what it selected."""
    notebook = json.loads((PROJECT / "notebooks" / "explore.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    *lines, last = "\n".join(cells).splitlines()
    program = "\n".join([*lines, f"print({last})"])
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONWARNINGS": "error"}
    folder = PROJECT / "notebooks"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("4 4\n", "")
    assert not any(cell.get("outputs") for cell in notebook["cells"])
