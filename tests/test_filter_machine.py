"""The machine that runs a filter's program on many frames, against one that runs it on each."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from random import Random

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from queries.filters.machine.frames import Frames, Rows, Slices
from queries.filters.machine.plan import plan, reach
from queries.filters.machine.run import run
from queries.filters.program import (
    ACCEPT,
    REJECT,
    Arithmetic,
    ChainEnd,
    Constant,
    Load,
    Operand,
    Program,
    WireLength,
)
from queries.filters.program import Test as Compare
from tests import programs
from tests.oracles.interpreter import accepts
from tests.programs import frame_set, slices, with_rest


def _accepted(*tests: Compare, before: tuple[Operand, ...] = (), frames: Sequence[bytes]) -> list[bool]:
    verdicts: list[bool] = run(Program(1, tests, before), frame_set(frames)).tolist()
    return verdicts


def _is(operand: Operand, number: int) -> Compare:
    return Compare(operand, "=", Constant(number), ACCEPT, REJECT)


# Against the interpreter


def _random_frames(random: Random, count: int) -> tuple[list[bytes], Frames]:
    """What libpcap sees of some frames, and the frames, each cut in two somewhere."""
    frames = [programs.frame(random) for _ in range(count)]
    cuts = [random.choice((0, len(f), random.randint(0, len(f)))) for f in frames]
    limits = [random.choice((len(f), len(f) + 5, random.randint(0, len(f)))) for f in frames]
    wire_lengths = [random.choice((len(f), 0, 2**32 - 1)) for f in frames]
    headers = [f[:cut] for f, cut in zip(frames, cuts, strict=True)]
    rests = [f[cut:] for f, cut in zip(frames, cuts, strict=True)]
    made = frame_set(headers, rests, limit=limits, wire_length=wire_lengths)
    return [f[:limit] for f, limit in zip(frames, limits, strict=True)], made


def _expected(program: Program, seen: Sequence[bytes], frames: Frames) -> NDArray[np.bool_]:
    lengths = frames.wire_length.tolist()
    verdicts = [accepts(program, octets, length) for octets, length in zip(seen, lengths, strict=True)]
    return np.array(verdicts, np.bool_)


@pytest.mark.parametrize("seed", range(20))
def test_random_programs(seed: int) -> None:
    random = Random(seed)
    accepted = 0
    for _ in range(20):
        program = programs.program(random)
        seen, frames = _random_frames(random, 60)
        expected = _expected(program, seen, frames)
        assert isinstance(frames.rest, Slices)
        deferred = with_rest(frames, frames.rest.take)
        some = np.array(random.sample(range(60), 25), np.int64)
        for given in (frames, deferred):
            assert run(program, given).tolist() == expected.tolist()
            assert run(plan(program), given, some).tolist() == expected[some].tolist()
        accepted += int(expected.sum())
    assert 0 < accepted < 20 * 60


def test_more_frames_than_one_window() -> None:
    random = Random(1)
    seen, frames = _random_frames(random, 70_000)
    program = Program(
        1,
        (
            Compare(Load(0, 2), "=", Constant(0x0306), 2, 1),
            Compare(Load(1, 1, Load(2, 1)), ">", Constant(50), ACCEPT, 2),
            Compare(Load(3, 4), ">=", Constant(0x80000000), REJECT, ACCEPT),
        ),
    )
    expected = _expected(program, seen, frames)
    assert np.array_equal(run(program, frames), expected)
    rows = np.array(random.choices(range(70_000), k=40_000), np.int64)
    assert np.array_equal(run(program, frames, rows), expected[rows])


def test_a_program_whose_ways_multiply() -> None:
    """Each way through remembers other answers: they must be forgotten before they are too many."""
    random = Random(2)
    asked = [Load(place, 1) for place in range(24)]
    tests = []
    for round_ in range(3):
        for place, operand in enumerate(asked):
            k = round_ * len(asked) + place
            tests.append(Compare(operand, "=", Constant(random.choice((0, 1, 2))), k + 1, min(k + 2, 72)))
    tests.append(_is(Load(0, 1), 0))
    program = Program(1, tuple(tests))
    seen, frames = _random_frames(random, 500)
    assert run(program, frames).tolist() == _expected(program, seen, frames).tolist()
    assert len(plan(program).stages) < 8 * len(tests)


# Loads


@pytest.mark.parametrize(("size", "value"), [(1, 0x45), (2, 0x4567), (4, 0x456789AB)])
def test_loads_are_big_endian(size: int, value: int) -> None:
    frame = bytes.fromhex("0123456789ab")
    assert _accepted(_is(Load(2, size), value), frames=[frame]) == [True]  # type: ignore[arg-type]


@pytest.mark.parametrize("header", range(7))
@pytest.mark.parametrize("offset", range(5))
def test_a_load_may_lie_in_header_and_rest(header: int, offset: int) -> None:
    frame = bytes.fromhex("0123456789ab")
    for size in (1, 2, 4):
        loaded = int.from_bytes(frame[offset : offset + size], "big")
        program = Program(1, (_is(Load(offset, size), loaded),))  # type: ignore[arg-type]
        frames = frame_set([frame[:header]], [frame[header:]])
        assert run(program, frames).tolist() == [offset + size <= len(frame)]


@pytest.mark.parametrize("limit", range(8))
def test_a_load_beyond_the_limit_rejects(limit: int) -> None:
    program = Program(1, (Compare(Load(2, 2), ">=", Constant(0), ACCEPT, ACCEPT),))
    frames = frame_set([b"abc", b"abcdef", b""], [b"def", b"", b"abcdef"], limit=[limit] * 3)
    assert run(program, frames).tolist() == [limit >= 4] * 3


def test_a_limit_beyond_the_octets_changes_nothing() -> None:
    program = Program(1, (Compare(Load(2, 2), ">=", Constant(0), ACCEPT, REJECT),))
    assert run(program, frame_set([b"abc"], [b""], limit=[100])).tolist() == [False]
    assert run(program, frame_set([b"abc"], limit=[100])).tolist() == [False]


def test_offset_and_index_do_not_wrap() -> None:
    def byte(index: int) -> Compare:
        return Compare(Load(2, 1, Constant(index)), ">=", Constant(0), ACCEPT, REJECT)

    assert _accepted(byte(2**32 - 2), frames=[b"abc"]) == [False]
    assert _accepted(byte(0), frames=[b"abc"]) == [True]
    assert _accepted(Compare(Load(2**32 - 1, 4), ">=", Constant(0), ACCEPT, ACCEPT), frames=[b"abc"]) == [
        False
    ]


def test_loads_before_the_first_test_reject() -> None:
    assert _accepted(before=(Load(2, 2),), frames=[b"abc", b"abcd"]) == [False, True]


def test_without_tests_everything_is_accepted() -> None:
    assert _accepted(frames=[b"", b"a"]) == [True, True]


def test_no_frames() -> None:
    assert run(Program(1, (_is(Load(0, 1), 0),)), frame_set([])).tolist() == []


# Rest


def test_rest_is_asked_for_where_loads_need_it() -> None:
    asked: list[list[int]] = []
    rest = slices([b"xyz"] * 4)

    def read(rows: Rows) -> Slices:
        asked.append(rows.tolist())
        return rest.take(rows)

    frames = with_rest(frame_set([b"abcd", b"ab", b"abc", b""], limit=[7, 5, 6, 2]), read)
    assert run(Program(1, (_is(Load(2, 1), ord("c")),)), frames).tolist() == [True, False, True, False]
    assert asked == [[1]]
    assert run(Program(1, (_is(WireLength(), 0),)), frames).tolist() == [False, False, False, True]
    assert asked == [[1]]
    rows = np.array([3, 1, 0], np.int64)
    assert run(Program(1, (_is(Load(3, 1), ord("y")),)), frames, rows).tolist() == [False, True, False]
    assert asked == [[1], [1]]


@pytest.mark.parametrize(
    ("program", "octets"),
    [
        (Program(1, ()), 0),
        (Program(1, (_is(WireLength(), 1),)), 0),
        (Program(1, (_is(Load(12, 2), 1), _is(Arithmetic("+", Load(30, 4), Load(9, 1)), 1))), 34),
        (Program(1, (), (Load(2, 2),)), 4),
        (Program(1, (_is(Load(12, 2, WireLength()), 1),)), None),
        (Program(1, (_is(ChainEnd(6, Constant(14), 6), 1),)), None),
    ],
)
def test_how_far_a_program_reaches(program: Program, octets: int | None) -> None:
    assert reach(program) == octets


# Arithmetic


@pytest.mark.parametrize(
    ("left", "operator", "right", "result"),
    [
        (2**32 - 1, "+", 2, 1),
        (1, "-", 2, 2**32 - 1),
        (2**31, "*", 3, 2**31),
        (7, "/", 2, 3),
        (7, "%", 4, 3),
        (7, "/", 0, None),
        (7, "%", 0, None),
        (6, "&", 3, 2),
        (6, "|", 3, 7),
        (6, "^", 3, 5),
        (1, "<<", 31, 2**31),
        (1, "<<", 32, 0),
        (3, "<<", 31, 2**31),
        (2**31, ">>", 31, 1),
        (2**31, ">>", 32, 0),
        (2**31, ">>", 2**32 - 1, 0),
    ],
)
def test_arithmetic(left: int, operator: str, right: int, result: int | None) -> None:
    """With numbers of the frame and with constants; division by zero rejects, whatever the test says."""
    frame = struct.pack(">II", left, right)
    for one in (Constant(left), Load(0, 4)):
        for other in (Constant(right), Load(4, 4)):
            operand = Arithmetic(operator, one, other)
            if result is None:
                anything = Compare(operand, ">=", Constant(0), ACCEPT, ACCEPT)
                assert _accepted(anything, frames=[frame]) == [False]
            else:
                assert _accepted(_is(operand, result), frames=[frame]) == [True]


def test_sums_may_be_long() -> None:
    total: Operand = Load(0, 1)
    for _ in range(5000):
        total = Arithmetic("+", total, Constant(1))
    assert _accepted(_is(total, 5001), frames=[b"\x01", b"\x02", b""]) == [True, False, False]


# Chains of comparisons


def _either(operands: Sequence[Operand], numbers: Sequence[int]) -> Program:
    """As libpcap lays out a list of hosts: each number with every operand in turn."""
    pairs = [(operand, number) for number in numbers for operand in operands]
    last = len(pairs) - 1
    tests = [
        Compare(operand, "=", Constant(number), ACCEPT, place + 1 if place < last else REJECT)
        for place, (operand, number) in enumerate(pairs)
    ]
    return Program(1, tuple(tests))


@pytest.mark.parametrize("count", [2, 5, 50])
def test_a_list_of_numbers_is_one_stage(count: int) -> None:
    random = Random(count)
    numbers = [random.randrange(200) for _ in range(count)]
    program = _either([Load(0, 1), Load(1, 1)], numbers)
    assert len(plan(program).stages) == 1
    seen = [bytes(random.choices(range(200), k=random.choice((0, 1, 2, 2)))) for _ in range(400)]
    frames = frame_set(seen)
    assert run(program, frames).tolist() == _expected(program, seen, frames).tolist()


@pytest.mark.parametrize("compared", ["operand", "constant"])
def test_ranges_are_one_stage(compared: str) -> None:
    """As libpcap lays out a list of ranges of ports, source and destination."""
    tests: list[Compare] = []
    ranges = [(0, 3), (5, 5), (9, 12), (10, 20), (250, 255)]
    for least, greatest in ranges:
        for port in (Load(0, 1), Load(1, 1)):
            here = len(tests)
            after = here + 2 if here + 2 < 4 * len(ranges) else REJECT
            if compared == "operand":
                tests.append(Compare(port, ">=", Constant(least), here + 1, after))
                tests.append(Compare(port, ">", Constant(greatest), after, ACCEPT))
            else:
                tests.append(Compare(Constant(least), ">", port, after, here + 1))
                tests.append(Compare(Constant(greatest), ">=", port, ACCEPT, after))
    program = Program(1, tuple(tests))
    assert len(plan(program).stages) == 1
    seen = [bytes([a, b]) for a in range(256) for b in (0, 4, 5, 100, 255)] + [b"", b"\x05", b"\x04"]
    frames = frame_set(seen)
    assert run(program, frames).tolist() == _expected(program, seen, frames).tolist()


def test_an_operand_rejects_at_its_place_in_a_chain() -> None:
    """The second octet is not there: so only the comparison before the first that loads it can be true."""
    program = _either([Load(0, 1), Load(1, 1)], [1, 2])
    assert run(program, frame_set([b"\x01", b"\x02", b"\x00\x02", b"\x02\x00", b""])).tolist() == [
        True,
        False,
        True,
        True,
        False,
    ]


def test_what_is_known_is_not_asked_again() -> None:
    """Three hosts of IPv4 or ARP: one stage for the EtherType, one for the addresses of each protocol."""
    tests: list[Compare] = []
    for host in (1, 2, 3):
        for ethertype, places in ((0x800, (26, 30)), (0x806, (28, 38))):
            here = len(tests)
            tests.append(Compare(Load(12, 2), "=", Constant(ethertype), here + 1, here + 3))
            tests.extend(
                Compare(Load(offset, 4), "=", Constant(host), ACCEPT, here + 2 + k)
                for k, offset in enumerate(places)
            )
    last = tests[-1]
    tests[-1] = Compare(last.left, "=", last.right, ACCEPT, REJECT)
    tests[-3] = Compare(tests[-3].left, "=", tests[-3].right, len(tests) - 2, REJECT)
    assert len(plan(Program(1, tuple(tests))).stages) == 3


# Protocol chains


def _chain(version: int, number: int, *frames: bytes) -> list[bool]:
    met = _is(ChainEnd(version, Constant(2), number), 1)  # type: ignore[arg-type]
    return _accepted(met, frames=[b"\xee\xee" + frame for frame in frames])


def _ipv6(first: int, headers: str) -> bytes:
    return bytes(6) + bytes([first]) + bytes(33) + bytes.fromhex(headers)


def test_headers_of_ipv6_are_followed() -> None:
    options, fragment = "3c00000000000000", "0600000000000000"
    frames = [_ipv6(0, options + fragment), _ipv6(6, ""), _ipv6(17, ""), _ipv6(59, ""), _ipv6(0, "3c")]
    assert _chain(6, 6, *frames) == [True, True, False, False, False]
    assert _chain(6, 60, *frames) == [True, False, False, False, False]
    assert _chain(6, 59, *frames) == [False, False, False, True, False]
    assert _accepted(
        _is(ChainEnd(6, Constant(2), 6), 0), frames=[b"\xee\xee" + frame for frame in frames]
    ) == [False, False, True, True, False]


def test_after_an_authentication_header_its_length_alone_counts() -> None:
    """In libpcap's code the next header after one of IPv4 lies at four times its length and two."""
    ipv4 = bytes([0x45]) + bytes(8) + bytes([51]) + bytes(10)
    header = bytes.fromhex("3305") + bytes(6) + bytes.fromhex("0600") + bytes(30)
    assert _chain(4, 6, ipv4 + header) == [True]
    assert _chain(4, 51, ipv4 + header) == [True]
    assert _chain(4, 0, ipv4 + bytes.fromhex("0004"), ipv4 + b"\x00") == [True, False]


def test_a_walk_in_circles_rejects() -> None:
    ipv4 = bytes([0x45]) + bytes(8) + bytes([51]) + bytes(10) + bytes.fromhex("33030000")
    assert _chain(4, 6, ipv4 + bytes(30)) == [False]
    not_met = Compare(ChainEnd(4, Constant(0), 6), "=", Constant(1), REJECT, ACCEPT)
    assert _accepted(not_met, frames=[ipv4]) == [False]


# Constructors


def test_frames_of_arrow_columns() -> None:
    chunks = [[b"ab", None, b"c"], [b"", b"abcdefghijklmnop"]]
    program = Program(1, (_is(Load(0, 1), ord("a")),))
    numbers = pa.array([9, 9, 9, 9, 9], pa.uint32())
    for kind in (pa.large_binary(), pa.binary(), pa.binary_view()):
        column = pa.chunked_array([pa.array(chunk, kind) for chunk in chunks])
        frames = Frames.of_arrow(column, numbers, pa.chunked_array([numbers]))
        assert run(program, frames).tolist() == [True, False, False, False, True]
        part = Frames.of_arrow(column.slice(1, 3), numbers.slice(1, 3), numbers.slice(1, 3))
        assert run(program, part).tolist() == [False, False, False]


def test_nulls_are_empty_whatever_lies_below() -> None:
    array = pa.array([b"ab", b"ab"], pa.large_binary())
    _, offsets, octets = array.buffers()
    masked = pa.Array.from_buffers(pa.large_binary(), 2, [pa.py_buffer(b"\x02"), offsets, octets])
    numbers = pa.array([2, 2], pa.uint32())
    assert run(
        Program(1, (_is(Load(0, 1), ord("a")),)), Frames.of_arrow(masked, numbers, numbers)
    ).tolist() == [
        False,
        True,
    ]


def test_a_slice_of_an_array() -> None:
    column = Slices.of_arrow(pa.array([b"ab", b"c", None, b"def"], pa.large_binary()).slice(1))
    assert (column.ends - column.starts).tolist() == [1, 0, 3]
    assert column.data[column.starts[[0, 2]]].tobytes() == b"cd"


def test_one_chunk_is_not_copied() -> None:
    array = pa.array([b"abc", b"d"], pa.large_binary())
    assert Slices.of_arrow(array).data.ctypes.data == array.buffers()[2].address


def test_frames_of_polars_columns() -> None:
    table = pl.DataFrame(
        {"header": [b"ab", None, b"a much longer row"], "rest": [b"c", b"a", b""], "n": [3, 1, 17]},
        schema_overrides={"n": pl.UInt32},
    )
    for part in (table, pl.concat([table[:1], table[1:]], rechunk=False)):
        frames = Frames.of_polars(part["header"], part["n"], part["n"], rest=part["rest"])
        program = Program(1, (_is(Load(0, 1), ord("a")),))
        assert run(program, frames).tolist() == [True, True, True]
        assert run(Program(1, (_is(Load(2, 1), ord("c")),)), frames).tolist() == [True, False, False]


def test_frames_in_one_buffer() -> None:
    data = np.frombuffer(b"--abc-d", np.uint8)
    starts, lengths = np.array([2, 6, 7], np.int64), np.array([3, 1, 0], np.int64)
    numbers = lengths.astype(np.uint32)
    frames = Frames(Slices.of_buffer(data, starts, lengths), numbers, numbers)
    assert run(Program(1, (_is(Load(0, 1), ord("d")),)), frames).tolist() == [False, True, False]
