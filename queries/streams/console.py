"""What packets carried, one after another, as tcpflow prints it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from queries.streams.bucket import Bucket
from queries.streams.naming import Template, address_texts, names
from queries.streams.packets import ACK, SYN
from queries.streams.style import Style

_BLUE, _RED, _PLAIN = b"\x1b[0;34m", b"\x1b[0;31m", b"\x1b[0m"
_LINE = 32
_HEX_WIDTH = 81
_PRINTED = bytes(octet if 32 <= octet < 127 or octet in (10, 13) else ord(".") for octet in range(256))
_VISIBLE = bytes(octet if 32 <= octet < 127 else ord(".") for octet in range(256))


def printed(bucket: Bucket, style: Style, template: Template, *, folder: str = "") -> Iterator[bytes]:
    """Every packet with octets, in the order in which they came; octets beyond the limit of its flow are left out."""
    packets, limit = bucket.packets, bucket.rules.limit
    rows = np.flatnonzero(packets.length > 0)
    rows = rows[np.argsort(packets.order[rows])]
    flows, which = np.unique(packets.flow[rows], return_index=True)
    first = packets.table[packets.order[rows[which]]]
    count = np.arange(len(flows))
    named = names(first.with_columns(number=count, connection=count), template)
    is_syn = packets.flags & (SYN | ACK) == SYN
    began = set(np.unique(packets.flow[is_syn]).tolist())
    ends = list(
        zip(
            address_texts(first, "src"),
            first["src_port"],
            address_texts(first, "dst"),
            first["dst_port"],
            strict=True,
        )
    )
    starts, octets = packets.payload.starts, packets.payload.data
    shown = np.zeros(len(flows), np.int64)
    for row, flow in zip(rows.tolist(), np.searchsorted(flows, packets.flow[rows]).tolist(), strict=True):
        length = int(packets.length[row])
        if limit is not None:
            length = min(length, max(limit - int(shown[flow]), 0))
            shown[flow] += length
        if length:
            data = octets[starts[row] : starts[row] + length].tobytes()
            heading = f"{folder}{named[flow]}: ".encode() if style.heading else b""
            yield (
                _json(ends[flow], data)
                if style.as_json
                else _shown(style, heading, data, int(flows[flow]) in began)
            )


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
