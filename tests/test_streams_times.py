"""Connections and streams of a range of time: those of the packets that tcpdump would have left in a capture of it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import pcap2arrow
from jobs.flows.api import flows
from jobs.streams.api import write_streams
from pcap2arrow.times import TimeRange
from queries.streams.rules import Rules
from tests.commands import SAMPLE, json_lines, run

BEGIN = 1_714_607_999 * 10**9
RANGES = [
    TimeRange(BEGIN + 300_000_000),
    TimeRange(end=BEGIN + 310_000_000),
    TimeRange(BEGIN, BEGIN + 320_000_000),
]


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """The sample, and a dataset with and without its octets."""
    made = [SAMPLE]
    for frames in ("stored", "referenced"):
        pcap2arrow.convert([SAMPLE], tmp_path / frames, frames=frames)
        made.append(tmp_path / frames)
    return made


@pytest.mark.parametrize("times", RANGES, ids=str)
def test_as_of_a_capture_with_these_packets_only(
    times: TimeRange, sources: list[Path], tmp_path: Path
) -> None:
    cut = tmp_path / "cut.pcapng"
    pcap2arrow.export(SAMPLE, cut, times=times, format="pcapng")
    expected = flows([cut]).connections
    write_streams([cut], rules=Rules(), tables=str(tmp_path / "expected"))
    assert 0 < len(expected) < len(flows([SAMPLE]).connections)
    for number, source in enumerate(sources):
        assert_frame_equal(flows([source], times=times).connections, expected)
        tables = tmp_path / str(number)
        write_streams([source], rules=Rules(), tables=str(tables), times=times)
        assert _streams(tables) == _streams(tmp_path / "expected")


def _streams(tables: Path) -> list[dict[str, object]]:
    return (
        pl.read_parquet(tables / "streams.parquet").to_dicts()
        if (tables / "streams.parquet").exists()
        else []
    )


def test_relative_times_count_from_the_first_packet(tmp_path: Path) -> None:
    found = json_lines(run("flows", SAMPLE, "--end", "+0.1", "--json").stdout)
    whole = pcap2arrow.info(SAMPLE)[0]["first_ns"]
    assert len(found) == len(flows([SAMPLE], times=TimeRange(end=whole + 10**8)).connections)
    told = run("streams", SAMPLE, "--tables", tmp_path / "t", "--start", "2024-05-02T00:00:00Z").stdout
    assert told.startswith("2 streams, 2 with octets")
