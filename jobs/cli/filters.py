"""Options that say which packets a verb takes, by filter expressions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import TYPE_CHECKING, Any, TypeVar

import click

from jobs.cli.options import checked
from pcap2arrow.errors import UsageError

if TYPE_CHECKING:
    from jobs.filters import FilterLine
    from queries.filters.compiled import Filter

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ChosenFilters:
    """What ``-f`` or ``--filters`` said: ``one`` filter, or the ``lines`` of a file; both None without either."""

    one: Filter | None = None
    lines: list[FilterLine] | None = None

    @property
    def filters(self) -> list[Filter]:
        """The filters to run: the one, or those of the lines that are no errors."""
        if self.one is not None:
            return [self.one]
        return [line.filter for line in self.lines or [] if not isinstance(line.filter, Exception)]


def filter_options(function: _F) -> _F:
    """``-f``, ``--filters``, and those of :func:`name_options`: what :func:`chosen_filters` takes."""
    expression = click.option(
        "-f",
        "--filter",
        "expression",
        metavar="EXPR",
        help="Only packets that this expression of pcap-filter(7) selects, such as 'tcp port 443'.",
    )
    filters = click.option(
        "--filters",
        "filters_file",
        metavar="FILE",
        help="A file with one expression per line; lines from # on are comments.",
    )
    return expression(filters(name_options(function)))


def name_options(function: _F) -> _F:
    """``--hosts``, ``--networks``, ``--ethers`` and ``--netmask``."""
    hosts = _names("hosts", "hosts", "an address, then names, as in /etc/hosts")
    networks = _names("networks", "networks", "a name, then an address, as in /etc/networks")
    ethers = _names("ethers", "Ethernet addresses", "an address, then a name, as in /etc/ethers")
    netmask = click.option(
        "--netmask",
        metavar="MASK",
        default="0.0.0.0",
        callback=checked(_netmask),
        help="What 'ip broadcast' goes by, such as 255.255.255.0.  [default: none, as tcpdump -r]",
    )
    return hosts(networks(ethers(netmask(function))))


def _names(option: str, what: str, lines: str) -> Callable[[_F], _F]:
    return click.option(f"--{option}", metavar="FILE", help=f"Names of {what} in expressions: {lines}.")


def _netmask(text: str) -> int:
    try:
        return int(IPv4Address(text))
    except AddressValueError:
        raise UsageError(f"{text!r}: expected a mask such as 255.255.255.0") from None


def chosen_filters(
    *,
    expression: str | None = None,
    filters_file: str | None = None,
    hosts: str | None,
    networks: str | None,
    ethers: str | None,
    netmask: int,
) -> ChosenFilters:
    """The filters that the options name.

    Raises FilterError where the one expression is wrong (those of a file are errors in its lines), and UsageError
    where a file is.
    """
    if expression is not None and filters_file is not None:
        raise click.UsageError("-f and --filters exclude each other")
    if expression is None and filters_file is None:
        return ChosenFilters()
    from jobs.filters import read_filters
    from queries.filters.compiled import compile_filter
    from queries.filters.language.names import read_names

    names = read_names(hosts=hosts, networks=networks, ethers=ethers)
    if filters_file is not None:
        return ChosenFilters(lines=read_filters(filters_file, names=names, netmask=netmask))
    return ChosenFilters(one=compile_filter(expression or "", names=names, netmask=netmask))
