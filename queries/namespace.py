"""The namespace ``pcap`` of Polars' frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from queries.expressions import filter_columns, pcap_filter
from queries.in_memory import connections, stream_octets, tcp_segments, tcp_streams

if TYPE_CHECKING:
    from queries.filters.language.names import Names


@pl.api.register_lazyframe_namespace("pcap")
class LazyPackets:
    """What can be asked of a packet table: ``lf.pcap``."""

    def __init__(self, packets: pl.LazyFrame) -> None:
        self._packets = packets

    def filter(
        self, expression: str, *, link_type: int | None = None, names: Names | None = None, netmask: int = 0
    ) -> pl.LazyFrame:
        """The packets that an expression selects; see :func:`queries.pcap_filter`.

        Columns that a table lacks are done without, as long as the others tell.

        >>> pcap2arrow.scan("dataset").pcap.filter("udp port 53", link_type=1).collect()        # doctest: +SKIP
        """
        settings: dict[str, Any] = {"link_type": link_type, "names": names, "netmask": netmask}
        there = set(self._packets.collect_schema().names())
        columns = [name for name in filter_columns(expression, **settings) if name in there]
        return self._packets.filter(pcap_filter(expression, columns=columns, **settings))

    def connections(self) -> pl.DataFrame:
        """Their connections; see :func:`queries.connections`."""
        return connections(self._packets)

    def tcp_streams(self, **settings: Any) -> pl.DataFrame:
        """Their TCP streams; see :func:`queries.tcp_streams`."""
        return tcp_streams(self._packets, **settings)

    def tcp_segments(self, **settings: Any) -> pl.DataFrame:
        """Which of them gave which octets of TCP streams; see :func:`queries.tcp_segments`."""
        return tcp_segments(self._packets, **settings)

    def stream_octets(self, **settings: Any) -> pl.DataFrame:
        """What their TCP streams carried; see :func:`queries.stream_octets`."""
        return stream_octets(self._packets, **settings)


@pl.api.register_dataframe_namespace("pcap")
class Packets(LazyPackets):
    """The same of a packet table in memory: ``df.pcap``."""

    def __init__(self, packets: pl.DataFrame) -> None:
        super().__init__(packets.lazy())

    def filter(self, expression: str, **settings: Any) -> pl.DataFrame:  # type: ignore[override]
        """The packets that an expression selects; see :meth:`LazyPackets.filter`."""
        return super().filter(expression, **settings).collect()
