"""Ranges of time in every verb: what they hold, what is read for them, and properties of slices and merges."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pcap2arrow
from jobs.count import count
from jobs.slices import count_slices, count_slices_selected
from pcap2arrow.dataset.log import open_dataset
from pcap2arrow.errors import DatasetError
from pcap2arrow.times import TimeRange
from pcap2arrow.writing.merging import direct
from pcap2arrow.writing.merging.arrangement import Arrangement
from pcap2arrow.writing.merging.duplicates import AcrossSources
from pcap2arrow.writing.merging.merge import Run, merge
from pcap2arrow.writing.records.encoded import Encoded, details_type
from pcap2arrow.writing.records.pieces import Octets
from pcap2arrow.writing.sources import reader
from queries.filters.compiled import compile_filter
from tests.commands import SAMPLE, run
from tests.conftest import CorpusCapture
from tests.datasets import damage_payloads
from tests.oracles.reader import Packet, whole_packets
from tests.slicing import SECOND, packets_of, write_capture

DAY = 86400 * SECOND
T = 1_000_000_000 * SECOND
ZONES = ["UTC", "America/Los_Angeles"]


def _frames(count: int, seed: int = 0) -> list[tuple[int, bytes]]:
    """Packets over five days; some step back by up to two."""
    draw = random.Random(seed)
    times = [T + k * 5 * DAY // count + draw.randrange(SECOND) // 1000 * 1000 for k in range(count)]
    return [
        (time - draw.choice([0, 0, 0, 0, draw.randrange(2 * DAY)]) // 1000 * 1000, k.to_bytes(4, "big") * 15)
        for k, time in enumerate(times)
    ]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same packets as capture and in datasets of several kinds."""
    folder = tmp_path_factory.mktemp("slices")
    capture = write_capture(folder / "a.pcap", _frames(2000))
    found = {"capture": capture}
    for frames, by in itertools.product(("stored", "referenced", "none"), ("date", "hour", "none")):
        name = f"{frames} by {by}"
        pcap2arrow.convert([capture], folder / name, frames=frames, partition_by=by)  # type: ignore[arg-type]
        found[name] = folder / name
    return found


RANGES = [
    (None, None),
    (T, T),
    (T + DAY, T + 2 * DAY),
    (T + DAY, None),
    (None, T + DAY // 2),
    (T - DAY, T + 9 * DAY),
    (T + 9 * DAY, None),
    (T + 2 * DAY, T + DAY),
]


@pytest.mark.parametrize("bounds", RANGES)
def test_slices_hold_every_packet_of_the_range(
    sources: dict[str, Path], bounds: tuple[int | None, int | None], tmp_path: Path
) -> None:
    times = TimeRange(*bounds)
    packets = [p for p in packets_of(sources["capture"]) if times.holds(p.time or 0, p.time or 0)]
    evens = compile_filter("ether[3] & 1 = 0")
    for name, source in sources.items():
        assert count_slices([str(source)], times).packets == len(packets), name
        if name.startswith("none"):
            continue
        report = pcap2arrow.export([source], tmp_path / "out", times=times, format="pcap")
        assert report.packets == len(packets), name
        assert [p.data for p in whole_packets(tmp_path / "out")] == [p.data for p in packets], name
        counted = count_slices_selected([str(source)], times, [evens, compile_filter("len > 100")])
        assert counted.tally.packets == [sum(p.data[3] % 2 == 0 for p in packets), 0], name


def test_slices_are_those_of_editcap(
    manifest: list[CorpusCapture], tool: Callable[[str], str], tmp_path: Path
) -> None:
    """``editcap -A -B``, whose end is not included, on captures of all formats that step back or not."""
    sound = [c for c in manifest if c.is_capture and c.sound and 20 < c.packets < 3000 and c.time_digits <= 9]
    chosen = [*sound[:: len(sound) // 25], *(c for c in sound if c.time_ordered is False)][:40]
    for capture in chosen:
        times = [p.time for p in packets_of(capture.path) if p.time is not None]
        if len(times) < capture.packets or min(times) < 0 or "tsresol" in capture.name:
            continue
        if any(
            p.interface is None and (p.ticks or 0) & 0xFFFFFFFF >= 10**6 for p in packets_of(capture.path)
        ):
            continue  # editcap takes sub-seconds of a second and more as they stand; nanoseconds are few
        start, end = min(times) + (max(times) - min(times)) // 4, max(times) - (max(times) - min(times)) // 4
        start, end = start // 1000 * 1000, end // 1000 * 1000
        texts = [f"{time // SECOND}.{time % SECOND:09}" for time in (start, end)]
        words = [
            tool("editcap"),
            "-F",
            "pcapng",
            "-A",
            texts[0],
            "-B",
            texts[1],
            capture.path,
            tmp_path / "theirs",
        ]
        subprocess.run(words, check=True)
        pcap2arrow.export([capture.path], tmp_path / "ours", times=TimeRange(start, end - 1), format="pcapng")
        expected, found = (whole_packets(tmp_path / name) for name in ("theirs", "ours"))
        assert [(p.time, p.data) for p in found] == [(p.time, p.data) for p in expected], capture.name


def test_formats_and_lengths_do_not_depend_on_partitions(sources: dict[str, Path], tmp_path: Path) -> None:
    """The file of a slice is the same from the capture and from every dataset of it."""
    times = TimeRange(T + DAY, T + 2 * DAY)
    written = set()
    for name, source in sources.items():
        if not name.startswith("none"):
            pcap2arrow.export([source], tmp_path / "out", times=times)
            written.add((tmp_path / "out").read_bytes())
    assert len(written) == 1


def test_captures_outside_of_the_range_are_not_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor do those count that could hold packets of the range, but have none."""
    near, far, around = (tmp_path / name for name in ("near.pcap", "far.pcap", "around.pcap"))
    write_capture(near, [(T, b"near"), (T + SECOND, b"near")])
    write_capture(far, [(T + DAY, b"far")])
    write_capture(around, [(T - SECOND, bytes(70_000)), (T + 2 * SECOND, b"around")])
    times = TimeRange(T, T + SECOND)
    pcap2arrow.export([near], tmp_path / "expected", times=times)
    for by in ("date", "none"):
        pcap2arrow.convert([near, around, far], tmp_path / by, partition_by=by)  # type: ignore[arg-type]
    rows: list[str] = []
    known = reader.capture_row
    monkeypatch.setattr(reader, "capture_row", lambda *of: rows.append(of[1].name) or known(*of))
    for by in ("date", "none"):
        rows.clear()
        pcap2arrow.export([tmp_path / by], tmp_path / "out", times=times)
        assert set(rows) <= {"near.pcap", "around.pcap"}
        assert (tmp_path / "out").read_bytes() == (tmp_path / "expected").read_bytes()


def test_a_slice_loads_neither_polars_nor_what_decodes(tmp_path: Path) -> None:
    """To load them takes longer than to cut a slice out of a dataset."""
    write_capture(tmp_path / "a.pcap", [(T + k * SECOND, b"a packet") for k in range(9)])
    pcap2arrow.convert([tmp_path / "a.pcap"], tmp_path / "dataset")
    words = ["export", str(tmp_path / "dataset"), "--start", "+2", "--end", "+3", "-w", str(tmp_path / "out")]
    lines = [
        "import sys",
        "from jobs.own_process import start_quickly",
        "start_quickly()",
        "from jobs.cli import commands",
        f"commands.main({words!r}, standalone_mode=False)",
        "print({'polars', 'pyarrow.compute', 'pcap2arrow.layers', 'pcap2arrow.savefile.source'} & set(sys.modules))",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n" and len(whole_packets(tmp_path / "out")) == 4


def test_payloads_that_are_damaged_are_told_of(tmp_path: Path) -> None:
    """Also where they are read before it is known which packets are in the range."""
    capture = write_capture(tmp_path / "a.pcap", [(T + k * SECOND, bytes([k]) * 90) for k in range(50)])
    pcap2arrow.convert([capture], tmp_path / "dataset")
    within = TimeRange(T + 10 * SECOND, T + 20 * SECOND)
    assert pcap2arrow.export([tmp_path / "dataset"], tmp_path / "b.pcap", times=within).packets == 11
    [file] = pcap2arrow.files(tmp_path / "dataset")
    damage_payloads(Path(file))
    with pytest.raises(DatasetError, match=f"{Path(file).name}: damaged"):
        pcap2arrow.export([tmp_path / "dataset"], tmp_path / "c.pcap", times=within)
    assert not (tmp_path / "c.pcap").exists()


def test_packets_without_a_time_are_in_no_range(tmp_path: Path) -> None:
    from tests import blocks

    octets = blocks.section_header("<") + blocks.interface_description("<")
    octets += blocks.simple_packet("<", bytes(60), frame_len=60) + blocks.enhanced_packet(
        "<", bytes(60), interface=0, ticks=T // 1000, frame_len=60
    )
    (tmp_path / "a.pcapng").write_bytes(octets + blocks.simple_packet("<", bytes(60), frame_len=60))
    pcap2arrow.convert([tmp_path / "a.pcapng"], tmp_path / "dataset")
    pcap2arrow.convert([tmp_path / "a.pcapng"], tmp_path / "whole", partition_by="none")
    for source in ("a.pcapng", "dataset", "whole"):
        words = ("count", tmp_path / source)
        assert run(*words).stdout == "3\n"
        assert run(*words, "--start", "0").stdout == run(*words, "--end", "+0").stdout == "1\n"


# What is read


def test_only_files_that_can_hold_the_range_are_read(
    sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset = open_dataset(sources["stored by date"])
    files = {f.path: f.ranges["time"] for f in dataset.snapshot().files("packets")}
    times = TimeRange(T + 4 * DAY, T + 4 * DAY + DAY // 4)
    needed = {path for path, (least, greatest) in files.items() if times.meets(least, greatest)}
    assert 0 < len(needed) < len(files)
    opened: set[str] = set()
    kind = type(dataset)
    original = kind.open_input

    def watched(self: object, path: str, **settings: int) -> object:
        opened.add(path)
        return original(self, path, **settings)  # type: ignore[arg-type]

    def named(self: object, path: str) -> str:
        opened.add(path)
        return original_path(self, path)  # type: ignore[arg-type]

    original_path = kind.path_of
    monkeypatch.setattr(kind, "open_input", watched)
    monkeypatch.setattr(kind, "path_of", named)
    pcap2arrow.export([sources["stored by date"]], tmp_path / "out", times=times)
    count_slices([str(sources["stored by date"])], times)
    assert {path for path in opened if path.startswith("packets/")} == needed


def test_counts_of_whole_files_are_known(sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read where no file is cut through."""
    source = str(sources["stored by date"])
    monkeypatch.setattr("pcap2arrow.writing.sources.of_files.read_file", None)
    assert (
        count_slices([source], TimeRange(T - 9 * DAY, T + 9 * DAY)).packets == count([source]).packets == 2000
    )
    assert count_slices([source], TimeRange(T + 9 * DAY)).packets == 0


# The command line


@pytest.mark.parametrize("zone", ZONES)
def test_times_as_users_write_them(sources: dict[str, Path], zone: str) -> None:
    """Relative to the first packet, local in the zone of ``--tz`` or ``TZ``, and with an offset."""
    times = [p.time or 0 for p in packets_of(sources["capture"])]
    first = times[0]
    cases = {
        ("+1d", "+12h"): (first + DAY, first + DAY + DAY // 2),
        ("+86400.5", "+0.25"): (first + DAY + SECOND // 2, first + DAY + SECOND * 3 // 4),
        ("2001-09-10", "2001-09-11 12:00:30"): (
            int(datetime(2001, 9, 10, tzinfo=ZoneInfo(zone)).timestamp()) * SECOND,
            int(datetime(2001, 9, 11, 12, 0, 30, tzinfo=ZoneInfo(zone)).timestamp()) * SECOND,
        ),
        ("2001-09-10T00:00:00+02:00", "2001-09-10T00:00:00Z"): (1000072800 * SECOND, 1000080000 * SECOND),
    }
    for (start, end), (least, greatest) in cases.items():
        expected = f"{sum(least <= time <= greatest for time in times)}\n"
        words = ("count", sources["stored by hour"], "--start", start, "--end", end)
        assert run(*words, "--tz", zone).stdout == expected
        assert run(*words, environment={"TZ": zone}).stdout == expected


def test_every_verb_takes_a_range(sources: dict[str, Path], tmp_path: Path) -> None:
    dataset = sources["stored by date"]
    (tmp_path / "filters").write_text("ether[3] & 1 = 0\nlen = 60\n")
    words = ("--start", "+1d", "--end", "+1d")
    plain = int(run("count", dataset, *words).stdout)
    evens = int(run("count", dataset, *words, "-f", "ether[3] & 1 = 0").stdout)
    assert 0 < evens < plain < 2000
    told = run("count", dataset, "--filters", tmp_path / "filters", *words).stdout
    assert told == f"{evens}\tether[3] & 1 = 0\n{plain}\tlen = 60\n"
    run("export", dataset, *words, "-f", "ether[3] & 1 = 0", "-w", tmp_path / "a.pcap")
    run("export", dataset, *words, "--filters", tmp_path / "filters", "-w", tmp_path / "parts")
    parts = [len(whole_packets(path)) for path in sorted((tmp_path / "parts").iterdir())]
    assert (len(whole_packets(tmp_path / "a.pcap")), parts) == (evens, [evens, plain])


def test_standard_input_is_sliced(tmp_path: Path) -> None:
    for words in (("--start", "+0.5"), ("--start", "+0.5", "-f", "tcp")):
        assert run("count", "-", *words, stdin=SAMPLE).stdout == run("count", SAMPLE, *words).stdout
    run("export", "-", "--end", "+0.5", "-w", tmp_path / "a", stdin=SAMPLE)
    run("export", SAMPLE, "--end", "+0.5", "-w", tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# Properties

_STAMPS = st.lists(st.integers(0, 40), min_size=1, max_size=30)


def _capture(folder: Path, name: str, stamps: Sequence[int], *, salt: int = 0) -> Path:
    packets = [(T + stamp * SECOND, bytes([salt, k % 3]) * 30) for k, stamp in enumerate(stamps)]
    return write_capture(folder / name, packets)


def _written(path: Path) -> list[Packet]:
    return [replace(packet, record_offset=0) for packet in whole_packets(path)]


@given(stamps=_STAMPS, cuts=st.lists(st.integers(-1, 41), max_size=4), stored=st.booleans())
def test_slices_at_any_cuts_make_up_the_capture(stamps: list[int], cuts: list[int], stored: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = _capture(folder, "a.pcap", stamps)
        whole = _written(source)
        if stored:
            pcap2arrow.convert([source], folder / "dataset", partition_by="hour")
            source = folder / "dataset"
        bounds = [None, *(T + cut * SECOND for cut in sorted(set(cuts))), None]
        found = []
        for start, end in itertools.pairwise(bounds):
            times = TimeRange(start, None if end is None else end - 1)
            pcap2arrow.export([source], folder / "out", times=times)
            part = _written(folder / "out")
            assert part == [p for p in whole if times.holds(p.time or 0, p.time or 0)]
            found += part
        assert sorted(found, key=repr) == sorted(whole, key=repr)


@settings(max_examples=settings().max_examples // 2)
@given(sources=st.lists(_STAMPS, min_size=2, max_size=4), octets=st.sampled_from([None, 64, 100, 1000]))
def test_merges_do_not_depend_on_windows_or_partitions(sources: list[list[int]], octets: int | None) -> None:
    """Nor does what is left out as duplicates; nothing is lost where times step back."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        paths = [_capture(folder, f"{k}.pcap", stamps) for k, stamps in enumerate(sources)]
        expected = _merged([_written(path) for path in paths])
        if octets is not None:
            patch.setattr("pcap2arrow.writing.merging.arrangement._MANY", 1)
            patch.setattr("pcap2arrow.writing.merging.arrangement._LEAST_OF_MANY", octets)
            patch.setattr("pcap2arrow.writing.merging.arrangement._OCTETS_OF_MANY", octets)
        for number, path in enumerate(paths):
            pcap2arrow.convert([path], folder / f"dataset{number}", partition_by=("hour", "none")[number % 2])  # type: ignore[arg-type]
        patch.setattr(direct, "_ENCODED_AT_ONCE", 0)
        patch.setattr(direct, "_LEAST_BATCH", octets or 1 << 17)
        for given_ in (paths, [folder / f"dataset{number}" for number in range(len(paths))]):
            pcap2arrow.export(given_, folder / "out")
            assert _written(folder / "out") == [packet for _, packet in expected]
            how = Arrangement(duplicates=AcrossSources())
            pcap2arrow.export(given_, folder / "out", arrangement=how)
            assert _written(folder / "out") == _without_repeats(expected)


def _merged(captures: Sequence[Sequence[Packet]]) -> list[tuple[int, Packet]]:
    """Packets with the numbers of their captures, by (greatest time so far, capture, place)."""
    found = []
    for number, packets in enumerate(captures):
        greatest = itertools.accumulate((p.time or 0 for p in packets), max)
        found += [(order, number, k, p) for k, (order, p) in enumerate(zip(greatest, packets, strict=True))]
    return [(number, packet) for _, number, _, packet in sorted(found, key=lambda row: row[:3])]


def _without_repeats(merged: Sequence[tuple[int, Packet]]) -> list[Packet]:
    first: dict[Packet, int] = {}
    for number, packet in merged:
        first[packet] = min(first.get(packet, number), number)
    return [packet for number, packet in merged if first[packet] == number]


@given(
    runs=st.lists(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=5), max_size=6), data=st.data()
)
def test_a_merge_does_not_depend_on_its_batches(runs: list[list[list[int]]], data: st.DataObject) -> None:
    flat = [sorted(itertools.chain.from_iterable(batches)) for batches in runs]
    expected = sorted(
        (order, place, k) for place, orders in enumerate(flat) for k, order in enumerate(orders)
    )
    merged = merge(
        [
            Run(
                data.draw(st.integers(-1, orders[0])) if orders else 0,
                _batches(place, orders, map(len, batches)),
            )
            for place, (orders, batches) in enumerate(zip(flat, runs, strict=True))
        ]
    )
    found = [
        (int(order), int(source), int(number))
        for batch in merged
        for order, source, number in zip(
            batch.order, batch.known["source"], batch.known["number"], strict=True
        )
    ]
    assert found == expected


def _batches(place: int, orders: Sequence[int], lengths: Iterable[int]) -> Iterator[Encoded]:
    at = 0
    for length in lengths:
        order = np.array(orders[at : at + length], np.int64)
        details = np.zeros(length, details_type(0))
        details["source"], details["number"] = place, np.arange(at, at + length)
        yield Encoded(order, Octets.empty(length), details)
        at += length
