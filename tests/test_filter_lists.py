"""Lists of alternatives put together by what they ask first, beside the same lists as they were written."""

from __future__ import annotations

from random import Random

import numpy as np
import polars as pl

from pcap2arrow.errors import FilterError
from queries.filters import program as programs
from queries.filters.compiled import compile_filter
from queries.filters.generate.code import Code
from queries.filters.generate.lists import LONG, grouped
from queries.filters.generate.tree import linked
from queries.filters.machine.frames import Frames, Slices
from queries.filters.machine.run import run
from tests.expressions import sound
from tests.filter_frames import ETHERNET, by_link_type

_TERMS = (
    "host 10.0.0.{}",
    "tcp port {}",
    "port 1{}",
    "net 10.{}",
    "ip proto {}",
    "vlan and ip",
    "len > {}",
    "ip[{}] = 1",
)


def _program(code: Code) -> programs.Program:
    return programs.Program(
        ETHERNET,
        tuple(
            programs.Test(check.left, check.operator, check.right, *where) for check, *where in linked(code)
        ),
    )


def _frames(random: Random) -> Frames:
    octets = [
        frame[: random.randrange(len(frame) + 1)]
        for frame in by_link_type(random)[ETHERNET]
        for _ in range(2)
    ]
    lengths = np.array([len(each) for each in octets], np.uint32)
    return Frames(Slices.of_polars(pl.Series(octets, dtype=pl.Binary)), lengths, lengths)


def _lists(random: Random) -> list[str]:
    terms = [
        [random.choice(_TERMS).format(random.randrange(70)) for _ in range(random.randrange(2, 40))]
        for _ in range(40)
    ]
    mixed = [[sound(random, depth=1) for _ in range(random.randrange(2, 12))] for _ in range(60)]
    texts = [" or ".join(f"({term})" for term in each) for each in (*terms, *mixed)]
    return [
        *texts,
        *(f"ip and ({text}) and not ({text})" for text in texts[:10]),
        *(f"tcp and ({text})" for text in texts),
    ]


def test_verdicts_are_the_same() -> None:
    """On frames that end anywhere."""
    random = Random(11)
    frames = _frames(random)
    changed = accepted = 0
    for text in _lists(random):
        try:
            code = compile_filter(text).for_link_type(ETHERNET).code
        except FilterError:
            continue
        assert code is not None
        together = grouped(code, long=2)
        changed += together != code
        expected = run(_program(code), frames)
        accepted += int(expected.sum())
        assert (run(_program(together), frames) == expected).all(), text
    assert changed > 60
    assert accepted > 10_000


def test_long_lists_of_hosts_ask_once_what_they_have_in_common() -> None:
    text = " or ".join(f"host 10.0.0.{number}" for number in range(LONG))
    assert len(compile_filter(text).for_link_type(ETHERNET).program.tests) == 3 + 6 * LONG
    text = text.rpartition(" or ")[0]
    assert len(compile_filter(text).for_link_type(ETHERNET).program.tests) == 12 * (LONG - 1)
