"""Times as tcpslice(1) takes and prints them, and as ISO 8601 writes them."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from itertools import pairwise

from pcap2arrow.errors import TimeSpecError
from queries.zones import SECOND, instant, local_time

_UNITS = ("year", "month", "day", "hour", "minute", "second", "microsecond", "nanosecond")
_LOWEST = (1970, 1, 1, 0, 0, 0, 0, 0)
_LETTERS = {
    "y": "year",
    "d": "day",
    "h": "hour",
    "m": "minute",  # or the month, see _amounts
    "s": "second",
    "u": "microsecond",
    "n": "nanosecond",
}
_LENGTHS = {
    "hour": 3600 * SECOND,
    "minute": 60 * SECOND,
    "second": SECOND,
    "microsecond": 1000,
    "nanosecond": 1,
}
_LIMITS = {"month": (1, 12), "hour": (0, 23), "minute": (0, 59), "second": (0, 59)}

_TIMES = range(-(2**63), 2**63)  # what timestamp[ns] can tell
_YEARS = range(1677, 2263)  # where those lie
_MOST_DAYS = 366 * len(_YEARS)
_GREATEST_OF_TCPSLICE = 2**31 - 1
_DIGITS_OF_TCPSLICE = 6

_SECONDS = re.compile(r"([0-9]{1,99})(?:\.([0-9]+))?")
_AMOUNT = re.compile(r"([0-9]{1,99})([A-Za-z])")
_AMOUNTS = re.compile(rf"(?:{_AMOUNT.pattern})+")
_ISO = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
    r"(?:[Tt ](?P<hour>[0-9]{2})(?::(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]+))?)?)?)?"
    r"(?: ?(?P<offset>[Zz]|(?P<sign>[+-])(?P<hours>[0-9]{2})(?::?(?P<minutes>[0-9]{2}))?))?"
)
_FORMS = "times are written 654321098.7654, 21h36m, +1h10m or 2024-05-01T12:00:00Z"


@dataclass(frozen=True, slots=True)
class _Amount:
    """A number with its unit, and where both stand."""

    number: int
    unit: str
    span: tuple[int, int]

    @property
    def rank(self) -> int:
        """The number of the unit, from the greatest."""
        return _UNITS.index(self.unit)


def is_time(text: str) -> bool:
    """Whether tcpslice 1.5 takes an argument for a time, right or wrong, rather than for the name of a file.

    It does by the syntax alone: not for ISO 8601, nanoseconds, or numbers above 2147483647.
    """
    start = 1 if text.startswith("+") else 0
    if seconds := _SECONDS.fullmatch(text, start):
        return int(seconds[1]) <= _GREATEST_OF_TCPSLICE and len(seconds[2] or "") <= _DIGITS_OF_TCPSLICE
    try:
        amounts = _amounts(text, start)
    except TimeSpecError:
        return False
    return bool(amounts) and all(
        each.number <= _GREATEST_OF_TCPSLICE and each.unit != "nanosecond" for each in amounts
    )


def parse_time(text: str, *, base: int | None, zone: tzinfo) -> int:
    """The time that the text stands for, in nanoseconds since 1970 (within 64 bits).

    ``base`` is the time (of the same unit) that relative times count from and that the others take greater units
    from: for a start that of the first packet, for an end the start.  None is right where there is no packet; then
    only times that stand for themselves are possible.  ``zone`` is where local time is read.  The forms:

    - ``654321098.7654``, seconds since 1970 with up to nine decimals; ``+200`` counts from the base;
    - ``1990y9m25d20h51m38s765400u``: units from great to small, in either case, any of them left out, and ``n`` for
      nanoseconds; units above the first are the base's, those left out below are 0 (month and day: 1).  ``m`` is
      the month right before ``d``, else the minute.  Years are those from 1970 to 2069, in two digits or four;
    - the same after ``+``, as amounts that the base advances by: years, months and days by the calendar (what a
      month has no days for goes on in the next, a local time that is skipped goes on after it), then hours and
      less by the time elapsed;
    - ISO 8601, as ``2024-05-01``, ``2024-05-01T12:00:00.5Z`` or ``2024-05-01 12:00+02:00``, which is local time
      where it has no offset.

    Of a local time that clocks show twice it is the first, unless the hour is not written: then that of the base.

    Raises TimeSpecError, in tcpslice's words where it refuses, too.  Source: tcpslice(1), and tcpslice 1.5, which
    differs: it refuses relative units that would carry over, adds a month less than written, takes month 0 for the
    base's, and is an hour off for some hours beside a change of daylight saving, and in summers from 2038 on.
    """
    relative = text.startswith("+")
    start = 1 if relative else 0
    if seconds := _SECONDS.fullmatch(text, start):
        time = int(seconds[1]) * SECOND + _billionths(text, seconds, 2)
        time += _known(base, text) if relative else 0
    elif amounts := _amounts(text, start):
        time = _advanced(text, amounts, base, zone) if relative else _written(text, amounts, base, zone)
    elif iso := _ISO.fullmatch(text):
        time = _iso(text, iso, zone)
    else:
        raise TimeSpecError("not a time", text=text, span=(0, len(text)), hint=_hint(text))
    if time not in _TIMES:
        raise _out_of_range(text, (0, len(text)))
    return time


def _amounts(text: str, start: int) -> list[_Amount]:
    """Numbers with their units; none where the text is not made of such.  Raises TimeSpecError on the units."""
    if not _AMOUNTS.fullmatch(text, start):
        return []
    tokens = list(_AMOUNT.finditer(text, start))
    letters = [token[2].lower() for token in tokens]
    amounts = []
    for token, letter, following in zip(tokens, letters, [*letters[1:], ""], strict=True):
        unit = "month" if letter + following == "md" else _LETTERS.get(letter)
        if unit is None:
            raise TimeSpecError(
                f"no unit of time: {token[2]}", text=text, span=token.span(2), hint=_hint(text)
            )
        amounts.append(_Amount(int(token[1]), unit, token.span()))
    for before, after in pairwise(amounts):
        if before.rank >= after.rank:
            hint = "m is the month right before d only, else the minute" if "m" in letters else None
            reason = f"{before.unit} before {after.unit}: units go from great to small, each once"
            raise TimeSpecError(reason, text=text, span=after.span, hint=hint)
    return amounts


def _written(text: str, amounts: Sequence[_Amount], base: int | None, zone: tzinfo) -> int:
    """The local time whose units from the first amount on are as written, the greater ones as those of the base."""
    first, fold, values = amounts[0].rank, 0, list(_LOWEST)
    if first > _UNITS.index("year"):
        known = _known(base, text)
        local = local_time(known, zone)
        fold = local.fold if first > _UNITS.index("hour") else 0
        of_base = (*local.timetuple()[:6], known % SECOND // 1000, known % 1000)
        values[:first] = of_base[:first]
    for each in amounts:
        values[each.rank] = _year(text, each) if each.unit == "year" else each.number
    spans = {each.unit: each.span for each in amounts}
    _check(text, values, spans)
    *whole, microsecond, nanosecond = values
    return instant(_local(whole, zone, fold=fold)) + microsecond * 1000 + nanosecond


def _advanced(text: str, amounts: Sequence[_Amount], base: int | None, zone: tzinfo) -> int:
    """The base, advanced by the amounts: those of the calendar first, then what elapses."""
    time = _known(base, text)
    number = {each.unit: each.number for each in amounts}
    months, days = number.get("year", 0) * 12 + number.get("month", 0), number.get("day", 0)
    if months or days:
        local = local_time(time, zone)
        year, month = divmod(local.year * 12 + local.month - 1 + months, 12)
        if year not in _YEARS or days > _MOST_DAYS:
            raise _out_of_range(text, (0, len(text)))
        day = date(year, month + 1, 1) + timedelta(days=local.day - 1 + days)
        time = instant(datetime.combine(day, local.timetz().replace(fold=0))) + time % SECOND
    return time + sum(number.get(unit, 0) * length for unit, length in _LENGTHS.items())


def _iso(text: str, found: re.Match[str], zone: tzinfo) -> int:
    """The time that a text of ISO 8601 tells."""
    names = _UNITS[:6]
    values = [int(found[name]) if found[name] else low for name, low in zip(names, _LOWEST, strict=False)]
    _check(text, values, {name: found.span(name) for name in names})
    offset = _offset(text, found) if found["offset"] else zone
    return instant(_local(values, offset)) + _billionths(text, found, "fraction")


def _offset(text: str, found: re.Match[str]) -> tzinfo:
    if found["offset"] in "Zz":
        return UTC
    hours, minutes = int(found["hours"]), int(found["minutes"] or 0)
    for unit, number, name in (("hour", hours, "hours"), ("minute", minutes, "minutes")):
        if number > _LIMITS[unit][1]:
            raise TimeSpecError(f"offset {found['offset']} is not valid", text=text, span=found.span(name))
    size = timedelta(hours=hours, minutes=minutes)
    return timezone(-size if found["sign"] == "-" else size)


def _billionths(text: str, found: re.Match[str], group: int | str) -> int:
    """The decimals of a group as nanoseconds, 0 where there are none."""
    digits = found[group] or ""
    if len(digits) > 9:
        raise TimeSpecError("times have at most nine decimals", text=text, span=found.span(group))
    return int(digits.ljust(9, "0"))


def _year(text: str, amount: _Amount) -> int:
    """The year that a number stands for, of 1970 to 2069."""
    year = amount.number
    if 100 <= year < 1970:
        raise TimeSpecError(f"Can't handle year {year}", text=text, span=amount.span)
    if year < 100:
        year += 1900 if year >= 70 else 2000
    if year >= 2070:
        hint = "years up to 2262 are possible as ISO 8601 writes them"
        raise TimeSpecError(f"year {year} is not valid", text=text, span=amount.span, hint=hint)
    return year


def _check(text: str, values: Sequence[int], spans: dict[str, tuple[int, int]]) -> None:
    """Raise TimeSpecError on the first unit that is beyond what a calendar or clock has; what has no span is right."""
    year, month = values[:2]
    if year not in _YEARS:
        raise _out_of_range(text, spans["year"])
    for unit, number in zip(_UNITS, values, strict=False):
        low, high = _LIMITS.get(unit, (0, number))
        if unit == "day":
            low, high = 1, monthrange(year, month)[1]
        if not low <= number <= high:
            raise TimeSpecError(f"{unit} {number} is not valid", text=text, span=spans[unit])


def _local(values: Sequence[int], zone: tzinfo, *, fold: int = 0) -> datetime:
    year, month, day, hour, minute, second = values
    return datetime(year, month, day, hour, minute, second, tzinfo=zone, fold=fold)


def _known(base: int | None, text: str) -> int:
    """The base, where there is one."""
    if base is None:
        hint = "say it with the date: 2024-05-01T12:00:00Z"
        reason = "no packet to count this time from"
        raise TimeSpecError(reason, text=text, span=(0, len(text)), hint=hint)
    return base


def _out_of_range(text: str, span: tuple[int, int]) -> TimeSpecError:
    hint = "times go from 1677-09-21 to 2262-04-11"
    return TimeSpecError("this time is out of range", text=text, span=span, hint=hint)


_HINTS = (
    (r"\+?\.[0-9]+|\+?[0-9]+\.", "the point has digits on both sides: 0.5"),
    (r"\+?-.*", "times before 1970 are written 1969-12-31T23:59:59Z"),
    (r"\+.*[-:].*", "only seconds and units are relative: +3600 or +1h10m"),
    (r"[0-9]{1,2}:[0-9]{2}.*", "a time of the day is written 12h30m"),
    (
        r"[0-9]{1,4}[-./][0-9]{1,2}[-./][0-9]{1,4}.*|[0-9]{8}[Tt].*",
        "a date is written 2024-05-01 or 2024y5m1d",
    ),
    (r"[0-9A-Za-z+ ]* [0-9A-Za-z+ ]*", "there are no spaces between units: 21h36m"),
)


def _hint(text: str) -> str:
    return next((hint for form, hint in _HINTS if re.fullmatch(form, text)), _FORMS)


def format_raw(time: int, *, nanoseconds: bool = False) -> str:
    """Seconds since 1970 with six decimals as ``tcpslice -R`` prints (``1000000000.000000``), cut off; or with nine."""
    seconds, part = divmod(abs(time), SECOND)
    sign = "-" if time < 0 else ""
    return f"{sign}{seconds}.{part:09}" if nanoseconds else f"{sign}{seconds}.{part // 1000:06}"


def format_readable(time: int, zone: tzinfo) -> str:
    """A local time as ``tcpslice -r`` and date(1) print it in English: ``Sun Sep  9 01:46:40 2001``."""
    return local_time(time, zone).replace(tzinfo=None).ctime()


def format_ymdhmsu(time: int, zone: tzinfo, *, nanoseconds: bool = False) -> str:
    """A local time as ``tcpslice -t`` prints it, ``2001y09m09d01h46m40s000000u``, cut off; or with ``000n`` added."""
    microseconds, part = divmod(time % SECOND, 1000)
    local = local_time(time, zone).strftime("%Yy%mm%dd%Hh%Mm%Ss")
    return f"{local}{microseconds:06}u{part:03}n" if nanoseconds else f"{local}{microseconds:06}u"
