"""How captures are converted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pcap2arrow import schema
from pcap2arrow.conversion.scan import BLOCK
from pcap2arrow.errors import UsageError

Frames = Literal["stored", "referenced", "none"]
OnError = Literal["salvage", "strict"]
PartitionBy = Literal["date", "hour", "none"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a conversion leaves open.

    ``frames``: octets of packets in the table, in the archive only (``referenced``: found again at their offset), or
    given up (``none``).  ``on_error``: keep what a damaged capture holds (``salvage``), or refuse it (``strict``).
    ``partition_by``: folder of a packet by its UTC date, its hour, or one for all.  ``block``: octets of a capture
    that make one unit, and one checksum; everything that is written depends on it, so it is for tests.
    """

    frames: Frames = "stored"
    on_error: OnError = "salvage"
    partition_by: PartitionBy = "date"
    block: int = BLOCK

    def __post_init__(self) -> None:
        for name, kind in (("frames", Frames), ("on_error", OnError), ("partition_by", PartitionBy)):
            if getattr(self, name) not in get_args(kind):
                raise UsageError(
                    f"{name}: expected one of {', '.join(get_args(kind))}, found {getattr(self, name)!r}"
                )

    @property
    def text(self) -> str:
        """All that shapes the files, as text: captures with another one are converted otherwise."""
        return f"schema={schema.VERSION} frames={self.frames} partition-by={self.partition_by} block={self.block}"
