"""Packet captures as dataframes: pcap and pcapng to Arrow packet tables and back, without loss.

Everything that is public is here; it is imported when it is first used, so that importing the package costs nothing.

>>> import pcap2arrow
>>> pcap2arrow.convert(["captures/"], "dataset")                                                   # doctest: +SKIP
>>> pcap2arrow.scan("dataset").filter(src_port=443).select("time", "frame_len").collect()           # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcap2arrow.compaction.api import compact as compact
    from pcap2arrow.conversion.api import convert as convert
    from pcap2arrow.dataset.api import files as files
    from pcap2arrow.dataset.api import remove as remove
    from pcap2arrow.dataset.api import vacuum as vacuum
    from pcap2arrow.reading.api import info as info
    from pcap2arrow.reading.api import read_capture as read_capture
    from pcap2arrow.reading.api import scan as scan
    from pcap2arrow.reading.text import ip as ip
    from pcap2arrow.reading.text import text as text
    from pcap2arrow.writing.api import export as export
    from pcap2arrow.writing.api import write_capture as write_capture
    from pcap2arrow.writing.originals.verification import verify as verify

__version__ = "0.1.0"

_HOMES = {
    "compact": "compaction.api",
    "convert": "conversion.api",
    "export": "writing.api",
    "files": "dataset.api",
    "info": "reading.api",
    "ip": "reading.text",
    "read_capture": "reading.api",
    "remove": "dataset.api",
    "scan": "reading.api",
    "text": "reading.text",
    "vacuum": "dataset.api",
    "verify": "writing.originals.verification",
    "write_capture": "writing.api",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'pcap2arrow' has no attribute {name!r}")
    return getattr(import_module(f"pcap2arrow.{home}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
