"""TCP options (RFC 9293, 3.1; RFC 7323; RFC 2018)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.layers.dissection import Dissection, Headers, Rows, opaque
from pcap2arrow.numbers import TCPOption

FIXED_LEN = 20
"""Octets of a TCP header before its options."""

NOP_NOP = 0x0101
"""How the options of most segments begin (RFC 7323, appendix A): skipped at once, which saves two rounds."""

OPTION = np.dtype(
    {
        "names": ["kind_length", "kind", "length", "octet", "word", "value", "echo"],
        "formats": [">u2", "u1", "u1", "u1", ">u2", ">u4", ">u4"],
        "offsets": [0, 0, 1, 2, 2, 2, 6],
        "itemsize": 10,
    }
)
"""An option: its kind, its length, and what stands behind them in the options of interest."""

LENGTHS = {
    TCPOption.MSS: 4,
    TCPOption.WINDOW_SCALE: 3,
    TCPOption.SACK_PERMITTED: 2,
    TCPOption.TIMESTAMP: 10,
}
"""The options of interest, and the length that each must have."""

COLUMNS = (
    ("tcp_mss", TCPOption.MSS, "word", 4),
    ("tcp_wscale", TCPOption.WINDOW_SCALE, "octet", 3),
    ("tcp_sack_ok", TCPOption.SACK_PERMITTED, "length", 2),
    ("tcp_ts_val", TCPOption.TIMESTAMP, "value", 6),
    ("tcp_ts_ecr", TCPOption.TIMESTAMP, "echo", 10),
)
"""Column, kind of option, field of it, and the octets of the option that must be there for it."""

OPTION_COLUMNS = tuple(column for column, *_ in COLUMNS)
"""The names of these columns."""

LEAST_LONG = 0x0200
"""The least kind << 8 of an option that has a length."""

OTHER, OF_INTEREST, MALFORMED = 0, 1, 2


def _tables() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """For every pair of octets kind << 8 | length: how far it is to the next option, and what option it is.

    The distance is 0 at the end of the list and where the length is shorter than the option's own two octets.
    """
    kind, length = np.divmod(np.arange(1 << 16), 256)
    distance = np.where(kind == TCPOption.NOP, 1, np.where((kind == TCPOption.END) | (length < 2), 0, length))
    what = np.where((kind > TCPOption.NOP) & (length < 2), MALFORMED, OTHER)
    for known, known_length in LENGTHS.items():
        what = np.where(kind == known, np.where(length == known_length, OF_INTEREST, MALFORMED), what)
    return distance.astype(np.uint8), what.astype(np.uint8)


DISTANCE, WHAT = _tables()


def options(d: Dissection, headers: Headers, header_len: NDArray[np.int64]) -> None:
    """Columns from the options of TCP headers that are longer than :data:`FIXED_LEN`.

    The first of a kind counts.  An option that passes ``header_len`` ends the list, one whose length is not
    that of its kind has no value; both are irregular.
    """
    rows = headers.rows
    found: list[tuple[Rows, NDArray[np.int64], NDArray[Any]]] = []
    room: NDArray[np.int64] = np.minimum(header_len, headers.room)
    place = np.where(headers["first_options"] == NOP_NOP, FIXED_LEN + 2, FIXED_LEN)
    left = np.flatnonzero(place < room)
    place = place.take(left)
    while left.size:
        there, announced = room.take(left) - place, header_len.take(left) - place
        option = d.gather(headers.at.take(left) + place, OPTION)
        kind_length = option["kind_length"].astype(np.uint16)
        distance, what = DISTANCE.take(kind_length), WHAT.take(kind_length)
        legible = there >= 2
        overlong = distance > announced
        malformed = legible & (overlong | (what == MALFORMED)) | (announced < 2) & (kind_length >= LEAST_LONG)
        if malformed.any():
            d.irregular[rows[left[malformed]]] = True
        good = np.flatnonzero(legible & ~overlong & (what == OF_INTEREST))
        if good.size:
            found.append((rows.take(left.take(good)), there.take(good), opaque(option)[good]))
        onward = np.flatnonzero((distance != 0) & (distance < there))
        left, place = left.take(onward), (place + distance).take(onward)
    if found:
        # The last value put into a packet stays, and the first of a kind is to stay.
        _put(d, *(np.concatenate(parts)[::-1] for parts in zip(*found, strict=True)))


def _put(d: Dissection, rows: Rows, room: NDArray[np.int64], options: NDArray[Any]) -> None:
    """Columns from options of the packets ``rows``, of each of which ``room`` octets are there."""
    fields = np.ascontiguousarray(options).view(OPTION)
    kind = fields["kind"].astype(np.uint8)
    for column, known, field, octets in COLUMNS:
        chosen = np.flatnonzero((kind == known.value) & (room >= octets))
        d.put_rows(rows[chosen], **{column: fields[field][chosen]})
