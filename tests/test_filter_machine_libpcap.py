"""The machine that runs filters on real packets, against libpcap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest

from pcap2arrow.errors import FilterError
from queries.filters.generate import generate
from queries.filters.language.names import Names
from queries.filters.language.parser import parse
from queries.filters.machine.frames import Slices
from queries.filters.machine.run import run
from queries.filters.program import ChainEnd, Constant, Program
from tests.oracles import libpcap
from tests.oracles.interpreter import EndlessError, RejectedError, value
from tests.oracles.reader import whole_packets
from tests.programs import frame_set, with_rest

_LARGEST_CAPTURE = 200_000
_PACKETS_PER_CAPTURE, _PACKETS_PER_EXPRESSION = 12, 250

_Frame = tuple[bytes, int]
"""Octets captured, and the length on the wire."""


@pytest.fixture(scope="module")
def packets(corpus: Path) -> dict[int, list[_Frame]]:
    """A few frames of all small captures, by link type."""
    if reason := libpcap.missing():
        pytest.skip(reason)
    found: dict[int, dict[_Frame, None]] = {}
    for path in sorted(corpus.rglob("*.pcap*")):
        if path.stat().st_size < _LARGEST_CAPTURE:
            for packet in whole_packets(path)[:_PACKETS_PER_CAPTURE]:
                found.setdefault(packet.link_type, {})[packet.data, packet.frame_len] = None
    return {link_type: list(frames) for link_type, frames in found.items()}


def _verdicts(program: Program, frames: Sequence[_Frame], random: Random) -> Iterator[list[bool]]:
    """What the machine says of frames that are cut in two anywhere, with all of ``rest`` or as it is asked for."""
    cuts = [random.randrange(100) for _ in frames]
    headers = [octets[:cut] for (octets, _), cut in zip(frames, cuts, strict=True)]
    rests = [octets[cut:] for (octets, _), cut in zip(frames, cuts, strict=True)]
    whole = frame_set(headers, rests, wire_length=[length for _, length in frames])
    assert isinstance(whole.rest, Slices)
    for given in (whole, with_rest(whole, whole.rest.take)):
        yield run(program, given).tolist()


def _differences(
    expressions: Sequence[tuple[int, str]], packets: dict[int, list[_Frame]]
) -> tuple[list[str], int]:
    """Expressions of which a verdict is not libpcap's, and how many expressions were tried."""
    random = Random(1)
    differing: list[str] = []
    tried = 0
    for link_type, text in expressions:
        frames = packets.get(link_type) or packets[1]
        frames = random.sample(frames, min(len(frames), _PACKETS_PER_EXPRESSION))
        try:
            program = generate(parse(text), link_type=link_type, names=Names.empty())
        except FilterError:
            continue
        code = libpcap.compile(text, dlt=link_type)
        expected = [code.matches(*frame) for frame in frames]
        differing.extend(text for verdicts in _verdicts(program, frames, random) if verdicts != expected)
        tried += 1
    return differing, tried


def test_expressions_for_ethernet(shared: Path, packets: dict[int, list[_Frame]]) -> None:
    lines = (shared / "expressions" / "shared.txt").read_text(encoding="utf-8").splitlines()
    expressions = [(1, line) for line in lines if line and "protochain" not in line]
    differing, tried = _differences(expressions, packets)
    assert differing == []
    assert tried > 400


def test_expressions_for_other_link_types(shared: Path, packets: dict[int, list[_Frame]]) -> None:
    table = (shared / "expressions" / "shared_dlt.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in table[1:]]
    expressions = [(int(number), text) for _, number, text in rows if "protochain" not in text]
    differing, tried = _differences(expressions, packets)
    assert differing == []
    assert tried > 150


def _chained(random: Random, version: int, number: int) -> bytes:
    """An Ethernet frame with a chain of headers that name each other, perhaps cut; some lead to ``number``."""
    followed = (51, 51, 51, number) if version == 4 else (0, 43, 44, 51, 60, 59, number)
    chain = [
        random.choice(octets)
        for _ in range(random.choice((0, 8, 80, 800)))
        for octets in (followed, (0, 0, 1, 2, 5, 255), *[(0, 6, 51)] * 6)
    ]
    first = random.choice(followed)
    if version == 4:
        header = bytes([0x40 | random.choice((5, 5, 6, 15, 0))]) + bytes(8) + bytes([first]) + bytes(10)
    else:
        header = bytes([0x60]) + bytes(5) + bytes([first]) + bytes(33)
    frame = bytes(12) + (b"\x08\x00" if version == 4 else b"\x86\xdd") + header + bytes(chain)
    return frame[: random.choice((len(frame), len(frame), random.randrange(14, len(frame) + 1)))]


def _is_endless(walk: ChainEnd, frame: bytes) -> bool:
    try:
        value(walk, frame, len(frame))
    except EndlessError:
        return True
    except RejectedError:
        pass
    return False


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("number", [6, 0, 51, 59, 17])
def test_protocol_chains(version: int, number: int) -> None:
    if reason := libpcap.missing():
        pytest.skip(reason)
    random = Random(number)
    text = f"{'ip' if version == 4 else 'ip6'} protochain {number}"
    walk = ChainEnd(4 if version == 4 else 6, Constant(14), number)
    ending: list[_Frame] = []
    endless: list[_Frame] = []
    for frame in [_chained(random, version, number) for _ in range(400)]:
        (endless if _is_endless(walk, frame) else ending).append((frame, len(frame)))
    for negated in (text, f"not {text}"):
        program = generate(parse(negated), link_type=1, names=Names.empty())
        code = libpcap.compile(negated)
        expected = [code.matches(*frame) for frame in ending]
        assert negated != text or any(expected)
        assert all(verdicts == expected for verdicts in _verdicts(program, ending, random))
        # libpcap's code would never end on these
        assert not any(verdict for verdicts in _verdicts(program, endless, random) for verdict in verdicts)


def test_a_walk_may_be_long() -> None:
    if reason := libpcap.missing():
        pytest.skip(reason)
    options = bytes([60, 0, 0, 0, 0, 0, 0, 0]) * 200
    header = bytes([0x60]) + bytes(5) + bytes([60]) + bytes(33)
    frame = bytes(12) + b"\x86\xdd" + header + options + bytes([6]) + bytes(9)
    program = generate(parse("ip6 protochain 6"), link_type=1, names=Names.empty())
    assert libpcap.compile("ip6 protochain 6").matches(frame)
    assert run(program, frame_set([frame])).tolist() == [True]
