"""What users may choose of how packets become streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pcap2arrow.errors import UsageError

Overlap = Literal["last", "first"]
"""Which segment an octet is taken from where several carry it: the last one that came, or the first."""

Gaps = Literal["zero", "skip", "mark", "split"]
"""What files have where octets are missing: a hole that reads as zeros, nothing, words that say how many, or an end."""

SKIP = 1 << 24
_LONGEST_SKIP = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Rules:
    """How packets become streams.

    ``skip`` is how many octets a segment may lie before or behind the place that is expected next; one that is
    farther off begins a stream of its own.  ``limit`` is how many octets of each stream are kept (None: all).
    With ``defrag``, fragments of IP are put together first.  ``gaps`` says what files have where octets are missing.
    ``as_tcpflow`` follows tcpflow 1.6.1 where that loses or invents something:

    - a second SYN does not begin a new stream, whatever its sequence number
    - what is pushed aside by an octet from before the first one stays where it was, too, until it is overwritten
      (where that happens too often, no more)
    - any packet closes a stream that it is too far from, even one without data
    - what comes after the end is compared with the last 101 streams that ended, not with all
    - fragments stay what they are: only the first one has octets of a stream
    - IPv6 extension headers are not followed, and packets are seen up to the snap length

    Raises UsageError for numbers out of range.
    """

    skip: int = SKIP
    limit: int | None = None
    overlap: Overlap = "last"
    as_tcpflow: bool = False
    defrag: bool = True
    gaps: Gaps = "zero"

    def __post_init__(self) -> None:
        if not 0 <= self.skip <= _LONGEST_SKIP:
            raise UsageError(f"skip of {self.skip} octets: expected 0 to {_LONGEST_SKIP}")
        if self.limit is not None and self.limit < 0:
            raise UsageError(f"limit of {self.limit} octets: expected none below 0")
