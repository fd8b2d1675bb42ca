"""Connections and streams of packet tables in memory, beside those of the jobs."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import pcap2arrow
import queries
from jobs.flows.api import flows
from jobs.streams.api import write_streams
from pcap2arrow.errors import UsageError
from queries.filters.compiled import compile_filter
from queries.streams.rules import Rules
from tests.commands import SAMPLE
from tests.conftest import CorpusCapture


@pytest.mark.parametrize("name", queries.__all__)
def test_what_is_public_is_there(name: str) -> None:
    assert callable(getattr(queries, name))


def _compare(source: Path, folder: Path) -> int:
    """How many streams there are, equal to those of the jobs, as are connections."""
    packets = pcap2arrow.scan(source).collect()
    assert_frame_equal(packets.pcap.connections(), flows([source]).connections)
    report = write_streams([source], rules=Rules(), tables=str(folder), hashes=True, octets=True)
    found = packets.pcap.tcp_streams(hashes=True)
    assert len(found) == report.streams
    if report.streams:
        assert_frame_equal(found, pl.read_parquet(folder / "streams.parquet"), check_dtypes=False)
        segments = pl.read_parquet(folder / "segments.parquet")
        assert_frame_equal(packets.pcap.tcp_segments().drop("capture_id"), segments.drop("capture_id"))
        runs = pl.read_parquet(folder / "octets.parquet").sort("stream", "offset")
        assert_frame_equal(packets.pcap.stream_octets().sort("stream", "offset"), runs, check_dtypes=False)
    return report.streams


def test_connections_and_streams_are_those_of_the_jobs(tmp_path: Path) -> None:
    assert _compare(SAMPLE, tmp_path) == 4


def test_on_captures_of_the_corpus(manifest: list[CorpusCapture], tmp_path: Path) -> None:
    small = [each for each in manifest if each.is_capture and each.size < 100_000]
    streams = [_compare(each.path, tmp_path / str(number)) for number, each in enumerate(small[::120])]
    assert sum(streams) > 10


def test_a_filter_comes_first() -> None:
    chosen = pcap2arrow.scan(SAMPLE).pcap.filter("tcp port 50001")
    expected = flows([SAMPLE], chosen=compile_filter("tcp port 50001")).connections
    assert_frame_equal(chosen.pcap.connections(), expected)
    assert len(expected) == 1


def test_of_several_captures_in_any_order(tmp_path: Path) -> None:
    other = tmp_path / "other.pcap"
    pcap2arrow.export(SAMPLE, other)
    pcap2arrow.convert([SAMPLE, other], tmp_path / "dataset")
    packets = pcap2arrow.scan(tmp_path / "dataset").collect()
    expected = packets.pcap.connections()
    both = pl.col("orig_pkts").sum() + pl.col("resp_pkts").sum()
    assert_frame_equal(expected.select(both), flows([tmp_path / "dataset"]).connections.select(both))
    assert_frame_equal(packets.sample(fraction=1, shuffle=True, seed=1).pcap.connections(), expected)


def test_a_table_that_lacks_columns_is_refused() -> None:
    narrow = pcap2arrow.scan(SAMPLE).select("time", "tcp_seq")
    with pytest.raises(UsageError, match=r"columns ip_version, ip_src.* which this one lacks"):
        narrow.pcap.connections()
    with pytest.raises(UsageError, match="flow_hash"):
        narrow.pcap.tcp_streams()
