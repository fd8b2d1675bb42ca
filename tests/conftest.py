"""Fixtures and settings of the whole suite: the shared corpus, the real tools, time zone, Hypothesis."""

from __future__ import annotations

import csv
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"

DEBIAN_PACKAGES = {
    "tcpdump": "tcpdump",
    "tcpslice": "tcpslice",
    "tcpflow": "tcpflow",
    "tshark": "tshark",
    "capinfos": "tshark",
    "editcap": "tshark",
    "sharkd": "tshark",
    "mergecap": "tshark",
    "openssl": "openssl",
    "shellcheck": "shellcheck",
}
"""The Debian package that a tool comes from (capinfos, editcap and mergecap: a dependency of tshark)."""

_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile(
    "default", derandomize=True, max_examples=25, deadline=None, suppress_health_check=_SLOW_IS_FINE
)
settings.register_profile(
    "thorough", max_examples=2000, deadline=None, print_blob=True, suppress_health_check=_SLOW_IS_FINE
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# The command is started hundreds of times: compiled each time, it would take three times as long to start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

os.environ["TZ"] = "UTC"
time.tzset()


@dataclass(frozen=True, slots=True)
class CorpusCapture:
    """One row of the corpus' MANIFEST.tsv: what independent tools say about a capture.

    ``packets`` counts whole records; ``first_ns`` and ``last_ns`` are the times of the first and last record,
    integer nanoseconds since 1970 rounded down, None where no packet has a time.  ``packets_tcpdump`` is how
    many packets ``tcpdump -r`` prints before it ends with ``tcpdump_rc``; ``packets_capinfos`` is None where
    capinfos gives no count, and ``capinfos_failed`` tells that it ended with an error.  ``tcpdump_error`` and
    ``structure_note`` are empty where there is nothing to say.
    """

    name: str
    path: Path
    sha256: str
    size: int
    format: str
    byte_order: str
    time_resolution: str
    link_types: frozenset[int]
    packets: int
    first_ns: int | None
    last_ns: int | None
    time_digits: int
    snap_length: int
    cut_packets: int
    sections: int
    interfaces: int
    time_ordered: bool | None
    tcpdump_rc: int
    packets_tcpdump: int
    packets_capinfos: int | None
    capinfos_failed: bool
    tcpdump_error: str
    structure_note: str

    @property
    def is_capture(self) -> bool:
        """Whether the file is a pcap or pcapng capture at all."""
        return self.format != "other"

    @property
    def sound(self) -> bool:
        """Whether tcpdump or capinfos (Wireshark's reader) reads the file to its end without error."""
        tcpdump_reads = self.tcpdump_rc == 0 and self.packets_tcpdump == self.packets
        wireshark_reads = not self.capinfos_failed and self.packets_capinfos == self.packets
        return self.is_capture and (tcpdump_reads or wireshark_reads)


def _nanoseconds(text: str) -> int | None:
    if text == "-":
        return None
    seconds, _, fraction = text.partition(".")
    return int(seconds) * 10**9 + int(fraction[:9].ljust(9, "0"))


def _corpus_capture(row: dict[str, str], corpus: Path) -> CorpusCapture:
    text = {key: "" if value == "-" else value for key, value in row.items()}
    counted = text["packets_capinfos"].rstrip("!")
    return CorpusCapture(
        name=row["path"],
        path=corpus / row["path"],
        sha256=row["sha256"],
        size=int(row["size"]),
        format=row["format"],
        byte_order=row["endianness"],
        time_resolution=row["ts_resolution"],
        link_types=frozenset(int(word) for word in text["linktype"].split(",") if word),
        packets=int(row["packets"]),
        first_ns=_nanoseconds(row["first_ts"]),
        last_ns=_nanoseconds(row["last_ts"]),
        time_digits=len(row["first_ts"].partition(".")[2]),
        snap_length=int(text["snaplen"] or 0),
        cut_packets=int(row["truncated_packets"]),
        sections=int(row["sections"]),
        interfaces=int(row["interfaces"]),
        time_ordered=bool(int(text["time_ordered"])) if text["time_ordered"] else None,
        tcpdump_rc=int(row["tcpdump_rc"]),
        packets_tcpdump=int(row["packets_tcpdump"]),
        packets_capinfos=int(counted) if counted else None,
        capinfos_failed=text["packets_capinfos"].endswith("!"),
        tcpdump_error=text["tcpdump_error"],
        structure_note=text["structure_note"],
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests marked 'long' too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests marked ``long``, unless ``--long`` or ``-m`` asks for them."""
    if config.getoption("--long") or "long" in (config.getoption("-m") or ""):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("long")]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ``shared`` beside the project's root; tests that ask for it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the shared corpus in ../shared")
    return SHARED


@pytest.fixture(scope="session")
def corpus(shared: Path) -> Path:
    """The folder of real captures."""
    return shared / "corpus"


@pytest.fixture(scope="session")
def manifest(corpus: Path) -> list[CorpusCapture]:
    """What MANIFEST.tsv says about each capture of the corpus."""
    with (corpus / "MANIFEST.tsv").open(encoding="utf-8", newline="") as rows:
        reader = csv.DictReader(rows, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [_corpus_capture(row, corpus) for row in reader]


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """``tool("tcpdump")`` is the path of that program; the test skips where it is not installed."""

    def find(name: str) -> str:
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"needs {name}: apt-get install -y {DEBIAN_PACKAGES[name]}")
        return found

    return find
