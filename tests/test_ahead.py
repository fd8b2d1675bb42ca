"""Items that another thread makes ahead of their use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from pcap2arrow.writing.ahead import ahead


def _numbers(ended: list[str]) -> Iterator[int]:
    try:
        yield from range(10)
    finally:
        ended.append("numbers")


def test_what_makes_items_is_closed_where_their_use_ends() -> None:
    """Even if somebody still holds it, as a traceback does."""
    ended: list[str] = []
    numbers = _numbers(ended)
    with pytest.raises(ZeroDivisionError), closing(ahead(numbers)) as coming:
        assert next(coming) == 0
        raise ZeroDivisionError
    assert ended == ["numbers"]
    assert list(numbers) == []
