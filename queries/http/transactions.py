"""The table of HTTP transactions: requests beside their responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from itertools import zip_longest
from typing import Any

import numpy as np
import polars as pl

from queries.flows.community import community_id
from queries.http.bodies import Bodies, Body
from queries.http.messages import SWITCHING
from queries.streams.assembly import arrivals
from queries.streams.bucket import Bucket
from queries.streams.naming import address_texts
from queries.streams.tables import connections

_TCP = 6

_MESSAGE = {
    "stream": pl.UInt64,
    "name": pl.String,
    "offset": pl.UInt64,
    "content_type": pl.String,
    "content_encoding": pl.String,
    "octets": pl.UInt64,
    "size": pl.UInt64,
    "sha256": pl.String,
    "body": pl.String,
    "problem": pl.String,
}
SCHEMA: Mapping[str, type[pl.DataType] | pl.DataType] = {
    "time": pl.Datetime("ns", "UTC"),
    "response_time": pl.Datetime("ns", "UTC"),
    "connection": pl.UInt64,
    "community_id": pl.String,
    "client": pl.String,
    "client_port": pl.UInt16,
    "server": pl.String,
    "server_port": pl.UInt16,
    "method": pl.String,
    "host": pl.String,
    "path": pl.String,
    "status": pl.UInt16,
    **{f"{side}_{name}": kind for side in ("request", "response") for name, kind in _MESSAGE.items()},
}
"""Columns of :func:`transactions_table`."""

_Pair = tuple[Body | None, Body | None]


def transactions_table(bucket: Bucket, bodies: Bodies, names: Mapping[int, str]) -> pl.DataFrame:
    """A row per request with its response, one of them null where it was not seen, with columns of :data:`SCHEMA`.

    Rows are in the order of their times: ``time`` is when the first octet of the request came, without one that of the
    response, ``response_time`` that of the response.  ``connection`` is that of the table of streams; ``community_id``
    is version 1 with seed 0.  ``path`` is what the request asks for, as it stands there.  Of responses, those with a
    status below 200 are left out, but for 101.  Of each message there are, after ``request_`` and ``response_``: the
    number of its ``stream`` and the ``name`` of that one's file, the ``offset`` of its body there, what the head says
    of its ``content_type`` and ``content_encoding``, how many ``octets`` its body has in the stream, and, without its
    encodings, the ``size`` and ``sha256`` of its body (null if it is empty), the name of the file of its ``body``, and
    the ``problem`` that it has.
    """
    connection = connections(bucket.packets, bucket.followed)
    pairs = list(_pairs(bodies, connection.tolist()))
    leading = [request or response for request, response in pairs]
    streams = [each.stream for each in leading if each is not None]
    requests, responses = ([pair[side] for pair in pairs] for side in (0, 1))
    columns: dict[str, pl.Series | list[Any]] = {
        "time": _times(bucket, leading),
        "response_time": _times(bucket, responses),
        "connection": connection[streams].tolist() if streams else [],
        **_endpoints(bucket, pairs, streams),
        **_of_messages(requests, {"method": "method", "host": "host", "path": "target"}),
        **_of_messages(responses, {"status": "status"}),
        **_sides("request", requests, names),
        **_sides("response", responses, names),
    }
    return (
        pl.DataFrame(columns, schema_overrides=dict(SCHEMA), strict=False)
        .select(list(SCHEMA))
        .sort("time", maintain_order=True, nulls_last=True)
    )


def _pairs(bodies: Bodies, connection: list[int]) -> Iterator[_Pair]:
    """Requests with their responses, connection by connection."""
    sides: dict[int, dict[str, list[Body]]] = {}
    for stream, found in bodies.of_stream.items():
        if found:
            side = "request" if found[0].message.status is None else "response"
            sides.setdefault(connection[stream], {})[side] = [each for each in found if _is_final(each)]
    for number in sorted(sides):
        both = sides[number]
        yield from zip_longest(both.get("request", []), both.get("response", []))


def _is_final(body: Body) -> bool:
    """Whether it is a request or a response that ends a transaction (RFC 9110, 15.2)."""
    status = body.message.status
    return status is None or status >= 200 or status == SWITCHING


def _times(bucket: Bucket, messages: list[Body | None]) -> pl.Series:
    """When the first octet of each message came."""
    there = [each for each in messages if each is not None]
    rows = pl.Series([None if each is None else 0 for each in messages], dtype=pl.UInt32)
    if there:
        streams, places = np.array([(each.stream, each.message.start) for each in there], np.int64).T
        found = bucket.packets.order[arrivals(bucket.assembly, streams, places)]
        rows = rows.scatter(rows.is_not_null().arg_true(), found)
    return bucket.packets.table["time"].gather(rows)


def _endpoints(bucket: Bucket, pairs: list[_Pair], streams: list[int]) -> dict[str, list[Any]]:
    """Who asked whom: of a response without a request, whom it went to."""
    distinct = sorted(set(streams))
    first = bucket.packets.table[bucket.packets.order[bucket.followed.streams.first[distinct]]]
    ends = {
        stream: ((source, source_port), (destination, destination_port))
        for stream, source, source_port, destination, destination_port in zip(
            distinct,
            address_texts(first, "src"),
            first["src_port"].to_list(),
            address_texts(first, "dst"),
            first["dst_port"].to_list(),
            strict=True,
        )
    }
    identities = {stream: _community_id(*both) for stream, both in ends.items()}
    turned = [
        ends[stream] if request is not None else ends[stream][::-1]
        for stream, (request, _) in zip(streams, pairs, strict=True)
    ]
    return {
        "community_id": [identities[stream] for stream in streams],
        "client": [client[0] for client, _ in turned],
        "client_port": [client[1] for client, _ in turned],
        "server": [server[0] for _, server in turned],
        "server_port": [server[1] for _, server in turned],
    }


def _community_id(source: tuple[str, int], destination: tuple[str, int]) -> str:
    packed = [ip_address(address).packed for address, _ in (source, destination)]
    return community_id(packed[0], packed[1], (source[1], destination[1]), _TCP)


def _of_messages(bodies: list[Body | None], columns: Mapping[str, str]) -> dict[str, list[Any]]:
    return {
        column: [None if each is None else getattr(each.message, name) for each in bodies]
        for column, name in columns.items()
    }


def _sides(side: str, bodies: list[Body | None], names: Mapping[int, str]) -> dict[str, list[Any]]:
    values: dict[str, Callable[[Body], Any]] = {
        "stream": lambda each: each.stream,
        "name": lambda each: names.get(each.stream),
        "offset": lambda each: each.message.offset,
        "content_type": lambda each: each.message.content_type,
        "content_encoding": lambda each: ", ".join(each.message.encodings) or None,
        "octets": lambda each: each.message.size,
        "size": lambda each: each.size,
        "sha256": lambda each: each.sha256,
        "body": lambda each: each.name,
        "problem": lambda each: each.problem,
    }
    return {
        f"{side}_{name}": [None if each is None else value(each) for each in bodies]
        for name, value in values.items()
    }
