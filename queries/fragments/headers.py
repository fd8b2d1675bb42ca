"""What fragments say of themselves: RFC 791 and RFC 8200, 4.5."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.arrays import call_function, gather
from pcap2arrow.layers.dissection import MAX_DEPTH
from pcap2arrow.numbers import IPProtocol

Octets = NDArray[np.uint8]
Numbers = NDArray[np.int64]

COLUMNS = (
    "frag_key", "ip_version", "ip_src", "ip_dst", "ipv6_src_hi", "ipv6_src_lo", "ipv6_dst_hi", "ipv6_dst_lo",
    "ip_proto", "ip_len", "network_offset", "caplen", "header", "rest",
)  # fmt: skip
"""Columns of the packet table that fragments are read from."""

IDENTITY = (
    "ip_version", "ip_src", "ip_dst", "ipv6_src_hi", "ipv6_src_lo", "ipv6_dst_hi", "ipv6_dst_lo",
    "identification", "protocol",
)  # fmt: skip
"""Columns that fragments of one datagram have in common; ``protocol`` counts for IPv4 only, as its RFC has it."""

LONGEST = 65_535
"""Octets of the longest datagram, without IPv6's own header."""

_READ = ("identification", "start", "stop", "more", "header_len", "patch", "next")
_IPV6_HEADER, _FRAGMENT_HEADER = 40, 8
_AH = IPProtocol.AH.value
_BEFORE = [IPProtocol.HOP_BY_HOP.value, IPProtocol.ROUTING.value, IPProtocol.DESTINATION_OPTIONS.value, _AH]


def is_fragment() -> pl.Expr:
    """Which packets of a packet table are fragments, captured whole: of others nothing is put together."""
    size = pl.col("ip_len").cast(pl.Int64) + pl.when(pl.col("ip_version") == 6).then(_IPV6_HEADER).otherwise(
        0
    )
    captured = pl.col("caplen").cast(pl.Int64) - pl.col("network_offset")
    return (pl.col("frag_key").is_not_null() & (size <= captured)).fill_null(False)


def fragments(packets: pl.DataFrame, *, octets: int | None = None) -> pl.DataFrame:
    """Of packets of :func:`is_fragment` (at least :data:`COLUMNS`) what is known of them, in the same order.

    To their columns come :data:`IDENTITY`; ``start`` and ``stop`` (u32, the octets of the datagram that a fragment
    carries), ``more`` (whether others follow), ``before`` (binary: the headers before these octets, without that of
    fragments) and ``content`` (binary: these octets, and of them only the datagram's first ``octets``, all if None).
    ``header`` and ``rest`` are gone.  A fragment that reaches beyond :data:`LONGEST` is left out, too.
    """
    parts = packets["header"].to_arrow(), packets["rest"].to_arrow(), pa.scalar(b"", pa.large_binary())
    frames = call_function("binary_join_element_wise", parts)
    ends = np.frombuffer(frames.buffers()[1], np.int64)[frames.offset : frames.offset + len(frames) + 1]
    data = np.frombuffer(frames.buffers()[2] or b"", np.uint8)
    at = ends[:-1] + packets["network_offset"].to_numpy().astype(np.int64)
    captured = ends[1:] - at
    read = {name: np.zeros(len(packets), np.int64) for name in _READ}
    version = packets["ip_version"].to_numpy()
    for number, layer in ((4, _ipv4), (6, _ipv6)):
        rows = np.flatnonzero(version == number)
        if len(rows):
            for name, values in layer(data, at[rows]).items():
                read[name][rows] = values
    content_at = read["header_len"] + np.where(version == 6, _FRAGMENT_HEADER, 0)
    length = read["stop"] - read["start"]
    kept = np.flatnonzero((length >= 0) & (content_at + length <= captured) & (read["stop"] <= LONGEST))
    stored = length if octets is None else np.clip(octets - read["start"], 0, length)
    return (
        packets[kept]
        .drop("header", "rest")
        .with_columns(
            pl.Series("identification", read["identification"][kept].astype(np.uint32)),
            pl.when(pl.col("ip_version") == 4).then("ip_proto").alias("protocol"),
            pl.Series("start", read["start"][kept].astype(np.uint32)),
            pl.Series("stop", read["stop"][kept].astype(np.uint32)),
            pl.Series("more", read["more"][kept] != 0),
            _before(data, at[kept], {name: values[kept] for name, values in read.items()}),
            pl.Series("content", gather([data], 0, (at + content_at)[kept], stored[kept])),
        )
    )


def _before(data: Octets, at: Numbers, read: dict[str, Numbers]) -> pl.Series:
    """Headers before the content, their next header that of the content; empty for later fragments."""
    lengths = np.where(read["start"] == 0, read["header_len"], 0)
    ends = np.cumsum(lengths)
    places = np.arange(int(lengths.sum())) + np.repeat(at - (ends - lengths), lengths)
    headers = data[places]
    patched = (lengths > 0) & (read["patch"] > 0)
    headers[(ends - lengths + read["patch"])[patched]] = read["next"][patched]
    offsets = pa.py_buffer(np.concatenate([[0], ends]).astype(np.int64))
    array = pa.Array.from_buffers(pa.large_binary(), len(at), [None, offsets, pa.py_buffer(headers)])
    return pl.Series("before", array)


def _word(data: Octets, at: Numbers) -> Numbers:
    return data[at].astype(np.int64) << 8 | data[at + 1]


def _ipv4(data: Octets, at: Numbers) -> dict[str, Any]:
    header_len = (data[at].astype(np.int64) & 15) << 2
    flags = _word(data, at + 6)
    start = (flags & 0x1FFF) << 3
    return {
        "identification": _word(data, at + 4),
        "start": start,
        "stop": start + _word(data, at + 2) - header_len,
        "more": flags & 0x2000,
        "header_len": header_len,
    }


def _ipv6(data: Octets, at: Numbers) -> dict[str, Any]:
    """The fragment header stands behind others, at most so many as the decoder follows."""
    place, patch = np.full(len(at), _IPV6_HEADER), np.full(len(at), 6)
    kind = data[at + patch].astype(np.int64)
    for _ in range(MAX_DEPTH):
        rows = np.flatnonzero(np.isin(kind, _BEFORE))
        if not len(rows):
            break
        header = at[rows] + place[rows]
        length = data[header + 1].astype(np.int64)
        patch[rows] = place[rows]
        place[rows] += np.where(kind[rows] == _AH, 4 * (length + 2), 8 * (length + 1))
        kind[rows] = data[header]
    header = at + place
    flags = _word(data, header + 2)
    start = flags & 0xFFF8
    return {
        "identification": _word(data, header + 4) << 16 | _word(data, header + 6),
        "start": start,
        "stop": start + _word(data, at + 4) + _IPV6_HEADER - place - _FRAGMENT_HEADER,
        "more": flags & 1,
        "header_len": place,
        "patch": patch,
        "next": data[header],
    }
