"""What a pcapng is made of: types of blocks, section headers, interfaces.

Source: draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

from dataclasses import dataclass

from pcap2arrow.savefile.pcap import ByteOrder

SECTION_HEADER = 0x0A0D0D0A
INTERFACE, OLD_PACKET, SIMPLE_PACKET, NAMES, STATISTICS, ENHANCED_PACKET, SECRETS = 1, 2, 3, 4, 5, 6, 10

PACKET_START = {OLD_PACKET: 28, SIMPLE_PACKET: 12, ENHANCED_PACKET: 28}
"""Where in its block a packet starts, by block type."""

SECTION_MAGIC = b"\x0a\x0d\x0d\x0a"
_BYTE_ORDER_MAGIC: dict[bytes, ByteOrder] = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface of a capture.

    ``section`` counts from 0; ``resolution`` and ``time_offset`` are ``if_tsresol`` (default 6: microseconds) and
    ``if_tsoffset`` (seconds); ``fcs_len`` in octets; ``name`` is null where the block gives none.
    """

    section: int
    link_type: int
    snap_length: int
    resolution: int = 6
    time_offset: int = 0
    fcs_len: int = 0
    name: str | None = None


def starts_section(octets: bytes) -> ByteOrder | None:
    """Byte order of the section whose header starts with these 12 octets, None where it is no section header."""
    return _BYTE_ORDER_MAGIC.get(octets[8:12]) if octets[:4] == SECTION_MAGIC else None
