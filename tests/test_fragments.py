"""Fragments: whole packets out of them, whatever their order, where they lie and how they overlap."""

from __future__ import annotations

import itertools
import pickle
import random
import struct
from pathlib import Path

import pytest

import pcap2arrow
from jobs.flows.api import flows
from jobs.streams.api import Sizes, write_streams
from queries.fragments import collection
from queries.streams.reading import Reading, parts
from queries.streams.rules import Rules
from tests import tcp

_ETHERNET, _IP = 14, 20


def _cut(frame: bytes, *places: int, number: int = 7) -> list[bytes]:
    """An Ethernet frame of IPv4 in fragments, cut at those places of its payload."""
    header, content = bytearray(frame[: _ETHERNET + _IP]), frame[_ETHERNET + _IP :]
    return [
        _fragment(header, content, a, b, number) for a, b in itertools.pairwise((0, *places, len(content)))
    ]


def _fragment(
    header: bytes, content: bytes, start: int, stop: int, number: int = 7, *, last: int | None = None
) -> bytes:
    more = 0 if stop == (len(content) if last is None else last) else 0x2000
    fields = struct.pack(">HHH", _IP + stop - start, number, more | start >> 3)
    return bytes(header[:16]) + fields + bytes(header[22:]) + content[start:stop]


def _frames(count: int = 3) -> tuple[list[bytes], bytes]:
    """Whole frames of a stream, and its octets."""
    text = random.Random(1).randbytes(100 * count)
    frames = [tcp.Segment(9, flags=2).frame()]
    return frames + [
        tcp.Segment(10 + at, text[at : at + 100]).frame() for at in range(0, len(text), 100)
    ], text


def _octets(captures: list[Path], folder: Path, **rules: bool) -> bytes:
    write_streams(captures, rules=Rules(**rules), folder=str(folder))
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_datagram_is_whole_in_any_order_and_across_captures(order: tuple[int, ...], tmp_path: Path) -> None:
    frames, text = _frames(1)
    pieces = _cut(frames[1], 8, 64)
    captures = []
    for name, number in enumerate(order):
        captures.append(tmp_path / f"{name}.pcap")
        tcp.write(captures[-1], [*frames[:1], pieces[number]])
    pcap2arrow.convert(captures, tmp_path / "dataset")
    assert _octets(captures, tmp_path / "a") == _octets([tmp_path / "dataset"], tmp_path / "b") == text


def test_only_the_first_fragment_counts_without_defrag(tmp_path: Path) -> None:
    frames, text = _frames(1)
    tcp.write(tmp_path / "a.pcap", [frames[0], *_cut(frames[1], 64)])
    assert _octets([tmp_path / "a.pcap"], tmp_path / "out", defrag=False) == text[: 64 - 20]


def test_identifications_are_used_again(tmp_path: Path) -> None:
    frames, text = _frames(5)
    tcp.write(tmp_path / "a.pcap", [frames[0], *(piece for frame in frames[1:] for piece in _cut(frame, 40))])
    assert _octets([tmp_path / "a.pcap"], tmp_path / "out") == text


def test_where_fragments_overlap_the_first_octets_count(tmp_path: Path) -> None:
    frames, text = _frames(1)
    header, content = frames[1][: _ETHERNET + _IP], frames[1][_ETHERNET + _IP :]
    other = bytes(len(content))
    pieces = [
        _fragment(header, content, 0, 48),
        _fragment(header, other, 24, 80),
        _fragment(header, content, 0, 48),
        _fragment(header, content, 72, len(content)),
    ]
    tcp.write(tmp_path / "a.pcap", [frames[0], *pieces])
    assert _octets([tmp_path / "a.pcap"], tmp_path / "out") == text[:28] + bytes(32) + text[60:]
    told = ("fragments overlap in 1 datagram: the octets that came first count",)
    assert flows([tmp_path / "a.pcap"]).warnings == told
    pcap2arrow.convert([tmp_path / "a.pcap"], tmp_path / "dataset")
    for source in ("a.pcap", "dataset"):
        for hashes in (False, True):
            report = write_streams(
                [tmp_path / source], rules=Rules(), tables=str(tmp_path / "t"), hashes=hashes
            )
            assert report.warnings == told


def test_overlaps_of_other_protocols_say_nothing_of_streams(tmp_path: Path) -> None:
    """However octets are read."""
    frames, _ = _frames(1)
    header = frames[1][: _ETHERNET + _IP - 11] + b"\x11" + frames[1][_ETHERNET + _IP - 10 : _ETHERNET + _IP]
    content = frames[1][_ETHERNET + _IP :]
    pieces = [_fragment(header, content, 0, 48), _fragment(header, content, 24, len(content))]
    tcp.write(tmp_path / "a.pcap", [frames[0], *pieces])
    pcap2arrow.convert([tmp_path / "a.pcap"], tmp_path / "dataset")
    for source in ("a.pcap", "dataset"):
        assert "fragments overlap in 1 datagram" in flows([tmp_path / source]).warnings[0]
        for hashes in (False, True):
            report = write_streams(
                [tmp_path / source], rules=Rules(), tables=str(tmp_path / "t"), hashes=hashes
            )
            assert report.warnings == ()


def test_hostile_fragments_make_nothing(tmp_path: Path) -> None:
    """Behind the longest datagram, without an end, with a hole, with an end before others."""
    frames, _ = _frames(1)
    header, content = frames[1][: _ETHERNET + _IP], frames[1][_ETHERNET + _IP :]
    beyond = bytearray(_fragment(header, content, 0, 64, last=64))
    beyond[20:22] = b"\x1f\xff"
    pieces = [
        bytes(beyond),
        _fragment(header, content, 0, 64, 1),
        *(_fragment(header, content, a, b, 2) for a, b in ((0, 32), (64, len(content)))),
        _fragment(header, content, 64, len(content), 3),
    ]
    tcp.write(tmp_path / "a.pcap", pieces)
    assert len(flows([tmp_path / "a.pcap"]).connections) == 0


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_fragments_of_a_datagram_in_units_of_several_workers(scheduler: str, tmp_path: Path) -> None:
    frames, text = _frames(400)
    cuts = [_cut(frame, 40, 80, number=number) for number, frame in enumerate(frames[1:])]
    pieces = [pieces[part] for part in (1, 2, 0) for pieces in cuts]
    tcp.write(tmp_path / "a.pcap", [frames[0], *pieces])
    write_streams(
        [tmp_path / "a.pcap"],
        rules=Rules(),
        folder=str(tmp_path / "out"),
        scheduler=scheduler,
        workers=2,
        sizes=Sizes(task=1 << 14, bucket=1 << 12, memory=1 << 15, most_buckets=5),
    )
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [text]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pcap", "out"]


def test_fragments_that_wait_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    frames, text = _frames(9)
    pieces = [
        piece for number, frame in enumerate(frames[1:]) for piece in _cut(frame, 40, 80, number=number)
    ]
    random.Random(2).shuffle(pieces)
    tcp.write(tmp_path / "a.pcap", [frames[0], *pieces])
    monkeypatch.setattr(collection, "_IN_MEMORY", 100)
    assert _octets([tmp_path / "a.pcap"], tmp_path / "out") == text


@pytest.mark.parametrize(("limit", "most"), [("MOST_FRAGMENTS", 5), ("MOST_OCTETS", 5 * 40)])
def test_no_more_fragments_than_there_is_room_for(
    limit: str, most: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first ones count, whichever task reads them."""
    frames, text = _frames(4)
    pieces = [
        piece for number, frame in enumerate(frames[1:]) for piece in _cut(frame, 40, 80, number=number)
    ]
    tcp.write(tmp_path / "a.pcap", [frames[0], *pieces])
    monkeypatch.setattr(collection, limit, most)
    report = write_streams([tmp_path / "a.pcap"], rules=Rules(), folder=str(tmp_path / "out"))
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [text[:100]]
    assert "7 fragments left out" in report.warnings[0]


@pytest.mark.parametrize("frames", ["referenced", "none"])
def test_connections_of_datasets_without_octets(frames: str, tmp_path: Path) -> None:
    """Fragments are not put together where octets were not kept."""
    whole, _ = _frames(3)
    tcp.write(tmp_path / "whole.pcap", whole)
    tcp.write(tmp_path / "cut.pcap", [whole[0], *_cut(whole[1], 40)])
    for name in ("whole", "cut"):
        pcap2arrow.convert([tmp_path / f"{name}.pcap"], tmp_path / name, frames=frames)
    expected, cut = (flows([tmp_path / f"{name}.pcap"]).connections for name in ("whole", "cut"))
    assert flows([tmp_path / "whole"]).connections.equals(expected)
    found = flows([tmp_path / "cut"])
    if frames == "none":
        assert found.connections["orig_pkts"].to_list() == [2]
        assert found.warnings == ("2 fragments are not put together: their octets were not kept",)
    else:
        assert found.connections.equals(cut) and not found.warnings


def test_workers_are_not_sent_what_is_held(tmp_path: Path) -> None:
    frames, _ = _frames(300)
    tcp.write(tmp_path / "a.pcap", [piece for frame in frames[1:] for piece in _cut(frame, 40)])
    reading = Reading()
    before = len(pickle.dumps(reading))
    assert (
        sum(
            len(frame)
            for part in parts([tmp_path / "a.pcap"], reading)
            if not part.is_last
            for frame in part()
        )
        == 0
    )
    assert len(pickle.dumps(reading)) == before < 1 << 16
