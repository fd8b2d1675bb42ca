"""Sessions of ``pcap2arrow tcpslice -s tcp`` beside tcpslice: the log, what is open at the end, a capture for each."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path

import dpkt
import pytest

from jobs.cli.tcpslice import command
from jobs.sessions import capture_name
from pcap2arrow.errors import UsageError
from tests.conftest import CorpusCapture
from tests.oracles.reader import whole_packets
from tests.slicing import SECOND, Done, Slicer, faults, packets_of, readable, run_tcpslice, write_capture

_T = 1_000_000_000 * SECOND
_CAPTURES = 60
_PARTIES = {"a": ("10.0.0.1", 1111), "b": ("10.0.0.2", 80), "c": ("10.0.0.1", 2222)}
_FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16}

# Each packet is TIME:FROM-TO:FLAGS:SEQ:ACK:OCTETS, or TIME alone for one that is not TCP's.
_HANDSHAKE = "0:a-b:S:100 .01:b-a:SA:500:101 .02:a-b:A:101:501"
_LATER = "6:c-b:S:100 6.01:b-c:SA:500:101 6.02:c-b:A:101:501"
LABS = {
    "a SYN alone": "0:a-b:S:100 1",
    "no end of the handshake": "0:a-b:S:100 .01:b-a:SA:500:101 1",
    "no beginning": "0:a-b:AP:100:500:5 .1:b-a:A:500:105 1",
    "refused": "0:a-b:S:100 .1:b-a:RA:0:101 1.5:a-b:S:200 5",
    "late handshake": "0:a-b:S:100 1:a-b:S:100 2.1:b-a:SA:500:101 2.2:a-b:A:101:501 5",
    "closed": f"{_HANDSHAKE} .03:a-b:FA:101:501 .04:b-a:A:501:102 .05:b-a:FA:501:102 .06:a-b:A:102:502 "
    ".07:a-b:A:102:502 1",
    "half closed": f"{_HANDSHAKE} .03:a-b:FA:101:501 .04:b-a:A:501:102 200",
    "the last ACK is not there": f"{_HANDSHAKE} .5:a-b:FA:101:501 .65:b-a:FA:501:102 1 20",
    "reset, and again": f"{_HANDSHAKE} .03:a-b:R:101 1:a-b:S:100 1.01:b-a:SA:500:101 1.02:a-b:A:101:501 "
    "1.1:a-b:S:900 2",
    "data": f"{_HANDSHAKE} .5:a-b:AP:101:501:3 .6:a-b:AP:101:501:3 .7:b-a:AP:901:104:3 .8:b-a:AP:501:104:4 1",
    "packets after the range": f"{_HANDSHAKE} 5 20 21:a-b:AP:101:501:3 40 80 120",
    "sessions after the range": f"{_HANDSHAKE} .5:a-b:R:101:0 5 {_LATER} 8",
    "an answer alone": "0:b-a:SA:500:101 .02:a-b:A:101:501 .5:a-b:AP:101:501:3 2",
    "an answer before the SYN": "0:b-a:SA:600:101 .01:a-b:S:100 .015:b-a:SA:500:101 .02:a-b:A:101:501 "
    ".5:a-b:AP:101:501:3 1 1.6:b-a:AP:501:104:4 2",
    "SYN and SYN": "0:b-a:S:500 .01:a-b:S:100 .02:a-b:SA:100:501 .03:b-a:SA:500:101 .04:b-a:A:501:101 2",
    "SYN with FIN or RST": f"0:a-b:SR:100 .1:c-b:SF:100 .2:b-c:SA:500:101 .3:c-b:A:101:501 {_LATER} 8",
    "three that never were": "0:a-b:S:100 .1:c-b:S:100 3",
}
WORDS = ("-v", "", "-v -e 2", "-e 20 +0 +1", "-v +0 +1", "-v +0 +6.01", "-v +0.5")
CLOSED_TOO_SOON = {
    "reset, and again",
    "data",
    "packets after the range",
    "an answer before the SYN",
    "SYN and SYN",
    "SYN with FIN or RST",
}
"""Where tcpslice, with -e, closes a session that was not silent for so long: what its manual says counts here."""


@pytest.fixture(scope="module")
def theirs(tool: Callable[[str], str]) -> Slicer:
    """tcpslice itself."""
    program = tool("tcpslice")
    return lambda *words, to=None: run_tcpslice(program, *words, to=to)


@pytest.fixture
def ours(capsys: pytest.CaptureFixture[str]) -> Slicer:
    """The verb, in this process."""

    def call(*words: str | Path, to: Path) -> Done:
        code = command.main(["-w", str(to), *map(str, words)], standalone_mode=False)
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err, to.read_bytes())

    return call


def _frame(text: str) -> tuple[int, bytes]:
    time, *fields = text.split(":")
    moment = _T + round(float(time) * 10**6) * 1000
    if not fields:
        return moment, bytes(dpkt.ethernet.Ethernet(type=0x88B5, data=b"other"))
    parties, flags, *numbers = fields
    (source, sport), (target, dport) = (_PARTIES[name] for name in parties.split("-"))
    seq, ack, octets = (*map(int, numbers), *[0] * (3 - len(numbers)))
    segment = dpkt.tcp.TCP(
        sport=sport,
        dport=dport,
        seq=seq,
        ack=ack,
        flags=sum(_FLAGS[each] for each in flags),
        data=b"x" * octets,
    )
    packet = dpkt.ip.IP(src=socket.inet_aton(source), dst=socket.inet_aton(target), p=6, data=segment)
    packet.len = len(packet)
    return moment, bytes(dpkt.ethernet.Ethernet(data=packet))


def _times(path: Path) -> list[int]:
    return [packet.time or 0 for packet in whole_packets(path)]


@pytest.mark.parametrize("what", LABS)
def test_logs_are_those_of_tcpslice(what: str, tmp_path: Path, theirs: Slicer, ours: Slicer) -> None:
    path = write_capture(tmp_path / "a.pcap", [_frame(packet) for packet in LABS[what].split()])
    for words in WORDS:
        if what in CLOSED_TOO_SOON and "-e" in words:
            continue
        expected, found = (
            call("-s", "tcp", *words.split(), path, to=tmp_path / name)
            for call, name in ((theirs, "theirs"), (ours, "ours"))
        )
        assert (found.code, found.out, found.err) == (expected.code, expected.out, expected.err), words
        assert _times(tmp_path / "ours") == _times(tmp_path / "theirs"), words


@pytest.mark.parametrize("what", LABS)
def test_captures_of_sessions_have_their_packets(
    what: str, tmp_path: Path, theirs: Slicer, ours: Slicer
) -> None:
    """Of the same times as tcpslice's, whose octets are not the packets'; ours are those of the capture."""
    path = write_capture(tmp_path / "a.pcap", [_frame(packet) for packet in LABS[what].split()])
    frames = {packet.time: packet.data for packet in whole_packets(path)}
    made = {}
    for call, name in ((theirs, "theirs"), (ours, "ours")):
        (tmp_path / name).mkdir()
        call("-s", "tcp", "-f", f"{tmp_path}/{name}/%s-%.6d.pcap", path, to=tmp_path / f"{name}.pcap")
        made[name] = {found.name: _times(found) for found in (tmp_path / name).iterdir()}
    assert made["ours"] == made["theirs"]
    for found in (tmp_path / "ours").iterdir():
        assert all(packet.data == frames[packet.time] for packet in whole_packets(found))


def _sum(octets: bytes) -> int:
    total = sum(struct.unpack(f">{len(octets) // 2}H", octets[: len(octets) // 2 * 2]))
    total += octets[-1] << 8 if len(octets) % 2 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _unlike(path: Path) -> bool:
    """Whether tcpslice leaves out segments: cut ones, those of IPv6, of fragments, behind tags, of wrong checksums."""
    for packet in packets_of(path):
        ether = packet.data
        if packet.frame_len > len(ether) or ether[12:14] in (b"\x86\xdd", b"\x81\x00"):
            return True
        if ether[12:14] != b"\x08\x00" or ether[23] != 6:
            continue
        head, end = 14 + (ether[14] & 15) * 4, 14 + int.from_bytes(ether[16:18], "big")
        segment = ether[head:end]
        pseudo = ether[26:34] + struct.pack(">HH", 6, len(segment))
        if int.from_bytes(ether[20:22], "big") & 0x3FFF or _sum(pseudo + segment) != 0xFFFF:
            return True
    return False


def test_logs_of_real_captures_are_those_of_tcpslice(
    manifest: list[CorpusCapture], theirs: Slicer, ours: Slicer, tmp_path: Path
) -> None:
    captures = [c for c in readable(manifest) if c.link_types == {1} and 6 <= c.packets < 600][::3]
    compared, different = 0, []
    for capture in captures:
        if compared == _CAPTURES or [*faults(capture.path)] or _unlike(capture.path):
            continue
        expected = theirs("-s", "tcp", "-v", capture.path, to=tmp_path / "theirs")
        if expected.code or "opened" not in expected.out:
            continue
        compared += 1
        found = ours("-s", "tcp", "-v", capture.path, to=tmp_path / "ours")
        if (found.out, found.err, found.written) != (expected.out, expected.err, expected.written):
            different.append(capture.name)
    print(f"{compared} captures compared; different: {different}")
    assert compared >= _CAPTURES // 2
    assert different == []


def test_silence_closes_sessions(tmp_path: Path, ours: Slicer) -> None:
    """In whole seconds, by the first packet of any kind that comes so late; never before."""
    path = write_capture(tmp_path / "a.pcap", [_frame(p) for p in LABS["packets after the range"].split()])
    for idle, closed in ((5, "46m45s"), (20, "47m00s"), (99, "48m40s"), (100, None)):
        found = ours("-s", "tcp", "-v", "-e", str(idle), path, to=tmp_path / "o")
        assert (closed is None) is ("closed" not in found.out)
        assert closed is None or f"{closed}000000u (active sessions total: 0)" in found.out


def test_sessions_across_captures(tmp_path: Path, ours: Slicer) -> None:
    """A session goes on in another capture, and a dataset of both gives the same."""
    import pcap2arrow

    packets = [_frame(packet) for packet in LABS["closed"].split()]
    paths = [
        write_capture(tmp_path / f"{k}.pcap", packets[k * 4 : k * 4 + 4 if not k else None]) for k in range(2)
    ]
    pcap2arrow.convert(paths, tmp_path / "dataset")
    whole = write_capture(tmp_path / "whole.pcap", packets)
    expected = ours("-s", "tcp", "-v", whole, to=tmp_path / "o")
    assert "closed at 2001y09m09d01h46m40s060000u" in expected.out.replace("d03h", "d01h")
    assert ours("-s", "tcp", "-v", *paths, to=tmp_path / "o") == expected
    assert ours("-s", "tcp", "-v", tmp_path / "dataset", to=tmp_path / "o") == expected


def test_names_of_sessions() -> None:
    assert capture_name("sess-%s-%.6d.pcap", 7) == "sess-tcp-000007.pcap"
    assert capture_name("%3d%%%5s", 7) == "  7%  tcp"
    for wrong in ("sess", "sess-%s", "%d-%n", "%d %5%"):
        with pytest.raises(UsageError):
            capture_name(wrong, 1)


@pytest.mark.parametrize("types", ["udp", "h323", "tcp,sip", ""])
def test_other_types_are_refused(types: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["-s", types, str(tmp_path / "absent")], standalone_mode=False) == 1
    assert "unsupported session type `" in capsys.readouterr().err
