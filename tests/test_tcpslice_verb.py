"""``pcap2arrow tcpslice`` beside tcpslice: the files that both write, their reports, and what they refuse."""

from __future__ import annotations

import gzip
import os
import random
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import pcap2arrow
from jobs.cli.tcpslice import command
from tests.commands import SAMPLE, run
from tests.commands import command as command_line
from tests.conftest import CorpusCapture
from tests.oracles.reader import whole_packets
from tests.slicing import (
    SECOND,
    Comparison,
    Done,
    Slicer,
    faults,
    overlapping_halves,
    packets_of,
    readable,
    run_tcpslice,
    write_capture,
)

_SINGLE, _SETS, _HALVES = 140, 40, 70
_MOST_EXCEPTIONS = 0.05


@pytest.fixture(scope="module")
def theirs(tool: Callable[[str], str]) -> Slicer:
    """tcpslice itself."""
    program = tool("tcpslice")
    return lambda *words, to=None: run_tcpslice(program, *words, to=to)


@pytest.fixture
def ours(capsys: pytest.CaptureFixture[str]) -> Slicer:
    """The verb, in this process."""

    def call(*words: str | Path, to: Path | None = None) -> Done:
        writing = [] if to is None else ["-w", str(to)]
        if to is not None:
            to.unlink(missing_ok=True)
        code = command.main([*writing, *map(str, words)], standalone_mode=False)
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err, to.read_bytes() if to and to.exists() else None)

    return call


@pytest.fixture
def comparison(theirs: Slicer, ours: Slicer, tmp_path: Path) -> Comparison:
    return Comparison(theirs, ours, tmp_path)


# Files


def _compare_singles(comparison: Comparison, captures: Sequence[CorpusCapture]) -> None:
    for capture in captures:
        comparison.files(paths=[capture.path])
        times = [packet.time or 0 for packet in packets_of(capture.path)]
        third = (max(times) - times[0]) // 3 // 1000
        offset = f"+{third // 10**6}.{third % 10**6:06}"
        comparison.files(offset, offset, paths=[capture.path])


def _compare_sets(comparison: Comparison, captures: Sequence[CorpusCapture], count: int) -> None:
    """Pairs and triples of captures of one link type, copied, merged with and without duplicates, and relatively."""
    draw = random.Random(1)
    of_type: dict[frozenset[int], list[CorpusCapture]] = defaultdict(list)
    for capture in captures:
        of_type[capture.link_types].append(capture)
    sets = [several for several in of_type.values() if len(several) > 2]
    for number in range(count):
        several = sets[0] if number % 2 else draw.choice(sets)
        paths = [capture.path for capture in draw.sample(several, 2 + number % 2)]
        for words in ((), ("-D",), ("-l",), ("-l", "-D", "+0", "+1")):
            comparison.files(*words, paths=paths)


def _compare_halves(comparison: Comparison, captures: Sequence[CorpusCapture]) -> None:
    for capture in captures:
        halves = overlapping_halves(capture.path, comparison.folder)
        for words in ((), ("-D",)):
            comparison.files(*words, paths=halves)


def _check(comparison: Comparison, *, most: float = _MOST_EXCEPTIONS) -> None:
    told = "; ".join(f"{number} because {reason}" for reason, number in comparison.reasons.most_common())
    print(f"{comparison.compared} files of {comparison.captures} captures and sets compared")
    print(f"{comparison.unreadable} not read by tcpslice; of the others differ: {told}")
    assert comparison.wrong == []
    assert comparison.excepted <= most


def _several(captures: Sequence[CorpusCapture], count: int) -> list[CorpusCapture]:
    return list(captures[:: max(len(captures) // count, 1)][:count])


def _faultless(captures: Sequence[CorpusCapture]) -> list[CorpusCapture]:
    return [capture for capture in captures if not [*faults(capture.path)]]


def test_files_are_those_of_tcpslice(manifest: list[CorpusCapture], comparison: Comparison) -> None:
    """Of more than two hundred captures and sets that tcpslice reads, and of a few that it reads wrong."""
    captures = readable(manifest)
    _compare_singles(comparison, [*_faultless(_several(captures, _SINGLE)), *_several(captures, 5)])
    ethernet = [capture for capture in captures if capture.link_types == {1}]
    others = [capture for capture in captures if capture.link_types != {1}]
    _compare_sets(comparison, _faultless([*_several(ethernet, _SETS), *_several(others, _SETS)]), _SETS)
    of_some_size = [capture for capture in captures if 10 <= capture.packets < 300]
    _compare_halves(comparison, _faultless(_several(of_some_size, _HALVES)))
    assert comparison.captures >= 200
    _check(comparison)


def test_packets_that_tcpslice_loses_are_there(
    manifest: list[CorpusCapture], ours: Slicer, tmp_path: Path
) -> None:
    """In a copy of a capture: those that step back, that come after a gap, those of one time."""
    compared = 0
    for capture in readable(manifest)[::3]:
        if [*faults(capture.path)] and capture.snap_length >= 65535:
            written = ours(capture.path, to=tmp_path / "ours").written
            assert written is not None
            (tmp_path / "ours").write_bytes(written)
            found, expected = whole_packets(tmp_path / "ours"), packets_of(capture.path)
            assert [(p.time, p.data) for p in found] == [(p.time, p.data) for p in expected], capture.name
            compared += 1
    assert compared > 20


@pytest.mark.long
def test_files_of_the_whole_corpus_are_those_of_tcpslice(
    manifest: list[CorpusCapture], comparison: Comparison
) -> None:
    """Differences are told, and how many there are for each reason; one without a reason fails."""
    captures = readable(manifest)
    _compare_singles(comparison, captures)
    _compare_sets(comparison, _faultless(captures), 600)
    _compare_halves(comparison, _faultless([c for c in captures if 10 <= c.packets < 5000]))
    _check(comparison, most=1)


# Reports


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles"])
def test_reports_are_those_of_tcpslice(
    manifest: list[CorpusCapture],
    theirs: Slicer,
    ours: Slicer,
    zone: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", zone)
    captures = [c for c in _several(readable(manifest), 250) if theirs("-R", c.path).code == 0]
    assert len(captures) > 200
    different = set()
    for style in ("-R", "-r", "-t"):
        for link_types in {capture.link_types for capture in captures}:
            paths = [capture.path for capture in captures if capture.link_types == link_types]
            expected, found = (call(style, *paths).out.splitlines() for call in (theirs, ours))
            assert len(expected) == len(found) == len(paths)
            different |= {path for path, a, b in zip(paths, expected, found, strict=True) if a != b}
    for number, capture in enumerate(captures):
        style = [("-d",), ("-dt",), ("-dr", "+1"), ("-d", "+0.5", "+1h")][number % 4]
        expected, found = theirs(*style, capture.path), ours(*style, capture.path)
        if expected.code == 0 and found.out != expected.out:
            different.add(capture.path)
    assert [path for path in different if not [*faults(path)]] == []
    assert len(different) <= _MOST_EXCEPTIONS * len(captures)


# What it does better


T = 1_000_000_000 * SECOND


def _frame(number: int, octets: int = 60) -> bytes:
    return bytes([number]) * octets


def _seen(octets: bytes | None, folder: Path) -> list[tuple[float, int]]:
    """Of each packet that was written the seconds since T, and its first octet."""
    assert octets is not None
    (folder / "seen").write_bytes(octets)
    return [
        (((p.time or 0) - T) / SECOND, p.data[0] if p.data else -1) for p in whole_packets(folder / "seen")
    ]


UNREADABLE = {
    "one packet": [(0, 1)],
    "a packet without octets": [(0, 1), (1, -1), (2, 2)],
    "a gap of ten days": [(0, 1), (864_000, 2), (1_728_000, 3)],
    "more than a year": [(0, 1), (34_560_000, 2), (34_646_400, 3)],
    "steps back by seconds": [(0, 1), (3, 2), (1, 3), (4, 4), (5, 5)],
    "steps back before its first": [(5, 1), (6, 2), (1, 3), (7, 4)],
    "steps back at its end": [(5, 1), (6, 2), (1, 3)],
    "one time": [(0, 1), (0, 2), (0, 3)],
}


@pytest.mark.parametrize("what", UNREADABLE)
@pytest.mark.parametrize("form", ["pcap", "big-endian", "pcapng", "gzip", "dataset"])
def test_captures_that_tcpslice_can_not_search(
    what: str, form: str, tmp_path: Path, theirs: Slicer, ours: Slicer, tool: Callable[[str], str]
) -> None:
    seconds = UNREADABLE[what]
    packets = [(T + time * SECOND, _frame(n) if n > 0 else b"", 60) for time, n in seconds]
    plain = write_capture(tmp_path / "a.pcap", packets, order=">" if form == "big-endian" else "<")
    path = _in_form(plain, form, tool)
    whole = [(float(time), n) for time, n in seconds]
    lost = theirs(plain, to=tmp_path / "theirs")
    assert lost.code or _seen(lost.written, tmp_path) != whole
    done = ours(path, to=tmp_path / "ours")
    assert (done.code, _seen(done.written, tmp_path)) == (0, whole)
    back = sum(time < max(before for before, _ in seconds[: k + 1]) for k, (time, _) in enumerate(seconds))
    assert ("earlier than one before" in done.err) is bool(back)
    part = ours("1000000001", "1000000004", path, to=tmp_path / "ours")
    assert _seen(part.written, tmp_path) == [(time, n) for time, n in whole if 1 <= time <= 4]
    reported = ours("-R", path).out
    assert (
        reported == f"{path}\t{T // SECOND + seconds[0][0]}.000000\t{T // SECOND + seconds[-1][0]}.000000\n"
    )


def _in_form(path: Path, form: str, tool: Callable[[str], str]) -> Path:
    if form == "pcapng":
        subprocess.run([tool("editcap"), "-F", "pcapng", path, path.with_suffix(".ng")], check=True)
        return path.with_suffix(".ng")
    if form == "gzip":
        path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes()))
        return path.with_suffix(".gz")
    if form == "dataset":
        pcap2arrow.convert([path], path.parent / "dataset")
        return path.parent / "dataset"
    return path


def test_no_packet_at_all(tmp_path: Path, theirs: Slicer, ours: Slicer) -> None:
    path = write_capture(tmp_path / "empty.pcap", [])
    assert theirs(path, to=tmp_path / "theirs").code == 1
    assert ours(path, to=tmp_path / "ours").written == path.read_bytes()
    assert ours("-Rd", path).out == f"{path}\t-\t-\nstart\t-\nstop\t-\n"
    assert "no packet to count this time from" in ours("+1", path, to=tmp_path / "ours").err


def test_nanoseconds_are_kept(tmp_path: Path, ours: Slicer) -> None:
    fine = write_capture(
        tmp_path / "fine.pcap", [(T + k * SECOND + 123456789, _frame(k)) for k in range(3)], nanoseconds=True
    )
    coarse = write_capture(tmp_path / "coarse.pcap", [(T + k * SECOND, _frame(9)) for k in range(3)])
    assert ours(fine, to=tmp_path / "ours").written == fine.read_bytes()
    merged = ours(coarse, fine, to=tmp_path / "ours").written
    assert merged is not None and merged[:4] == bytes.fromhex("4d3cb2a1")
    assert _seen(merged, tmp_path)[:2] == [(0.0, 9), (0.123456789, 0)]
    assert ours("-R", fine, coarse).out.startswith(f"{fine}\t1000000000.123456789\t1000000002.123456789\n")
    assert ours("-dt", "+0.5", fine).out.endswith("2001y09m09d01h46m42s123456u789n\n")


def test_several_link_types_make_a_pcapng(
    tmp_path: Path, theirs: Slicer, ours: Slicer, tool: Callable[[str], str]
) -> None:
    ethernet = write_capture(tmp_path / "a.pcap", [(T + k * SECOND, _frame(k)) for k in range(4)])
    raw = write_capture(
        tmp_path / "raw.pcap", [(T + k * SECOND, _frame(0x45)) for k in range(3)], link_word=101
    )
    assert "uses DLT 12" in theirs(ethernet, raw, to=tmp_path / "theirs").err
    done = ours("+1", "+1", ethernet, raw, to=tmp_path / "ours.pcapng")
    assert "raw.pcap' has link type RAW (Raw IP), and the first file" in done.err
    merged = [(p.link_type, p.data[0]) for p in whole_packets(tmp_path / "ours.pcapng")]
    assert merged == [(1, 1), (101, 0x45), (1, 2), (101, 0x45)]


def test_backwards_slices_are_those_of_editcap(
    tmp_path: Path, ours: Slicer, tool: Callable[[str], str]
) -> None:
    draw = random.Random(4)
    times = [T + draw.randrange(60) * SECOND + draw.randrange(10**6) * 1000 for _ in range(400)]
    path = write_capture(tmp_path / "a.pcap", [(time, _frame(k % 256)) for k, time in enumerate(times)])
    editcap = [
        tool("editcap"),
        "-F",
        "pcap",
        "-A",
        "1000000020",
        "-B",
        "1000000030",
        path,
        tmp_path / "theirs",
    ]
    subprocess.run(editcap, check=True)
    found = ours("1000000020", "1000000029.999999", path, to=tmp_path / "ours").written
    assert found == (tmp_path / "theirs").read_bytes()
    assert len(_seen(found, tmp_path)) > 30


# Duplicates

A, B, C = _frame(1), _frame(2), _frame(3)

DUPLICATES = {
    "interleaved": ([(0, A), (1, B), (2, C)], [(1, B), (2, C), (3, A)], [(0, 1), (1, 2), (2, 3), (3, 1)]),
    "within one file they stay": ([(0, A), (0, A), (1, B)], [(5, C)], [(0, 1), (0, 1), (1, 2), (5, 3)]),
    "within one file and in another": ([(0, A), (0, A), (1, B)], [(0, A), (1, B)], [(0, 1), (0, 1), (1, 2)]),
    "more than before": ([(0, A)], [(0, A), (0, A), (0, B)], [(0, 1), (0, 2)]),
    "several at one time": ([(0, A), (0, B)], [(0, A), (0, B), (1, C)], [(0, 1), (0, 2), (1, 3)]),
    "in another order": ([(0, A), (0, B), (1, C)], [(0, B), (0, A)], [(0, 1), (0, 2), (1, 3)]),
    "other length on the wire": ([(0, A)], [(0, A, 999)], [(0, 1), (0, 1)]),
    "cut": ([(0, A)], [(0, A[:40], 60)], [(0, 1), (0, 1)]),
    "stepping back, in the first": (
        [(0, A), (3, B), (1, C)],
        [(1, C), (2, A)],
        [(0, 1), (2, 1), (3, 2), (1, 3)],
    ),
    "stepping back, in the second": (
        [(0, A), (1, C)],
        [(0, A), (3, B), (1, C), (4, C)],
        [(0, 1), (1, 3), (3, 2), (4, 3)],
    ),
}


_RELATIVE = [what for what, (first, second, _) in DUPLICATES.items() if first[0][0] == second[0][0]]


@pytest.mark.parametrize(
    ("what", "relative"), [*((what, False) for what in DUPLICATES), *((what, True) for what in _RELATIVE)]
)
def test_duplicates(what: str, relative: bool, tmp_path: Path, ours: Slicer) -> None:
    first, second, expected = DUPLICATES[what]
    late = 100 if relative else 0
    paths = [
        write_capture(tmp_path / f"{k}.pcap", [(T + (at + by) * SECOND, *more) for at, *more in packets])
        for k, (packets, by) in enumerate(((first, 0), (second, late)))
    ]
    letters = ["-l"] if relative else []
    assert _seen(ours(*letters, *paths, to=tmp_path / "o").written, tmp_path) == expected
    kept = _seen(ours("-D", *letters, *paths, to=tmp_path / "o").written, tmp_path)
    assert sorted(kept) == sorted((float(at), more[0][0]) for at, *more in [*first, *second])
    pcap2arrow.convert(paths, tmp_path / "dataset")
    assert _seen(ours(*letters, tmp_path / "dataset", to=tmp_path / "o").written, tmp_path) == expected


LAST = {
    **{what: case[:2] for what, case in DUPLICATES.items() if not what.startswith("stepping")},
    "three captures' worth": ([(0, A), (0, A), (0, B), (0, B)], [(0, A), (0, B), (0, B), (0, A)]),
    "many at one time": ([(k // 9, (A, B)[k % 7 < 4]) for k in range(99)], [(k // 9, B) for k in range(99)]),
}


@pytest.mark.parametrize("letters", [[], ["-l"]], ids=str)
@pytest.mark.parametrize("what", LAST)
def test_duplicates_as_tcpslice_finds_them(
    what: str, letters: list[str], tmp_path: Path, theirs: Slicer, ours: Slicer
) -> None:
    """With --compat-dup, in any order; a packet much later lets tcpslice read what it can't search otherwise."""
    captures = [
        write_capture(
            tmp_path / f"{k}.pcap",
            [*((T + at * SECOND, *more) for at, *more in of), (T + 99 * SECOND, _frame(9 + k))],
        )
        for k, of in enumerate(LAST[what])
    ]
    for paths in (captures, captures[::-1], [*captures, captures[0]]):
        expected = theirs(*letters, *paths, to=tmp_path / "theirs")
        found = ours("--compat-dup", *letters, *paths, to=tmp_path / "ours")
        assert (found.code, found.written) == (expected.code, expected.written) and found.code == 0


# The command line

SAME = """
-R -r {a}            | only one of -R, -r, or -t can be specified
-d                   | at least one input file must be given
+1 +2                | at least one input file must be given
25h {a}              | hour 25 is not valid
1969y1m1d {a}        | Can't handle year 1969
-d 2147483648 {a}    | bad pcap file 2147483648: 2147483648: No such file or directory
{a} +1               | bad pcap file +1: +1: No such file or directory
+1 +2 +3 {a}         | bad pcap file +3: +3: No such file or directory
{a} {absent}         | bad pcap file {absent}: {absent}: No such file or directory
{a} -w {absent}/b    | No such file or directory
"""


@pytest.mark.parametrize("case", SAME.strip().splitlines(), ids=lambda case: case.split("|")[0].strip())
def test_what_tcpslice_refuses_is_refused(case: str, tmp_path: Path, theirs: Slicer, ours: Slicer) -> None:
    line, reason = (part.strip() for part in case.split("|"))
    capture = write_capture(tmp_path / "a.pcap", [(T, A), (T + SECOND, B)])
    places = {"a": capture, "absent": tmp_path / "absent"}
    words = [word.format_map(places) for word in line.split()]
    expected, found = theirs(*words), ours(*words)
    assert (found.code, found.out) == (expected.code, expected.out) == (1, "")
    assert reason.format_map(places) in expected.err and reason.format_map(places) in found.err


@pytest.mark.parametrize("words", [["-3", "{a}"], ["-x", "{a}"], ["-w"]])
def test_letters_that_there_are_not(words: list[str], tmp_path: Path, theirs: Slicer, ours: Slicer) -> None:
    assert theirs(*words).code == ours(*words).code == 255
    assert "Usage: pcap2arrow tcpslice" in ours(*words).err


def test_letters_in_clusters_and_after_files(tmp_path: Path, theirs: Slicer, ours: Slicer) -> None:
    capture = write_capture(tmp_path / "21h36m", [(T, A), (T + SECOND, B)])
    for words in (
        ("-dRv", f"./{capture.name}"),
        (f"{tmp_path}/21h36m", "-t"),
        ("-vlDd", "--", "+1", "+0", capture),
    ):
        expected, found = (call(*words) for call in (theirs, ours))
        if not str(words[-1]).startswith("./"):
            assert (found.code, found.out) == (expected.code, expected.out)
    assert "pcap2arrow tcpslice -w noon.pcap" in ours("-h").out


def test_damaged_captures_give_their_whole_packets(tmp_path: Path, theirs: Slicer, ours: Slicer) -> None:
    whole = write_capture(tmp_path / "a.pcap", [(T + k * SECOND, _frame(k)) for k in range(9)]).read_bytes()
    for name, octets in (("cut", whole[:-10]), ("header cut", whole[:-70]), ("junk", whole + bytes(7))):
        (tmp_path / name).write_bytes(octets)
        expected, found = (call(tmp_path / name, to=tmp_path / "o") for call in (theirs, ours))
        assert (found.code, found.written) == (expected.code, expected.written)
        assert re.search(rf"{name}: offset \d+: expected", found.err)
        assert theirs("-R", tmp_path / name).out == ours("-R", tmp_path / name).out


def test_standard_input_and_output(tmp_path: Path) -> None:
    """As processes, since octets pass through; a terminal gets none."""
    with SAMPLE.open("rb") as source:
        words = command_line("tcpslice", "+0", "+0.5", "-")
        piped = subprocess.run(words, stdin=source, capture_output=True, check=True).stdout
    run("tcpslice", "-w", tmp_path / "a", "+0", "+0.5", SAMPLE)
    assert piped == (tmp_path / "a").read_bytes()
    leader, follower = os.openpty()
    done = subprocess.run(
        command_line("tcpslice", SAMPLE), stdout=follower, stderr=subprocess.PIPE, text=True
    )
    os.close(follower)
    os.close(leader)
    assert (done.returncode, done.stderr) == (1, "pcap2arrow: stdout is a terminal; redirect or use -w\n")
