"""TCP packets of datasets and captures, in the order of the whole."""

from __future__ import annotations

import polars as pl

import pcap2arrow
from queries.expressions import filter_columns, pcap_filter
from queries.streams.packets import COLUMNS, tcp_segments
from queries.streams.rules import Rules


def read_segments(source: str, rules: Rules, *, expression: str = "") -> pl.DataFrame:
    packets = pcap2arrow.scan(source)
    if expression:
        packets = packets.filter(pcap_filter(expression))
    return tcp_segments(packets.select(COLUMNS), rules).collect()
