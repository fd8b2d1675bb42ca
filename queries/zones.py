"""Time zones as the environment names them, and the local time of an instant in one and back."""

from __future__ import annotations

import io
import os
import re
import struct
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from pcap2arrow.errors import TimeSpecError

SECOND = 10**9
"""Nanoseconds in a second."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SYSTEM_ZONE = Path("/etc/localtime")


def resolve_zone(name: str | None = None) -> tzinfo:
    """The time zone of that name; without one, that of the environment variable ``TZ``, or else the system's.

    A name is what ``TZ`` may hold, with a colon before it or not: a zone of the system's database
    (``Europe/Berlin``), the path of a file of one (``/etc/localtime``), a rule such as
    ``CET-1CEST,M3.5.0,M10.5.0/3``, or nothing, which is UTC.  A rule that names a daylight saving time but not
    when it is kept (``XST5XDT``) keeps that of the USA since 2007.  Raises TimeSpecError where there is no
    such zone (glibc would silently take UTC).  Source: tzset(3), POSIX.1-2017 8.3.
    """
    chosen = os.environ.get("TZ") if name is None else name
    if chosen is None:
        return _from_file(_SYSTEM_ZONE) or UTC
    key = chosen.removeprefix(":")
    if key in ("", "UTC"):
        return UTC
    zone = _from_file(Path(key)) if key.startswith("/") else _from_database(key) or _from_rule(key)
    if zone is None:
        hint = "zones are named as Europe/Berlin, EST5EDT or CET-1CEST,M3.5.0,M10.5.0/3"
        raise TimeSpecError("there is no such time zone", text=chosen, span=(0, len(chosen)), hint=hint)
    return zone


def local_time(time: int, zone: tzinfo) -> datetime:
    """What clocks in the zone show at a time (nanoseconds since 1970), down to the second."""
    return (_EPOCH + timedelta(seconds=time // SECOND)).astimezone(zone)


def instant(local: datetime) -> int:
    """Nanoseconds since 1970 when clocks show that local time (whole seconds, with a zone).

    Of a time that clocks show twice, ``fold`` chooses; one that they leap over counts on from before the leap (with
    ``fold`` 0, as mktime(3) reads it: 02:30 is 03:30).
    """
    offset = local.utcoffset()
    assert offset is not None, "a local time has a zone"
    return (local.replace(tzinfo=UTC) - _EPOCH - offset) // timedelta(seconds=1) * SECOND


def _from_database(key: str) -> tzinfo | None:
    try:
        return ZoneInfo(key)
    except (KeyError, ValueError, OSError):  # no such zone, not the name of one, a directory
        return None


_DAMAGED = (ValueError, AssertionError, IndexError, EOFError, struct.error)
"""What the standard library ends with at files that are none of zones, or damaged."""


def _from_file(path: Path) -> tzinfo | None:
    try:
        with path.open("rb") as file:
            return ZoneInfo.from_file(file, key=str(path))
    except (OSError, *_DAMAGED):
        return None


_ABBREVIATION = r"(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)"
_RULE = re.compile(
    rf"{_ABBREVIATION}[+-]?[0-9][0-9:]*(?P<daylight>{_ABBREVIATION}(?:[+-]?[0-9][0-9:]*)?)?(?P<dates>,.+)?"
)
_DATES_IN_THE_USA = ",M3.2.0,M11.1.0"


def _from_rule(rule: str) -> tzinfo | None:
    """The zone of a rule as POSIX writes it.

    The standard library reads rules only at the end of a file of a zone (RFC 8536), so that one is made up: without
    changes, and with the rule for all times after them.
    """
    found = _RULE.fullmatch(rule)
    if found is None:
        return None
    if found["daylight"] and not found["dates"]:
        rule += _DATES_IN_THE_USA
    kind_of_time = struct.pack(">lBB4s", 0, False, 0, b"UTC\0")
    file = _file_header(kinds=0) + _file_header(kinds=1) + kind_of_time + f"\n{rule}\n".encode()
    try:
        return ZoneInfo.from_file(io.BytesIO(file), key=rule)
    except ValueError:
        return None


def _file_header(*, kinds: int) -> bytes:
    """The header of a block of RFC 8536 that has so many kinds of local time (with four octets of names), no more."""
    return b"TZif2" + bytes(15) + struct.pack(">6L", 0, 0, 0, 0, kinds, 4 * kinds)
