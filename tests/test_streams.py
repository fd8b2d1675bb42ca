"""Streams of traffic whose truth is known, and the two ways of following flows against each other."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pcap2arrow
from jobs.streams import job as stream_job
from jobs.streams.api import TABLES, write_streams
from pcap2arrow.errors import UsageError
from queries.streams import follow
from queries.streams.assembly import gaps, octets
from queries.streams.bucket import Bucket
from queries.streams.overlap import pieces
from queries.streams.packets import COLUMNS, PLACE, TURN, grouped, is_tcp, segments
from queries.streams.rules import SKIP, Rules
from queries.streams.tracking import Covered
from tests import tcp
from tests.commands import SAMPLE, run
from tests.test_streams_tcpflow import random_frames


def _bucket(frames: list[bytes], rules: Rules, folder: Path) -> Bucket:
    tcp.write(folder / "frames.pcap", frames)
    packets = pcap2arrow.scan(folder / "frames.pcap").filter(is_tcp(rules)).select(COLUMNS).collect()
    ordered = packets.with_columns(pl.lit(0).alias(TURN), pl.lit(0).alias(PLACE))
    return Bucket.of([segments(ordered, rules)], rules)


@st.composite
def _traffic(draw: st.DrawFn) -> tuple[bytes, int, list[tuple[int, int]], bool]:
    """A truth, an initial sequence number, the segments that arrive (offset, length), and whether SYN does."""
    truth = draw(st.binary(min_size=1, max_size=200))
    initial = draw(st.sampled_from((0, 1, 2**31 - 5, 2**32 - 1, 2**32 - 100)))
    sizes = draw(st.lists(st.integers(1, 30), min_size=1, max_size=20))
    cuts = [0, *np.minimum(np.cumsum(sizes), len(truth)).tolist()]
    sent = [(a, b - a) for a, b in itertools.pairwise(cuts) if b > a]
    again = draw(st.lists(st.tuples(st.integers(0, len(truth) - 1), st.integers(2, 40)), max_size=5))
    sent += [(offset, min(length, len(truth) - offset)) for offset, length in again]
    arrived = [each for each in sent if draw(st.integers(0, 9))]
    return truth, initial, draw(st.permutations(arrived)), draw(st.booleans())


@given(_traffic(), st.sampled_from(("last", "first")))
def test_octets_and_gaps_are_the_truth(
    tmp_path_factory: pytest.TempPathFactory,
    traffic: tuple[bytes, int, list[tuple[int, int]], bool],
    overlap: str,
) -> None:
    """Loss, reordering and repetition: what arrived is there, what did not is a gap, and nothing is invented."""
    truth, initial, arrived, with_syn = traffic
    sent = [tcp.Segment(initial, flags=2)] if with_syn else []
    sent += [tcp.Segment(initial + 1 + at, truth[at : at + length]) for at, length in arrived]
    if not sent:
        return
    bucket = _bucket([each.frame() for each in sent], Rules(overlap=overlap), tmp_path_factory.mktemp("t"))  # type: ignore[arg-type]
    there = np.zeros(len(truth), np.bool_)
    for at, length in arrived:
        there[at : at + length] = True
    origin = 0 if with_syn or not arrived else int(np.flatnonzero(there)[0])
    found = bytearray(len(truth))
    assembly = bucket.assembly
    data = bytes(octets(bucket.packets, assembly, slice(None)))
    covered = np.zeros(len(truth), np.bool_)
    for start, end in zip(assembly.start.tolist(), assembly.end.tolist(), strict=True):
        found[origin + start : origin + end], data = data[: end - start], data[end - start :]
        covered[origin + start : origin + end] = True
    assert np.array_equal(covered, there)
    assert all(found[at] == truth[at] for at in np.flatnonzero(there))
    assert not assembly.conflict.any()
    missing = np.zeros(len(truth), np.bool_)
    lacking = gaps(bucket.followed, assembly, bucket.rules)
    for at, length in zip(lacking.offset.tolist(), lacking.length.tolist(), strict=True):
        missing[origin + at : origin + at + length] = True
    last = np.flatnonzero(there)[-1] if there.any() else -1
    assert np.array_equal(missing[origin : last + 1], ~there[origin : last + 1])


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=25), st.booleans())
def test_every_place_is_from_the_last_or_first_segment_that_has_it(
    intervals: list[tuple[int, int]], last: bool
) -> None:
    start = np.array([at for at, _ in intervals], np.int64)
    length = np.array([octets for _, octets in intervals], np.int64)
    found = pieces(start, length, "last" if last else "first")
    owner = np.full(100, -1)
    for number, (at, octets_) in enumerate(intervals):
        here = slice(at, at + octets_)
        owner[here] = number if last else np.where(owner[here] < 0, number, owner[here])
    ours = np.full(100, -1)
    for begin, end, segment in zip(found.start, found.end, found.segment, strict=True):
        assert (ours[begin:end] == -1).all() and begin < end
        ours[begin:end] = segment
    assert np.array_equal(ours, owner)
    assert (found.start[1:] >= found.end[:-1]).all()


@given(st.lists(st.tuples(st.integers(-20, 60), st.integers(1, 12)), max_size=25), st.integers(0, 25))
def test_covered_places(intervals: list[tuple[int, int]], at_once: int) -> None:
    array = np.array(intervals[:at_once], np.int64).reshape(-1, 2)
    covered = Covered.of(array[:, 0], array[:, 1])
    for at, length in intervals[at_once:]:
        covered.add(at, at + length)
    assert covered.octets == len({at + k for at, length in intervals for k in range(length)})


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("as_tcpflow", [False, True])
def test_both_ways_of_following_agree(seed: int, as_tcpflow: bool, tmp_path: Path) -> None:
    """All flows at once where order does not decide, or all of them packet by packet."""
    chance = random.Random(seed)
    rules = Rules(skip=chance.choice([10, 1 << 24]), limit=chance.choice([None, 7]), as_tcpflow=as_tcpflow)
    bucket = _bucket(random_frames(seed), rules, tmp_path)
    packets = bucket.packets
    slow = follow.follow(packets, rules, one_by_one=True)
    fast = bucket.followed
    assert len(fast.streams) == len(slow.streams) > 50
    for name in follow.Streams.__dataclass_fields__:
        assert np.array_equal(getattr(fast.streams, name), getattr(slow.streams, name)), name
    for one, other in zip(_writes(fast), _writes(slow), strict=True):
        assert one == other


def _writes(followed: follow.Followed) -> list[list[tuple[int, int, int]]]:
    writes = followed.writes
    found: list[list[tuple[int, int, int]]] = [[] for _ in range(len(followed.streams))]
    for stream, *write in zip(writes.stream, writes.place, writes.length, writes.row, strict=True):
        found[stream].append(tuple(write))  # type: ignore[arg-type]
    return found


def test_flows_are_told_apart_by_their_tuples(tmp_path: Path) -> None:
    """Even if their hashes are the same."""
    sources = [("10.0.0.1", 1), ("10.0.0.1", 2), ("10.0.0.3", 1), ("2001:db8::1", 1), ("2001:db8::2", 1)]
    sent = [
        tcp.Segment(5, b"x", source=source, destination=("2001:db8::9" if ":" in source[0] else "10.0.0.2", 80))
        for source in sources * 2
    ]  # fmt: skip
    tcp.write(tmp_path / "frames.pcap", [each.frame() for each in sent])
    packets = pcap2arrow.scan(tmp_path / "frames.pcap").select(COLUMNS).collect()
    table = segments(packets.with_columns(pl.lit(0).alias(TURN), pl.lit(0).alias(PLACE)), Rules())
    alike = table.with_columns(pl.lit(7, dtype=pl.UInt64).alias("flow_hash"))
    assert grouped(table).flows == grouped(alike).flows == len(sources)
    for one in (grouped(table), grouped(alike)):
        assert (np.diff(one.bounds) == 2).all()


def test_many_holes_are_worth_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a block is as large as a hole, some do."""
    frames = [tcp.Segment((SKIP - 1) * number, b"x").frame() for number in range(20)]
    tcp.write(tmp_path / "holes.pcap", frames)
    monkeypatch.setattr(stream_job, "_FILE_BLOCK", SKIP)

    def warnings(rules: Rules) -> str:
        folder = tmp_path / rules.gaps
        return "".join(write_streams([tmp_path / "holes.pcap"], rules=rules, folder=str(folder)).warnings)

    assert warnings(Rules()).startswith(
        f"warning: 19 holes: files of {(SKIP - 1) * 19 + 1} octets take about {SKIP * 19 + 20} on disk for the 20 "
    )
    assert warnings(Rules(gaps="skip")) == ""


def test_streams_beyond_four_gibibytes(tmp_path: Path) -> None:
    """Sequence numbers go round twice; what is missing stays a hole."""
    step = 16_000_000
    sent = [tcp.Segment(77, flags=2)] + [tcp.Segment(78 + step * k, b"%05d" % k) for k in range(600)]
    bucket = _bucket([each.frame() for each in sent], Rules(), tmp_path)
    assert bucket.assembly.size.tolist() == [step * 599 + 5]
    assert bucket.assembly.start.tolist() == [step * k for k in range(600)]
    assert len(gaps(bucket.followed, bucket.assembly, bucket.rules).offset) == 599


def test_conflicts_are_told(tmp_path: Path) -> None:
    for words, conflict in (
        ("S:@9 abc@10 abc@10 bcd@11", False),
        ("S:@9 abc@10 abX@10", True),
        ("S:@9 abcdef@10 cX@12", True),
        ("S:@9 ab@10 cd@12 abcd@10", False),
    ):
        bucket = _bucket([each.frame() for each in tcp.segments(words)], Rules(), tmp_path)
        assert bucket.assembly.conflict.tolist() == [conflict], words


def test_tables_and_files_tell_the_same(tmp_path: Path) -> None:
    files, tables = tmp_path / "files", tmp_path / "tables"
    done = run("streams", SAMPLE, "-o", files, "--tables", tables, "--hash")
    assert done.stdout == "4 streams, 4 with octets: 5918 octets, 0 missing\n"
    streams = pl.read_parquet(tables / "streams.parquet")
    assert sorted(streams["name"]) == sorted(path.name for path in files.iterdir())
    for name, size, digest in streams.select("name", "size", "sha256").iter_rows():
        content = (files / name).read_bytes()
        assert len(content) == size
        import hashlib

        assert hashlib.sha256(content).hexdigest() == digest
    assert streams["connection"].to_list() == [0, 0, 1, 1]
    taken = pl.read_parquet(tables / "segments.parquet").group_by("stream").agg(pl.sum("length"))
    assert taken.sort("stream")["length"].to_list() == [74, 4085, 74, 2885]


def test_a_dataset_gives_what_its_capture_gives(tmp_path: Path) -> None:
    for frames in ("stored", "referenced"):
        dataset = tmp_path / frames
        pcap2arrow.convert([SAMPLE], dataset, frames=frames)  # type: ignore[arg-type]
        for source, folder in ((SAMPLE, "a"), (dataset, "b")):
            write_streams([source], rules=Rules(), folder=str(tmp_path / f"{frames}-{folder}"))
        one, other = (sorted((tmp_path / f"{frames}-{folder}").iterdir()) for folder in "ab")
        assert [path.name for path in one] == [path.name for path in other]
        assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "new or empty folder" in run("streams", SAMPLE, "-o", tmp_path / "full", code=2).stderr
    assert "nothing to write" in run("streams", SAMPLE, code=2).stderr
    for template, reason in (("%Z", "no code"), ("../%A", "lead out"), ("/%A", "lead out")):
        done = run("streams", SAMPLE, "-o", tmp_path / "new", "--template", template, code=2)
        assert reason in done.stderr
    dataset = tmp_path / "dataset"
    pcap2arrow.convert([SAMPLE], dataset, frames="none")
    with pytest.raises(UsageError, match="no octets"):
        write_streams([dataset], rules=Rules(), folder=str(tmp_path / "none"))


def _tables(sources: list[Path], rules: Rules, folder: Path) -> list[pl.DataFrame]:
    """The tables of streams, without what depends on where a packet was read."""
    write_streams(sources, rules=rules, tables=str(folder), hashes=True)
    streams, segments_, gaps_ = (pl.read_parquet(folder / f"{name}.parquet") for name in TABLES)
    return [streams, segments_.drop("capture_id", "frame_number"), gaps_]


@pytest.mark.parametrize("as_tcpflow", [False, True])
def test_where_captures_are_cut_changes_nothing(as_tcpflow: bool, tmp_path: Path) -> None:
    """At any packet, into any number of files, named in any order, converted or not."""
    frames = random_frames(1)[:120]
    rules = Rules(as_tcpflow=as_tcpflow)
    tcp.write(tmp_path / "whole.pcap", frames)
    whole = _tables([tmp_path / "whole.pcap"], rules, tmp_path / "whole")
    octets_ = (tmp_path / "whole.pcap").read_bytes()
    places = [24]
    for frame in frames:
        places.append(places[-1] + 16 + len(frame))
    cuts = [[at] for at in range(1, len(frames), 19)] + [[30, 60, 61, 90], list(range(1, len(frames)))]
    for number, cut in enumerate(cuts):
        marks = [0, *cut, len(frames)]
        files = [tmp_path / f"{number}-{at}.pcap" for at in range(len(marks) - 1)]
        for path, (first, stop) in zip(files, itertools.pairwise(marks), strict=True):
            path.write_bytes(octets_[:24] + octets_[places[first] : places[stop]])
        found = _tables(files[::-1], rules, tmp_path / str(number))
        assert all(one.equals(other) for one, other in zip(found, whole, strict=True))
    pcap2arrow.convert(files, tmp_path / "dataset")
    found = _tables([tmp_path / "dataset"], rules, tmp_path / "of dataset")
    assert all(one.equals(other) for one, other in zip(found, whole, strict=True))


@pytest.mark.parametrize(
    ("gaps", "files"),
    [
        ("zero", {"": b"\0\0abc\0\0\0gh"}),
        ("skip", {"": b"abcgh"}),
        ("mark", {"": b"[2 octets missing]abc[3 octets missing]gh"}),
        ("split", {"@2": b"abc", "@8": b"gh"}),
    ],
)
def test_what_files_have_where_octets_are_missing(gaps: Any, files: dict[str, bytes], tmp_path: Path) -> None:
    tcp.write(
        tmp_path / "a.pcap", [each.frame() for each in tcp.segments("S:@9 abc@12 gh@18 xy@100< z@102<")]
    )
    write_streams([tmp_path / "a.pcap"], rules=Rules(gaps=gaps), folder=str(tmp_path / "out"))
    name = "010.000.000.001.01234-010.000.000.002.00080"
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert found.pop("010.000.000.002.00080-010.000.000.001.01234") == b"xyz"
    assert found == {name + end: octets for end, octets in files.items()}
