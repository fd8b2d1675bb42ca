"""What a task may take; apart from what watches over it, which takes a while to load."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_LEAST_SECONDS = 60.0
_OCTETS_PER_SECOND = 1_000_000
_LEAST_MEMORY = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """What a task may take before its process is killed; threads can't be stopped, and have no limits.

    ``seconds``: of wall clock.  None: a minute, and a second for each megabyte that the task says it reads, in its
    attribute ``octets``; no limit where it does not say so.  ``memory``: octets of a process.  None: an even share of
    the machine's, but 1 GiB at least.
    """

    seconds: float | None = None
    memory: int | None = None

    def time(self, task: Callable[[], Any]) -> float | None:
        """Seconds that a task may take, None if as long as it wants."""
        octets = getattr(task, "octets", None)
        if self.seconds is not None or octets is None:
            return self.seconds
        return _LEAST_SECONDS + float(octets) / _OCTETS_PER_SECOND

    def room(self, processes: int) -> int:
        """Octets of memory for each of so many processes on this machine."""
        if self.memory is not None:
            return self.memory
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return max(machine // processes, _LEAST_MEMORY)


USUAL_LIMITS = Limits()
