"""The command ``pcap2arrow`` as a process of its own, and captures that keep it busy for a while."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pcap2arrow
from tests.blocks import pcap_header, pcap_record

PROJECT = Path(__file__).resolve().parent.parent
SAMPLE = PROJECT / "examples" / "sample.pcapng"
SAMPLE_PACKETS = 51

_ENVIRONMENT = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONWARNINGS": "error"}


def command(*words: str | Path) -> list[str]:
    """The words of a command line of pcap2arrow, as a process takes them."""
    return [sys.executable, "-m", "jobs.cli", *map(str, words)]


def start(
    *words: str | Path, environment: Mapping[str, str] | None = None, **settings: Any
) -> subprocess.Popen[str]:
    """Start the command, with pipes for its output."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    given = _ENVIRONMENT | dict(environment or {})
    return subprocess.Popen(command(*words), text=True, env=given, **(pipes | settings))


def run(
    *words: str | Path,
    code: int | None = 0,
    cwd: Path | None = None,
    stdin: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, which has to be that exit code, without a traceback; ``stdin`` is a file."""
    with (stdin or Path(os.devnull)).open("rb") as source:
        done = subprocess.run(
            command(*words),
            capture_output=True,
            text=True,
            cwd=cwd,
            stdin=source,
            env=_ENVIRONMENT | dict(environment or {}),
        )
    assert "Traceback" not in done.stderr, done.stderr
    assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def json_lines(text: str) -> list[dict[str, Any]]:
    """Records of JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def live_files(dataset: Path) -> dict[str, bytes]:
    """Contents of all files that a dataset's log names, by their paths in it."""
    return {
        str(Path(path).relative_to(dataset)): Path(path).read_bytes()
        for table in ("packets", "captures", "blocks")
        for path in pcap2arrow.files(dataset, table=table)  # type: ignore[arg-type]
    }


def write_capture(path: Path, *, seed: int, octets: int) -> int:
    """Write a pcap of about that many octets; the result is how many packets it has."""
    rng = random.Random(seed)
    records = [
        pcap_record("<", _frame(rng), seconds=1_700_000_000 + number, fraction=number)
        for number in range(max(min(octets // 700, 1500), 1))
    ]
    chunk = b"".join(records)
    repeats = max(octets // len(chunk), 1)
    with path.open("wb") as file:
        file.write(pcap_header("<"))
        for _ in range(repeats):
            file.write(chunk)
    return repeats * len(records)


def _frame(rng: random.Random) -> bytes:
    """A UDP datagram in an Ethernet frame, from some host to some other."""
    payload = rng.randbytes(rng.randrange(1200))
    ports = rng.randbytes(4)
    udp = ports + (8 + len(payload)).to_bytes(2, "big") + b"\0\0" + payload
    addresses = rng.randbytes(8)
    head = b"\x45\0" + (20 + len(udp)).to_bytes(2, "big") + b"\0\0\0\0\x40\x11\0\0"
    return bytes.fromhex("020000000010 020000000001 0800") + head + addresses + udp
