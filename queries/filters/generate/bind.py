"""What identifiers of filter expressions stand for: addresses, networks, ports and protocol numbers.

Texts are read as libpcap 1.10.3 reads them, which is not always how addresses are usually written; all functions raise
:class:`FilterError` with its reasons.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from pcap2arrow.errors import FilterError
from queries.filters.language import names as tables
from queries.filters.language.names import Address, Names
from queries.filters.language.terms import Identifier

_ALL_IPV4, _ALL_IPV6 = (1 << 32) - 1, (1 << 128) - 1
_LARGEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Network:
    """All addresses of one IP version that are ``address`` in the bits of ``mask``."""

    version: int
    address: int
    mask: int


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports from ``first`` to ``last``; of ``transport`` (its number) alone, None: TCP, UDP and SCTP."""

    first: int
    last: int
    transport: int | None


_TRANSPORTS = {"tcp": 6, "udp": 17, "sctp": 132}


def ipv4_network(identifier: Identifier) -> Network:
    """An IPv4 address with as many octets as are written, with a mask length, or with a mask after ``mask``."""
    address, bits = _ipv4(identifier.text)
    if identifier.mask is not None:
        mask = _ipv4(identifier.mask)[0]
        written = f"{identifier.text} mask {identifier.mask}"
    elif identifier.prefix is not None:
        if identifier.prefix > 32:
            raise FilterError("mask length must be <= 32")
        mask = _ALL_IPV4 << 32 - identifier.prefix & _ALL_IPV4
        written = f"{identifier.text}/{identifier.prefix}"
    else:
        return Network(4, address, _ALL_IPV4 << 32 - bits & _ALL_IPV4)
    if address & ~mask:
        raise FilterError(f'non-network bits set in "{written}"')
    return Network(4, address, mask)


def ipv6_network(identifier: Identifier) -> Network:
    """An IPv6 address, perhaps with a mask length."""
    address = int(IPv6Address(identifier.text))
    length = 128 if identifier.prefix is None else identifier.prefix
    if length > 128:
        raise FilterError("mask length must be <= 128")
    mask = _ALL_IPV6 << 128 - length & _ALL_IPV6
    if address & ~mask:
        raise FilterError(f'non-network bits set in "{identifier.text}/{length}"')
    return Network(6, address, mask)


def numbered_network(number: int) -> Network:
    """The network that a number after ``net`` is: as many octets as it has, at the address' start."""
    mask = _ALL_IPV4
    while number and number < 1 << 24:
        number, mask = number << 8, mask << 8 & _ALL_IPV4
    return Network(4, number, mask)


def named_network(name: str, names: Names) -> Network:
    """The network of a name."""
    number = names.network(name)
    if not number:
        raise FilterError(f"unknown network '{name}'")
    return numbered_network(number)


def host(name: str, names: Names) -> tuple[Address, ...]:
    """The addresses of a host's name, which may be an IPv4 address, written in any way that C's libraries know."""
    try:
        return (IPv4Address(socket.inet_aton(name)),)
    except (OSError, ValueError):
        return names.host(name)


def mac(text: str) -> bytes:
    """The six octets of a MAC address, in any of its forms."""
    return bytes(int(octet, 16) for octet in re.findall("[0-9A-Fa-f]{1,2}", text))


def named_mac(name: str, names: Names, *, kind: str) -> bytes:
    """The MAC address of a host's name; ``kind`` says what host."""
    number = names.ether(name)
    if number is None:
        raise FilterError(f"unknown {kind} host '{name}'")
    return number.to_bytes(6)


def arcnet(text: str) -> int:
    """An ARCNET address, of which libpcap reads the dollar sign as its first digit, and the first digit as the last."""
    return 0xD0 | int(text[1], 16)


def decnet(text: str) -> int:
    """A DECnet address: area and node, with a dot between them."""
    match = re.match(r"(\d+)\.(\d+)", text, re.ASCII)
    if match is None:
        raise FilterError(f"malformed decnet address '{text}'")
    # 20 significant digits are more than 64 bits hold, and stand for any more
    area, node = (_signed(int(digits.lstrip("0")[:20] or "0")) for digits in match.groups())
    return area << 10 & 0o176000 | node & 0o1777


def ports(identifier: Identifier) -> Ports:
    """The ports of an identifier after ``port`` or ``portrange``, a number or name."""
    kind, protocol = identifier.qualifiers.kind, identifier.qualifiers.protocol
    if protocol is not None and protocol not in _TRANSPORTS:
        raise FilterError(f"illegal qualifier of '{kind}'")
    if identifier.number is not None:
        found = tables.PortRange(identifier.number, identifier.number, None)
    elif kind == "port":
        found = _service(identifier.text)
    else:
        named = tables.port_range(identifier.text)
        if named is None:
            raise FilterError(f"unknown port in range '{identifier.text}'")
        found = tables.PortRange(_signed(named.first), _signed(named.last), named.transport)
    if protocol is not None and found.transport not in (None, protocol):
        what = "port" if kind == "port" else "port in range"
        raise FilterError(f"{what} '{identifier.text}' is {found.transport}")
    for port in (found.first, found.last):
        if port < 0:
            raise FilterError(f"illegal port number {port} < 0")
        if port > _LARGEST_PORT:
            raise FilterError(f"illegal port number {port} > {_LARGEST_PORT}")
    transport = protocol or found.transport
    return Ports(found.first, found.last, None if transport is None else _TRANSPORTS[transport])


def _service(name: str) -> tables.PortRange:
    service = tables.service(name)
    if service is None:
        raise FilterError(f"unknown port '{name}'")
    return tables.PortRange(service.port, service.port, service.transport)


def _signed(number: int) -> int:
    """What C reads into 32 bits with a sign, by way of 64."""
    return (min(number, (1 << 63) - 1) + (1 << 31) & _ALL_IPV4) - (1 << 31)


def protocol_number(name: str, protocol: str | None) -> int:
    """The number of a protocol's name after ``proto`` or ``protochain`` of another protocol (None: IP)."""
    if protocol in (None, "ip", "ip6"):
        number, what = tables.ip_protocol(name), "ip proto"
    elif protocol == "link":
        number, what = tables.ether_type(name), "ether proto"
        number = tables.llc_sap(name) if number is None else number
    elif protocol == "iso":
        number, what = tables.osi_protocol(name), "osi proto"
    else:
        raise FilterError(f"unknown protocol: {name}")
    if number is None:
        raise FilterError(f"unknown {what} '{name}'")
    return number


def _ipv4(text: str) -> tuple[int, int]:
    """A dotted address, octets left out being those at its end, and how many bits are written."""
    address = 0
    octets = text.split(".")
    for octet in octets:
        digits = octet.lstrip("0") or "0"
        if not digits.isdecimal() or len(digits) > 3 or int(digits) > 255:
            raise FilterError(f"invalid IPv4 address '{text}'")
        address = address << 8 | int(digits)
    bits = 8 * len(octets)
    return address << 32 - bits, bits
