"""Conversions in steps: a plan, units in any order and more than once, a commit."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.batch import commit_plan, make_plan, run_units
from jobs.convert import convert
from pcap2arrow.conversion.options import Options
from pcap2arrow.conversion.planfile import open_plan
from pcap2arrow.errors import PlanError, UsageError
from pcap2arrow.inputs import find_captures
from tests.commands import SAMPLE, SAMPLE_PACKETS, json_lines, live_files, run, write_capture

SMALL = Options(block=1 << 18)


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of captures: one of many units, small ones, a damaged one."""
    folder = tmp_path_factory.mktemp("captures")
    write_capture(folder / "large.pcap", seed=1, octets=1 << 20)
    for number in range(2, 6):
        write_capture(folder / f"small-{number}.pcap", seed=number, octets=10_000)
    (folder / "damaged.pcapng").write_bytes(SAMPLE.read_bytes()[:-100])
    return folder


@pytest.mark.parametrize("seed", range(3))
def test_units_in_any_order_give_the_files_of_a_conversion(captures: Path, tmp_path: Path, seed: int) -> None:
    found = find_captures([captures])
    convert(found, tmp_path / "expected", SMALL)
    plan, _ = make_plan(found, tmp_path / "dataset", tmp_path / "plan", SMALL)
    assert len(plan) > 4
    indexes = [*range(len(plan)), *range(0, len(plan), 2)]
    random.Random(seed).shuffle(indexes)
    for index in indexes:
        list(run_units(tmp_path / "plan", [index]))
    report = commit_plan(tmp_path / "plan")
    assert {capture.status for capture in report.captures} == {"converted"}
    assert [capture.name for capture in report.damaged] == ["damaged.pcapng"]
    assert live_files(tmp_path / "dataset") == live_files(tmp_path / "expected")
    assert {capture.status for capture in commit_plan(tmp_path / "plan").captures} == {"unchanged"}


def test_a_capture_with_a_missing_unit_waits_and_the_others_do_not(captures: Path, tmp_path: Path) -> None:
    plan, _ = make_plan(find_captures([captures]), tmp_path / "dataset", tmp_path / "plan", SMALL)
    of_large = [
        index
        for index, group in enumerate(plan.groups)
        if any(plan.captures[number].found.name == "large.pcap" for number in group)
    ]
    left = of_large[1]
    list(run_units(tmp_path / "plan", [index for index in range(len(plan)) if index != left]))
    (failed,) = commit_plan(tmp_path / "plan").failed
    assert (failed.name, failed.error) == ("large.pcap", f"not all of it is written: run unit {left}")
    list(run_units(tmp_path / "plan", [left]))
    statuses = {capture.name: capture.status for capture in commit_plan(tmp_path / "plan").captures}
    assert statuses.pop("large.pcap") == "converted"
    assert set(statuses.values()) == {"unchanged"}


def test_a_capture_that_changed_since_the_plan_fails_alone(tmp_path: Path) -> None:
    changing = tmp_path / "changing.pcap"
    write_capture(changing, seed=1, octets=1 << 20)
    make_plan(find_captures([changing, SAMPLE]), tmp_path / "dataset", tmp_path / "plan", SMALL)
    with changing.open("ab") as file:
        file.write(b"more")
    groups = list(run_units(tmp_path / "plan", range(len(open_plan(tmp_path / "plan")))))
    assert all("input changed" in error for group in groups for error in group.errors)
    report = commit_plan(tmp_path / "plan")
    assert [(capture.name, capture.status) for capture in report.captures] == [
        ("changing.pcap", "failed"),
        ("sample.pcapng", "converted"),
    ]
    assert "input changed" in str(report.failed[0].error)


def test_content_that_is_live_gets_its_name_when_it_is_planned(tmp_path: Path) -> None:
    convert(find_captures([SAMPLE]), tmp_path / "dataset", Options())
    again = tmp_path / "again.pcapng"
    again.write_bytes(SAMPLE.read_bytes())
    plan, report = make_plan(
        find_captures([SAMPLE, again]), tmp_path / "dataset", tmp_path / "plan", Options()
    )
    assert [(capture.name, capture.status) for capture in report.captures] == [
        ("sample.pcapng", "unchanged"),
        ("again.pcapng", "named"),
    ]
    assert len(plan) == 0 and commit_plan(tmp_path / "plan").captures == ()


def _other_release(record: dict[str, Any]) -> None:
    record["text"] = "schema=0"


def _newer_format(record: dict[str, Any]) -> None:
    record["format"] = 99


def _no_groups(record: dict[str, Any]) -> None:
    del record["groups"]


def _wrong_capture(record: dict[str, Any]) -> None:
    record["groups"][0][0]["capture"] = 77


def _wrong_stamp(record: dict[str, Any]) -> None:
    record["captures"][0]["stamp"]["size"] = -1


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_other_release, "planned by another release"),
        (_newer_format, "planned by another release"),
        (_no_groups, "damaged"),
        (_wrong_capture, "damaged"),
        (_wrong_stamp, "damaged"),
    ],
)
def test_a_damaged_plan_is_an_error(
    damage: Callable[[dict[str, Any]], None], reason: str, tmp_path: Path
) -> None:
    make_plan(find_captures([SAMPLE]), tmp_path / "dataset", tmp_path / "plan", Options())
    path = tmp_path / "plan" / "plan.json"
    record = json.loads(path.read_text())
    damage(record)
    path.write_text(json.dumps(record))
    with pytest.raises(PlanError, match=reason):
        list(run_units(tmp_path / "plan", [0]))


def test_plans_are_not_overwritten_and_have_to_be_there(tmp_path: Path) -> None:
    found = find_captures([SAMPLE])
    make_plan(found, tmp_path / "dataset", tmp_path / "plan", Options())
    with pytest.raises(UsageError, match="there is a plan already"):
        make_plan(found, tmp_path / "dataset", tmp_path / "plan", Options())
    with pytest.raises(UsageError, match="no plan here"):
        commit_plan(tmp_path)
    with pytest.raises(UsageError, match="unit 1: the plan has 1, from 0 on"):
        list(run_units(tmp_path / "plan", [1]))


def test_the_commands_plan_unit_and_commit(tmp_path: Path) -> None:
    write_capture(tmp_path / "other.pcap", seed=1, octets=10_000)
    plan = tmp_path / "plan"
    words = ("plan", SAMPLE, tmp_path / "other.pcap", "-o", plan, "--dataset", tmp_path / "dataset")
    summary = json_lines(run(*words, "--json").stdout)[-1]
    assert (summary["planned"], summary["units"]) == (2, 1)
    assert run("plan", SAMPLE, "-o", plan, "--dataset", tmp_path / "x", code=2).stderr.endswith("already\n")
    assert "run unit 0" in run("commit", plan, code=1).stderr
    (unit,) = json_lines(run("unit", plan, 0, "--json").stdout)
    assert unit["errors"] == [] and unit["packets"] > SAMPLE_PACKETS
    assert "2 captures: 2 converted" in run("commit", plan).stdout
    assert run("count", tmp_path / "dataset").stdout == f"{unit['packets']}\n"
