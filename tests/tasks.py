"""Tasks for executors; worker processes import this module, so it is light."""

from __future__ import annotations

import os
import re
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


def crash() -> None:
    """End as a fault in native code ends a process."""
    os.kill(os.getpid(), signal.SIGSEGV)


def leave() -> None:
    os._exit(3)


def eat() -> None:
    """Take memory until there is none left."""
    taken = []
    while True:
        taken.append(b"x" * (64 << 20))
        time.sleep(0.05)


def loop() -> None:
    while True:
        pass


def hold_the_lock() -> None:
    """Run native code for hours without letting another thread of Python in."""
    re.match(r"(a|a)*$", "a" * 60 + "b")
