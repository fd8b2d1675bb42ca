"""Tasks of a conversion that take their workers down where a capture's name says so; workers import this module."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from jobs.flows import tasks as flow_tasks
from jobs.streams import tasks as stream_tasks
from pcap2arrow.conversion import capture
from tests import tasks

POISONS = {"crash": tasks.crash, "leave": tasks.leave, "eat": tasks.eat, "loop": tasks.loop}
"""What a capture does to its worker, by the name of its file."""

_write_part, _read_packets, _part_packets = (
    capture.write_part,
    flow_tasks.read_packets,
    stream_tasks.part_packets,
)


def write_part(found: Any, before: Any, header: Any, unit: Any, *rest: Any) -> Any:
    """Write a unit; the second one of a poisonous capture never ends well."""
    poison = POISONS.get(Path(found.path).stem)
    if poison is not None and unit.first_frame > 1:
        poison()
    return _write_part(found, before, header, unit, *rest)


def read_packets(parts: Any, *rest: Any) -> Any:
    """Read packets for connections, unless a poisonous capture is among them."""
    _swallow(parts)
    return _read_packets(parts, *rest)


def part_packets(parts: Any, *rest: Any) -> Any:
    """Part packets for streams, unless a poisonous capture is among them."""
    _swallow(parts)
    return _part_packets(parts, *rest)


def _swallow(parts: Any) -> None:
    for _, part in parts:
        POISONS.get(Path(part.name).stem, bool)()


def write_and_tell(found: Any, before: Any, header: Any, unit: Any, *rest: Any) -> Any:
    """Write a unit, slowly; begins are told in a file beside the captures."""
    with Path(found.path).with_suffix(".begun").open("a") as told:
        told.write(f"{unit.begin.offset} {os.getpid()}\n")
    time.sleep(0.3)
    return _write_part(found, before, header, unit, *rest)
