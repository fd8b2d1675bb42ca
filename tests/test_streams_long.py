"""Streams of connections that memory has no room for are those of connections that it has room for."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import pcap2arrow
from jobs.streams.api import TABLES, Sizes, write_streams
from queries.streams.rules import Gaps, Rules
from tests import tcp
from tests.conftest import CorpusCapture
from tests.test_streams_tcpflow import random_frames

NO_ROOM = Sizes(memory=1 << 13)
"""For some tens of packets, of which a few are followed at once."""


def _outcome(sources: Sequence[Path], folder: Path, **settings: Any) -> list[object]:
    report = write_streams(
        sources,
        folder=str(folder / "files"),
        tables=str(folder / "tables"),
        rules=settings.pop("rules", Rules()),
        **settings,
    )
    files = {path.name: path.read_bytes() for path in (folder / "files").rglob("*") if path.is_file()}
    names = (*TABLES, "octets") if settings.get("octets") else TABLES
    tables = [pl.read_parquet(folder / "tables" / f"{name}.parquet") for name in names if report.streams]
    shutil.rmtree(folder)
    return [files, replace(report, warnings=()), *(table.to_dict(as_series=False) for table in tables)]


def _compare(sources: Sequence[Path], folder: Path, **settings: Any) -> list[object]:
    whole = _outcome(sources, folder / "whole", **settings)
    assert _outcome(sources, folder / "long", sizes=NO_ROOM, workers=1, **settings) == whole
    return whole


@pytest.mark.parametrize("seed", [0, *(pytest.param(each, marks=pytest.mark.long) for each in range(1, 30))])
def test_random_flows(seed: int, tmp_path: Path) -> None:
    """Of a capture, and of two that go on at the same time, in a dataset."""
    frames = random_frames(seed)[: None if seed else 150]
    rules = Rules(
        overlap=("last", "first")[seed % 2], limit=(None, 7)[seed % 3 == 2], skip=(1 << 24, 10)[seed == 1]
    )
    tcp.write(tmp_path / "all.pcap", frames)
    assert len(_compare([tmp_path / "all.pcap"], tmp_path / "1", rules=rules)[0]) > 5  # type: ignore[arg-type]
    halves = [tmp_path / "a.pcap", tmp_path / "b.pcap"]
    for path, half in zip(halves, (frames[::2], frames[1::2]), strict=True):
        tcp.write(path, half)
    pcap2arrow.convert(halves, tmp_path / "dataset")
    _compare([tmp_path / "dataset"], tmp_path / "2", rules=rules)


@pytest.mark.parametrize(
    "words",
    [
        "S:@9 abc*60@10 F:@72 bcc@11 ccc@13 new@11 abc@10",  # repeated, and not, after the end
        "F:@50 S:@9 x*40@10 y*20@60 x*10@50 late@95 R:@99 x*4@12 more@99",  # in the midst of FIN
        "d@50 c@40 b@30 a@20 S:@9 z@10 d@50 q@51",  # before the first octets, then SYN
        "S:@9 a@10 S:@9 S:@99 b@100 a@10 S:@999 F:@1000 S:@1 F:@2 R:@3 z@4",  # several connections
        "@1 @2 @3",
    ],
)
def test_where_order_decides(words: str, tmp_path: Path) -> None:
    frames = [each.frame() for each in tcp.segments(words)]
    idle = [each.frame() for each in tcp.segments("@5 @6<")] * 8
    tcp.write(tmp_path / "a.pcap", [*idle, *(each for frame in frames for each in (frame, *idle))])
    _compare([tmp_path / "a.pcap"], tmp_path / "out")


def test_a_long_one_with_everything(tmp_path: Path) -> None:
    """Segments that are followed together: in turn, too late, twice, alive, and of both ways."""
    ways = []
    for back, start in (("", 2**32 - 900), ("<", 5)):
        at = [start + 3 * each for each in range(900)]
        for k in range(7, 900, 7):
            at[k], at[k - 1] = at[k - 1], at[k]
        words = [f"S:@{start - 1}", *(f"{'abc' if k % 50 else 'xyz'}@{seq}" for k, seq in enumerate(at))]
        words[100:100] = [f"{word[0]}@{seq + 1}" for word, seq in (("bc", at[3]), ("zz", at[9]))]
        words[500:500] = [f"k@{start + 3 * 498}", f"abc@{start}", f"xyz@{start + 600}"]
        ways.append([f"{word}{back}" for word in (*words, f"F:@{start + 2700}", f"abc@{start + 2697}")])
    words = [word for pair in zip(*ways, strict=True) for word in pair]
    tcp.write(tmp_path / "a.pcap", [each.frame() for each in tcp.segments(" ".join(words))])
    found = _compare([tmp_path / "a.pcap"], tmp_path / "out")
    assert found[2]["octets"] == [2700, 2700]  # type: ignore[index]


@pytest.mark.parametrize("gaps", ["zero", "skip", "mark", "split"])
def test_octets_in_their_order(gaps: Gaps, tmp_path: Path) -> None:
    """To files, hashes and the table of octets, with holes, repetitions and contradictions."""
    rules = Rules(gaps=gaps, overlap=("last", "first")[gaps == "skip"], limit=60 if gaps == "mark" else None)
    settings: dict[str, Any] = {"rules": rules, "hashes": True, "octets": gaps != "mark"}
    words = "S:@9 abc*60@10 ccc@13 xyz@300 de@303 new@11 q@500 abc@10 F:@640 S:@7 a@9< F:@99 z@20<"
    tcp.write(tmp_path / "a.pcap", [each.frame() for each in tcp.segments(f"{words} " * 5 + "@1< " * 40)])
    found = _compare([tmp_path / "a.pcap"], tmp_path / "1", **settings)
    assert found[1].conflicts  # type: ignore[attr-defined]
    tcp.write(tmp_path / "b.pcap", random_frames(2)[:300])
    _compare([tmp_path / "b.pcap"], tmp_path / "2", **settings)


def _compare_captures(chosen: Sequence[CorpusCapture], folder: Path) -> int:
    return sum(len(_compare([each.path], folder)[0]) for each in chosen)  # type: ignore[arg-type]


def test_a_sample_of_captures(manifest: list[CorpusCapture], tmp_path: Path) -> None:
    small = [capture for capture in manifest if 40 <= capture.packets <= 400]
    assert _compare_captures(small[5::120], tmp_path) > 5


@pytest.mark.long
def test_captures(manifest: list[CorpusCapture], tmp_path: Path) -> None:
    assert _compare_captures([each for each in manifest if each.packets <= 3_000], tmp_path) > 5_000
