"""Hosts and networks of network headers: IPv4, ARP, RARP, IPv6 and DECnet; IP broadcast and multicast."""

from __future__ import annotations

from pcap2arrow.errors import FilterError
from queries.filters.generate import numbers
from queries.filters.generate.bind import Network
from queries.filters.generate.code import Check, Code, equal, every, some
from queries.filters.generate.directions import by_direction, refuse_wlan_directions
from queries.filters.generate.link import carries
from queries.filters.generate.state import State
from queries.filters.program import Constant

_UNKNOWN_NETMASK = 0xFFFF_FFFF
_IPV4_PLACES = {"ip": (numbers.IP, 12, 16), "arp": (numbers.ARP, 14, 24), "rarp": (numbers.RARP, 14, 24)}
"""The EtherType, and where source and destination are in the header."""

_NO_HOSTS = {
    "atalk": "AppleTalk",
    "lat": "LAT",
    "sca": "SCA",
    "moprc": "MOPRC",
    "mopdl": "MOPDL",
    "aarp": "AARP",
    "iso": "ISO",
    "ipx": "IPX",
}


def is_in_network(
    state: State, network: Network, protocol: str | None, direction: str | None, kind: str
) -> Code:
    """Whether a packet is from or to a network (or host: ``kind``), by the headers of a protocol, None: of any."""
    if network.version == 6:
        return _is_in_ipv6(state, network, protocol, direction, kind)
    if protocol is None:
        headers = ("ip",) if state.labels else ("ip", "arp", "rarp")
        return some(*(_is_in_ipv4(state, network, header, direction) for header in headers))
    if protocol in _IPV4_PLACES:
        return _is_in_ipv4(state, network, protocol, direction)
    if protocol == "decnet":
        return is_decnet_host(state, network.address, direction)
    if protocol == "link":
        raise FilterError(f"link-layer modifier applied to {kind}")
    if protocol == "ip6":
        raise FilterError("'ip6' modifier applied to ip host")
    if protocol in _NO_HOSTS:
        raise FilterError(f"{_NO_HOSTS[protocol]} host filtering not implemented")
    raise FilterError(f"'{protocol}' modifier applied to {kind}")


def is_decnet_host(state: State, address: int, direction: str | None) -> Code:
    """Whether a DECnet packet is from or to a node; numbers stand in it little end first, after 0 or 1 fillers."""
    _refuse_wlan_directions(direction)
    return by_direction(
        direction,
        lambda: _is_decnet_at(state, address, long_at=15, short_at=3),
        lambda: _is_decnet_at(state, address, long_at=7, short_at=1),
    )


def is_ip_broadcast(state: State) -> Code:
    """Whether an IPv4 packet is to the first or last address of the network that the netmask says."""
    if state.netmask == _UNKNOWN_NETMASK:
        raise FilterError("netmask not known, so 'ip broadcast' not supported")
    hosts = ~state.netmask & 0xFFFF_FFFF
    is_ip = carries(state, numbers.IP)
    either = some(*(equal(state.network_load(16, 4), address, hosts) for address in (0, hosts)))
    return every(is_ip, either)


def is_ip_multicast(state: State) -> Code:
    """Whether an IPv4 packet is to 224.0.0.0 or any greater address."""
    return every(carries(state, numbers.IP), Check(state.network_load(16, 1), ">=", Constant(0xE0)))


def is_ip6_multicast(state: State) -> Code:
    """Whether an IPv6 packet is to ff00::/8."""
    return every(carries(state, numbers.IP6), equal(state.network_load(24, 1), 0xFF))


def _is_in_ipv4(state: State, network: Network, header: str, direction: str | None) -> Code:
    _refuse_wlan_directions(direction)
    ethertype, source, destination = _IPV4_PLACES[header]

    def there(offset: int) -> Code:
        return every(
            carries(state, ethertype), equal(state.network_load(offset, 4), network.address, network.mask)
        )

    return by_direction(direction, lambda: there(source), lambda: there(destination))


def _is_in_ipv6(
    state: State, network: Network, protocol: str | None, direction: str | None, kind: str
) -> Code:
    if protocol not in (None, "ip6"):
        what = {"link": "link-layer", "atalk": "AppleTalk"}.get(protocol or "", f"'{protocol}'")
        raise FilterError(f"{what} modifier applied to ip6 {kind}")
    _refuse_wlan_directions(direction)

    def there(offset: int) -> Code:
        # code for the address comes first, as in libpcap, which takes registers in that order
        words = [
            equal(state.network_load(offset + 4 * k, 4), _word(network.address, k), _word(network.mask, k))
            for k in range(4)
        ]
        return every(carries(state, numbers.IP6), *words)

    return by_direction(direction, lambda: there(8), lambda: there(24))


def _word(number: int, place: int) -> int:
    """One of the four words of an IPv6 address."""
    return number >> 96 - 32 * place & 0xFFFF_FFFF


def _refuse_wlan_directions(direction: str | None) -> None:
    others = "for addresses other than 802.11 MAC addresses"
    refuse_wlan_directions(direction, f"not valid qualifiers {others}", f"not a valid qualifier {others}")


def _is_decnet_at(state: State, address: int, *, long_at: int, short_at: int) -> Code:
    swapped = int.from_bytes((address & 0xFFFF).to_bytes(2), "little")

    def form(flags: int, address_at: int, *, filled: bool) -> Code:
        if filled:
            has_flags = equal(state.network_load(2, 2), 0x8100 | flags, 0xFF07)
        else:
            has_flags = equal(state.network_load(2, 1), flags, 0x07)
        return every(has_flags, equal(state.network_load(2 + filled + address_at, 2), swapped))

    is_decnet = carries(state, numbers.DECNET)
    long, short = 0x06, 0x02
    forms = (
        form(short, short_at, filled=False),
        form(short, short_at, filled=True),
        form(long, long_at, filled=False),
        form(long, long_at, filled=True),
    )
    return every(is_decnet, some(*forms))
