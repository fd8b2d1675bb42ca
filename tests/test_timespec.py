"""Times as arguments, against tcpslice -d and C's mktime, and by properties; times as tcpslice prints them."""

from __future__ import annotations

import pickle
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pcap2arrow.errors import TimeSpecError
from queries.timespec import format_raw, format_readable, format_ymdhmsu, is_time, parse_time
from queries.zones import instant, local_time, resolve_zone
from tests.times import (
    CASES,
    FIRST_PACKETS,
    MOMENTS,
    MORE_ZONES,
    SECOND,
    ZONES,
    Tcpslice,
    c_zone,
    table,
    time_or_reason,
    write_capture,
)

ROWS = table()

zones = st.sampled_from(MORE_ZONES)
times = st.integers(-(2**63), 2**63 - 1)
times_of_tcpslice = st.integers(86400, 2**31 - 86400).map(lambda seconds: seconds * SECOND)


def _answer(text: str, *, base: int | None, zone: str) -> int | str:
    """The time, or the reason why there is none."""
    try:
        return parse_time(text, base=base, zone=resolve_zone(zone))
    except TimeSpecError as error:
        return error.reason


# The table of arguments


def test_the_table_is_sound() -> None:
    arguments = [row.argument for row in ROWS]
    assert len(arguments) >= 150
    assert len(set(arguments)) == len(arguments)
    known = {*ZONES, *FIRST_PACKETS}
    assert all(where and where <= known for row in ROWS for where in row.exceptions)


@pytest.mark.parametrize(("zone", "capture"), CASES)
def test_times_are_as_the_table_says(zone: str, capture: str) -> None:
    expected = {row.argument: row.expected(zone, capture) for row in ROWS}
    written = {text: time_or_reason(value, capture) for text, value in expected.items() if value != "="}
    assert {text: _answer(text, base=FIRST_PACKETS[capture], zone=zone) for text in written} == written


# Against tcpslice


@pytest.fixture(scope="module")
def tcpslice(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Tcpslice:
    folder = tmp_path_factory.mktemp("tcpslice")
    for capture, first in FIRST_PACKETS.items():
        write_capture(folder / f"{capture}.pcap", first, first + 86400 * SECOND)
    return Tcpslice(tool("tcpslice"), folder)


@pytest.mark.parametrize(("zone", "capture"), CASES)
def test_starts_are_those_of_tcpslice(tcpslice: Tcpslice, zone: str, capture: str) -> None:
    for row in ROWS:
        if not is_time(row.argument):
            continue
        real = tcpslice.answer(row.argument, zone=zone, capture=capture)
        ours = _answer(row.argument, base=FIRST_PACKETS[capture], zone=zone)
        expected = row.expected(zone, capture)
        case = (row.argument, zone, capture, real, ours)
        if expected.startswith("≠"):
            assert isinstance(real, int), case
            assert real != ours, case
        elif expected == "=" or isinstance(real, int):
            assert real == ours, case


def test_ends_count_from_the_start(tcpslice: Tcpslice) -> None:
    start, zone = "2001y2m3d4h5m6s7u", "America/Los_Angeles"
    base = parse_time(start, base=None, zone=resolve_zone(zone))
    for row in ROWS:
        if row.follows_tcpslice and is_time(row.argument):
            real = tcpslice.answer(start, row.argument, zone=zone, capture="2024")
            ours = _answer(row.argument, base=base, zone=zone)
            assert ours == real or isinstance(real, str), (row.argument, real, ours)


def test_what_looks_like_a_time_is_what_tcpslice_takes_for_one(tcpslice: Tcpslice) -> None:
    files = [row.argument for row in ROWS if not is_time(row.argument)]
    assert len(files) > 50
    assert {text: tcpslice.answer(text, zone="UTC", capture="1990") for text in files} == dict.fromkeys(files)


_DIGITS = st.text("0123456789ymdhsuYD+.", max_size=8)
_UNITS = st.from_regex(
    r"\+?([0-9]{1,2}y|19[0-9]{2}Y|20[0-9]{2}y)?([0-9]{1,2}m[0-9]{1,2}d)?([0-3]?[0-9]h)?([0-9]{1,2}m)?([0-6]?[0-9]s)?",
    fullmatch=True,
)
_KNOWN_TO_DIFFER = re.compile(r"0+m[0-9]+d|.*y0+m[0-9]+d|\+.*m[0-9]+d|\+[0-9]{4}y", re.IGNORECASE)


@given(text=_DIGITS | _UNITS, capture=st.sampled_from(list(FIRST_PACKETS)))
def test_random_arguments_are_those_of_tcpslice(tcpslice: Tcpslice, text: str, capture: str) -> None:
    real = tcpslice.answer(text, zone="UTC", capture=capture)
    ours = _answer(text, base=FIRST_PACKETS[capture], zone="UTC")
    assert is_time(text) == (real is not None)
    refused_for_want_of_carrying = isinstance(real, str) and text.startswith("+")
    if real is not None and not refused_for_want_of_carrying and not _KNOWN_TO_DIFFER.match(text):
        assert ours == real


@pytest.mark.parametrize("zone", MORE_ZONES)
def test_times_are_printed_as_tcpslice_prints_them(tcpslice: Tcpslice, zone: str) -> None:
    moments = {f"{seconds}.pcap": seconds * SECOND + 54321_999 for seconds in MOMENTS}
    for name, moment in moments.items():
        write_capture(tcpslice.folder / name, moment, moment)
    local = resolve_zone(zone)
    forms: dict[str, Callable[[int], str]] = {
        "-R": format_raw,
        "-r": lambda moment: format_readable(moment, local),
        "-t": lambda moment: format_ymdhmsu(moment, local),
    }
    for option, form in forms.items():
        printed = tcpslice.run(option, *moments, zone=zone).stdout.splitlines()
        assert printed == [f"{name}\t{form(moment)}\t{form(moment)}" for name, moment in moments.items()]


# Against C's mktime


def _mktime(*fields: int) -> int:
    return int(time.mktime((*fields, 0, 0, -1)))  # type: ignore[arg-type]


def _assume_shown_once(local: datetime, zone: str) -> None:
    """Leave out times that clocks leap over or show twice: what mktime makes of them depends on earlier calls."""
    aware = local.replace(tzinfo=resolve_zone(zone))
    assume(instant(aware) == instant(aware.replace(fold=1)))


@given(zone=zones, local=st.datetimes(datetime(1971, 1, 1), datetime(2069, 12, 31)))
def test_local_times_are_those_of_mktime(zone: str, local: datetime) -> None:
    _assume_shown_once(local, zone)
    fields = local.timetuple()[:6]
    text = "".join(f"{number}{unit}" for number, unit in zip(fields, "ymdhms", strict=True))
    ours = parse_time(text, base=None, zone=resolve_zone(zone)) // SECOND
    iso = parse_time(local.isoformat(" ", "seconds"), base=None, zone=resolve_zone(zone)) // SECOND
    with c_zone(zone):
        assert ours == iso == _mktime(*fields)


@given(
    zone=zones,
    base=times_of_tcpslice,
    amounts=st.tuples(*[st.integers(0, 40)] * 6),
    part=st.integers(0, SECOND - 1),
)
def test_relative_units_carry_as_those_of_mktime(
    zone: str, base: int, amounts: tuple[int, ...], part: int
) -> None:
    years, months, days, hours, minutes, seconds = amounts
    text = f"+{years}y{months}m{days}d{hours}h{minutes}m{seconds}s"
    ours = parse_time(text, base=base + part, zone=resolve_zone(zone))
    with c_zone(zone):
        year, month, day, *clock = time.localtime(base // SECOND)[:6]
        moved = _mktime(year + years, month + months, day + days, *clock)
        shown = time.localtime(moved)[:6]
    assume(list(shown[3:]) == clock)
    _assume_shown_once(datetime(*shown), zone)
    if not (years or months or days):
        moved = base // SECOND
    assert ours == (moved + hours * 3600 + minutes * 60 + seconds) * SECOND + part


# Properties


@given(time=st.integers(0, 2**63 - 1))
def test_raw_times_are_read_as_they_were(time: int) -> None:
    assert parse_time(format_raw(time, nanoseconds=True), base=None, zone=UTC) == time
    assert parse_time(format_raw(time), base=None, zone=UTC) == time - time % 1000


@given(time=st.integers(0, 3124137600 * SECOND), zone=zones)
@example(time=1729990800 * SECOND, zone="Europe/Berlin")
def test_local_times_are_read_as_they_were(time: int, zone: str) -> None:
    local = resolve_zone(zone)
    if local_time(time, local).year < 1970:
        return
    text = format_ymdhmsu(time, local, nanoseconds=True)
    again = parse_time(text, base=None, zone=local)
    assert format_ymdhmsu(again, local, nanoseconds=True) == text
    assert again == time or local_time(time, local).fold == 1  # clocks show it a second time
    assert parse_time(format_ymdhmsu(time, local), base=None, zone=local) == again - again % 1000


@given(time=times, zone=zones)
def test_local_time_and_back(time: int, zone: str) -> None:
    local = local_time(time, resolve_zone(zone))
    assert instant(local) == time // SECOND * SECOND
    assert format_readable(time, resolve_zone(zone)) == local.strftime("%a %b %e %H:%M:%S %Y")


@given(base=times_of_tcpslice, zone=zones, unit=st.sampled_from("hmsun"), number=st.integers(0, 10**6))
def test_what_elapses_is_the_same_everywhere(base: int, zone: str, unit: str, number: int) -> None:
    length = {"h": 3600 * SECOND, "m": 60 * SECOND, "s": SECOND, "u": 1000, "n": 1}[unit]
    assert parse_time(f"+{number}{unit}", base=base, zone=resolve_zone(zone)) == base + number * length
    raw = f"+{format_raw(number * length, nanoseconds=True)}"
    assert parse_time(raw, base=base, zone=resolve_zone(zone)) == base + number * length


@given(base=times_of_tcpslice, zone=zones)
@example(base=1729990800_123456789, zone="Europe/Berlin")
@example(base=1729987200_123456789, zone="Europe/Berlin")
def test_units_below_the_hour_stay_in_the_hour_of_the_base(base: int, zone: str) -> None:
    local = resolve_zone(zone)
    minute, second = local_time(base, local).minute, local_time(base, local).second
    text = f"{minute}m{second}s{base % SECOND // 1000}u{base % 1000}n"
    assert parse_time(text, base=base, zone=local) == base


@given(
    text=st.text(max_size=20)
    | st.text("0123456789ymdhsunxYMTZ+-:., ", max_size=40)
    | st.from_regex(r"\+?([0-9]+[ymdhsun]){1,7}", fullmatch=True)
    | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}([+-][0-9]{2}:[0-9]{2})?"),
    base=st.none() | times,
    zone=zones,
)
@example(text="+" + "9" * 5000, base=0, zone="UTC")
@example(text="9" * 5000 + "d", base=0, zone="UTC")
@example(text="+99y99m99999d", base=2**63 - 1, zone="UTC")
@example(text="+9999999999999999999999y", base=-(2**63), zone="UTC")
def test_nothing_but_the_one_error_is_raised(text: str, base: int | None, zone: str) -> None:
    answer = _answer(text, base=base, zone=zone)
    assert isinstance(answer, str) or -(2**63) <= answer < 2**63
    assert is_time(text) in (True, False)


# Errors


@pytest.mark.parametrize(
    ("text", "marked", "hint"),
    [
        ("25h", "25h", None),
        ("2024y2m30d", "30d", None),
        ("2024-02-30", "30", None),
        ("2024-05-01T12:61", "61", None),
        ("2024-05-01T12:00+25:00", "25", None),
        ("1969y1m1d", "1969y", None),
        ("2070y", "2070y", "ISO 8601"),
        ("1s2m", "2m", "m is the month right before d only"),
        ("1y1y", "1y", None),
        ("5h3w", "w", "times are written"),
        ("1.0123456789", "0123456789", None),
        ("1.", "1.", "digits on both sides"),
        (".5", ".5", "digits on both sides"),
        ("-3", "-3", "1969-12-31T23:59:59Z"),
        ("12:30", "12:30", "12h30m"),
        ("1/5/2024", "1/5/2024", "2024-05-01"),
        ("20240501T120000Z", "T", "2024-05-01"),
        ("+2024-05-01", "+2024-05-01", "+1h10m"),
        ("1h 10m", "1h 10m", "no spaces"),
        ("yesterday", "yesterday", "times are written"),
        ("2300-01-01", "2300", "2262-04-11"),
    ],
)
def test_errors_show_the_place(text: str, marked: str, hint: str | None) -> None:
    with pytest.raises(TimeSpecError) as caught:
        parse_time(text, base=0, zone=UTC)
    error = caught.value
    assert text[slice(*error.span)] == marked
    assert (hint or "") in (error.hint or "")
    lines = str(error).split("\n")
    assert lines[1:3] == [f"  {text}", "  " + " " * error.span[0] + "^" * len(marked)]
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (TimeSpecError, str(error))


@pytest.mark.parametrize("text", ["+1", "+1h", "10m", "9m26d", "5u"])
def test_without_a_packet_only_whole_times_are_possible(text: str) -> None:
    with pytest.raises(TimeSpecError, match="no packet"):
        parse_time(text, base=None, zone=UTC)
    assert parse_time("1990y9m25d", base=None, zone=UTC) == 654220800 * SECOND
