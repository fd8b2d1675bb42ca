"""Tasks for executors; worker processes import this module, so it is light."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from pcap2arrow.errors import FormatError


def square(number: int) -> int:
    return number * number


def fail(path: str) -> None:
    raise FormatError(path, 7, expected="sense", found="none")


def die(mark: str) -> None:
    """Leave a mark, give others time to begin, and take the process down."""
    Path(mark).touch()
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)
