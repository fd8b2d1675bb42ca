"""tcpslice and the verb of its name side by side, and what tcpslice gets wrong, told from captures alone."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

from tests.blocks import PCAP_MICROSECONDS, PCAP_NANOSECONDS, pcap_header, pcap_record
from tests.conftest import CorpusCapture
from tests.oracles.reader import Packet, whole_packets

SECOND = 10**9
_WEEK, _YEAR = 7 * 86400 * SECOND, 366 * 86400 * SECOND


@dataclass(frozen=True, slots=True)
class Done:
    """How a run ended: its exit code, what it printed, and what it wrote (None: nothing)."""

    code: int
    out: str
    err: str
    written: bytes | None


Slicer = Callable[..., Done]
"""Runs one of the two with words; ``to`` is a file to write."""


def run_tcpslice(program: str, *words: str | Path, to: Path | None = None) -> Done:
    """tcpslice itself; it is stopped where it goes round in circles, as it does in some captures that step back."""
    writing = [] if to is None else ["-w", str(to)]
    if to is not None:
        to.unlink(missing_ok=True)
    try:
        done = subprocess.run([program, *writing, *map(str, words)], capture_output=True, timeout=20)
    except subprocess.TimeoutExpired:
        return Done(-1, "", "it does not end", None)
    written = to.read_bytes() if to is not None and to.exists() else None
    return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(), written)


@cache
def packets_of(path: Path) -> tuple[Packet, ...]:
    """The whole packets of a capture, by a reader of the tests' own."""
    return tuple(whole_packets(path))


def faults(*paths: Path) -> Iterator[str]:
    """What of some captures tcpslice does not do right, each with its reason; captures are told by their packets."""
    for path in paths:
        packets = packets_of(path)
        times = [packet.time or 0 for packet in packets]
        if any(after < before for before, after in pairwise(times)):
            yield "it loses packets that step back in time"
        if len(times) > 1 and times[0] == times[-1]:
            yield "where all packets have one time, it begins with the last"
        if len(times) == 1:
            yield "it can't read a single packet"
        if any(b - a > _WEEK for a, b in pairwise(times)) or (times and times[-1] - times[0] > _YEAR):
            yield "it takes what comes after a week's gap, or a year, for no packet"
        if times and times[0] < 86400 * SECOND:
            yield "it takes local times of 1969 for those of 2069"
        if any(time % 1000 for time in times):
            yield "it cuts nanoseconds"
        if any((packet.ticks or 0) & 0xFFFFFFFF >= 10**6 for packet in packets):
            yield "it compares sub-seconds of a second and more as they stand"


def repeats_differ(*paths: Path, relative: bool) -> bool:
    """Whether the rule for duplicates, and that of tcpslice, which looks at the last packet only, differ there."""
    merged = []
    for place, path in enumerate(paths):
        packets = packets_of(path)
        first = packets[0].time or 0 if relative else 0
        merged += [((p.time or 0) - first, place, n, (p.frame_len, p.data)) for n, p in enumerate(packets)]
    merged.sort()
    first_place: dict[tuple[int, tuple[int, bytes]], int] = {}
    for time, place, _, content in merged:
        first_place.setdefault((time, content), place)
    last: tuple[int, int, tuple[int, bytes]] | None = None
    for time, place, _, content in merged:
        written = last is None or last[1] == place or (last[0], last[2]) != (time, content)
        if written:
            last = time, place, content
        if written is not (first_place[time, content] == place):
            return True
    return False


@dataclass(slots=True)
class Comparison:
    """Comparisons that were made: how many, and those that differ, with the reasons."""

    theirs: Slicer
    ours: Slicer
    folder: Path
    compared: int = 0
    seen: set[tuple[Path, ...]] = field(default_factory=set)
    unreadable: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[str, ...]] = field(default_factory=list)

    def files(self, *words: str | Path, paths: Sequence[Path]) -> None:
        """Compare the files that both write."""
        expected = self.theirs(*words, *paths, to=self.folder / "theirs")
        if expected.code and expected.code != -1:
            self.unreadable += 1
            return
        found = self.ours(*words, *paths, to=self.folder / "ours")
        self.compared += 1
        self.seen.add(tuple(paths))
        if (found.code, found.written) == (expected.code, expected.written):
            return
        reasons = list(faults(*paths))
        if "-D" not in words and len(paths) > 1 and repeats_differ(*paths, relative="-l" in words):
            reasons.append("it looks for duplicates among the last packet only")
            found = self.ours("--compat-dup", *words, *paths, to=self.folder / "ours")
            if len(reasons) == 1 and found.written != expected.written:
                reasons.clear()
        if reasons and found.code == 0:
            self.reasons.update(reasons[:1])
        else:
            self.wrong.append(tuple(map(str, (*words, *paths))))

    @property
    def captures(self) -> int:
        """How many captures, and sets of captures, were compared."""
        return len(self.seen)

    @property
    def excepted(self) -> float:
        """The share of comparisons that differ for a reason."""
        return sum(self.reasons.values()) / self.compared


def readable(manifest: Sequence[CorpusCapture]) -> list[CorpusCapture]:
    """Captures that tcpslice may read: pcap, of several packets."""
    return [
        capture
        for capture in manifest
        if capture.format == "pcap" and capture.tcpdump_rc == 0 and len(capture.link_types) == 1
        and capture.packets > 1
    ]  # fmt: skip


def overlapping_halves(path: Path, folder: Path) -> tuple[Path, Path]:
    """Two captures of the packets of one: its first three fifths, and its last three."""
    packets = packets_of(path)
    parts = packets[: len(packets) * 3 // 5 + 1], packets[len(packets) * 2 // 5 :]
    names = folder / f"{path.stem}-a.pcap", folder / f"{path.stem}-b.pcap"
    for name, part in zip(names, parts, strict=True):
        write_packets(name, part)
    return names


def write_packets(path: Path, packets: Sequence[Packet]) -> None:
    """A pcap of some packets, of microseconds."""
    content = [(packet.time or 0, packet.data, packet.frame_len) for packet in packets]
    write_capture(path, content, link_word=packets[0].link_type)


def write_capture(
    path: Path,
    packets: Sequence[tuple[int, bytes] | tuple[int, bytes, int]],
    *,
    order: str = "<",
    nanoseconds: bool = False,
    link_word: int = 1,
    snap_length: int = 262144,
) -> Path:
    """A pcap of packets: each a time in nanoseconds, the octets, and the length on the wire where it is another."""
    magic, unit = (PCAP_NANOSECONDS, 1) if nanoseconds else (PCAP_MICROSECONDS, 1000)
    records = [
        pcap_record(
            order,
            data,
            seconds=time // SECOND,
            fraction=time % SECOND // unit,
            frame_len=(*more, len(data))[0],
        )
        for time, data, *more in packets
    ]
    header = pcap_header(order, magic=magic, link_word=link_word, snap_length=snap_length)
    path.write_bytes(header + b"".join(records))
    return path
