"""A part of the work on a capture, as an executor gets it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task returned, the worker that ran it, and how long that took."""

    value: Any
    worker: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Task:
    """Calls ``run`` where it is; ``octets`` of the capture are read from ``offset`` on (None: not known how many)."""

    run: Callable[[], Any]
    offset: int
    octets: int | None

    def __call__(self) -> Outcome:
        """Run, and say where that was."""
        begin = time.perf_counter()
        value = self.run()
        thread = threading.current_thread()
        worker = f"{socket.gethostname()}:{os.getpid()}" + (
            "" if thread is threading.main_thread() else f":{thread.name}"
        )
        return Outcome(value, worker, time.perf_counter() - begin)
