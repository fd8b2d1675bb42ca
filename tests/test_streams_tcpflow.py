"""Streams against tcpflow: the same files of the lab's cases, of random flows, and of the corpus."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.streams.api import write_streams
from pcap2arrow.errors import FilterError
from queries.filters.compiled import compile_filter
from queries.streams.rules import Rules
from tests import tcp
from tests.conftest import CorpusCapture
from tests.oracles import tcpflow

Tool = Callable[[str], str]

UNPADDED = (
    "(ip and tcp and ip[2:2] + 14 = len) or (ip6 and tcp and ip6[4:2] + 54 = len)"  # tcpflow stores padding
)
OPTIONS = {"-m": "skip", "-b": "limit"}
EXCEPTIONS = {
    "suricata-verify/drop-protocol-change/input.pcap": "a TCP header of 8 octets, whose rest tcpflow takes for data"
}
"""Captures of which tcpflow's files differ, and why."""


def _rules(options: str, **more: bool) -> Rules:
    words = options.split()
    numbers = {OPTIONS[letter]: int(number) for letter, number in zip(words[::2], words[1::2], strict=True)}
    return Rules(**numbers, **more)  # type: ignore[arg-type]


def _ours(capture: Path, folder: Path, rules: Rules, expression: str = "") -> dict[str, bytes]:
    chosen = compile_filter(expression) if expression else None
    write_streams([capture], rules=rules, folder=str(folder), chosen=chosen)
    return tcpflow.contents(folder)


@dataclass(frozen=True, slots=True)
class Case:
    """A line of the lab's cases."""

    title: str
    segments: str
    options: str
    theirs: list[bytes]
    ours: list[bytes]


def _files(text: str) -> list[bytes]:
    return [b"" if word == '""' else tcp.octets(word) for word in text.split()]


def _cases() -> Iterator[Case]:
    for line in (Path(__file__).parent / "streams" / "lab.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            title, segments, options, theirs, *ours = (part.strip() for part in line.split("|"))
            yield Case(title, segments, options, _files(theirs), _files(ours[0] if ours else theirs))


CASES = list(_cases())
cases = pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])


@pytest.fixture
def capture(tmp_path: Path, case: Case) -> Path:
    """The case's segments."""
    path = tmp_path / "case.pcap"
    tcp.write(path, [segment.frame() for segment in tcp.segments(case.segments)])
    return path


@cases
def test_the_lab_says_what_tcpflow_does(capture: Path, tmp_path: Path, case: Case, tool: Tool) -> None:
    found = tcpflow.files(tool("tcpflow"), capture, tmp_path / "theirs", *case.options.split())
    assert found is not None
    assert [found[name] for name in sorted(found)] == case.theirs


@cases
def test_compatible_streams_are_those_of_the_lab(capture: Path, tmp_path: Path, case: Case) -> None:
    found = _ours(capture, tmp_path / "ours", _rules(case.options, as_tcpflow=True))
    assert [found[name] for name in sorted(found)] == case.theirs


@cases
def test_streams_are_those_of_the_lab(capture: Path, tmp_path: Path, case: Case) -> None:
    found = _ours(capture, tmp_path / "ours", _rules(case.options))
    assert [found[name] for name in sorted(found)] == case.ours


def _flow(chance: random.Random, port: int) -> list[tcp.Segment]:
    """Segments of a flow in which anything may happen."""
    initial = chance.choice([0, 999, 2**32 - 3, chance.randrange(2**32)])
    truth = bytes(chance.randrange(97, 123) for _ in range(40))
    found = []
    for place in range(chance.randrange(1, 10)):
        if place == 0 and chance.random() < 0.6:
            found.append(tcp.Segment(initial, flags=2, source=("10.0.0.1", port)))
            continue
        offset = chance.choice([0, 1, 2, 3, 4, 6, 8, 9, 10, 12, 20, -1, -2, -5])
        if chance.random() < 0.2:
            offset = chance.randrange(-30, 60)
        length = chance.choice([0, 1, 1, 2, 3, 4, 8])
        data = truth[offset : offset + length] if offset >= 0 else b"#" * min(length, 3)
        if chance.random() < 0.1:
            data = data.upper()
        likely = {1: 0.12, 2: 0.08, 4: 0.06}
        flags = 16 + sum(flag for flag, probability in likely.items() if chance.random() < probability)
        seq = initial + 1 + offset - (1 if flags & 2 and chance.random() < 0.7 else 0)
        if chance.random() < 0.02:
            seq += chance.choice([2**30, 1000, -1000, 10_000])
        found.append(tcp.Segment(seq, data, flags, ("10.0.0.1", port)))
    return found


def random_frames(seed: int) -> list[bytes]:
    """Frames of many such flows, one after another or mixed."""
    chance = random.Random(seed)
    flows = [_flow(chance, port) for port in range(1, chance.choice([100, 300]))]
    turns = [number for number, flow in enumerate(flows) for _ in flow]
    if chance.random() < 0.5:
        chance.shuffle(turns)
    waiting = [iter(flow) for flow in flows]
    return [next(waiting[number]).frame() for number in turns]


def _compare_random_flows(seed: int, tool: str, folder: Path) -> None:
    options = ("", "-m 10", "-b 7", "-b 0")[seed % 4]
    tcp.write(folder / "random.pcap", random_frames(seed))
    theirs = tcpflow.files(tool, folder / "random.pcap", folder / "theirs", *options.split())
    ours = _ours(folder / "random.pcap", folder / "ours", _rules(options, as_tcpflow=True))
    assert ours == theirs
    assert len(ours) > 50


@pytest.mark.parametrize("seed", range(8))
def test_random_flows(seed: int, tool: Tool, tmp_path: Path) -> None:
    _compare_random_flows(seed, tool("tcpflow"), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8, 200))
def test_more_random_flows(seed: int, tool: Tool, tmp_path: Path) -> None:
    _compare_random_flows(seed, tool("tcpflow"), tmp_path)


def _compare_corpus(captures: list[CorpusCapture], options: str, tool: str, folder: Path) -> tuple[int, int]:
    """Compare the files of captures; how many captures and files that were."""
    compared = files = 0
    different: dict[str, list[str]] = {}
    for number, capture in enumerate(captures):
        theirs = tcpflow.files(tool, capture.path, folder / "theirs", *options.split(), UNPADDED)
        if theirs is None:
            continue
        try:
            ours = _ours(capture.path, folder / str(number), _rules(options, as_tcpflow=True), UNPADDED)
        except FilterError:
            ours = {}  # of a link type on which the expression means nothing
        compared, files = compared + 1, files + len(theirs)
        names = sorted(name for name in theirs | ours if theirs.get(name) != ours.get(name))
        if names:
            different[capture.name] = names
    print(f"\n{compared} captures, {files} files with options {options!r}; different: {different or 'none'}")
    assert {name: names for name, names in different.items() if name not in EXCEPTIONS} == {}
    return compared, files


def _pcaps(manifest: list[CorpusCapture]) -> list[CorpusCapture]:
    return [capture for capture in manifest if capture.is_capture]


def test_a_sample_of_the_corpus(manifest: list[CorpusCapture], tool: Tool, tmp_path: Path) -> None:
    captures = _pcaps(manifest)
    for start, options in enumerate(("", "-m 10", "-b 100")):
        compared, files = _compare_corpus(
            captures[start::60], options, tool("tcpflow"), tmp_path / str(start)
        )
        assert compared > 20 and files > 50


@pytest.mark.long
@pytest.mark.parametrize("options", ["", "-m 10", "-b 100"])
def test_the_corpus(manifest: list[CorpusCapture], tool: Tool, tmp_path: Path, options: str) -> None:
    compared, files = _compare_corpus(_pcaps(manifest), options, tool("tcpflow"), tmp_path)
    assert compared > 1800 and files > 6000
