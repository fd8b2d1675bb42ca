"""Identifiers with their qualifiers: which test ``src net 10`` or ``ip6 proto 58`` asks for."""

from __future__ import annotations

from pcap2arrow.errors import FilterError
from queries.filters.generate import bind, link_hosts
from queries.filters.generate.bind import Network
from queries.filters.generate.code import Code, some
from queries.filters.generate.network import is_in_network
from queries.filters.generate.protocols import is_in_chain, is_numbered
from queries.filters.generate.state import State
from queries.filters.generate.transport import has_ports
from queries.filters.language.terms import Identifier

_PORT_KINDS = ("port", "portrange")
_PROTOCOL_KINDS = ("proto", "protochain")
_OTHER_VERSIONS = {4: ("ip6",), 6: ("ip", "arp", "rarp")}
"""Protocols that have no addresses of an IP version."""


def is_identified(state: State, identifier: Identifier) -> Code:
    """The test for an identifier, by its form; a host where no kind is said."""
    match identifier.form:
        case "name":
            return _named(state, identifier)
        case "number":
            return _numbered(state, identifier)
        case "ipv4":
            return _ipv4(state, identifier)
        case "ipv6":
            return _ipv6(state, identifier)
        case "mac":
            return _mac(state, identifier)
    return _arcnet(state, identifier)


def _named(state: State, identifier: Identifier) -> Code:
    kind, protocol, direction = _qualifiers(identifier)
    name = identifier.text
    if kind == "net":
        return _in_network(state, bind.named_network(name, state.names), identifier)
    if kind in _PORT_KINDS:
        return has_ports(state, bind.ports(identifier), direction, kind)
    if kind == "gateway":
        raise FilterError("'gateway' not supported in this configuration")
    if kind in _PROTOCOL_KINDS:
        return _of_protocol(state, bind.protocol_number(name, protocol), identifier)
    if protocol == "link":
        host_kind = link_hosts.kind_of_host(state)
        return link_hosts.is_host(state, bind.named_mac(name, state.names, kind=host_kind), direction)
    if protocol == "decnet":
        raise FilterError(f"decnet name support not included, '{name}' cannot be translated\n")
    return _is_named_host(state, name, identifier)


def _is_named_host(state: State, name: str, identifier: Identifier) -> Code:
    """A host with any of its addresses of the versions that the protocol has."""
    protocol = identifier.qualifiers.protocol
    addresses = bind.host(name, state.names)
    if not addresses:
        raise FilterError(f"unknown host '{name}'")
    hosts = []
    for address in addresses:
        version, bits = address.version, address.max_prefixlen
        if protocol in _OTHER_VERSIONS[version]:
            continue
        own = "ip" if version == 4 else "ip6"
        headers = own if protocol is None and not state.has_type_field() else protocol
        network = Network(version, int(address), (1 << bits) - 1)
        hosts.append(is_in_network(state, network, headers, identifier.qualifiers.direction, "host"))
    if not hosts:
        raise FilterError(f"unknown host '{name}' for specified address family")
    return some(*hosts)


def _numbered(state: State, identifier: Identifier) -> Code:
    kind, protocol, direction = _qualifiers(identifier)
    number = identifier.number
    assert number is not None
    if kind in _PORT_KINDS:
        return has_ports(state, bind.ports(identifier), direction, kind)
    if kind == "gateway":
        raise FilterError("'gateway' requires a name")
    if kind in _PROTOCOL_KINDS:
        return _of_protocol(state, number, identifier)
    is_network = kind == "net" and protocol != "decnet"
    network = bind.numbered_network(number) if is_network else Network(4, number, 0xFFFF_FFFF)
    return _in_network(state, network, identifier)


def _ipv4(state: State, identifier: Identifier) -> Code:
    kind, protocol, direction = _qualifiers(identifier)
    if identifier.prefix is not None or identifier.mask is not None:
        network = bind.ipv4_network(identifier)
        if kind != "net":
            raise FilterError("Mask syntax for networks only")
        return is_in_network(state, network, protocol, direction, kind)
    if kind in (*_PORT_KINDS, *_PROTOCOL_KINDS):
        raise FilterError(f"'{kind}' modifier applied to ip host")
    network = (
        Network(4, bind.decnet(identifier.text), 0) if protocol == "decnet" else bind.ipv4_network(identifier)
    )
    if kind == "gateway":
        raise FilterError("'gateway' requires a name")
    return _in_network(state, network, identifier)


def _ipv6(state: State, identifier: Identifier) -> Code:
    kind, protocol, direction = _qualifiers(identifier)
    network = bind.ipv6_network(identifier)
    if kind == "host" and identifier.prefix not in (None, 128):
        raise FilterError("Mask syntax for networks only")
    if kind not in ("host", "net"):
        raise FilterError("invalid qualifier against IPv6 address")
    return is_in_network(state, network, protocol, direction, kind)


def _mac(state: State, identifier: Identifier) -> Code:
    kind, protocol, direction = _qualifiers(identifier)
    if kind != "host" or protocol != "link":
        raise FilterError("ethernet address used in non-ether expression")
    return link_hosts.is_host(state, bind.mac(identifier.text), direction)


def _arcnet(state: State, identifier: Identifier) -> Code:
    kind, protocol, direction = _qualifiers(identifier)
    if state.link.family != "arcnet":
        raise FilterError("aid supported only on ARCnet")
    if kind != "host" or protocol != "link":
        raise FilterError("ARCnet address used in non-arc expression")
    return link_hosts.is_arcnet_host(state, bind.arcnet(identifier.text), direction)


def _qualifiers(identifier: Identifier) -> tuple[str, str | None, str | None]:
    """Kind, protocol and direction."""
    qualifiers = identifier.qualifiers
    return qualifiers.kind or "host", qualifiers.protocol, qualifiers.direction


def _in_network(state: State, network: Network, identifier: Identifier) -> Code:
    kind, protocol, direction = _qualifiers(identifier)
    if protocol == "link" and identifier.form != "name":
        raise FilterError("illegal link layer address")
    return is_in_network(state, network, protocol, direction, kind)


def _of_protocol(state: State, number: int, identifier: Identifier) -> Code:
    kind, protocol, direction = _qualifiers(identifier)
    if kind == "protochain":
        return is_in_chain(state, number, protocol)
    if direction is not None:
        raise FilterError("direction applied to 'proto'")
    return is_numbered(state, number, protocol)
