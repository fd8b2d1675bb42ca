"""What threads of one process must not do first at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent

PROGRAM = """
import polars, numpy, polars._dependencies as known
from jobs.executors import open_executor, run_all
assert known.numpy is not numpy
with open_executor() as (executor, workers):
    assert list(run_all(executor, workers, [lambda: known.numpy is numpy])) == [True]
"""


def test_polars_knows_numpy_before_tasks_use_it() -> None:
    """Its stand-in for NumPy fails where two threads use it first, at once."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
