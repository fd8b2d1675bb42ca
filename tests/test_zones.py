"""Time zones: by the names and rules that TZ may hold, as the C library reads them."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcap2arrow.errors import TimeSpecError
from queries.zones import local_time, resolve_zone
from tests.times import FIRST_PACKETS, MOMENTS, MORE_ZONES, SECOND, c_zone


@pytest.mark.parametrize("zone", [*MORE_ZONES, ":Europe/Berlin", "", "UTC+3", "CET-1CEST,M3.5.0,M10.5.0/3"])
def test_zones_are_those_of_the_c_library(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = [*MOMENTS, *range(1_700_000_000, 1_735_000_000, 1_000_003), 2_500_000_000]
    monkeypatch.setenv("TZ", zone)
    by_name, by_environment = resolve_zone(zone), resolve_zone()
    with c_zone(zone):
        expected = [time.localtime(moment)[:6] for moment in moments]
    assert [local_time(moment * SECOND, by_name).timetuple()[:6] for moment in moments] == expected
    assert [local_time(moment * SECOND, by_environment).timetuple()[:6] for moment in moments] == expected


def test_the_zone_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TZ")
    time.tzset()
    expected = time.localtime(FIRST_PACKETS["1990"] // SECOND)[:6]
    assert local_time(FIRST_PACKETS["1990"], resolve_zone()).timetuple()[:6] == expected
    monkeypatch.undo()
    time.tzset()


def test_a_zone_may_be_a_file(tmp_path: Path) -> None:
    berlin = Path("/usr/share/zoneinfo/Europe/Berlin")
    if not berlin.exists():
        pytest.skip("needs the system's time zones: apt-get install -y tzdata")
    assert local_time(0, resolve_zone(f":{berlin}")).hour == 1
    (tmp_path / "text").write_text("UTC")
    for path in (tmp_path, tmp_path / "text", tmp_path / "absent"):
        with pytest.raises(TimeSpecError, match="no such time zone"):
            resolve_zone(str(path))


@pytest.mark.parametrize(
    "name",
    ["Nowhere/Land", "Europe", "AAA", "EST25", "EST5EDT,M13.1.1,M1.1.1", "../passwd", "a\0b", " ", "É5"],
)
def test_there_is_no_such_zone(name: str) -> None:
    with pytest.raises(TimeSpecError, match="no such time zone") as caught:
        resolve_zone(name)
    assert "Europe/Berlin" in str(caught.value)


@given(name=st.text(max_size=12) | st.text("ESTD05<>+-,.:/MJ", max_size=16))
def test_no_zone_is_found_or_the_one_error_is_raised(name: str) -> None:
    try:
        zone = resolve_zone(name)
    except TimeSpecError:
        return
    assert datetime(2024, 5, 1, tzinfo=zone).utcoffset() is not None
