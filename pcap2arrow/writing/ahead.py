"""Making what comes next while something is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_AT_ONCE = 2


def ahead(items: Iterator[_Item]) -> Generator[_Item]:
    """The items, the next of which is made by another thread while one is used.

    At the end, or where it is closed, what makes them is closed, too.  Left to the garbage collector, that would wait
    for threads in whichever thread it runs, perhaps in one that just begins and holds the lock that all threads end by.
    """
    try:
        with ThreadPoolExecutor(1) as executor:
            coming = executor.submit(next, items, None)
            while (item := coming.result()) is not None:
                coming = executor.submit(next, items, None)
                yield item
    finally:
        if isinstance(items, Generator):
            items.close()


def in_turn(tasks: Iterable[Callable[[], _Item]]) -> Iterator[_Item]:
    """The tasks' results, in their order; two tasks run at once, for each takes memory."""
    with ThreadPoolExecutor(_AT_ONCE) as executor:
        coming: deque[Future[_Item]] = deque()
        for task in tasks:
            coming.append(executor.submit(task))
            if len(coming) == _AT_ONCE:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
