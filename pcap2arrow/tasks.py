"""What a scheduler runs, by the name of what it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NamedTask:
    """Calls ``run``, which reads so many ``octets`` of what has that name (None: not known how many).

    How long a worker may take for it follows from the octets; where it kills its worker, the name says what did.
    """

    name: str
    run: Callable[[], Any]
    octets: int | None = None

    def __call__(self) -> Any:
        """Run."""
        return self.run()
