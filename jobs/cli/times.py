"""Ages and lengths of time as options take them."""

from __future__ import annotations

import re
from datetime import timedelta

from pcap2arrow.errors import UsageError

_AGE = re.compile(r"(\d{1,9})([smhd]?)", re.ASCII)
_LENGTH = re.compile(r"([-+]?)(?=[.\d])(\d{1,10})?(?:\.(\d{1,9}))?([smhd]?)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_OCTETS = re.compile(r"(\d{1,18}(?:\.\d{1,6})?)(?:([kKmMgG])(i?)B?)?", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "": "hours", "d": "days"}


def parse_age(text: str) -> timedelta:
    """A length of time: ``36`` (hours), ``90m``, ``1d``.  Raises UsageError."""
    found = _AGE.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r}: expected hours, or a number with s, m, h or d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def parse_seconds(text: str) -> int:
    """Nanoseconds of a length of time: ``60`` or ``0.5`` (seconds), ``-2.5``, ``90s``, ``15m``, ``1h``, ``1d``.

    Raises UsageError.
    """
    found = _LENGTH.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r}: expected seconds, or a number with s, m, h or d")
    whole, part = int(found[2] or 0), int((found[3] or "").ljust(9, "0"))
    length = (whole * 10**9 + part) * _SECONDS[found[4]]
    return -length if found[1] == "-" else length


def parse_octets(text: str) -> int:
    """A number of octets: ``1000000``, ``10k``, ``100M``, ``1G``, ``1.5GiB``.  Raises UsageError."""
    found = _OCTETS.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r}: expected a number of octets, such as 100M or 64MiB")
    base = 1024 if found[3] else 1000
    whole, _, part = found[1].partition(".")
    unit: int = base ** " kmg".index((found[2] or " ").lower())
    return int(whole + part) * unit // int("1" + "0" * len(part))
