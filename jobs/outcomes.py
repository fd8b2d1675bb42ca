"""Handing the end of a task from one kind of future to another."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


def settle(outcome: Future[_T], result: Callable[[], _T]) -> None:
    """End a future that nobody runs with what ``result`` returns or raises, unless it has been cancelled."""
    if not outcome.set_running_or_notify_cancel():
        return
    try:
        outcome.set_result(result())
    except BaseException as error:
        outcome.set_exception(error)
