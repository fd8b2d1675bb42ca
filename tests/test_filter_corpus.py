"""Filters on every packet of the corpus, against the real tcpdump: no verdict may differ."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from queries.filters.compiled import HOST_ORDER_LINK_TYPES, compile_filter
from queries.filters.verdicts import TablePackets, verdicts
from tests.conftest import CorpusCapture
from tests.joined import Joined, join
from tests.oracles import libpcap

pytestmark = pytest.mark.skipif(bool(libpcap.missing()), reason=str(libpcap.missing()))

ETHERNET = 1
_SECONDS = 30
"""For a run of tcpdump, which may never end where a protocol chain leads back."""


@dataclass(slots=True)
class Tally:
    """What was compared: pairs of an expression and a packet.

    ``skipped`` counts those that could not be, by reason; ``differing`` are expressions with how many packets differ;
    ``optimised`` counts packets by expression that the optimising tcpdump accepts beyond (class F37).
    """

    compared: int = 0
    accepted: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    differing: list[tuple[str, int, int]] = field(default_factory=list)
    optimised: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        share = self.skipped.total() / max(self.compared + self.skipped.total(), 1)
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items()) or "none"
        return (
            f"{self.compared:,} verdicts compared ({self.accepted:,} accepted), skipped: {reasons} ({share:.2%}), "
            f"differences: {len(self.differing)}; the optimiser accepts {self.optimised.total():,} more, "
            f"of {len(self.optimised)} expressions"
        )


def _compare(tally: Tally, joined: Joined, texts: Sequence[str], tcpdump: str) -> None:
    """What the columns and octets of a packet table say of each expression, and what tcpdump does."""
    for text in texts:
        chosen = compile_filter(text)
        compiled = chosen.for_link_type(joined.kind.link_type, big_endian=joined.kind.is_swapped)
        ours = verdicts([compiled], TablePackets(joined.table))[0].to_numpy()
        try:
            found = joined.accepted(tcpdump, text, "-O", seconds=_SECONDS)
        except subprocess.TimeoutExpired:
            tally.skipped["on which tcpdump does not end"] += len(joined)
            continue
        tally.compared += len(joined)
        tally.accepted += int(ours.sum())
        if found != joined.selected(ours):
            differing = np.flatnonzero(joined.numbers(found) != ours)
            tally.differing.append((text, joined.kind.link_type, len(differing)))
        else:
            tally.optimised[text] += len(_more_when_optimised(joined, text, ours, tcpdump))
    tally.optimised = +tally.optimised


def _more_when_optimised(
    joined: Joined, text: str, ours: NDArray[np.bool_], tcpdump: str
) -> NDArray[np.intp]:
    """Packets that the optimising tcpdump accepts beyond; of each a load must lie outside."""
    found = joined.accepted(tcpdump, text, seconds=_SECONDS)
    if found == joined.selected(ours):
        return np.empty(0, np.intp)
    optimised = joined.numbers(found)
    assert not (ours & ~optimised).any(), text
    more = np.flatnonzero(optimised & ~ours)
    code = libpcap.compile(text, dlt=joined.kind.link_type, swapped=joined.kind.is_swapped)
    assert all(code.breaks_off(*joined.packet(number)) for number in more.tolist()), text
    return more


@pytest.fixture(scope="module")
def captures(manifest: list[CorpusCapture], tmp_path_factory: pytest.TempPathFactory) -> list[Joined]:
    """All packets of the corpus, joined."""
    paths = [capture.path for capture in manifest if capture.is_capture]
    joined, left_out = join(paths, tmp_path_factory.mktemp("joined"), host_order=HOST_ORDER_LINK_TYPES)
    assert left_out == 0
    assert sum(map(len, joined)) > 270_000
    return joined


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Iterator[Tally]:
    """What is counted here is printed, and has to be without differences."""
    tally = Tally()
    yield tally
    with capsys.disabled():
        print(f"\n{tally}")


def _shared_expressions(shared: Path) -> list[str]:
    return (shared / "expressions" / "shared.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("step", [30, pytest.param(1, marks=pytest.mark.long)])
def test_ethernet(
    captures: list[Joined], shared: Path, tool: Callable[[str], str], report: Tally, step: int
) -> None:
    """Every expression (by default every thirtieth) on every Ethernet packet."""
    texts = _shared_expressions(shared)[::step]
    for joined in captures:
        if joined.kind.link_type == ETHERNET:
            _compare(report, joined, texts, tool("tcpdump"))
    assert report.differing == []
    assert report.accepted > report.compared / 50
    assert report.skipped.total() <= (report.skipped.total() + report.compared) / 100


def test_other_link_types(
    captures: list[Joined], shared: Path, tool: Callable[[str], str], report: Tally
) -> None:
    lines = (shared / "expressions" / "shared_dlt.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines[1:]]
    texts: dict[int, list[str]] = {}
    for _, link_type, text in rows:
        texts.setdefault(int(link_type), []).append(text)
    for joined in captures:
        _compare(report, joined, texts.get(joined.kind.link_type, []), tool("tcpdump"))
    assert report.differing == []
    assert report.skipped.total() <= (report.skipped.total() + report.compared) / 100
    missing = texts.keys() - {joined.kind.link_type for joined in captures}
    assert len(missing) < len(texts) / 2


def test_columns_and_octets_agree(captures: list[Joined], shared: Path) -> None:
    """What columns tell of some packets, octets tell, too."""
    joined = max(captures, key=len)
    tables = TablePackets(joined.table.gather_every(7))
    told = 0
    for text in _shared_expressions(shared)[3::25]:
        compiled = compile_filter(text).for_link_type(joined.kind.link_type)
        by_octets = replace(compiled, columns=None, _plan=None)
        told += compiled.columns is not None
        assert verdicts([compiled], tables)[0].equals(verdicts([by_octets], tables)[0]), text
    assert told > 10
