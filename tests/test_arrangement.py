"""How exports put captures together and part them: merges beside mergecap, duplicates and files beside editcap."""

from __future__ import annotations

import random
import resource
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import pcap2arrow
from pcap2arrow.errors import ExportError, UsageError
from pcap2arrow.writing.merging.arrangement import Arrangement
from pcap2arrow.writing.merging.duplicates import AcrossSources, Recent, parse_duplicates
from pcap2arrow.writing.split import Split
from tests.commands import run
from tests.conftest import CorpusCapture
from tests.oracles.reader import whole_packets
from tests.slicing import SECOND, packets_of, write_capture
from tests.test_tcpslice_verb import T, _frame

Tool = Callable[[str], str]
_PAIRS = 50


def _contents(path: Path) -> list[tuple[int, int, bytes]]:
    return [(packet.link_type, packet.frame_len, packet.data) for packet in whole_packets(path)]


def _seconds(path: Path) -> list[tuple[float, int]]:
    """Of each packet the seconds since T, and its first octet."""
    return [(((packet.time or 0) - T) / SECOND, packet.data[0]) for packet in whole_packets(path)]


def _sound(manifest: Sequence[CorpusCapture]) -> list[CorpusCapture]:
    return [c for c in manifest if c.is_capture and c.sound and 1 < c.packets < 2000]


# Merging


def test_merges_have_the_order_of_mergecap(manifest: list[CorpusCapture], tool: Tool, tmp_path: Path) -> None:
    """Of pairs of any formats, resolutions and link types; some step back in time, some overlap.

    Of packets of one time mergecap takes those of the last capture first, and tcpslice those of the first, as it is
    done here: mergecap gets the two the other way round.
    """
    draw = random.Random(3)
    # Wireshark is wrong about times finer than nanoseconds
    captures = [capture for capture in _sound(manifest) if capture.time_digits <= 9]
    captures = [capture for capture in captures if "tsresol-ps" not in capture.name]
    kinds = sorted({(c.format, c.time_resolution) for c in captures})
    several = {kind: [c for c in captures if (c.format, c.time_resolution) == kind] for kind in kinds}
    stepping = [capture for capture in captures if capture.time_ordered is False]
    mergecap, compared, mixed = tool("mergecap"), 0, 0
    while compared < _PAIRS:
        first = draw.choice(several[draw.choice(kinds)])
        second = draw.choice(stepping if compared % 5 == 0 else several[draw.choice(kinds)])
        words = [mergecap, "-F", "pcapng", "-w", tmp_path / "theirs", second.path, first.path]
        if subprocess.run(words, capture_output=True).returncode:
            continue
        pcap2arrow.export([first.path, second.path], tmp_path / "ours", format="pcapng")
        assert _contents(tmp_path / "ours") == _contents(tmp_path / "theirs"), (first.name, second.name)
        compared += 1
        mixed += (first.format, first.time_resolution) != (second.format, second.time_resolution)
    assert mixed > _PAIRS // 3


def test_halves_merge_to_the_whole(manifest: list[CorpusCapture], tmp_path: Path) -> None:
    chosen = [c for c in _sound(manifest) if c.format == "pcap" and c.time_ordered and len(c.link_types) == 1]
    for capture in chosen[:: len(chosen) // 12]:
        packets = [(p.time or 0, p.data, p.frame_len) for p in packets_of(capture.path)]
        whole = write_capture(tmp_path / "whole", packets, nanoseconds=True)
        for name, part in (("even", packets[::2]), ("odd", packets[1::2])):
            write_capture(tmp_path / name, part, nanoseconds=True)
        pcap2arrow.export([tmp_path / "even", tmp_path / "odd"], tmp_path / "merged", format="nspcap")
        merged = [(p.time, p.data) for p in whole_packets(tmp_path / "merged")]
        times = [time for time, *_ in packets]
        if len(set(times)) == len(times):
            assert merged == [(p.time, p.data) for p in whole_packets(whole)]
        assert sorted(merged) == sorted((time, data) for time, data, _ in packets)


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Two captures of five packets, half a second apart; the second steps back."""
    first = [(T + k * SECOND, _frame(k)) for k in range(5)]
    second = [(T + k * SECOND // 2, _frame(10 + k)) for k in (5, 7, 6, 12, 13)]
    return [write_capture(tmp_path / "a.pcap", first), write_capture(tmp_path / "b.pcap", second)]


def _export(two: Sequence[Path], *words: str) -> list[tuple[float, int]]:
    target = two[0].with_name("out.pcap")
    run("export", *two, "-w", target, *words)
    return _seconds(target)


FIRST = [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]

ARRANGED = {
    (): [(0, 0), (1, 1), (2, 2), (2.5, 15), (3, 3), (3.5, 17), (3, 16), (4, 4), (6, 22), (6.5, 23)],
    ("--offset", "b.pcap=-2.5"): [
        (0, 0), (0, 15), (1, 1), (1, 17), (0.5, 16), (2, 2), (3, 3), (3.5, 22), (4, 4), (4, 23),
    ],
    ("--relative",): [(0, 0), (0, 15), (1, 1), (1, 17), (0.5, 16), (2, 2), (3, 3), (3.5, 22), (4, 4), (4, 23)],
    ("--relative", "--offset", "b.pcap=10", "--start", "+10"): [
        (10, 15), (11, 17), (10.5, 16), (13.5, 22), (14, 23),
    ],
    ("--relative", "--start", "+1", "--end", "+2"): [(1, 1), (1, 17), (2, 2), (3, 3)],
    ("--offset", "a.pcap=1h", "--start", "+1h"): [(3600 + k, k) for k in range(5) if k > 2],
    ("--concat",): [*FIRST, (2.5, 15), (3.5, 17), (3, 16), (6, 22), (6.5, 23)],
    ("--concat-newer",): [*FIRST, (6, 22), (6.5, 23)],
    ("--concat", "--start", "+3"): [(3, 3), (4, 4), (3.5, 17), (3, 16), (6, 22), (6.5, 23)],
}  # fmt: skip


@pytest.mark.parametrize("words", ARRANGED, ids=" ".join)
@pytest.mark.parametrize("stored", [False, True], ids=["captures", "dataset"])
def test_arrangements(two: list[Path], words: tuple[str, ...], stored: bool) -> None:
    sources: list[Path] = two
    if stored:
        pcap2arrow.convert(two, two[0].with_name("dataset"))
        sources = [two[0].with_name("dataset")]
    assert _export(sources, *words) == ARRANGED[words]


# Duplicates


def _repeating(folder: Path, draw: random.Random, *, packets: int = 3000) -> Path:
    """A capture in which many packets occur again soon, or late."""
    time, content = T, list[tuple[int, bytes]]()
    for _ in range(packets):
        time += draw.choice([0, 1000, 20_000_000, 60_000_000, 100_000_000])
        octets = _frame(draw.randrange(12), draw.choice([40, 40, 60]))
        if content and draw.random() < 0.3:
            octets = content[-draw.randint(1, min(9, len(content)))][1]
        content.append((time, octets))
    return write_capture(folder / "repeating.pcap", content)


@pytest.mark.parametrize("window", [0, 1, 2, 5, 9, 1000])
def test_windows_are_those_of_editcap(tool: Tool, tmp_path: Path, window: int) -> None:
    path = _repeating(tmp_path, random.Random(window))
    subprocess.run([tool("editcap"), "-F", "pcap", "-D", str(window), path, tmp_path / "theirs"], check=True)
    run("export", path, "--dedupe", f"window={window}", "-w", tmp_path / "ours")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize("seconds", ["0", "0.000001", "0.02", "0.1", "1.5"])
def test_spans_are_those_of_editcap(tool: Tool, tmp_path: Path, seconds: str) -> None:
    path = _repeating(tmp_path, random.Random(7))
    subprocess.run([tool("editcap"), "-F", "pcap", "-w", seconds, path, tmp_path / "theirs"], check=True)
    run("export", path, "--dedupe", f"seconds={seconds}", "-w", tmp_path / "ours")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_packets_that_are_cut_are_compared_as_they_are_written(tool: Tool, tmp_path: Path) -> None:
    path = _repeating(tmp_path, random.Random(8))
    words = [tool("editcap"), "-F", "pcap", "-s", "2", "-D", "4", path, tmp_path / "theirs"]
    subprocess.run(words, check=True)
    run("export", path, "--snaplen", "2", "--dedupe", "window=4", "-w", tmp_path / "ours")
    ours, theirs = ((tmp_path / name).read_bytes() for name in ("ours", "theirs"))
    assert ours[24:] == theirs[24:]  # editcap leaves the snap length of the header


def test_duplicates_of_the_corpus_are_those_of_editcap(
    manifest: list[CorpusCapture], tool: Tool, tmp_path: Path
) -> None:
    chosen = [c for c in _sound(manifest) if c.format == "pcap" and c.time_ordered and len(c.link_types) == 1]
    dropped = 0
    for capture in chosen[:: len(chosen) // 30]:
        for letters, duplicates in (
            (["-D", "5"], Recent(packets=5)),
            (["-w", "0.1"], Recent(nanoseconds=10**8)),
        ):
            subprocess.run(
                [tool("editcap"), *letters, capture.path, tmp_path / "theirs"], capture_output=True
            )
            report = pcap2arrow.export(
                [capture.path], tmp_path / "ours", arrangement=Arrangement(duplicates=duplicates)
            )
            assert _contents(tmp_path / "ours") == _contents(tmp_path / "theirs"), (capture.name, letters)
            dropped += capture.packets - (report.packets or 0)
    assert dropped > 10


def test_duplicates_across_batches_and_captures(tmp_path: Path) -> None:
    """More packets of one time than a batch holds; duplicates are told over its bounds."""
    rows = 150_000
    first = [(T, k.to_bytes(4, "big")) for k in range(rows)]
    second = [(T, k.to_bytes(4, "big")) for k in range(rows - 1000, rows + 1000)]
    paths = [write_capture(tmp_path / "a", first), write_capture(tmp_path / "b", second)]
    report = pcap2arrow.export(paths, tmp_path / "c", arrangement=Arrangement(duplicates=AcrossSources()))
    assert report.packets == rows + 1000
    again = pcap2arrow.export(
        paths[::-1], tmp_path / "c", arrangement=Arrangement(duplicates=AcrossSources())
    )
    assert again.packets == rows + 1000


@pytest.mark.parametrize(
    "text", ["", "window", "window=", "window=-1", "window=1000001", "seconds=-1", "source", "5"]
)
def test_what_is_no_kind_of_duplicates(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duplicates(text)


# Files one after another


def _parts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if whole_packets(path))


@pytest.mark.parametrize(
    ("letters", "words"),
    [
        (["-i", "1"], ["--every", "1"]),
        (["-i", "0.25"], ["--every", "0.25"]),
        (["-i", "60"], ["--every", "1m"]),
        (["-c", "1"], ["--max-packets", "1"]),
        (["-c", "100"], ["--max-packets", "100"]),
        (["-c", "10000"], ["--max-packets", "10000"]),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("name", ["derived/usec-be.pcap", "derived/unsorted.pcap"])
def test_files_are_those_of_editcap(
    corpus: Path, tool: Tool, tmp_path: Path, letters: list[str], words: list[str], name: str
) -> None:
    """The same names, octets and packets; files without packets are editcap's alone."""
    if name.endswith("unsorted.pcap") and letters[0] == "-i":
        pcap2arrow.export([corpus / name], tmp_path / "source.pcap")
    for folder in ("theirs", "ours"):
        (tmp_path / folder).mkdir()
    editcap = [tool("editcap"), "-F", "pcap", *letters, corpus / name, tmp_path / "theirs" / "out.pcap"]
    subprocess.run(editcap, check=True, env={"TZ": "UTC"})
    run("export", corpus / name, *words, "-w", tmp_path / "ours" / "out.pcap", environment={"TZ": "UTC"})
    expected, found = _parts(tmp_path / "theirs"), _parts(tmp_path / "ours")
    assert len(found) == len(list((tmp_path / "ours").iterdir()))
    assert [path.read_bytes() for path in found] == [path.read_bytes() for path in expected]
    if len(expected) == len(list((tmp_path / "theirs").iterdir())):
        assert [path.name for path in found] == [path.name for path in expected]


@pytest.mark.parametrize("octets", [1, 100, 5000, 10**6])
@pytest.mark.parametrize("format", ["pcap", "pcapng"])
def test_files_have_at_most_so_many_octets(corpus: Path, tmp_path: Path, octets: int, format: str) -> None:
    source = corpus / "derived" / "usec-be.pcap"
    split = Split(octets=octets)
    report = pcap2arrow.export([source], tmp_path / "p", format=format, split=split)  # type: ignore[arg-type]
    sizes = [(Path(name).stat().st_size, len(whole_packets(Path(name)))) for name in report.files]
    assert all(size <= octets or packets == 1 for size, packets in sizes)
    assert sum(size for size, _ in sizes) == report.octets
    together = [content for name in report.files for content in _contents(Path(name))]
    assert together == _contents(source)
    for (size, _), name in zip(sizes, report.files[1:], strict=False):
        assert size + len(whole_packets(Path(name))[0].data) + 36 > octets  # no file ends early


def test_names_are_told_by_time(tmp_path: Path) -> None:
    path = write_capture(tmp_path / "a.pcap", [(T + k * SECOND // 4, _frame(k)) for k in range(10)])
    run("export", path, "--max-packets", "2", "-w", tmp_path / "%Y/out-%H%M%S.pcap", "--tz", "Europe/Berlin")
    names = [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("out*"))]
    assert names == [f"2001/out-03464{name}.pcap" for name in ("0-1", "0", "1-1", "1", "2")]
    assert _seconds(tmp_path / "2001/out-034640-1.pcap") == [(0.5, 2), (0.75, 3)]
    run("export", path, "--every", "1", "--max-packets", "3", "-w", tmp_path / "n.pcap", "--tz", "UTC")
    numbered = sorted(tmp_path.glob("n_*"))
    assert [len(_seconds(name)) for name in numbered] == [3, 2, 3, 1, 1]
    assert numbered[0].name == "n_00000_20010909014640.pcap"


def test_nothing_is_read_on_where_a_file_cant_be_written(two: list[Path], tmp_path: Path) -> None:
    """Even while somebody holds the error, and with it what merges."""
    (tmp_path / "file").touch()
    threads = threading.active_count()
    with pytest.raises(ExportError) as failed:
        pcap2arrow.export(two, tmp_path / "file" / "out.pcap", split=Split(packets=1))
    assert failed.value.__traceback__ is not None
    assert threading.active_count() == threads


REFUSED = """
--every 0                          | split: expected a length of time
--every 10 -w -                    | several files can't go to standard output
--every 10 -w out-%Q.pcap          | '%Q' is no field of strftime
--max-bytes 10x                    | expected a number of octets
--concat --concat-newer            | exclude each other
--concat --dedupe sources          | where these are merged
--dedupe window=x                  | expected sources, window=N (packets) or seconds=S
--offset c.pcap=1                  | there is no capture of the name 'c.pcap'
--offset 1                         | expected NAME=SECONDS
--offset a.pcap=99999999d          | offset: expected at most a hundred years
--start 25h                        | hour 25 is not valid
--start noon                       | not a time
--tz Nowhere --start 1             | there is no such time zone
--format original --start 1        | original: writes whole captures
"""


@pytest.mark.parametrize("case", REFUSED.strip().splitlines(), ids=lambda case: case.split("|")[0].strip())
def test_what_is_refused(two: list[Path], case: str) -> None:
    line, reason = (part.strip() for part in case.split("|"))
    words = line.split() if "-w " in line else [*line.split(), "-w", "out"]
    before = sorted(two[0].parent.iterdir())
    assert reason in run("export", *two, *words, code=2).stderr
    assert sorted(two[0].parent.iterdir()) == before


# Many captures


@pytest.mark.parametrize("overlapping", [False, True])
def test_thousands_of_captures_are_merged_with_few_files_open(tmp_path: Path, overlapping: bool) -> None:
    count, packets = (4000 if overlapping else 1000), 3
    (tmp_path / "captures").mkdir()
    for k in range(count):
        times = [T + (j * count + k if overlapping else k * packets + j) * 1000 for j in range(packets)]
        content = [(time, k.to_bytes(4, "big")) for time in times]
        write_capture(tmp_path / "captures" / f"{k:05}.pcap", content)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, limits[1]))
    try:
        report = pcap2arrow.export([tmp_path / "captures"], tmp_path / "out.pcap")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    merged = whole_packets(tmp_path / "out.pcap")
    assert report.packets == len(merged) == count * packets
    assert [((p.time or 0) - T) // 1000 for p in merged] == list(range(count * packets))
