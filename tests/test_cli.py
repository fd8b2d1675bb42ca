"""The command line: what it prints, where, and how it ends."""

from __future__ import annotations

import gzip
import json
import os
import pty
import shutil
import struct
import subprocess
from pathlib import Path
from typing import get_args

import click
import pytest

from jobs.cli.group import VERBS, commands
from jobs.cli.times import parse_age, parse_octets, parse_seconds
from jobs.reports import octets_text, printable, time_text
from pcap2arrow.conversion.options import Frames, OnError, PartitionBy
from pcap2arrow.dataset.snapshot import TABLES
from pcap2arrow.errors import UsageError
from pcap2arrow.schema import COLUMNS
from pcap2arrow.writing.records.formats import Format
from tests.commands import SAMPLE, SAMPLE_PACKETS, command, json_lines, run, start, write_capture


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the sample alone; tests only read it."""
    target = tmp_path_factory.mktemp("cli") / "dataset"
    run("convert", SAMPLE, "-o", target)
    return target


def _cut(folder: Path) -> Path:
    """The sample without its last octet."""
    path = folder / "cut.pcapng"
    path.write_bytes(SAMPLE.read_bytes()[:-1])
    return path


# Exit codes

WRONG = """
                                              | 2 | Usage:
frobnicate                                    | 2 | No such command 'frobnicate'
convert -o {new}                              | 2 | Missing argument 'CAPTURE...'
convert {sample}                              | 2 | Missing option '-o'
convert {absent} -o {new}                     | 2 | absent: no such file or directory
convert {folder}/*.absent -o {new}            | 2 | no such file or directory
convert {sample} -o {folder}                  | 2 | is no dataset, and not empty
convert {sample} -o {new} --frames all        | 2 | 'all' is not one of 'stored', 'referenced', 'none'
convert {sample} -o {new} --workers 0         | 2 | 0 is not in the range x>=1
convert {sample} -o {new} --scheduler none    | 2 | none: no scheduler: expected threads, processes, dask or an address
convert {sample} -o {new} --scheduler tcp://127.0.0.1:1 | 2 | can't reach the scheduler
convert {sample} -o {new} --scheduler tcp://127.0.0.1   | 2 | expected tcp://host:port or tls://host:port
convert {sample} -o {new} --scheduler ftp://host:1      | 2 | expected tcp://host:port or tls://host:port
convert - -o {new} --scheduler processes      | 2 | standard input is read by threads only
convert {text} -o {dataset}                   | 1 | failed: text.txt: offset 0: expected
convert {sample} -o {dataset} --frames none   | 1 | converted with other options
info {absent}                                 | 2 | absent: no such file or directory
info {text}                                   | 1 | text.txt: offset 0: expected
info {cut}                                    | 1 | cut.pcapng: offset
info {dataset}                                | 0 |
count {absent}                                | 2 | absent: no such file or directory
count {cut}                                   | 1 | cut.pcapng: offset
export {absent} -w {new}                      | 2 | absent: no such file or directory
export {dataset} -w {new} --capture absent    | 2 | there is none of the name 'absent'
export {dataset} -w {new} --snaplen 0         | 2 | 0 is not in the range x>=1
export {dataset} -w {absent}/x                | 1 | No such file or directory
export {text} -w {new}                        | 1 | text.txt: offset 0: expected
verify {folder}                               | 2 | no dataset here
verify {dataset}                              | 0 |
remove {dataset}                              | 2 | name captures, or give --before
remove {dataset} absent                       | 2 | not in the dataset: 'absent'
remove {dataset} --before yesterday           | 2 | not a time
remove {dataset} --before 2024-13-01T12:00    | 2 | month 13 is not valid
vacuum {dataset} --older-than soon            | 2 | 'soon': expected hours
files {folder}                                | 2 | no dataset here
files {dataset} --table frames                | 2 | 'frames' is not one of
schema --xml                                  | 2 | No such option
"""


@pytest.mark.parametrize("case", WRONG.strip().splitlines(), ids=lambda case: case.split("|")[0].strip())
def test_exit_codes_and_reasons(case: str, dataset: Path, tmp_path: Path) -> None:
    words, code, reason = (part.strip() for part in case.split("|"))
    (tmp_path / "text.txt").write_text("No capture, but text.\n")
    places = {"new": tmp_path / "new", "absent": tmp_path / "absent", "folder": tmp_path, "dataset": dataset}
    files = {"sample": SAMPLE, "text": tmp_path / "text.txt", "cut": _cut(tmp_path)}
    before = sorted(tmp_path.iterdir())
    done = run(*(word.format_map(places | files) for word in words.split()), code=int(code))
    assert reason in done.stderr
    if code == "2":
        assert sorted(tmp_path.iterdir()) == before
        assert done.stdout == ""


def test_a_failure_costs_no_other_capture(tmp_path: Path) -> None:
    folder = tmp_path / "captures"
    folder.mkdir()
    shutil.copy(SAMPLE, folder)
    _cut(folder)
    (folder / "wrong-version.pcap").write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 9, 9, 0, 0, 65535, 1))
    (folder / "README").write_text("left out")
    done = run("convert", folder, "-o", tmp_path / "dataset", code=1)
    told = sorted(done.stderr.splitlines())
    assert [line.split(":")[1:3] for line in told] == [
        [" damaged", " cut.pcapng"],
        [" failed", " wrong-version.pcap"],
    ]
    assert all("offset" in line and "expected" in line and "found" in line for line in told)
    assert "3 captures: 2 converted, 1 failed, 1 of them damaged; 1 other file left out" in done.stdout
    assert run("count", tmp_path / "dataset").stdout == f"{2 * SAMPLE_PACKETS - 1}\n"


def test_a_content_counts_once_whatever_its_names(tmp_path: Path) -> None:
    for name in ("a.pcapng", "b.pcapng", "c.pcapng"):
        shutil.copy(SAMPLE, tmp_path / name)
    dataset = tmp_path / "dataset"
    first = json_lines(
        run("convert", tmp_path / "a.pcapng", tmp_path / "b.pcapng", "-o", dataset, "--json").stdout
    )[-1]
    second = json_lines(run("convert", tmp_path / "c.pcapng", "-o", dataset, "--json").stdout)[-1]
    assert [(s["converted"], s["named"], s["packets"]) for s in (first, second)] == [
        (1, 1, SAMPLE_PACKETS),
        (0, 1, 0),
    ]
    assert run("count", dataset).stdout == f"{SAMPLE_PACKETS}\n"
    run("export", dataset, "--format", "original", "-w", f"{tmp_path}/again/")
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [
        "a.pcapng",
        "b.pcapng",
        "c.pcapng",
    ]


def test_strict_refuses_damage(tmp_path: Path) -> None:
    done = run("convert", _cut(tmp_path), SAMPLE, "-o", tmp_path / "dataset", "--on-error", "strict", code=1)
    assert "failed: cut.pcapng: offset" in done.stderr
    assert run("count", tmp_path / "dataset").stdout == f"{SAMPLE_PACKETS}\n"


def test_nobody_reading_is_no_failure(dataset: Path) -> None:
    process = start("schema")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait() == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_internal_errors_show_no_traceback_unless_asked(dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "dataset"
    shutil.copytree(dataset, copy)
    manifest = copy / "_manifest" / "00000000000000000001.json"
    manifest.write_text("{")
    assert "damaged" in run("count", copy, code=1).stderr
    words = command("count", copy)
    done = subprocess.run(words, env=os.environ | {"PCAP2ARROW_DEBUG": "1"}, capture_output=True, text=True)
    assert "Traceback" in done.stderr


# What the verbs print


def test_convert_writes_events_as_json_lines(tmp_path: Path) -> None:
    capture = tmp_path / "large.pcap"
    packets = write_capture(capture, seed=1, octets=90 << 20)
    done = run("convert", capture, SAMPLE, "-o", tmp_path / "dataset", "--json")
    *events, summary = json_lines(done.stdout)
    steps = [event for event in events if event["event"] == "step"]
    reports = {event["name"]: event for event in events if event["event"] == "capture"}
    assert all(step["worker"] and step["seconds"] >= 0 for step in steps)
    assert sum(step["packets"] for step in steps) == packets + SAMPLE_PACKETS
    assert sum(step["octets"] for step in steps) == 2 * (capture.stat().st_size + SAMPLE.stat().st_size)
    assert reports["large.pcap"] | {"workers": []} == {
        "event": "capture",
        "name": "large.pcap",
        "path": str(capture),
        "status": "converted",
        "packets": packets,
        "size": capture.stat().st_size,
        "error": None,
        "workers": [],
    }
    assert {step["worker"] for step in steps} == {w for report in reports.values() for w in report["workers"]}
    assert summary["event"] == "summary"
    assert (summary["converted"], summary["packets"]) == (2, packets + SAMPLE_PACKETS)


def test_convert_shows_a_bar_on_a_terminal(tmp_path: Path) -> None:
    capture = tmp_path / "large.pcap"
    write_capture(capture, seed=2, octets=90 << 20)
    terminal, side = pty.openpty()
    process = start("convert", capture, "-o", tmp_path / "dataset", stderr=side)
    os.close(side)
    shown = b""
    try:
        while part := os.read(terminal, 1 << 16):
            shown += part
    except OSError:  # how a terminal says that its other side is closed
        pass
    os.close(terminal)
    printed, _ = process.communicate()
    assert process.returncode == 0
    assert b"packets" in shown and b"MB/s" in shown and b"\x1b[" in shown
    assert "1 capture: 1 converted" in printed and "\x1b" not in printed


def test_convert_reads_standard_input(tmp_path: Path) -> None:
    packed = tmp_path / "sample.gz"
    packed.write_bytes(gzip.compress(SAMPLE.read_bytes()))
    run("convert", "-", "-o", tmp_path / "dataset", stdin=packed)
    run("export", tmp_path / "dataset", "--format", "original", "-w", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == SAMPLE.read_bytes()


def test_info_of_dataset_and_capture_agree(dataset: Path) -> None:
    (stored,) = json.loads(run("info", dataset, "--json").stdout)
    (read,) = json.loads(run("info", SAMPLE, "--json").stdout)
    assert stored == read
    keys = (
        "name path format packets bytes first_ns last_ns min_ns max_ns link_types interfaces complete error"
    )
    assert list(stored) == keys.split()
    assert stored["packets"] == SAMPLE_PACKETS
    assert stored["first_ns"] == 1_714_607_999_250_000_000
    assert stored["complete"] is True and stored["error"] is None


def test_info_for_people_has_a_row_per_capture(dataset: Path, tmp_path: Path) -> None:
    lines = run("info", dataset, _cut(tmp_path), code=1).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["name", "sample.pcapng", "cut.pcapng"]
    assert "2024-05-01T23:59:59.250000000Z" in lines[1]
    assert "offset" in lines[2]


def test_the_process_ends_well_right_after_reading(dataset: Path) -> None:
    """Threads that still hold a file when the interpreter ends would abort it, now and then."""
    assert {run("info", dataset).returncode for _ in range(4)} == {0}


def test_count_adds_up_all_sources(dataset: Path) -> None:
    assert run("count", dataset, SAMPLE, SAMPLE.parent).stdout == f"{3 * SAMPLE_PACKETS}\n"


def test_files_lists_what_is_live(dataset: Path) -> None:
    for table in TABLES:
        listed = run("files", dataset, "--table", table).stdout.splitlines()
        assert sorted(listed) == sorted(map(str, (dataset / table).rglob("*.parquet")))
        assert listed


def test_verify_reports_each_capture(tmp_path: Path) -> None:
    copy, dataset = tmp_path / "copy.pcapng", tmp_path / "dataset"
    shutil.copy(SAMPLE, copy)
    run("convert", copy, "-o", dataset)
    assert run("verify", dataset).stdout == "copy.pcapng: equals its source\n"
    copy.unlink()
    assert run("verify", dataset).stdout == "copy.pcapng: equals its checksum\n"
    one, other = sorted((dataset / "packets").rglob("*.parquet"))
    shutil.copy(other, one)
    step, record, summary = json_lines(run("verify", dataset, "--json", code=1).stdout)
    assert step["step"] == "verified" and step["done"] == step["total"] == SAMPLE.stat().st_size
    assert record["ok"] is False and record["error"] and summary["failed"] == 1
    one.write_bytes(other.read_bytes()[:-1])
    assert "copy.pcapng: " in run("verify", dataset, code=1).stderr


def test_export_tells_what_it_reads_and_writes(tmp_path: Path) -> None:
    run("convert", SAMPLE, "-o", tmp_path / "dataset")
    for source in (SAMPLE, tmp_path / "dataset"):
        *steps, capture, summary = json_lines(run("export", source, "-w", tmp_path / "out", "--json").stdout)
        assert {step["event"] for step in steps} == {"step"}
        assert steps[-1]["done"] == steps[-1]["total"] > 0
        assert capture["files"] == [str(tmp_path / "out")]
        assert capture["octets"] == summary["octets"] == (tmp_path / "out").stat().st_size
        assert summary["packets"] == capture["packets"] == int(run("count", SAMPLE).stdout)
    assert "standard output" in run("export", SAMPLE, "-w", "-", "--json", code=2).stderr


def test_remove_and_vacuum_take_captures_out(tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    late = tmp_path / "late.pcap"
    write_capture(late, seed=3, octets=1000)
    run("convert", SAMPLE, late, "-o", dataset)
    assert run("remove", dataset, "--before", "2024-05-01T23:59:59.5Z").stdout == "late.pcap\n"
    assert run("vacuum", dataset, "--older-than", "0", "--dry-run").stdout.count(".parquet\n") == 3
    assert "3 files" in run("vacuum", dataset, "--older-than", "0").stdout
    assert run("remove", dataset, "sample.pcapng").stdout == "sample.pcapng\n"
    assert run("count", dataset).stdout == "0\n"
    assert run("vacuum", dataset).stdout == "0 files, 0 B deleted\n"


def test_schema_tells_every_column() -> None:
    text = run("schema").stdout
    records = json.loads(run("schema", "--json").stdout)
    assert [record["name"] for record in records] == [column.name for column in COLUMNS]
    assert all(f"\n  {column.name} " in text and column.doc in text for column in COLUMNS)


def test_names_of_captures_can_not_write_to_a_terminal(tmp_path: Path) -> None:
    evil = tmp_path / os.fsdecode(b"\x1b[2J\xff.pcap")
    evil.write_bytes(b"\xd4\xc3\xb2\xa1")
    done = run("convert", evil, "-o", tmp_path / "dataset", code=1)
    assert "\x1b" not in done.stderr and "failed: \\x1b[2J\\udcff.pcap" in done.stderr
    shutil.copy(SAMPLE, evil)
    run("convert", evil, "-o", tmp_path / "dataset")
    listed = run("info", tmp_path / "dataset").stdout
    assert "\x1b" not in listed and "\\x1b[2J" in listed
    assert len(json.loads(run("info", tmp_path / "dataset", "--json").stdout)) == 1


# Help


def test_help_is_there_for_every_verb() -> None:
    shown = run("--help").stdout
    assert all(f"\n  {verb} " in shown for verb in VERBS)
    for verb in VERBS:
        assert f"\n  pcap2arrow {verb}" in run(verb, "--help").stdout  # an example


@pytest.mark.parametrize(
    ("verb", "option", "values"),
    [
        ("convert", "frames", get_args(Frames)),
        ("convert", "on_error", get_args(OnError)),
        ("convert", "partition_by", get_args(PartitionBy)),
        ("export", "format", get_args(Format)),
        ("files", "table", TABLES),
    ],
)
def test_options_offer_what_the_library_takes(verb: str, option: str, values: tuple[str, ...]) -> None:
    found = commands.get_command(click.Context(commands), verb)
    assert found is not None
    (parameter,) = (parameter for parameter in found.params if parameter.name == option)
    assert isinstance(parameter.type, click.Choice)
    assert tuple(parameter.type.choices) == tuple(values)
    assert parameter.default == values[0]


# Words and numbers

LENGTHS = {
    "60": 60,
    "0.5": 0.5,
    "-2.5": -2.5,
    "+1": 1,
    ".25": 0.25,
    "90s": 90,
    "15m": 900,
    "1.5h": 5400,
    "2d": 172_800,
}
OCTETS = {
    "1": 1,
    "1500": 1500,
    "10k": 10**4,
    "100M": 10**8,
    "1.5GB": 1_500_000_000,
    "64KiB": 65536,
    "1Gi": 2**30,
}


def test_lengths_of_time_and_numbers_of_octets() -> None:
    assert {text: parse_seconds(text) / 10**9 for text in LENGTHS} == LENGTHS
    assert {text: parse_octets(text) for text in OCTETS} == OCTETS
    for text in ("", ".", "1e3", "1w", "--1", "0x1", "٣"):
        with pytest.raises(UsageError):
            parse_seconds(text)
        with pytest.raises(UsageError):
            parse_octets(text)


def test_ages() -> None:
    seconds = {text: parse_age(text).total_seconds() for text in ("36", "90m", "1d", "0", "7s", "2h")}
    assert seconds == {"36": 129_600, "90m": 5400, "1d": 86_400, "0": 0, "7s": 7, "2h": 7200}
    for text in ("", "d", "1.5h", "-1", "9999999999d", "1w"):
        with pytest.raises(UsageError):
            parse_age(text)


def test_texts() -> None:
    assert [octets_text(n) for n in (0, 999, 1000, 999_949_999, 1e15)] == [
        *("0 B", "999 B", "1.0 kB", "999.9 MB", "1000.0 TB"),
    ]
    assert time_text(-1) == "1969-12-31T23:59:59.999999999Z"
    assert time_text(10**30) == "1000000000000000000000.000000000 s"
    assert time_text(None) == ""
    assert printable("a\tb\x1b\x9b\u202e\udcffé 日") == "a\\tb\\x1b\\x9b\\u202e\\udcffé 日"
