"""Directions of identifiers: which of a source's and a destination's test have to hold."""

from __future__ import annotations

from collections.abc import Callable

from pcap2arrow.errors import FilterError
from queries.filters.generate.code import Code, every, some


def by_direction(direction: str | None, source: Callable[[], Code], destination: Callable[[], Code]) -> Code:
    """The test for a direction (None: either side), one of those that are not of 802.11 alone."""
    match direction:
        case "src":
            return source()
        case "dst":
            return destination()
        case "src and dst":
            return every(source(), destination())
    return some(source(), destination())


def refuse_wlan_directions(direction: str | None, one: str, other: str | None = None) -> None:
    """Raise :class:`FilterError` for the directions of 802.11, which are ``one``; ``ra`` and ``ta``, ``other``."""
    if direction is None or direction in ("src", "dst", "src or dst", "src and dst"):
        return
    if direction in ("ra", "ta"):
        raise FilterError(f"'{direction}' is {other or one}")
    raise FilterError(f"'{direction}' and 'address{direction[-1]}' are {one}")
