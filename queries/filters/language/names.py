"""What names in filter expressions stand for: services and protocols by tables, hosts and networks by users' files.

The tables hold what a Debian 12 with the package netbase resolves (the names are IANA's and customary aliases), and
libpcap's own EtherTypes; no name service is ever asked.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Literal, TypeVar

from pcap2arrow.errors import UsageError

Transport = Literal["tcp", "udp"]
Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Service:
    """A port, and the one transport that its name is for; None where it is for TCP and UDP."""

    port: int
    transport: Transport | None


@dataclass(frozen=True, slots=True)
class PortRange:
    """Two ports, in any order and of any size, and the one transport that their names are for, None for any."""

    first: int
    last: int
    transport: Transport | None


_LARGEST_LONG = (1 << 63) - 1


def service(name: str) -> Service | None:
    """The service of that name, None where it is unknown; as libpcap asks for them: TCP's and UDP's alone.

    A decimal number that stands for a name (``port \\80``) is its lowest 16 bits.
    """
    if re.fullmatch("[-+]?[0-9]{1,19}", name):
        number = int(name)
        return Service(number & 0xFFFF, None) if 0 <= number < _LARGEST_LONG else None
    return _services().get(name)


def port_range(text: str) -> PortRange | None:
    """The ports of ``text``, as in ``portrange 6000-6008`` or ``portrange ftp-http``; None where a name is unknown.

    What follows two numbers is not looked at; names with a hyphen have no place in it.
    """
    numbers = re.match("([-+]?[0-9]{1,19})-([-+]?[0-9]{1,19})", text)
    if numbers:
        return PortRange(int(numbers[1]), int(numbers[2]), None)
    name, _, other = text.partition("-")
    first, last = service(name), service(other)
    if first is None or last is None:
        return None
    transport = first.transport if first.transport == last.transport else None
    return PortRange(first.port, last.port, transport)


def ip_protocol(name: str) -> int | None:
    """The number of that protocol over IP, None where it is unknown."""
    return _ip_protocols().get(name)


_ETHER_TYPES = {
    "ip": 0x0800,
    "ip6": 0x86DD,
    "arp": 0x0806,
    "rarp": 0x8035,
    "atalk": 0x809B,
    "aarp": 0x80F3,
    "mopdl": 0x6001,
    "moprc": 0x6002,
    "decnet": 0x6003,
    "lat": 0x6004,
    "sca": 0x6007,
    "loopback": 0x9000,
}
_LLC_SAPS = {"iso": 0xFE, "stp": 0x42, "ipx": 0xE0, "netbeui": 0xF0}
_OSI_PROTOCOLS = {"clnp": 0x81, "esis": 0x82, "isis": 0x83}


def ether_type(name: str) -> int | None:
    """The EtherType of that name, None where it is unknown."""
    return _ETHER_TYPES.get(name)


def llc_sap(name: str) -> int | None:
    """The service access point of LLC (IEEE 802.2) of that name, None where it is unknown."""
    return _LLC_SAPS.get(name)


def osi_protocol(name: str) -> int | None:
    """The network layer protocol identifier (ISO/IEC TR 9577) of that name, None where it is unknown."""
    return _OSI_PROTOCOLS.get(name)


@functools.cache
def _services() -> Mapping[str, Service]:
    found: dict[str, Service] = {}
    for port, transports, names in _rows("services.tsv"):
        transport: Transport | None = None if " " in transports else "tcp" if transports == "tcp" else "udp"
        for name in names.split():
            found.setdefault(name, Service(int(port), transport))
    return found


@functools.cache
def _ip_protocols() -> Mapping[str, int]:
    return {name: int(number) for number, names in _rows("protocols.tsv") for name in names.split()}


def _rows(file: str) -> Iterator[list[str]]:
    lines = files(__package__).joinpath(file).read_text(encoding="utf-8").splitlines()
    return (line.split("\t") for line in lines[1:])


@dataclass(frozen=True, slots=True)
class Names:
    """Names that differ from site to site, all in lower case.

    ``hosts`` are addresses by name, ``networks`` IPv4 addresses as numbers, ``ethers`` MAC addresses as numbers.
    """

    hosts: Mapping[str, tuple[Address, ...]]
    networks: Mapping[str, int]
    ethers: Mapping[str, int]

    @classmethod
    def empty(cls) -> Names:
        """No names at all."""
        return cls({}, {}, {})

    @classmethod
    def customary(cls) -> Names:
        """Those that every Debian 12 has: the networks ``loopback`` and ``link-local``."""
        return cls({}, {"default": 0, "loopback": 127 << 24, "link-local": 169 << 24 | 254 << 16}, {})

    def host(self, name: str) -> tuple[Address, ...]:
        """The addresses of a host, in any case of letters; none where it is unknown."""
        return self.hosts.get(name.lower(), ())

    def network(self, name: str) -> int | None:
        """The address of a network, in any case of letters, None where it is unknown."""
        return self.networks.get(name.lower())

    def ether(self, name: str) -> int | None:
        """The MAC address of a host, in any case of letters, None where it is unknown."""
        return self.ethers.get(name.lower())


def read_names(
    *, hosts: str | Path | None = None, networks: str | Path | None = None, ethers: str | Path | None = None
) -> Names:
    """The customary names, and those of files like /etc/hosts, /etc/networks and /etc/ethers, which come first.

    Raises :class:`UsageError` that names file and line.
    """
    return Names(
        read_hosts(hosts) if hosts else {},
        {**Names.customary().networks, **(read_networks(networks) if networks else {})},
        read_ethers(ethers) if ethers else {},
    )


def read_hosts(path: str | Path) -> dict[str, tuple[Address, ...]]:
    """Read hosts as in /etc/hosts (an address, names): addresses by names in lower case, in the file's order.

    Raises :class:`UsageError` that names file and line.
    """
    hosts: dict[str, tuple[Address, ...]] = {}
    for place, (address, *names) in _fields(path):
        value = _converted(ip_address, address, "an IP address", place)
        for name in _named(names, place):
            known = hosts.get(name, ())
            hosts[name] = known if value in known else (*known, value)
    return hosts


def read_networks(path: str | Path) -> dict[str, int]:
    """Read networks as in /etc/networks (a name, an IPv4 address, aliases): numbers by names in lower case.

    Octets left out at an address's end are 0.  Raises :class:`UsageError` that names file and line.
    """
    networks: dict[str, int] = {}
    for place, (name, *others) in _fields(path):
        address, *aliases = others or [""]
        value = _converted(_network, address, "an IPv4 network after the name", place)
        for each in _named([name, *aliases], place):
            networks.setdefault(each, value)
    return networks


def read_ethers(path: str | Path) -> dict[str, int]:
    """Read MAC addresses as in /etc/ethers (an address, a name): 48-bit numbers by names in lower case.

    Raises :class:`UsageError` that names file and line.
    """
    ethers: dict[str, int] = {}
    for place, (address, *names) in _fields(path):
        value = _converted(_mac, address, "a MAC address", place)
        for name in _named(names, place):
            ethers.setdefault(name, value)
    return ethers


def _fields(path: str | Path) -> Iterator[tuple[str, list[str]]]:
    """The fields of each line that has some, after the line's place; comments begin with #."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"can't read the names in {path}: {error}") from error
    for number, line in enumerate(text.split("\n"), start=1):
        fields = line.partition("#")[0].split()
        if fields:
            yield f"{path}: line {number}", fields


_Value = TypeVar("_Value")


def _converted(convert: Callable[[str], _Value], text: str, expected: str, place: str) -> _Value:
    try:
        return convert(text)
    except ValueError:
        raise UsageError(f"{place}: expected {expected}, found {text!r}") from None


def _named(names: list[str], place: str) -> list[str]:
    if not names:
        raise UsageError(f"{place}: expected a name after the address")
    return [name.lower() for name in names]


def _network(text: str) -> int:
    octets = text.split(".")
    return int(IPv4Address(".".join(octets + ["0"] * (4 - len(octets)))))


def _mac(text: str) -> int:
    if not re.fullmatch("[0-9A-Fa-f]{1,2}(:[0-9A-Fa-f]{1,2}){5}", text):
        raise ValueError(text)
    return int("".join(octet.zfill(2) for octet in text.split(":")), 16)
