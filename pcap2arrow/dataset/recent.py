"""What was last read of a dataset's files."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")
_MOST = 16


class Recent:
    """Remembers a few results of reading files, which never change; by several threads at once.

    Jobs ask for the same twice: what to expect of a capture, then its packets.  To open a file anew takes milliseconds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, Any] = OrderedDict()
        self._begun: dict[Hashable, Future[Any]] = {}

    def get(self, key: Hashable, read: Callable[[], _T]) -> _T:
        """What ``read`` gave for that key, or gives now; nobody may change it."""
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                known: _T = self._known[key]
                return known
        found = read()
        with self._lock:
            self._known[key] = found
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return found

    def begin(self, key: Hashable, read: Callable[[], Any]) -> None:
        """Have a thread ``read`` what :meth:`begun` gives under that key, once."""
        executor = ThreadPoolExecutor(1)
        with self._lock:
            self._begun[key] = executor.submit(read)
        executor.shutdown(wait=False)

    def begun(self, key: Hashable) -> Future[Any] | None:
        """What was begun to be read under that key, and is let go of here."""
        with self._lock:
            return self._begun.pop(key, None)
