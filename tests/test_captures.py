"""The built captures themselves, against readers that had no part in building them."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings

from tests.captures import UP_TO_NANOSECONDS, Capture, Variety, captures, pcap_captures, pcapng_captures
from tests.frames import LINK_TYPES
from tests.oracles.reader import whole_packets


@given(capture=captures())
def test_plain_reader_finds_what_was_built(capture: Capture, tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(capture.data)
    found = whole_packets(path)
    for packet, built in zip(found, capture.packets, strict=True):
        assert built.time in (packet.time, None)
        assert replace(packet, time=built.time) == built
        if packet.time is not None and 0 <= packet.time < 2**61:
            assert built.time == packet.time


TCPDUMP_WRITES = tuple(link_type for link_type in LINK_TYPES if link_type not in (14, 9999, 65535))


@given(capture=pcap_captures(link_types=TCPDUMP_WRITES))
def test_tcpdump_finds_what_was_built(capture: Capture, tmp_path: Path, tool: Callable[[str], str]) -> None:
    """``tcpdump -w`` copies times and wire lengths, and cuts each frame to the snap length."""
    path, copy = tmp_path / "capture", tmp_path / "copy"
    path.write_bytes(capture.data)
    nanoseconds = capture.data[:4] in (b"\xa1\xb2\x3c\x4d", b"\x4d\x3c\xb2\xa1")
    precision = "nano" if nanoseconds else "micro"
    command = [tool("tcpdump"), "-r", str(path), "-w", str(copy), f"--time-stamp-precision={precision}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == (capture.cut_at is not None), done.stderr
    expected = [
        (packet.ticks, packet.frame_len, packet.data[:limit])
        for packet, limit in zip(capture.packets, capture.filter_lens, strict=True)
    ]
    assert [(packet.ticks, packet.frame_len, packet.data) for packet in whole_packets(copy)] == expected


WIRESHARK_KEEPS_WHOLE = tuple(link_type for link_type in LINK_TYPES if link_type != 204)
"""Of a frame of type 204 (PPP with direction) Wireshark takes the first octet off."""


@settings(max_examples=15)
@given(capture=pcapng_captures(variety=Variety(UP_TO_NANOSECONDS, WIRESHARK_KEEPS_WHOLE)))
def test_tshark_finds_what_was_built(capture: Capture, tmp_path: Path, tool: Callable[[str], str]) -> None:
    """But for what tshark prints wrongly: times before 1970 or far ahead, wire lengths from 2^31 on."""
    path = tmp_path / "capture.pcapng"
    path.write_bytes(capture.data)
    fields = ["frame.interface_id", "frame.time_epoch", "frame.cap_len", "frame.len", "frame.md5_hash"]
    command = [tool("tshark"), "-r", str(path), "-T", "fields", "-o", "frame.generate_md5_hash:TRUE"]
    command += [word for field in fields for word in ("-e", field)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    found = [row[1:] for row in rows if row[0]]  # tshark lists custom blocks too: no interface
    assert (done.returncode != 0) == (capture.cut_at is not None), done.stderr
    assert len(found) == len(capture.packets)
    for (epoch, *rest), packet in zip(found, capture.packets, strict=True):
        if packet.ticks is None:
            assert epoch == ""
        elif packet.time is not None and packet.time >= 0:
            assert epoch == f"{packet.time // 10**9}.{packet.time % 10**9:09}"
        digest = hashlib.md5(packet.data, usedforsecurity=False).hexdigest()
        assert rest == [str(packet.caplen), str(min(packet.frame_len, 2**31 - 1)), digest]
