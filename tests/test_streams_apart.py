"""Streams are the same whether octets are read at once, or only once it is known which are needed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import pcap2arrow
from jobs.streams.api import TABLES, write_streams
from queries.streams.naming import Template
from queries.streams.rules import Rules
from tests import tcp
from tests.conftest import CorpusCapture
from tests.datasets import damage_payloads
from tests.test_fragments import _cut as in_fragments
from tests.test_streams_tcpflow import TINY, random_frames


def _outcome(sources: Sequence[Path], folder: Path, *, at_once: bool, **settings: Any) -> list[object]:
    """Files by name, tables, and what was wrong; where all octets are read ``at_once``, hashes are asked for."""
    folder.mkdir(parents=True)
    report = write_streams(
        sources,
        rules=settings.pop("rules", Rules()),
        folder=str(folder / "files"),
        tables=str(folder / "tables"),
        hashes=at_once,
        **settings,
    )
    assert sorted(path.name for path in folder.iterdir()) == ["files", "tables"]
    paths = [path for path in sorted((folder / "files").rglob("*")) if path.is_file()]
    files = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    found = [pl.read_parquet(folder / "tables" / f"{name}.parquet") for name in TABLES if report.streams]
    tables = [table.drop("md5", "sha256", strict=False).to_dict(as_series=False) for table in found]
    return [
        files,
        replace(report, warnings=()),
        *tables,
    ]  # these count fragments of UDP, too, if they are read


def _compare(sources: Sequence[Path], folder: Path, **settings: Any) -> list[object]:
    apart = _outcome(sources, folder / "apart", at_once=False, **settings)
    assert apart == _outcome(sources, folder / "at once", at_once=True, **settings)
    return apart


@pytest.mark.parametrize("as_tcpflow", [False, True], ids=["ours", "compatible"])
@pytest.mark.parametrize("seed", range(4))
def test_random_flows(seed: int, as_tcpflow: bool, tmp_path: Path) -> None:
    """For tcpflow what becomes of a flow depends on how many streams of others, in other buckets, ended meanwhile."""
    tcp.write(tmp_path / "random.pcap", random_frames(seed))
    rules = Rules(
        overlap=("last", "first")[seed % 2],
        limit=(None, 7, 0)[seed % 3],
        skip=(1 << 24, 10)[seed == 1],
        as_tcpflow=as_tcpflow,
    )
    template = Template("%N-%A") if seed == 3 else None
    found = _compare([tmp_path / "random.pcap"], tmp_path / "1", rules=rules, template=template, sizes=TINY)
    assert len(found[0]) > 20 and any(found[2]["conflict"]) == (seed != 2)  # type: ignore[arg-type, index]
    pcap2arrow.convert([tmp_path / "random.pcap"], tmp_path / "dataset")
    of_dataset = _compare(
        [tmp_path / "dataset"], tmp_path / "2", rules=rules, template=template, sizes=TINY, workers=2
    )
    assert of_dataset[0] == found[0]
    assert [table["stream"] for table in of_dataset[2:]] == [table["stream"] for table in found[2:]]  # type: ignore[index]


def test_fragments_and_cut_headers(tmp_path: Path) -> None:
    """Octets of what fragments make, and segments whose TCP header is not all there."""
    frames = [each.frame() for each in tcp.segments("S:@9 abcdp*140@10 xyz@154 qrstuvw@157 F:@164")]
    cut = [frames[2][:length] for length in range(48, 58)]
    fragments = in_fragments(frames[1], 8, 64)
    tcp.write(tmp_path / "a.pcap", [frames[0], *cut, fragments[2], fragments[0], *frames[2:]])
    tcp.write(tmp_path / "b.pcap", [fragments[1]])
    sources = [tmp_path / "a.pcap", tmp_path / "b.pcap"]
    [content] = _compare(sources, tmp_path / "1")[0].values()  # type: ignore[attr-defined]
    assert content == b"abcd" + b"p" * 140 + b"xyzqrstuvw"
    pcap2arrow.convert(sources, tmp_path / "dataset")
    assert list(_compare([tmp_path / "dataset"], tmp_path / "2")[0].values()) == [content]  # type: ignore[attr-defined]


def test_octets_that_are_damaged_lose_their_part_alone(tmp_path: Path) -> None:
    for number, word in enumerate(("abc@10", "def@13")):
        tcp.write(tmp_path / f"{number}.pcap", [each.frame() for each in tcp.segments(word)])
    pcap2arrow.convert(sorted(tmp_path.glob("*.pcap")), tmp_path / "dataset")
    damage_payloads(Path(pcap2arrow.files(tmp_path / "dataset")[0]))
    found = _compare([tmp_path / "dataset"], tmp_path / "out")
    assert [len(each) for each in found[0].values()] == [3]  # type: ignore[attr-defined]
    assert "damaged" in found[1].errors[0]  # type: ignore[attr-defined]


def _compare_captures(chosen: Sequence[CorpusCapture], folder: Path) -> int:
    """Each capture, and a dataset of all of them; the result is how many files there are."""
    files = 0
    for number, capture in enumerate(chosen):
        files += len(_compare([capture.path], folder / str(number))[0])  # type: ignore[arg-type]
        shutil.rmtree(folder / str(number))
    pcap2arrow.convert([capture.path for capture in chosen], folder / "dataset")
    for as_tcpflow in (False, True):
        rules = Rules(as_tcpflow=as_tcpflow)
        _compare([folder / "dataset"], folder / f"of dataset, {as_tcpflow}", rules=rules, workers=2)
        shutil.rmtree(folder / f"of dataset, {as_tcpflow}")
    return files


def test_a_sample_of_captures(manifest: list[CorpusCapture], tmp_path: Path) -> None:
    small = [capture for capture in manifest if capture.packets <= 2_000]
    assert _compare_captures(small[7::120], tmp_path) > 20


@pytest.mark.long
def test_captures(manifest: list[CorpusCapture], tmp_path: Path) -> None:
    assert _compare_captures(manifest, tmp_path) > 5_000
