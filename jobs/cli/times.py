"""Times and ages as options take them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from pcap2arrow.errors import UsageError

_AGE = re.compile(r"(\d{1,9})([smhd]?)", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "": "hours", "d": "days"}
_SECONDS = re.compile(r"([-+]?\d{1,12})(?:\.(\d{1,9}))?", re.ASCII)
_FRACTION = re.compile(r"(?<=:\d\d)[.,](\d{1,9})(?!\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_age(text: str) -> timedelta:
    """A length of time: ``36`` (hours), ``90m``, ``1d``.  Raises UsageError."""
    found = _AGE.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r}: expected hours, or a number with s, m, h or d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def parse_time(text: str) -> int:
    """Nanoseconds since 1970, from ISO 8601 with a zone or from seconds since 1970.  Raises UsageError."""
    seconds = _SECONDS.fullmatch(text)
    if seconds:
        part = _billionths(seconds[2])
        return int(seconds[1]) * 10**9 + (-part if text.startswith("-") else part)
    fraction = _FRACTION.search(text)
    try:
        time = datetime.fromisoformat(_FRACTION.sub("", text))
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        expected = "a date and time with a zone, such as 2024-05-01T12:00:00Z, or seconds since 1970"
        raise UsageError(f"{text!r}: expected {expected}")
    whole = (time - _EPOCH) // timedelta(seconds=1)
    return whole * 10**9 + _billionths(fraction[1] if fraction else None)


def _billionths(digits: str | None) -> int:
    """The digits after a decimal point, as billionths."""
    return int((digits or "").ljust(9, "0"))
