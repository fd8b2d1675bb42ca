"""What names in filter expressions stand for: by the tables, as libpcap resolves them, and by files of users."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from pcap2arrow.errors import UsageError
from queries.filters.language import names
from queries.filters.language.names import Names, read_ethers, read_hosts, read_names, read_networks
from tests.expressions import case_rows
from tests.oracles import libpcap


def _service(name: str) -> str:
    found = names.service(name)
    return "-" if found is None else f"{found.port} {found.transport or ''}".strip()


def _port_range(text: str) -> str:
    found = names.port_range(text)
    return "-" if found is None else f"{found.first} {found.last} {found.transport or ''}".strip()


def _number(lookup: Callable[[str], int | None]) -> Callable[[str], str]:
    return lambda name: "-" if (found := lookup(name)) is None else str(found)


LOOKUPS: dict[str, Callable[[str], str]] = {
    "service": _service,
    "port range": _port_range,
    "ip protocol": _number(names.ip_protocol),
    "ether type": _number(names.ether_type),
    "llc sap": _number(names.llc_sap),
    "osi protocol": _number(names.osi_protocol),
}


@pytest.mark.parametrize(("kind", "name", "value"), case_rows("names.tsv"))
def test_names(kind: str, name: str, value: str) -> None:
    assert LOOKUPS[kind](name) == value


# Against libpcap


def _debian() -> str:
    release = Path("/etc/debian_version")
    return release.read_text(encoding="ascii").strip() if release.exists() else ""


def _missing() -> str | None:
    """Why libpcap can't be asked for names here, None if it can."""
    if not _debian().startswith("12") or not Path("/etc/services").exists():
        return "needs a Debian 12 with netbase: apt-get install -y netbase"
    return libpcap.missing()


resolves = pytest.mark.skipif(bool(_missing()), reason=str(_missing()))


def _code(text: str) -> list[tuple[int, int, int, int]] | str:
    try:
        return libpcap.compile(text).instructions
    except libpcap.RefusedError as error:
        return str(error)


def _named(path: str, field: int) -> list[str]:
    """All names in a file such as /etc/services: the first word, and those after the field of that number."""
    lines = Path(path).read_text(encoding="ascii").splitlines()
    fields = [line.partition("#")[0].split() for line in lines]
    return sorted({name for each in fields if each for name in (each[0], *each[field + 1 :])})


@resolves
def test_libpcap_knows_the_same_services() -> None:
    known = _named("/etc/services", 1)
    assert len(known) > 300
    for name in known:
        found = names.service(name)
        words = "" if found is None else f"{found.transport or ''} port {found.port}"
        assert _code(f"port \\{name}") == (_code(words) if found else f"unknown port '{name}'")


@resolves
def test_libpcap_knows_the_same_protocols() -> None:
    known = _named("/etc/protocols", 1)
    assert len(known) > 100
    assert {name: _code(f"ip proto \\{name}") for name in known} == {
        name: _code(f"ip proto {names.ip_protocol(name)}") for name in known
    }


@resolves
@pytest.mark.parametrize(
    ("lookup", "words"), [(names.ether_type, "ether"), (names.llc_sap, "ether"), (names.osi_protocol, "iso")]
)
def test_libpcap_knows_the_same_link_protocols(lookup: Callable[[str], int | None], words: str) -> None:
    candidates = (
        "ip ip6 arp rarp atalk aarp mopdl moprc decnet lat sca loopback iso stp ipx netbeui clnp esis isis"
    )
    known = [name for name in candidates.split() if lookup(name) is not None]
    assert len(known) in (12, 4, 3)
    for name in known:
        assert _code(f"{words} proto \\{name}") == _code(f"{words} proto {lookup(name)}")
    unknown = [*(name.upper() for name in candidates.split()), "es-is", "vlan", "mpls", "ipv6", "pup", "lldp"]
    for name in unknown:
        assert lookup(name) is None
        assert "unknown" in _code(f"{words} proto \\{name}")


@resolves
@pytest.mark.parametrize("text", [name for kind, name, _ in case_rows("names.tsv") if kind == "port range"])
def test_libpcap_reads_the_same_port_ranges(text: str) -> None:
    found = names.port_range(text)
    if found is None:
        assert _code(f"portrange \\{text}") == f"unknown port in range '{text}'"
    else:
        words = f"{found.transport or ''} portrange \\{found.first}-{found.last}"
        assert _code(f"portrange \\{text}") == _code(words)


# Files of users


def test_hosts(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text(
        "# comment\n10.0.0.1 Alpha a.example # more\n\n::1\tlocalhost\n10.0.0.2  alpha\n10.0.0.1 alpha\n"
    )
    assert read_hosts(file) == {
        "alpha": (IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")),
        "a.example": (IPv4Address("10.0.0.1"),),
        "localhost": (IPv6Address("::1"),),
    }


def test_networks(tmp_path: Path) -> None:
    file = tmp_path / "networks"
    file.write_text("loopback 127.0.0.0\nOffice 192.168 lan bureau\nten 10\n")
    assert read_networks(file) == {
        "loopback": 0x7F000000,
        "office": 0xC0A80000,
        "lan": 0xC0A80000,
        "bureau": 0xC0A80000,
        "ten": 0x0A000000,
    }


def test_ethers(tmp_path: Path) -> None:
    file = tmp_path / "ethers"
    file.write_text("00:11:22:33:44:55 Printer\n0:1:2:3:4:f router\n")
    assert read_ethers(file) == {"printer": 0x001122334455, "router": 0x00010203040F}


@pytest.mark.parametrize(
    ("read", "line", "fault"),
    [
        (read_hosts, "10.0.0.256 x", "expected an IP address, found '10.0.0.256'"),
        (read_hosts, "10.0.0.1 # x", "expected a name after the address"),
        (read_networks, "lan", "expected an IPv4 network after the name, found ''"),
        (read_networks, "lan 10.0.0.0.0", "expected an IPv4 network after the name, found '10.0.0.0.0'"),
        (read_networks, "lan fe80::", "expected an IPv4 network after the name, found 'fe80::'"),
        (read_ethers, "00:11:22:33:44 x", "expected a MAC address, found '00:11:22:33:44'"),
        (read_ethers, "00:11:22:33:44:55", "expected a name after the address"),
    ],
)
def test_faulty_lines_are_told(read: Callable[[Path], object], line: str, fault: str, tmp_path: Path) -> None:
    file = tmp_path / "names"
    file.write_text(f"# first\n{line}\n")
    with pytest.raises(UsageError) as caught:
        read(file)
    assert str(caught.value) == f"{file}: line 2: {fault}"


@pytest.mark.parametrize("read", [read_hosts, read_networks, read_ethers])
def test_unreadable_files_are_told(read: Callable[[Path], object], tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path in (tmp_path / "missing", binary):
        with pytest.raises(UsageError) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_names_are_looked_up_in_any_case() -> None:
    known = Names({"alpha": (ip_address("::1"),)}, {"lan": 5}, {"printer": 7})
    assert (known.host("ALPHA"), known.network("Lan"), known.ether("Printer")) == (
        (IPv6Address("::1"),),
        5,
        7,
    )
    assert (known.host("beta"), known.network("beta"), known.ether("beta")) == ((), None, None)


def test_customary_names() -> None:
    assert Names.empty().network("loopback") is None
    assert Names.customary().network("loopback") == 0x7F000000
    assert Names.customary().network("link-local") == 0xA9FE0000
    assert Names.customary().host("localhost") == ()


def test_names_of_files_join_the_customary_ones(tmp_path: Path) -> None:
    hosts, networks = tmp_path / "hosts", tmp_path / "networks"
    hosts.write_text("10.0.0.1 alpha\n")
    networks.write_text("lan 10.1\nloopback 127.1\n")
    known = read_names(hosts=hosts, networks=networks)
    assert known == Names(
        {"alpha": (IPv4Address("10.0.0.1"),)},
        {"default": 0, "loopback": 0x7F010000, "link-local": 0xA9FE0000, "lan": 0x0A010000},
        {},
    )
    assert read_names() == Names.customary()
