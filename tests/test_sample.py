"""The capture that ships with the project."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.oracles.reader import packets

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SAMPLE = EXAMPLES / "sample.pcapng"


def test_sample_is_what_its_script_writes(tmp_path: Path) -> None:
    again = tmp_path / "again.pcapng"
    subprocess.run([sys.executable, EXAMPLES / "make_sample.py", again], check=True)
    assert again.read_bytes() == SAMPLE.read_bytes()


def test_sample_runs_over_a_midnight() -> None:
    day = 86_400 * 10**9
    assert {packet.time // day - 19_844 for packet in packets(SAMPLE) if packet.time} == {0, 1}


def test_tcpdump_reads_every_packet_of_the_sample(tool: Callable[[str], str]) -> None:
    command = [tool("tcpdump"), "-n", "-r", str(SAMPLE)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert len(printed.splitlines()) == len(list(packets(SAMPLE)))
    for word in ("ARP", "AAAA? www.example.com.", "HTTP: HTTP/1.1 200 OK", "ICMP6, echo reply", "SYSLOG"):
        assert word in printed


def test_wireshark_finds_no_fault_in_the_sample(tool: Callable[[str], str]) -> None:
    """No malformed packet and no wrong checksum (status 0 is bad, 1 good)."""
    protocols = ("ip", "tcp", "udp", "icmp", "icmpv6")
    faults = " or ".join(["_ws.malformed", *(f"{name}.checksum.status == 0" for name in protocols)])
    command = [tool("tshark"), "-r", str(SAMPLE), "-T", "fields", "-e", "frame.number"]
    for name in ("ip", "tcp", "udp"):
        command += ["-o", f"{name}.check_checksum:TRUE"]
    run = subprocess.run([*command, "-Y", faults], capture_output=True, text=True, check=True)
    assert run.stdout == ""
    right = " or ".join(f"{name}.checksum.status == 1" for name in protocols)
    checked = subprocess.run([*command, "-Y", right], capture_output=True, text=True, check=True)
    assert len(checked.stdout.splitlines()) == 49  # all but the two of ARP
