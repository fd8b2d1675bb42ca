"""Connections that are summed up in the order of time are those that are summed up at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

import pcap2arrow
from jobs.flows.api import flows
from jobs.streams.api import Sizes
from tests import tcp
from tests.conftest import CorpusCapture
from tests.test_streams_tcpflow import random_frames


def _compare(sources: Sequence[Path], *, pieces: int = 40) -> pl.DataFrame:
    """Compare with what comes of so many pieces."""
    whole = flows(sources).connections
    packets = int(whole["orig_pkts"].sum() + whole["resp_pkts"].sum())
    folded = flows(sources, sizes=Sizes(memory=packets // pieces << 10)).connections
    assert folded.equals(whole)
    return whole


@pytest.mark.parametrize(
    "words",
    [
        "S:@9 SA:@99/10< A:@10/100 abc@10 A:@100/13< de@100< F:@13 F:@102<",
        "a@10 d@100/11< b@20 d@101/21< A:@102/22< f@15 g@16 f@30 A:@102/99< k@11 A:@102/100<",
        "a@10 A:@100/15< b@20 A:@100/18< c@40 b@19 A:@100/50< c@60 S:@70 d@90 d@5",  # SYN in a hole
        "A:@100/15< A:@100/25< A:@100/90< a@10 b@20 c@80 c@70 A:@100/91< e@200",  # ACKs come first
        "A:@9 S:@9 SA:@99< S:@500 SA:@7< abc@501 S:@9 abc@10 R:@13 S:@9",
        "a@10=0 A:@100=0< A:@11=0 A:@11=0 F:@100< A:@11=0 R:@11 A:@11=0",
        "a@4294967290 b@4294967295 c@3 d@9 A:@1/4294967295< A:@1/2< A:@1/10<",
    ],
)
def test_where_order_decides(words: str, tmp_path: Path) -> None:
    """A packet at a time, and with a few repetitions, so that letters of what counts come, too."""
    frames = [each.frame() for each in tcp.segments(words)]
    for name, some in (("a", frames), ("b", [frame for frame in frames for _ in range(11)])):
        tcp.write(tmp_path / f"{name}.pcap", some)
        _compare([tmp_path / f"{name}.pcap"], pieces=len(frames))


def test_several_connections(tmp_path: Path) -> None:
    """Of two captures that go on at the same time, in a dataset."""
    frames = random_frames(3)[:400]
    halves = [tmp_path / "a.pcap", tmp_path / "b.pcap"]
    for path, half in zip(halves, (frames[::2], frames[1::2]), strict=True):
        tcp.write(path, half)
    pcap2arrow.convert(halves, tmp_path / "dataset")
    assert len(_compare([tmp_path / "dataset"])) > 10


def _compare_captures(chosen: Sequence[CorpusCapture]) -> int:
    return sum(len(_compare([each.path])) for each in chosen)


def test_a_sample_of_captures(manifest: list[CorpusCapture]) -> None:
    small = [capture for capture in manifest if 40 <= capture.packets <= 2_000]
    assert _compare_captures(small[7::70]) > 50


@pytest.mark.long
def test_captures(manifest: list[CorpusCapture]) -> None:
    assert _compare_captures([each for each in manifest if each.packets <= 20_000]) > 5_000
