"""What filters can't find in a file, told by its ranges."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import pcap2arrow
import queries.namespace  # noqa: F401
from jobs.count import count_selected
from queries.filters.columns import NO_REGULAR_FRAME
from queries.filters.compiled import compile_filter
from tests.commands import SAMPLE

CASES = [
    line.split("\t")
    for line in (Path(__file__).parent / "filters" / "pruned.tsv").read_text().splitlines()
    if not line.startswith("#")
]


def _ranges(text: str) -> dict[str, tuple[int, int]]:
    columns = zip(("network_type", "l4_proto"), text.split(), strict=True)
    return {
        column: (int(least, 0), int(greatest, 0))
        for column, (least, dash, greatest) in ((column, bounds.partition("-")) for column, bounds in columns)
        if dash and least
    }


@pytest.mark.parametrize(("ranges", "expression", "answer"), CASES)
def test_ranges_tell_what_may_match(ranges: str, expression: str, answer: str) -> None:
    within = compile_filter(expression).for_link_type(1).within(_ranges(ranges))
    assert (within.columns is not NO_REGULAR_FRAME) is (answer == "yes")


def test_nothing_is_lost_by_ranges(tmp_path: Path) -> None:
    """Every packet of the sample in a file of its own, so that ranges tell as much as they can."""
    packets = pcap2arrow.read_capture(SAMPLE)
    captures = []
    for row in range(packets.num_rows):
        captures.append(tmp_path / f"{row}.pcap")
        pcap2arrow.write_capture(packets.slice(row, 1), captures[-1])
    pcap2arrow.convert(captures, tmp_path / "dataset")
    expressions = [
        "arp",
        "tcp",
        "udp port 53",
        "not udp",
        "ip6",
        "icmp or icmp6",
        "host 192.0.2.1",
        "ip6 proto 17",
    ]
    filters = [compile_filter(text) for text in expressions]
    frame = pl.from_arrow(packets)
    assert isinstance(frame, pl.DataFrame)
    expected = [frame.pcap.filter(text).height for text in expressions]
    assert count_selected([tmp_path / "dataset"], filters).tally.packets == expected
