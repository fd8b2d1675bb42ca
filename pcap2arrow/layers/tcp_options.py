"""TCP options (RFC 9293, 3.1; RFC 7323; RFC 2018)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.layers.dissection import Dissection, Headers
from pcap2arrow.numbers import TCPOption

FIXED_LEN = 20
"""Octets of a TCP header before its options."""

COMMON = np.dtype([("kinds_lengths", ">u4"), ("value", ">u4"), ("echo", ">u4")])
NOP_NOP_TIMESTAMP = 0x0101080A
"""How the options of most segments begin (RFC 7323, appendix A)."""

OPTION = np.dtype(
    {
        "names": ["kind", "length", "octet", "word", "value", "echo"],
        "formats": ["u1", "u1", "u1", ">u2", ">u4", ">u4"],
        "offsets": [0, 1, 2, 2, 2, 6],
        "itemsize": 10,
    }
)
"""An option: its kind, its length, and what stands behind them in the options of interest."""

LENGTHS = np.zeros(256, np.uint8)
LENGTHS[TCPOption.MSS] = 4
LENGTHS[TCPOption.WINDOW_SCALE] = 3
LENGTHS[TCPOption.SACK_PERMITTED] = 2
LENGTHS[TCPOption.TIMESTAMP] = 10
"""Length of the options of interest by kind, 0 for the others."""

COLUMNS = (
    ("tcp_mss", TCPOption.MSS, "word", 4),
    ("tcp_wscale", TCPOption.WINDOW_SCALE, "octet", 3),
    ("tcp_sack_ok", TCPOption.SACK_PERMITTED, "length", 2),
    ("tcp_ts_val", TCPOption.TIMESTAMP, "value", 6),
    ("tcp_ts_ecr", TCPOption.TIMESTAMP, "echo", 10),
)
"""Column, kind of option, field of it, and the octets of the option that must be there for it."""

Found = dict[str, list[tuple[NDArray[np.intp], NDArray[Any]]]]
"""Per column: which headers have a value, and the values; earlier options first."""


def options(d: Dissection, headers: Headers, header_len: NDArray[np.int64]) -> None:
    """Columns from the options of TCP headers that are longer than :data:`FIXED_LEN`; the first of a kind
    counts.

    An option that passes ``header_len`` ends the list, one whose length is not that of its kind has no
    value; both are irregular.
    """
    found: Found = {column: [] for column, *_ in COLUMNS}
    place = _usual(d, headers, header_len, found)
    room = np.minimum(header_len, headers.room)
    left = np.flatnonzero(place < room)
    while left.size:
        there = room[left] - place[left]
        option = d.gather(headers.at[left] + place[left], OPTION)
        kind, length = option["kind"], option["length"].astype(np.int64)
        single = kind <= TCPOption.NOP
        length[single] = 1
        legible = single | (there >= 2)
        expected = LENGTHS.take(kind)
        wrong = (expected != 0) & (length != expected)
        overlong = (length < 1 + ~single) | (length > header_len[left] - place[left])
        d.irregular[headers.rows[left[legible & (wrong | overlong)]]] = True
        good = legible & ~wrong & ~overlong & (expected != 0)
        for column, known, field, octets in COLUMNS:
            chosen = np.flatnonzero(good & (kind == known) & (there >= octets))
            found[column].append((left[chosen], option[field][chosen]))
        place[left] += length
        left = left[legible & ~overlong & (kind != TCPOption.END) & (length < there)]
    for column, parts in found.items():
        _put(d, headers, column, parts)


def _usual(d: Dissection, headers: Headers, header_len: NDArray[np.int64], found: Found) -> NDArray[np.int64]:
    """Take the usual beginning from those headers that have it; returns where the other options begin."""
    common = d.gather(headers.at + FIXED_LEN, COMMON)
    end = FIXED_LEN + COMMON.itemsize
    usual = common["kinds_lengths"] == NOP_NOP_TIMESTAMP
    usual &= (header_len >= end) & (headers.room >= end)
    which = np.flatnonzero(usual)
    found["tcp_ts_val"].append((which, common["value"][which]))
    found["tcp_ts_ecr"].append((which, common["echo"][which]))
    return np.where(usual, end, FIXED_LEN)


def _put(
    d: Dissection, headers: Headers, column: str, parts: list[tuple[NDArray[np.intp], NDArray[Any]]]
) -> None:
    values, present = np.zeros(headers.rows.size, np.uint32), np.zeros(headers.rows.size, np.bool_)
    for which, of_option in reversed(parts):
        values[which] = of_option
        present[which] = True
    d.put_rows(headers.rows[present], **{column: values[present]})
