"""Other tools on a dataset, through the list of its files."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.compute as pc
import pyarrow.dataset as pads

import pcap2arrow
from pcap2arrow.dataset import Change, LiveCapture, open_dataset
from pcap2arrow.schema import COLUMNS, arrow_schema
from tests.commands import SAMPLE, SAMPLE_PACKETS, run, write_capture
from tests.conftest import CorpusCapture

NUMBERS = [column.name for column in COLUMNS if column.kind.startswith("uint")]
SUMMED = [column.name for column in COLUMNS if column.kind in ("uint8", "uint16", "uint32")]
Totals = dict[str, tuple[Any, ...]]
"""Per column: how many are not null, least, greatest, and for numbers of up to 32 bits the sum."""


def _files(dataset: Path) -> list[str]:
    return run("files", dataset).stdout.splitlines()


def _by_polars(files: list[str]) -> tuple[int, int, Totals]:
    frame = pl.scan_parquet(files, hive_partitioning=False)
    octets = (pl.col("header").bin.size().sum() + pl.col("rest").bin.size().sum()).alias("octets")
    rows, size = frame.select(pl.len(), octets).collect().row(0)
    parts = [pl.col(NUMBERS).count(), pl.col(NUMBERS).min(), pl.col(NUMBERS).max()]
    values = [frame.select(part).collect().row(0, named=True) for part in parts]
    sums = frame.select(pl.col(SUMMED).cast(pl.UInt64).sum()).collect().row(0, named=True)
    return rows, size, {name: (*(value[name] for value in values), sums.get(name)) for name in NUMBERS}


def _by_duckdb(files: list[str]) -> tuple[int, int, Totals]:
    asked = ["count(*)", "sum(octet_length(header)) + sum(octet_length(rest))"]
    for name in NUMBERS:
        total = f"sum({name})" if name in SUMMED else "null"
        asked += [f"count({name})", f"min({name})", f"max({name})", total]
    query = f"select {', '.join(asked)} from read_parquet($files)"
    ((rows, octets, *values),) = duckdb.sql(query, params={"files": files}).fetchall()
    fours = zip(*[iter(values)] * 4, strict=True)
    return rows, int(octets), dict(zip(NUMBERS, fours, strict=True))


def _by_pyarrow(files: list[str]) -> tuple[int, int, Totals]:
    table = pads.dataset(files, format="parquet").to_table()
    octets = sum(pc.sum(pc.binary_length(table[name])).as_py() for name in ("header", "rest"))
    totals: Totals = {}
    for name in NUMBERS:
        column = table[name]
        ends = pc.min_max(column).as_py()
        total = pc.sum(column).as_py() if name in SUMMED else None
        totals[name] = (pc.count(column).as_py(), ends["min"], ends["max"], total)
    return table.num_rows, octets, totals


def _check_agreement(dataset: Path) -> int:
    files = _files(dataset)
    assert files == pcap2arrow.files(dataset)
    rows, octets, totals = _by_polars(files)
    for other_rows, other_octets, other in (_by_duckdb(files), _by_pyarrow(files)):
        assert (other_rows, other_octets) == (rows, octets)
        for name, found in other.items():
            # No value at all has the sum 0 in Polars, and none elsewhere.
            assert found[:3] == totals[name][:3], name
            assert (found[3] or 0) == (totals[name][3] or 0), name
    assert octets == totals["caplen"][3]
    return rows


def test_polars_duckdb_and_pyarrow_agree(tmp_path: Path) -> None:
    packets = write_capture(tmp_path / "a.pcap", seed=1, octets=200_000)
    run("convert", SAMPLE, tmp_path / "a.pcap", "-o", tmp_path / "dataset")
    assert _check_agreement(tmp_path / "dataset") == packets + SAMPLE_PACKETS


def test_they_agree_on_real_captures(manifest: list[CorpusCapture], corpus: Path, tmp_path: Path) -> None:
    chosen = [capture for capture in manifest if capture.sound][::16]
    places = [tmp_path / "captures" / str(number) for number in range(len(chosen))]
    places[0].parent.mkdir()
    for place, capture in zip(places, chosen, strict=True):
        place.symlink_to(capture.path)
    run("convert", tmp_path / "captures", "-o", tmp_path / "dataset", code=None)  # some have stray octets
    rows = _check_agreement(tmp_path / "dataset")
    print(f"{len(chosen)} captures, {rows} packets")
    assert rows == sum(
        capture.packets for capture in {capture.sha256: capture for capture in chosen}.values()
    )


def test_ten_thousand_files_open_lazily(tmp_path: Path) -> None:
    """One file under ten thousand names: what opening costs is the log and the list."""
    count = 10_000
    dataset = open_dataset(_sample_dataset(tmp_path))
    (live,) = dataset.snapshot().captures.values()
    original = next(file for file in live.files if file.table == "packets")
    source = Path(dataset.path_of(original.path))

    def numbered(number: int) -> LiveCapture:
        file = dataclasses.replace(original, path=f"packets/date=2024-05-01/{number:08}.parquet")
        Path(dataset.path_of(file.path)).hardlink_to(source)
        return dataclasses.replace(
            live,
            name=f"{number}.pcap",
            capture_id=number,
            identity=f"{number:032x}",
            packets=file.rows,
            files=(file,),
        )

    captures = tuple(map(numbered, range(count)))
    dataset.commit(lambda snapshot: Change(add=captures, remove=(live.name,)))
    begin = time.perf_counter()
    frame = pcap2arrow.scan(dataset.url)
    names = frame.collect_schema().names()
    opened = time.perf_counter() - begin
    head = frame.head(3).collect()
    print(f"{count} files: opened in {opened:.3f} s, first rows after {time.perf_counter() - begin:.3f} s")
    assert names == arrow_schema().names
    assert head.height == 3
    assert len(pcap2arrow.files(dataset.url)) == count
    assert run("count", dataset.url).stdout == f"{count * original.rows}\n"


def _sample_dataset(folder: Path) -> Path:
    run("convert", SAMPLE, "-o", folder / "dataset")
    return folder / "dataset"
