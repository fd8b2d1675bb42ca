"""Tables of packets to tables and text: filters, slices, merges and streams.

What is public is here, imported when it is first used.  ``import queries`` also gives lazy and other frames of Polars
the namespace ``pcap``, once Polars is there: where it was imported before, or after a scan.  ``import
queries.namespace`` loads both.

>>> import pcap2arrow, queries
>>> pcap2arrow.scan("dataset").pcap.filter("tcp port 443").select("time", "frame_len").collect()   # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pcap2arrow.reading import extensions

if TYPE_CHECKING:
    from queries.expressions import pcap_filter as pcap_filter
    from queries.filters.language.names import read_names as read_names
    from queries.in_memory import connections as connections
    from queries.in_memory import stream_octets as stream_octets
    from queries.in_memory import tcp_segments as tcp_segments
    from queries.in_memory import tcp_streams as tcp_streams

_HOMES = {
    "connections": "in_memory",
    "pcap_filter": "expressions",
    "read_names": "filters.language.names",
    "stream_octets": "in_memory",
    "tcp_segments": "in_memory",
    "tcp_streams": "in_memory",
}

__all__ = list(_HOMES)

extensions.add("queries.namespace")


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'queries' has no attribute {name!r}")
    return getattr(import_module(f"queries.{home}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
