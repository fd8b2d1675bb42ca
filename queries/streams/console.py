"""What packets carried, one after another, as tcpflow prints it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from queries.streams.bucket import Bucket
from queries.streams.naming import Template, address_texts, names
from queries.streams.packets import ACK, SYN
from queries.streams.style import Style

Ints = NDArray[np.int64]

_BLUE, _RED, _PLAIN = b"\x1b[0;34m", b"\x1b[0;31m", b"\x1b[0m"
_LINE = 32
_HEX_WIDTH = 81
_PRINTED = bytes(octet if 32 <= octet < 127 or octet in (10, 13) else ord(".") for octet in range(256))
_VISIBLE = bytes(octet if 32 <= octet < 127 else ord(".") for octet in range(256))


@dataclass(frozen=True, slots=True)
class _Said:
    """What is to be printed: ``parts`` are the number of a title and octets; titles are those of flows or streams.

    ``first`` has the first packet of each title, ``names`` and ``flows`` what it is called and the flow it is of.
    """

    first: pl.DataFrame
    names: Sequence[str]
    flows: Ints
    parts: Iterable[tuple[int, bytes]]


def printed(
    bucket: Bucket, style: Style, template: Template, *, folder: str = "", ordered: bool = False
) -> Iterator[bytes]:
    """Every packet with octets, in the order in which they came; octets beyond the limit of its flow are left out.

    With ``ordered``, streams instead, each octet once, as one reads a connection: what was early waits for what belongs
    before it, what follows a hole does not.  A stream's octets that came in one go are printed together.
    """
    said = _in_order(bucket, template) if ordered else _as_they_came(bucket, template)
    packets = bucket.packets
    is_syn = packets.flags & (SYN | ACK) == SYN
    from_client = np.isin(said.flows, packets.flow[is_syn]).tolist()
    ends = list(
        zip(
            address_texts(said.first, "src"),
            said.first["src_port"],
            address_texts(said.first, "dst"),
            said.first["dst_port"],
            strict=True,
        )
    )
    for title, data in said.parts:
        heading = f"{folder}{said.names[title]}: ".encode() if style.heading else b""
        yield (
            _json(ends[title], data) if style.as_json else _shown(style, heading, data, from_client[title])
        )


def _as_they_came(bucket: Bucket, template: Template) -> _Said:
    packets = bucket.packets
    rows = np.flatnonzero(packets.length > 0)
    rows = rows[np.argsort(packets.order[rows])]
    flows, which = np.unique(packets.flow[rows], return_index=True)
    first = packets.table[packets.order[rows[which]]]
    count = np.arange(len(flows))
    named = names(first.with_columns(number=count, connection=count), template)
    titles = np.searchsorted(flows, packets.flow[rows])
    return _Said(first, named, flows, _arrivals(bucket, rows, titles, len(flows)))


def _arrivals(bucket: Bucket, rows: Ints, titles: Ints, count: int) -> Iterator[tuple[int, bytes]]:
    packets, limit = bucket.packets, bucket.rules.limit
    starts, octets = packets.payload.starts, packets.payload.data
    shown = np.zeros(count, np.int64)
    for row, title in zip(rows.tolist(), titles.tolist(), strict=True):
        length = int(packets.length[row])
        if limit is not None:
            length = min(length, max(limit - int(shown[title]), 0))
            shown[title] += length
        if length:
            yield title, octets[starts[row] : starts[row] + length].tobytes()


def _in_order(bucket: Bucket, template: Template) -> _Said:
    packets, streams = bucket.packets, bucket.followed.streams
    named = bucket.names(template)
    numbers = np.array(sorted(named), np.int64)
    first = packets.table[packets.order[streams.opening[numbers]]]
    return _Said(
        first, [named[each] for each in numbers.tolist()], streams.flow[numbers], _runs(bucket, numbers)
    )


def _runs(bucket: Bucket, streams: Ints) -> Iterator[tuple[int, bytes]]:
    """Octets of streams, ascending, in the order in which they can be read."""
    assembly, packets = bucket.assembly, bucket.packets
    came = packets.order[assembly.row]
    base = assembly.stream * len(packets)
    turn = np.maximum.accumulate(came + base) - base  # within each stream
    order = np.lexsort((assembly.start, assembly.stream, turn))
    opens = np.ones(len(order), np.bool_)
    opens[1:] = (np.diff(turn[order]) != 0) | (np.diff(assembly.stream[order]) != 0)
    marks = np.flatnonzero(opens)
    starts = packets.payload.starts[assembly.row] + assembly.skipped
    stops = starts + assembly.end - assembly.start
    titles = np.searchsorted(streams, assembly.stream[order[marks]])
    for title, run in zip(titles.tolist(), np.split(order, marks[1:]), strict=True):
        yield title, b"".join(packets.payload.data[starts[each] : stops[each]].data for each in run)


def _shown(style: Style, heading: bytes, data: bytes, from_client: bool) -> bytes:
    colour = (_BLUE if from_client else _RED) if style.colours else b""
    plain = _PLAIN if style.colours else b""
    if style.hexadecimal:
        start = b"\n" if style.heading else b""
        return colour + heading + start + _hexadecimal(data) + plain + b"\n"
    text = data if style.binary else data.translate(_PRINTED)
    return colour + heading + text + plain + (b"\n" if style.newline else b"")


def _hexadecimal(data: bytes) -> bytes:
    """Lines of 32 octets, in hexadecimal and as text."""
    lines = []
    for at in range(0, len(data), _LINE):
        line = data[at : at + _LINE]
        words = "".join(f"{line[k : k + 2].hex()} " for k in range(0, len(line), 2))
        words = f"{words} " if len(line) % 2 == 0 else words
        whole = f"{at:04x}: {words}"
        if at:
            whole = whole.ljust(6 + _HEX_WIDTH)
        lines.append(whole.encode() + line.translate(_VISIBLE) + b"\n")
    return b"".join(lines)


def _json(ends: tuple[str, int, str, int], data: bytes) -> bytes:
    source, source_port, destination, destination_port = ends
    hosts = f'"src_host":"{source}","src_port":{source_port},"dst_host":"{destination}","dst_port":{destination_port}'
    return f'{{{hosts},"payload": [{",".join(map(str, data))}]}}\n'.encode()
