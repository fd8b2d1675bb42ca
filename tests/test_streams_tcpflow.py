"""Streams against tcpflow: the same files of the lab's cases, of random flows, and of the corpus."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.streams.api import Sizes, write_streams
from pcap2arrow.errors import FilterError
from queries.filters.compiled import compile_filter
from queries.merging import ORDER
from queries.streams.packets import rows_before
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

TINY = Sizes(task=1 << 14, bucket=1 << 12, finished=1 << 12, memory=1 << 15, most_buckets=5)
"""So small that everything is parted, spilled and parted again."""


def _rules(options: str, **more: bool) -> Rules:
    words = options.split()
    numbers = {OPTIONS[letter]: int(number) for letter, number in zip(words[::2], words[1::2], strict=True)}
    return Rules(**numbers, **more)  # type: ignore[arg-type]


def _ours(
    capture: Path, folder: Path, rules: Rules, expression: str = "", *, is_parted: bool = False
) -> dict[str, bytes]:
    chosen = compile_filter(expression) if expression else None
    sizes = TINY if is_parted else Sizes()
    write_streams([capture], rules=rules, folder=str(folder), chosen=chosen, sizes=sizes)
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
    for is_parted in (False, True):
        rules = _rules(options, as_tcpflow=True)
        ours = _ours(folder / "random.pcap", folder / f"ours-{is_parted}", rules, is_parted=is_parted)
        assert ours == theirs
    assert len(ours) > 50


def _compare_reports(capture: Path, options: str, sizes: Sizes, tool: str) -> None:
    """The same files, in folders of one name, and the same of them in the report."""
    folder, report = capture.parent / "files", capture.parent / "report.xml"
    theirs = tcpflow.files(tool, capture, folder, *options.split())
    objects, counts = tcpflow.file_objects(folder / tcpflow.REPORT), tcpflow.counts(folder / tcpflow.REPORT)
    shutil.rmtree(folder)
    rules = _rules(options, as_tcpflow=True)
    write_streams([capture], rules=rules, folder=str(folder), report=str(report), sizes=sizes)
    assert tcpflow.contents(folder) == theirs
    assert tcpflow.without_md5(tcpflow.file_objects(report)) == tcpflow.without_md5(objects)
    assert tcpflow.counts(report) == counts


@pytest.mark.parametrize("seed", range(8))
def test_connections_that_memory_has_no_room_for(seed: int, tool: Tool, tmp_path: Path) -> None:
    """Some are followed a few packets at a time, those in which order decides as a whole."""
    tcp.write(tmp_path / "random.pcap", random_frames(seed))
    sizes = replace(TINY, memory=1 << (10, 12)[seed // 4])
    options = ("", "-m 10", "-b 7", "-m 1000")[seed % 4]
    _compare_reports(tmp_path / "random.pcap", options, sizes, tool("tcpflow"))


@pytest.mark.parametrize(
    "words",
    [
        "SR:@9",
        "SR:@9 abc@50",
        "SR:@9 SR:@9 S:@20 abc@21",
        "SF:@9 abc@10 R:@13 abc@10",
        "SR:abc@9 d@13",
        "S:@9 abc@10 SR:@100000000 x@100000001",
        "S:@9 abc@10 SF:@100000000 x@100000001",
        "abc@10 SF:@100000000 x@100000001",
        "abc@10 SR:@100000000",
        "S:@9 abc@10 S:@100000000 x@100000001",
    ],
)
def test_what_begins_with_its_end(words: str, tool: Tool, tmp_path: Path) -> None:
    """A SYN with FIN or RST opens no stream, unless it has octets."""
    tcp.write(tmp_path / "few.pcap", [each.frame() for each in tcp.segments(words)])
    for sizes in (Sizes(), replace(TINY, memory=1 << 8)):
        _compare_reports(tmp_path / "few.pcap", "", sizes, tool("tcpflow"))


@pytest.mark.parametrize("seed", range(8))
def test_random_flows(seed: int, tool: Tool, tmp_path: Path) -> None:
    _compare_random_flows(seed, tool("tcpflow"), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8, 200))
def test_more_random_flows(seed: int, tool: Tool, tmp_path: Path) -> None:
    _compare_random_flows(seed, tool("tcpflow"), tmp_path)


def _after_others(others: int) -> list[bytes]:
    """Frames of a connection of which a segment comes again when so many others, that are regular, have ended."""
    whole = tcp.segments("S:@9 abc@10 F:@13")
    between = [
        replace(each, source=("10.0.0.3", port)).frame()
        for port in range(1, others + 1)
        for each in tcp.segments(f"S:@{port} data@{port + 1} F:@{port + 5}")
    ]
    return [*(each.frame() for each in whole), *between, whole[1].frame(), tcp.segments("new@50")[0].frame()]


@pytest.mark.parametrize("others", [1, 99, 100, 101, 102, 103, 250])
def test_what_comes_again_late(others: int, tool: Tool, tmp_path: Path) -> None:
    """tcpflow counts the streams of all flows that end, whatever bucket they are in."""
    tcp.write(tmp_path / "late.pcap", _after_others(others))
    theirs = tcpflow.files(tool("tcpflow"), tmp_path / "late.pcap", tmp_path / "theirs")
    for is_parted in (False, True):
        folder = tmp_path / f"ours-{is_parted}"
        assert _ours(tmp_path / "late.pcap", folder, Rules(as_tcpflow=True), is_parted=is_parted) == theirs


_PLACES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 3)), max_size=12)


@given(rows=_PLACES, others=_PLACES)
def test_rows_before_others_in_the_order_of_the_whole(
    rows: list[tuple[int, int, int]], others: list[tuple[int, int, int]]
) -> None:
    rows, others = sorted(rows), sorted(set(others) - set(rows))
    found = rows_before(*(pl.DataFrame(each, schema=ORDER, orient="row") for each in (rows, others)))
    assert found.tolist() == [sum(row < other for row in rows) for other in others]


def _compare_corpus(captures: list[CorpusCapture], options: str, tool: str, folder: Path) -> tuple[int, int]:
    """Compare the files of captures, every second one in many buckets; how many captures and files that were."""
    compared = files = 0
    different: dict[str, list[str]] = {}
    for number, capture in enumerate(captures):
        theirs = tcpflow.files(tool, capture.path, folder / "theirs", *options.split(), UNPADDED)
        if theirs is None:
            continue
        try:
            rules = _rules(options, as_tcpflow=True)
            ours = _ours(capture.path, folder / str(number), rules, UNPADDED, is_parted=number % 2 == 1)
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
