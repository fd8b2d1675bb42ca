"""Filters as expressions on the first octets of frames, beside the machine, which libpcap itself checks elsewhere."""

from __future__ import annotations

from random import Random

import numpy as np
import polars as pl
import pytest

from pcap2arrow.errors import FilterError
from pcap2arrow.schema import IRREGULAR_HEAD
from queries.filters.compiled import LinkFilter, compile_filter
from queries.filters.machine.frames import Frames, Slices
from queries.filters.machine.run import run
from tests.expressions import case_rows, sound
from tests.filter_frames import ETHERNET, by_link_type

EXPRESSIONS = (
    *("tcp port 443", "host 10.0.0.1", "tcp[13] & 3 != 0", "not udp", "ip[2:2] > 500", "net 10.0.0.0/8"),
    *("ip[ip[0] & 15] = 1", "not ip6[60] = 0 or tcp", "vlan and port 53", "icmp6", "ether[100] = 1 or ip"),
    *("len > 60", "tcp or not greater 80", "len - ip[2:2] = 14"),
)


def _filters(texts: list[str]) -> list[tuple[str, LinkFilter]]:
    found = []
    for text in texts:
        try:
            found.append((text, compile_filter(text).for_link_type(ETHERNET)))
        except FilterError:
            continue
    return found


def test_verdicts_are_those_of_the_machine() -> None:
    """On frames that end anywhere."""
    random = Random(7)
    whole = by_link_type(random)[ETHERNET]
    octets = [frame[: random.randrange(IRREGULAR_HEAD)] for frame in whole for _ in range(12)]
    lengths = np.array([len(each) for each in octets], np.uint32)
    schema = {"irregular_head": pl.Binary, "frame_len": pl.UInt32}
    table = pl.DataFrame({"irregular_head": octets, "frame_len": lengths}, schema=schema)
    frames = Frames(Slices.of_polars(table["irregular_head"]), lengths, lengths)
    texts = [*EXPRESSIONS, *(row[1] for row in case_rows("on_frames.tsv") if int(row[0]) == ETHERNET)]
    texts += [sound(random) for _ in range(300)]
    told = accepted = 0
    for text, each in _filters(texts):
        if each.heads is None:
            continue
        told += 1
        found = table.select(each.heads.expression.alias("told"))["told"].to_list()
        expected = run(each.plan, frames).tolist()
        accepted += sum(expected)
        assert found == expected, text
    assert told > 150
    assert accepted > 10_000


@pytest.mark.parametrize(
    ("text", "reach"),
    [
        ("ip", 14),
        ("tcp port 443", 78),
        ("ether[200] = 1", 201),
        ("ip[ip[0]] = 1", 270),
        ("ip[ip[0:4]] = 1", None),
    ],
)
def test_how_far_a_filter_reads(text: str, reach: int | None) -> None:
    plan = compile_filter(text).for_link_type(ETHERNET).heads
    assert plan is not None
    assert plan.reach == reach if reach is not None else plan.reach > 1 << 32
    assert plan.tells_all is (plan.reach <= IRREGULAR_HEAD)


@pytest.mark.parametrize("text", ["protochain 6", "ip[0] / ip[1] = 1"])
def test_what_only_the_machine_tells(text: str) -> None:
    assert compile_filter(text).for_link_type(ETHERNET).heads is None
