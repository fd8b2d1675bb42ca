"""TCP segments in frames, as captures for tests, and written as words: ``S:@999`` ``abc@1000`` ``F:@1003``."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from tests.blocks import pcap_header, pcap_record

FLAGS = {"F": 1, "S": 2, "R": 4, "A": 16}
_WORD = re.compile(
    r"(?P<flags>[SFRA]*):?(?P<text>[^@:]*)@(?P<seq>-?\d+)"
    r"(/(?P<ack>\d+))?(=(?P<window>\d+))?(?P<back><?)"
)
_START = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment on its way from 10.0.0.1, port 1234, to 10.0.0.2, port 80, unless said otherwise."""

    seq: int
    data: bytes = b""
    flags: int = 16
    source: tuple[str, int] = ("10.0.0.1", 1234)
    destination: tuple[str, int] = ("10.0.0.2", 80)
    ack: int = 0
    window: int = 8192

    def frame(self, *, tags: Sequence[tuple[int, int]] = ()) -> bytes:
        """The segment in an Ethernet frame, with tags of (EtherType, TCI)."""
        ports = self.source[1], self.destination[1]
        numbers = self.seq % 2**32, self.ack
        tcp = struct.pack(">HHIIBBHHH", *ports, *numbers, 0x50, self.flags, self.window, 0, 0) + self.data
        source, destination = (ip_address(each[0]) for each in (self.source, self.destination))
        if source.version == 4:
            ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0)
        else:
            ip = struct.pack(">IHBB", 6 << 28, len(tcp), 6, 64)
        ethertype = struct.pack(">H", 0x0800 if source.version == 4 else 0x86DD)
        tagged = b"".join(struct.pack(">HH", *tag) for tag in tags)
        addresses = bytes.fromhex("000000000002 000000000001")
        return addresses + tagged + ethertype + ip + source.packed + destination.packed + tcp


def segments(words: str) -> list[Segment]:
    """Segments from words ``FLAGS:text@sequence/acknowledged=window``, the last two if need be; ``<`` goes back.

    In texts ``~`` is an octet of zero, and ``text*3`` a repetition.
    """
    return [_segment(word) for word in words.split()]


def _segment(word: str) -> Segment:
    found = _WORD.fullmatch(word if ":" in word else f":{word}")
    assert found is not None, word
    flags = sum(FLAGS[letter] for letter in found["flags"]) or FLAGS["A"]
    ends = (("10.0.0.1", 1234), ("10.0.0.2", 80))
    source, destination = reversed(ends) if found["back"] else ends
    numbers = int(found["ack"] or 0), int(found["window"] or 8192)
    return Segment(int(found["seq"]), octets(found["text"]), flags, source, destination, *numbers)


def octets(text: str) -> bytes:
    """What a text stands for: ``~`` is zero, ``a*3`` is ``aaa``."""
    repeated = re.sub(r"(.)\*(\d+)", lambda found: found[1] * int(found[2]), text)
    return repeated.replace("~", "\0").encode()


def write(path: Path, frames: Sequence[bytes]) -> None:
    """A capture of frames, a millisecond apart."""
    records = [
        pcap_record("<", frame, seconds=_START + at // 1000, fraction=at % 1000 * 1000)
        for at, frame in enumerate(frames)
    ]
    path.write_bytes(pcap_header("<") + b"".join(records))
