"""From scans to units: what is written, under which names, in which order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pcap2arrow.conversion.options import Options
from pcap2arrow.conversion.placed import Unit
from pcap2arrow.conversion.scan import MAX_DAMAGE, BlockScan, TimeSpan, cumulative, identity
from pcap2arrow.errors import FormatError
from pcap2arrow.savefile.batch import Gap
from pcap2arrow.savefile.pcap import PcapHeader
from pcap2arrow.savefile.reader import Position
from pcap2arrow.savefile.source import Source


@dataclass(frozen=True, slots=True)
class CapturePlan:
    """Everything that the scan of a capture found, and the units to write."""

    name: str
    size: int
    compression: str | None
    identity: str
    header: PcapHeader | None
    end: Position
    checksums: tuple[int, ...]
    link_types: tuple[int, ...]
    packets: int
    times: TimeSpan
    damaged: int
    damage: tuple[Gap, ...]
    units: tuple[Unit, ...]

    @property
    def capture_id(self) -> int:
        """Short form of the identity: its first 64 bits."""
        return int(self.identity[:16], 16)

    @property
    def error(self) -> str | None:
        """The first place of damage in words, with how many more there are; None where there is none."""
        if not self.damage:
            return None
        more = f" (and {self.damaged - 1} more)" if self.damaged > 1 else ""
        return f"offset {self.damage[0].offset}: {self.damage[0].reason}{more}"


def plan_capture(
    source: Source, header: PcapHeader | None, blocks: Sequence[BlockScan], end: Position, options: Options
) -> CapturePlan:
    """The plan of a capture from its proven blocks; ``end`` is the position after the last.

    Raises FormatError where the capture is damaged and ``options`` are strict.
    """
    damage = [gap for block in blocks for gap in block.damage][:MAX_DAMAGE]
    if source.cut:
        damage.append(Gap(source.size, 0, "damage", None, "the rest of the capture", source.cut))
    if damage and options.on_error == "strict":
        raise FormatError(source.name, damage[0].offset, expected=damage[0].expected, found=damage[0].found)
    who = identity(source, list(blocks))
    times = TimeSpan()
    for block in blocks:
        times = times.then(block.times)
    return CapturePlan(
        name=source.name,
        size=source.size,
        compression=source.compression,
        identity=who,
        header=header,
        end=end,
        checksums=tuple(block.crc for block in blocks),
        link_types=tuple(sorted(set().union(*(block.link_types for block in blocks)))),
        packets=sum(block.packets for block in blocks),
        times=times,
        damaged=sum(block.damaged for block in blocks) + bool(source.cut),
        damage=tuple(damage),
        units=tuple(_units(who, blocks, options)),
    )


def _units(identity: str, blocks: Sequence[BlockScan], options: Options) -> list[Unit]:
    units = []
    for number, (block, packets_before, greatest_before) in enumerate(cumulative(blocks)):
        if block.begin.offset == block.end:
            continue
        key = digest(identity, str(block.begin.offset), str(block.end), options.text)
        units.append(
            Unit(
                capture_id=int(identity[:16], 16),
                stem=f"{identity[:16]}-{number:05d}-{key}",
                begin=block.begin,
                end=block.end,
                packets=block.packets,
                first_frame=packets_before + 1,
                order_before=greatest_before,
                marks=block.marks,
            )
        )
    return units


def digest(*parts: str) -> str:
    """16 hexadecimal digits that depend on all parts."""
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
