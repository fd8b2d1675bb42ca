"""Streams and connections are the same where tasks guess where the units of a capture begin, right or wrong."""

from __future__ import annotations

import gzip
import random
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

import pcap2arrow
from jobs.flows.api import flows
from jobs.streams.api import TABLES, StreamsReport, write_streams
from pcap2arrow.conversion.guess import guessed_units
from pcap2arrow.conversion.scan import scan_range
from pcap2arrow.inputs import Input
from pcap2arrow.savefile.reader import read_header
from pcap2arrow.savefile.source import open_source
from queries.streams.rules import Rules
from tests import tcp
from tests.blocks import pcap_header, pcap_record
from tests.commands import run
from tests.test_fragments import _cut as in_fragments
from tests.test_streams_tcpflow import TINY, random_frames

_START = 1_700_000_000


def _random_capture(path: Path, seed: int) -> None:
    """Random flows, some of their packets in fragments that come late, at times that step back now and then."""
    chance = random.Random(seed)
    frames: list[bytes] = []
    late: list[bytes] = []
    for frame in random_frames(seed):
        whole = chance.random() > 0.02 or len(frame) < 90
        first, *rest = [frame] if whole else in_fragments(frame, 40)
        frames.append(first)
        late += rest
        if late and chance.random() < 0.1:
            frames.append(late.pop(chance.randrange(len(late))))
    at, records = 0, [pcap_header("<")]
    for frame in frames + late:
        at = max(at + chance.choice([1, 1, 1, 5, -40]), 0)
        records.append(pcap_record("<", frame, seconds=_START + at // 1000, fraction=at % 1000 * 1000))
    path.write_bytes(b"".join(records))


def _outcome(
    source: Path, folder: Path, *, workers: int, as_tcpflow: bool = False
) -> tuple[StreamsReport, dict[str, bytes], list[pl.DataFrame]]:
    """What is said, files by name, and tables."""
    report = write_streams(
        [source],
        rules=Rules(as_tcpflow=as_tcpflow),
        folder=str(folder / "files"),
        tables=str(folder / "tables"),
        workers=workers,
        sizes=TINY,
    )
    files = {path.name: path.read_bytes() for path in (folder / "files").iterdir()}
    return report, files, [pl.read_parquet(folder / "tables" / f"{name}.parquet") for name in TABLES]


def _compare(source: Path, folder: Path, *, as_tcpflow: bool = False) -> int:
    """The outcome by one worker, who reads the capture as a whole, and by two; how many files there are.

    So with connections.
    """
    report, files, tables = _outcome(source, folder / "1", workers=1, as_tcpflow=as_tcpflow)
    again, same_files, same_tables = _outcome(source, folder / "2", workers=2, as_tcpflow=as_tcpflow)
    assert (again, same_files) == (report, files)
    assert all(one.equals(other) for one, other in zip(tables, same_tables, strict=True))
    sizes = replace(TINY, memory=1 << 15)  # no connection of more than a hundred packets fits
    found, same = (flows([source], workers=workers, sizes=sizes) for workers in (1, 2))
    assert found.connections.equals(same.connections) and found.errors == same.errors
    return len(files)


def _begins(source: Path) -> list[int]:
    return [unit.begin.offset for unit in guessed_units(Input(source.name, str(source)), TINY.task)]


@pytest.mark.parametrize("as_tcpflow", [False, True], ids=["ours", "compatible"])
@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_numbers_and_order_are_those_of_the_whole(kind: str, as_tcpflow: bool, tmp_path: Path) -> None:
    source = tmp_path / "random.pcap"
    _random_capture(source, 1)
    if kind == "pcapng":
        source = tmp_path / "random.pcapng"
        pcap2arrow.export(tmp_path / "random.pcap", source, format="pcapng")
    assert len(_begins(source)) >= 3
    assert _compare(source, tmp_path, as_tcpflow=as_tcpflow) > 50


def test_only_frame_numbers_tell_the_order(tmp_path: Path) -> None:
    """A long connection, whose segments come in any order, some of them twice, all of them at one time."""
    chance = random.Random(2)
    numbers = [chance.randrange(1500) for _ in range(1500)]
    frames = [tcp.Segment(1 + 10 * number, b"%10d" % number).frame() for number in numbers]
    source = tmp_path / "at_once.pcap"
    records = [pcap_record("<", frame, seconds=_START) for frame in frames]
    source.write_bytes(pcap_header("<") + b"".join(records))
    assert len(_begins(source)) >= 3
    assert _compare(source, tmp_path) == 1


def test_a_capture_of_a_capture_that_is_sent(tmp_path: Path) -> None:
    """What looks like records are octets of a stream: units begin elsewhere than one would guess."""
    inner = pcap_header("<") + b"".join(
        pcap_record("<", bytes(60), seconds=_START + n // 9) for n in range(2000)
    )
    parts = [inner[at : at + 30_000] for at in range(0, len(inner), 30_000)]
    frames = [tcp.Segment(1 + 30_000 * n, part).frame() for n, part in enumerate(parts)]
    source = tmp_path / "sent.pcap"
    tcp.write(source, frames)
    with open_source(str(source)) as opened:
        blocks = scan_range(opened, read_header(opened), 0, len(_begins(source)), block=TINY.task).blocks
    assert not set(_begins(source)) <= {each.begin.offset for each in blocks}
    assert _compare(source, tmp_path) == 1
    assert [path.read_bytes() for path in (tmp_path / "2" / "files").iterdir()] == [inner]


def test_damage_in_the_midst(tmp_path: Path) -> None:
    source = tmp_path / "damaged.pcap"
    _random_capture(source, 3)
    octets = bytearray(source.read_bytes())
    octets[TINY.task - 50 : TINY.task + 50] = b"\xff" * 100
    source.write_bytes(octets)
    assert _compare(source, tmp_path) > 50


def test_what_can_be_read_but_once_is_not_guessed_at(tmp_path: Path) -> None:
    """Standard input, and a capture that has to be decompressed: the files are those of the capture."""
    source, packed = tmp_path / "random.pcap", tmp_path / "random.pcap.gz"
    tcp.write(source, random_frames(1))
    packed.write_bytes(gzip.compress(source.read_bytes()))
    files = []
    for name, word, stdin in (("plain", source, None), ("stdin", "-", source), ("packed", packed, None)):
        run("streams", word, "-o", tmp_path / name, stdin=stdin)
        files.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert files[0] == files[1] == files[2] and len(files[0]) > 50
