"""The walk of ``protochain`` from header to header, of many frames at once.

It goes as libpcap's code goes, which is not quite as the headers do: over IPv4 only authentication headers are
followed, and the length of such a header alone says where the next one begins, as if it were the first.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from queries.filters.machine.loads import Flags, Numbers, Window, all_of

_PROTOCOL_AT = {4: 9, 6: 6}
_IPV6_HEADER = 40
_AUTHENTICATION = 51
_FOLLOWED = {4: (_AUTHENTICATION,), 6: (_AUTHENTICATION, 0, 60, 43, 44)}
"""Authentication header; hop-by-hop and destination options, routing and fragment headers (RFC 8200, 4)."""


def chain_end(
    window: Window, rows: NDArray[np.int64], version: Literal[4, 6], starts: Numbers, number: int
) -> tuple[Numbers, Flags | None]:
    """1 for each of ``rows`` where protocol ``number`` was met, else 0; and which walks came to an end (None: all).

    ``starts`` are the places of the network headers.  A walk in circles, where libpcap's code runs for ever, comes to
    no end.
    """
    begins = np.broadcast_to(starts.astype(np.int64), rows.shape)
    followed = np.zeros(256, np.bool_)
    followed[[protocol for protocol in _FOLLOWED[version] if protocol != number]] = True
    met, ended = np.zeros(len(rows), np.uint32), np.zeros(len(rows), np.bool_)
    each, protocols, after = _first_headers(window, rows, version, begins)
    walks = np.array([each, protocols, after, protocols, after], np.int64)
    steps = 0
    while walks.shape[1]:
        going = followed[walks[1]]
        if not going.all():
            each, protocols = walks[:2, ~going]
            met[each], ended[each] = protocols == number, True
            walks = walks[:, going]
        walks = _next_headers(window, rows, begins, walks)
        steps += 1
        circles = (walks[1] == walks[3]) & (walks[2] == walks[4])
        if circles.any():
            walks = walks[:, ~circles]
        if steps & (steps - 1) == 0:  # Brent's way to find a circle: a mark that is set ever more rarely
            walks[3:] = walks[1:3]
    return met, None if ended.all() else ended


def _first_headers(
    window: Window, rows: NDArray[np.int64], version: Literal[4, 6], starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Numbers, NDArray[np.int64]]:
    """Places among ``rows``, the protocols that their headers name, and how far from the start these begin."""
    protocols, made = window.load(rows, _PROTOCOL_AT[version], 1, starts)
    lengths = np.full(len(rows), _IPV6_HEADER)
    if version == 4:
        first, also_made = window.load(rows, 0, 1, starts)
        lengths, made = 4 * (first.astype(np.int64) & 15), all_of(made, also_made)
    each = np.arange(len(rows)) if made is None else np.flatnonzero(made)
    return each, protocols[each], lengths[each]


def _next_headers(
    window: Window, rows: NDArray[np.int64], starts: NDArray[np.int64], walks: NDArray[np.int64]
) -> NDArray[np.int64]:
    each, protocols, after = walks[:3]
    found, made = window.load(rows[each], 0, 2, starts[each] + after)
    lengths = (found & np.uint32(255)).astype(np.int64)
    walks[2] = np.where(protocols == _AUTHENTICATION, (lengths + 2) * 4, after + (lengths + 1) * 8)
    walks[1] = found >> np.uint32(8)
    return walks if made is None else walks[:, made]
