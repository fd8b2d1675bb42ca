"""Random filters on crafted frames, cut at every octet, against libpcap: no verdict and no refusal may differ."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from pcap2arrow.errors import FilterError
from queries.filters.compiled import HOST_ORDER_LINK_TYPES, LinkFilter, compile_filter
from queries.filters.language.words import KEYWORDS
from queries.filters.program import ChainEnd, Operand
from queries.filters.verdicts import TablePackets, verdicts
from tests.filter_frames import ETHERNET, Set, by_link_type, packet_set
from tests.grammar import ALTERNATIVES, expression
from tests.joined import Kind
from tests.oracles import libpcap
from tests.oracles.interpreter import EndlessError, RejectedError, value

pytestmark = pytest.mark.skipif(bool(libpcap.missing()), reason=str(libpcap.missing()))

_FRAMES = 40
"""In a set of captures: with their cuts they are some thousands of packets."""

_SECONDS = 30

_LEFT_OUT = {14}
"""OpenBSD's raw IP, which libpcap knows on OpenBSD alone."""


@dataclass(slots=True)
class Tally:
    """What was compared; ``differing`` are link types, expressions, and what differs."""

    verdicts: int = 0
    accepted: int = 0
    expressions: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    endless: int = 0
    differing: list[tuple[int, str, str]] = field(default_factory=list)
    confirmed: int = 0

    def __str__(self) -> str:
        return (
            f"{self.expressions:,} expressions, {self.verdicts:,} verdicts compared ({self.accepted:,} accepted), "
            f"{self.refused.total():,} expressions refused by both for {len(self.refused)} reasons, left out: "
            f"{self.endless:,} packets on which libpcap does not end; tcpdump confirms {self.confirmed} runs"
        )


class Packets:
    """Sets of packets of every link type, made when they are first asked for."""

    def __init__(self, folder: Path, random: Random, sets: int) -> None:
        self._folder, self._random, self._sets = folder, random, sets
        self._frames = by_link_type(random)
        self._made: dict[tuple[Kind, int], Set] = {}

    @property
    def link_types(self) -> list[int]:
        return sorted(self._frames.keys() - _LEFT_OUT)

    def some(self, kind: Kind) -> Set:
        """One of the sets of a kind."""
        key = kind, self._random.randrange(self._sets if kind.link_type == ETHERNET else 2)
        if key not in self._made:
            frames = self._frames[kind.link_type]
            chosen = self._random.sample(frames, min(_FRAMES, len(frames)))
            self._made[key] = packet_set(chosen, kind, self._folder, self._random)
        return self._made[key]


def _compare(tally: Tally, text: str, kind: Kind, packets: Packets) -> None:
    """What we say of an expression and of packets, and what libpcap says."""
    code = compiled = refusal = reason = None
    try:
        code = libpcap.compile(text, dlt=kind.link_type, swapped=kind.is_swapped)
    except libpcap.RefusedError as error:
        refusal = str(error)
    try:
        compiled = compile_filter(text).for_link_type(kind.link_type, big_endian=kind.is_swapped)
    except FilterError as error:
        reason = error.reason
    if refusal != reason:
        tally.differing.append((kind.link_type, text, f"{reason}, libpcap: {refusal}"))
    elif compiled is None or code is None:
        tally.refused[str(refusal)] += 1
    else:
        _compare_verdicts(tally, text, compiled, code, packets.some(kind))


def _compare_verdicts(
    tally: Tally, text: str, compiled: LinkFilter, code: libpcap.Filter, packets: Set
) -> None:
    ending = _ending(compiled, packets)
    expected = np.array(
        [ends and code.matches(*packet) for packet, ends in zip(packets.packets, ending, strict=True)]
    )
    for name, chosen in (("columns", compiled), ("octets", replace(compiled, columns=None, _plan=None))):
        found = verdicts([chosen], TablePackets(packets.table))[0].to_numpy()
        differing = np.flatnonzero(found & ending != expected)
        if len(differing):
            octets, length = packets.packets[differing[0]]
            what = f"{name}: {found[differing[0]]} for {octets.hex()} of {length} ({len(differing)} packets)"
            tally.differing.append((compiled.program.link_type, text, what))
    tally.expressions += 1
    tally.verdicts += int(ending.sum())
    tally.accepted += int(expected.sum())
    tally.endless += int((~ending).sum())


def _ending(compiled: LinkFilter, packets: Set) -> NDArray[np.bool_]:
    """Packets on which libpcap's code ends: protocol chains may lead back."""
    chains = {
        operand
        for test in compiled.program.tests
        for operand in (test.left, test.right)
        if isinstance(operand, ChainEnd)
    }
    if not chains:
        return np.ones(len(packets.packets), np.bool_)
    ends = {frame: all(_ends(chain, frame) for chain in chains) for frame in set(packets.whole)}
    return np.array([ends[frame] for frame in packets.whole])


def _ends(chain: Operand, frame: bytes) -> bool:
    try:
        value(chain, frame, len(frame))
    except EndlessError:
        return False
    except RejectedError:
        pass
    return True


def _confirm(tally: Tally, text: str, kind: Kind, packets: Packets, tcpdump: str) -> None:
    """The same once more with tcpdump, where it takes the expression."""
    if "protochain" in text or "geneve" in text:  # may not end, and reads registers that nobody has set
        return
    try:
        libpcap.compile(text, dlt=kind.link_type, swapped=kind.is_swapped)
    except libpcap.RefusedError:
        return
    compiled = compile_filter(text).for_link_type(kind.link_type, big_endian=kind.is_swapped)
    for capture in packets.some(kind).captures:
        ours = verdicts([compiled], TablePackets(capture.table))[0].to_numpy()
        if capture.accepted(tcpdump, text, "-O", seconds=_SECONDS) != capture.selected(ours):
            tally.differing.append((kind.link_type, text, "tcpdump"))
        tally.confirmed += 1


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Iterator[Tally]:
    """What is counted here is printed."""
    tally = Tally()
    yield tally
    with capsys.disabled():
        print(f"\n{tally}")


def test_every_word_may_come() -> None:
    """The grammar knows all keywords, but the one that is always refused."""
    known = {
        word for texts in ALTERNATIVES.values() for text in texts for word in re.findall(r"[\w-]+", text)
    }
    assert {one for word, (_, one) in KEYWORDS.items() if word in known} >= {
        one
        for kind, one in KEYWORDS.values()
        if kind in ("protocol", "kind", "direction", "primitive", "length")
    }


@pytest.mark.parametrize(
    ("seed", "expressions", "sets"), [(1, 300, 8), pytest.param(2, 4_500, 50, marks=pytest.mark.long)]
)
def test_random_filters(
    tmp_path: Path, tool: Callable[[str], str], report: Tally, seed: int, expressions: int, sets: int
) -> None:
    """Expressions of every primitive, on Ethernet for the most part."""
    random = Random(seed)
    packets = Packets(tmp_path, random, sets)
    for number in range(expressions):
        link_type = ETHERNET if random.random() < 0.6 else random.choice(packets.link_types)
        swapped = link_type in HOST_ORDER_LINK_TYPES and random.random() < 0.5
        kind = Kind(link_type, byte_order=">" if swapped else "<")
        text = expression(random, link_type)
        _compare(report, text, kind, packets)
        if number % 10 == 0:
            _confirm(report, text, kind, packets, tool("tcpdump"))
    assert report.differing == []
    assert report.expressions > expressions * 2 / 3
    assert report.verdicts / 100 < report.accepted < report.verdicts / 2
