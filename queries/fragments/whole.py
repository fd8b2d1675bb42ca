"""Datagrams decoded as if they had come whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pcap2arrow import schema
from pcap2arrow.arrays import Bitmaps, gather, numbers
from pcap2arrow.layers import PAD, Chunk, Decoded, decode
from pcap2arrow.numbers import LinkType
from queries.fragments.datagrams import Datagrams

_DECODED = ("network", "transport", "decoding", "grouping")
_IPV4_LENGTH, _IPV4_FLAGS, _IPV6_LENGTH, _IPV6_HEADER = 2, 6, 4, 40


def packets(table: pl.DataFrame, found: Datagrams, columns: list[str]) -> pl.DataFrame:
    """Those columns of the datagrams' packets, and all columns of the table that the packet table does not have.

    What IP and the layers above it say is that of the whole datagram, and so are ``payload_len``, ``caplen``,
    ``filter_len``, ``header`` and ``rest``, which begin with the IP header.  All else is that of the frame that
    completed it.  Where fragments are ``chosen``, so is a datagram of any such; ``of_fragments`` is then their
    ``frag_key``.
    """
    data, starts, available, full = _octets(table, found)
    decoded = decode(
        Chunk(
            data=data,
            start=starts,
            caplen=available.astype(np.uint32),
            frame_len=full.astype(np.uint32),
            link_type=np.full(len(found), LinkType.RAW, np.uint16),
            fcs_len=np.zeros(len(found), np.uint8),
        )
    )
    own = _columns(decoded, data, starts, available, full)
    frame = table[found.last]
    if "chosen" in frame:
        chosen = np.logical_or.reduceat(table["chosen"].to_numpy()[found.row], found.bounds[:-1])
        frame = frame.with_columns(pl.Series("chosen", chosen), pl.col("frag_key").alias("of_fragments"))
    more = [name for name in frame.columns if name not in schema.by_name()]
    return pl.DataFrame(
        [own[name] if name in own else frame[name] for name in columns] + [frame[name] for name in more]
    )


def _octets(
    table: pl.DataFrame, found: Datagrams
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Packets one behind the other, where each starts, how many octets of it are there, and how long it is.

    Headers say that they are of whole packets.
    """
    before, content = table["before"], table["content"]
    stored = content.bin.size().to_numpy().astype(np.int64)[found.row]
    taken = np.clip(np.minimum(found.end, stored) - found.skip, 0, None)
    places, headers = found.bounds[:-1] + np.arange(len(found)), _sizes(before)[found.first]
    from_header = np.zeros(len(found.row) + len(found), np.bool_)
    from_header[places] = True
    pool, before_at, content_at = _pool(before, content)
    start, length = (np.empty(len(from_header), np.int64) for _ in range(2))
    start[places], length[places] = before_at[found.first], headers
    start[~from_header], length[~from_header] = content_at[found.row] + found.skip, taken
    data = _joined(pool, start, length)
    ends = np.cumsum(length)
    starts = (ends - length)[places]
    available = np.diff(np.append(starts, ends[-1] if len(ends) else 0))
    full = headers + _per_datagram(found.end - found.skip, found.bounds)
    _patch(data, starts, full, table["ip_version"].to_numpy()[found.first])
    return data, starts, available, full


def _sizes(octets: pl.Series) -> NDArray[np.int64]:
    return octets.bin.size().to_numpy().astype(np.int64)


def _per_datagram(values: NDArray[np.int64], bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    sums = np.concatenate([[0], np.cumsum(values)])
    result: NDArray[np.int64] = sums[bounds[1:]] - sums[bounds[:-1]]
    return result


def _pool(
    before: pl.Series, content: pl.Series
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """All octets of both, and where those of each row start."""
    octets = b"".join([*before, *content])
    ends = np.cumsum(np.concatenate([_sizes(before), _sizes(content)]))
    starts = np.concatenate([[0], ends])[:-1].astype(np.int64)
    return np.frombuffer(octets, np.uint8), starts[: len(before)], starts[len(before) :]


def _joined(
    pool: NDArray[np.uint8], start: NDArray[np.int64], length: NDArray[np.int64]
) -> NDArray[np.uint8]:
    pieces = gather([pool], 0, start, length)
    octets = np.frombuffer(pieces.buffers()[2] or b"", np.uint8)[: int(length.sum())]
    return np.concatenate([octets, np.zeros(PAD, np.uint8)])


def _patch(
    data: NDArray[np.uint8], starts: NDArray[np.int64], full: NDArray[np.int64], version: NDArray[Any]
) -> None:
    """Put lengths of whole packets into headers (0 where there is no room for them), and take flags out."""
    for number, place, less in ((4, _IPV4_LENGTH, 0), (6, _IPV6_LENGTH, _IPV6_HEADER)):
        rows = np.flatnonzero(version == number)
        length = full[rows] - less
        length[length > np.iinfo(np.uint16).max] = 0
        data[starts[rows] + place] = length >> 8
        data[starts[rows] + place + 1] = length & 0xFF
    four = starts[version == 4]
    data[four + _IPV4_FLAGS] &= 0x40
    data[four + _IPV4_FLAGS + 1] = 0


def _columns(
    decoded: Decoded,
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    available: NDArray[np.int64],
    full: NDArray[np.int64],
) -> dict[str, pl.Series]:
    """Columns that are the datagrams' own."""
    bitmaps = Bitmaps()
    header_len = decoded.header_len.astype(np.int64)
    result = {
        name: pl.Series(name, gather([data], 0, at, length))
        for name, at, length in (
            ("header", starts, header_len),
            ("rest", starts + header_len, available - header_len),
        )
    }
    for name in ("caplen", "filter_len"):
        result[name] = pl.Series(name, full, pl.UInt32)
    for column in schema.COLUMNS:
        if column.name in decoded.columns:
            values = decoded.columns[column.name]
            array = numbers(values.values, values.valid, schema.arrow_type(column.kind), bitmaps)
            result[column.name] = pl.Series(column.name, array)
        elif column.group in _DECODED:
            result[column.name] = pl.Series(column.name, [None] * len(starts), _type(column))
    return result | {"payload_len": _payload_len(result["payload_len"], full - available)}


def _payload_len(found: pl.Series, missing: NDArray[np.int64]) -> pl.Series:
    """With what is not there of the datagrams' ends, which were long enough to be decoded."""
    return (found + pl.Series(missing, dtype=pl.UInt32)).zip_with(found > 0, found)


def _type(column: schema.Column) -> pl.DataType:
    return schema.polars_schema()[column.name]
