"""Counting and selecting by filters, on datasets and captures, beside libpcap."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import pcap2arrow
import queries
from jobs.count import count_selected, counted_lines
from jobs.filters import read_filters
from pcap2arrow.dataset.log import open_dataset
from pcap2arrow.errors import FilterError, UsageError
from pcap2arrow.reading.files import read_file, read_rows
from queries.filters.compiled import compile_filter
from queries.filters.language.names import Names
from tests.blocks import pcap_header, pcap_record
from tests.commands import PROJECT, SAMPLE, run
from tests.oracles import libpcap
from tests.slicing import SECOND, write_capture
from tests.test_tcpslice_verb import T

EXPRESSIONS = (
    *("tcp", "udp port 53", "not tcp", "ip[2:2] > 60", "tcp[13] & 3 != 0", "len > 100 and ip", "vlan", "arp"),
    *("", "ip and ip6", "ether[100] = 1 or tcp", "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420"),
)
"""Of the kinds that columns answer wholly, partly, and not at all; that select everything, and nothing."""

needs_libpcap = pytest.mark.skipif(libpcap.missing() is not None, reason=libpcap.missing() or "")


def _matches(expression: str, packets: pl.DataFrame, *, dlt: int = 1, swapped: bool = False) -> list[bool]:
    """What libpcap says of each packet."""
    oracle = libpcap.compile(expression, dlt=dlt, swapped=swapped)
    frames = packets.select((pl.col("header") + pl.col("rest")).alias("frame"), "filter_len", "frame_len")
    return [
        oracle.matches(frame[:filter_len], frame_len) for frame, filter_len, frame_len in frames.iter_rows()
    ]


def _counts(*sources: Path, expressions: tuple[str, ...] = EXPRESSIONS) -> list[int]:
    return count_selected(sources, [compile_filter(text) for text in expressions]).tally.packets


@pytest.fixture(scope="module")
def sample() -> pl.DataFrame:
    return pcap2arrow.scan(SAMPLE).collect()


@pytest.fixture(scope="module", params=["stored", "referenced"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / request.param
    pcap2arrow.convert([SAMPLE], folder, frames=request.param)
    return folder


@needs_libpcap
def test_counts_are_those_of_libpcap(dataset: Path, sample: pl.DataFrame) -> None:
    counted = _counts(dataset)
    assert counted == [sum(_matches(text, sample)) for text in EXPRESSIONS]
    assert counted == _counts(SAMPLE)
    assert len(set(counted)) > 5


def test_sources_add_up(dataset: Path) -> None:
    assert _counts(dataset, SAMPLE) == [2 * packets for packets in _counts(SAMPLE)]


def test_octets_are_asked_for_only_where_columns_do_not_tell(tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    pcap2arrow.convert([SAMPLE], dataset, frames="none")
    assert _counts(dataset, expressions=("udp port 53",)) == _counts(SAMPLE, expressions=("udp port 53",))
    with pytest.raises(UsageError, match="octets"):
        _counts(dataset, expressions=("tcp[60] = 0",))


@needs_libpcap
@pytest.mark.parametrize("order", ["<", ">"])
def test_null_link_headers_are_in_the_order_of_their_capture(tmp_path: Path, order: str) -> None:
    ip = bytes.fromhex("4500001c000000004011") + bytes(18)
    frames = [number.to_bytes(4, ends) + ip for number in (2, 30) for ends in ("little", "big")]
    capture = tmp_path / "null.pcap"
    capture.write_bytes(
        pcap_header(order, link_word=0) + b"".join(pcap_record(order, frame) for frame in frames)
    )
    dataset = tmp_path / "dataset"
    pcap2arrow.convert([capture, SAMPLE], dataset)
    expected = _matches("ip", pcap2arrow.scan(capture).collect(), dlt=0, swapped=order == ">")
    assert sum(expected) == 1
    assert _counts(capture, expressions=("ip",)) == [1]
    assert _counts(dataset, expressions=("ip",))[0] == 1 + _counts(SAMPLE, expressions=("ip",))[0]


def test_a_filter_that_means_nothing_on_one_link_type_still_runs_on_others(tmp_path: Path) -> None:
    raw = tmp_path / "raw.pcap"
    raw.write_bytes(pcap_header("<", link_word=101) + pcap_record("<", bytes.fromhex("45") + bytes(19)))
    done = run("count", raw, SAMPLE, "-f", "ether multicast")
    assert int(done.stdout) == _counts(SAMPLE, expressions=("ether multicast",))[0]
    assert "link type 101" in done.stderr
    assert run("count", raw, "-f", "ether multicast", code=2).stdout == ""


def test_many_filters_in_one_pass_name_those_that_are_wrong(tmp_path: Path) -> None:
    file = tmp_path / "filters.txt"
    file.write_text("# ports\nudp port 53\n\ntcp port\nip and ip6\n")
    done = run("count", SAMPLE, "--filters", file, code=1)
    (packets,) = _counts(SAMPLE, expressions=("udp port 53",))
    assert done.stdout.splitlines() == [
        f"{packets}\tudp port 53",
        "ERROR\ttcp port\tcan't parse filter expression: syntax error",
        "0\tip and ip6",
    ]
    assert "rejects all packets" in done.stderr
    lines = read_filters(str(file), names=Names.empty(), netmask=0)
    assert [line.number for line in lines] == [2, 4, 5]
    filters = [line.filter for line in lines if not isinstance(line.filter, FilterError)]
    counted = counted_lines(lines, count_selected([SAMPLE], filters).tally)
    assert [str(line) for line in counted] == done.stdout.splitlines()
    told = json.loads(run("count", SAMPLE, "--filters", file, "--json", code=1).stdout)
    assert told == [dataclasses.asdict(line) for line in counted]
    assert run("count", SAMPLE, "-f", "udp port 53", "--json").stdout == f'{{"packets": {packets}}}\n'


def test_a_wrong_filter_is_underlined_and_nothing_is_done() -> None:
    done = run("count", SAMPLE, "-f", "ip proto tcp", code=2)
    assert (done.stdout, done.stderr.count("^^^")) == ("", 1)
    assert "\\tcp" in done.stderr


def test_damage_is_reported_beside_the_count(tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    record = pcap_record("<", bytes(60))
    cut.write_bytes(pcap_header("<") + record + record[:-1])
    done = run("count", cut, "-f", "len = 60", code=1)
    assert done.stdout == "1\n"
    assert "offset 100" in done.stderr


@needs_libpcap
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_frames_of_polars_are_filtered(expression: str, dataset: Path, sample: pl.DataFrame) -> None:
    expected = sample.filter(pl.Series(_matches(expression, sample), dtype=pl.Boolean))[
        "frame_number"
    ].to_list()
    if dataset.name == "stored":
        lazy = pcap2arrow.scan(dataset)
        assert lazy.pcap.filter(expression).collect()["frame_number"].sort().to_list() == expected
        by_type = lazy.filter(queries.pcap_filter(expression, link_type=1))
        assert by_type.collect()["frame_number"].sort().to_list() == expected
    assert sample.pcap.filter(expression)["frame_number"].to_list() == expected


def test_columns_do_where_the_link_type_is_known(sample: pl.DataFrame) -> None:
    narrow = sample.lazy().select("eth_type", "ip_proto", "src_port", "dst_port", "ip_frag_offset", "irregular",
                                  "irregular_head", "filter_len", "frame_len", "link_type")  # fmt: skip
    expected = len(sample.pcap.filter("udp port 53"))
    assert narrow.filter(queries.pcap_filter("udp port 53", link_type=1)).collect().height == expected > 0
    with pytest.raises(FilterError, match="802"):
        queries.pcap_filter("type mgt", link_type=1)


def test_polars_knows_packets_whichever_is_imported_first() -> None:
    for program in ("import polars, queries", f"import queries, pcap2arrow; pcap2arrow.scan('{SAMPLE}')"):
        done = subprocess.run(
            [sys.executable, "-c", f"{program}; import polars; print(polars.LazyFrame.pcap.__name__)"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "LazyPackets\n"


def test_count_loads_no_more_than_it_needs(dataset: Path) -> None:
    program = (
        "import sys; from jobs.cli import main\n"
        f"sys.argv = ['pcap2arrow', 'count', {str(dataset)!r}, '-f', 'udp port 53']\n"
        "try: main()\nexcept SystemExit: print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "polars" in loaded
    heavy = {"numpy", "pyarrow", "dask", "distributed", "rich", "dpkt", "fsspec"}
    assert loaded & heavy == set()


@needs_libpcap
@pytest.mark.parametrize("snap_length", [13, 14, 24, 37, 54, 65535])
def test_filters_see_what_the_snap_length_leaves(
    tmp_path: Path, sample: pl.DataFrame, snap_length: int
) -> None:
    frames = [header + rest for header, rest in sample.select("header", "rest").iter_rows()]
    capture = tmp_path / "snapped.pcap"
    capture.write_bytes(
        pcap_header("<", snap_length=snap_length) + b"".join(pcap_record("<", frame) for frame in frames)
    )
    packets = pcap2arrow.scan(capture).collect()
    assert _counts(capture) == [sum(_matches(text, packets)) for text in EXPRESSIONS]


def test_irregular_frames_keep_their_first_octets_apart(tmp_path: Path) -> None:
    frames = [bytes(12) + b"\x08\x00" + bytes(size) for size in (0, 10, 400)] + [bytes(12) + b"\x90\x00"]
    capture = tmp_path / "irregular.pcap"
    capture.write_bytes(pcap_header("<") + b"".join(pcap_record("<", frame) for frame in frames))
    packets = pcap2arrow.scan(capture).select("irregular", "irregular_head").collect()
    assert packets["irregular"].to_list() == [True, True, True, False]
    assert packets["irregular_head"].to_list() == [*(frame[:128] for frame in frames[:3]), None]
    deep = "ip[200] = 0 or ether[10] = 1"  # past what is kept apart
    assert _counts(capture, expressions=(deep,)) == [1]


@pytest.mark.parametrize("days", [1, 2], ids=["one file", "two files whose frames alternate"])
def test_some_rows_of_a_file_are_those_of_the_whole(tmp_path: Path, days: int) -> None:
    """Whether they are found by their frame numbers, of which the log knows the first and last, or by their places."""
    packets = [(T + k % days * 86400 * SECOND, bytes([k]) * 60) for k in range(40)]
    capture = write_capture(tmp_path / "capture.pcap", packets)
    assert not pcap2arrow.convert(capture, tmp_path / "dataset").failed
    dataset = open_dataset(tmp_path / "dataset")
    files = list(dataset.snapshot().files("packets"))
    assert len(files) == days
    for file in files:
        whole = read_file(dataset, file, columns=["frame_number", "header", "rest"])
        for rows in ([], [3], [0, 2, 7], [0, 1, *range(5, file.rows)]):
            chosen = np.array(rows, np.int64)
            found = read_rows(dataset, file, columns=["rest", "header"], rows=chosen)
            assert found.to_pylist() == whole.select(["rest", "header"]).take(chosen).to_pylist()
