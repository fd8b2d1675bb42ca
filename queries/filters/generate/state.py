"""What code generation knows where it stands in the text: where the headers lie that the next term is about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pcap2arrow.errors import FilterError
from queries.filters.generate import prefixes
from queries.filters.generate.code import Accumulator, Code, Register, equal, every, load, plus
from queries.filters.generate.link_types import UNSET, LinkType
from queries.filters.names import Names
from queries.filters.program import Arithmetic, Constant, Load, Operand

Size = Literal[1, 2, 4]

_REGISTERS = 16  # of libpcap's machine; an expression that needs more is refused
_SIZES: tuple[Size, ...] = (4, 2, 1)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the frame: ``variable`` (None: 0) + ``constant``."""

    constant: int
    variable: Operand | None = None

    def moved(self, octets: int) -> Place:
        """So many octets further."""
        return Place(self.constant + octets, self.variable)


@dataclass(slots=True)
class State:
    """Terms such as ``vlan`` change it, for all that stands after them in the text.

    ``header`` is the link header, ``type_field`` where it says what it carries, ``payload`` what comes after it;
    ``network`` and ``llc_network`` are as in :class:`LinkType`.  ``labels`` counts MPLS labels passed, ``prefixes``
    are variable parts of places that something was loaded from, ``depends_on_way`` says whether any comparison reads
    what others leave.
    """

    outermost: LinkType
    names: Names
    netmask: int
    swapped: bool
    link: LinkType = field(init=False)
    previous: LinkType = field(init=False)
    header: Place = field(init=False)
    previous_header: Place = field(init=False)
    type_field: Place = field(init=False)
    payload: Place = field(init=False)
    network: int = field(init=False)
    llc_network: int = field(init=False)
    labels: int = 0
    in_geneve: bool = False
    prefixes: list[Operand] = field(default_factory=list)
    depends_on_way: bool = False
    _registers: int = 0
    _stored: int = 0

    def __post_init__(self) -> None:
        link = self.outermost
        self.link = self.previous = link
        self.header = self.previous_header = Place(link.header_at, prefixes.before_header(link))
        self.type_field = Place(link.type_at)
        self.payload = Place(link.payload_at, prefixes.before_payload(link))
        self.network, self.llc_network = link.network_at, link.llc_network_at

    def enter(self, link: LinkType, header: Place) -> None:
        """Go on with another link header, inside of what came before."""
        self.previous, self.previous_header = self.link, self.header
        self.link, self.header = link, header
        self.in_geneve = False

    # registers, of which there must be enough

    def take_register(self) -> None:
        """Use one more register."""
        if self._registers == _REGISTERS:
            raise FilterError("too many registers needed to evaluate expression")
        self._registers += 1

    def give_registers(self, count: int) -> None:
        """Use so many registers less."""
        self._registers -= count

    def new_register(self) -> Register:
        """A register that code sets on its way; used for ever."""
        self.take_register()
        self.depends_on_way = True
        self._stored += 1
        return Register(number=self._stored)

    def accumulator(self) -> Accumulator:
        """What the comparison before leaves in the accumulator."""
        self.depends_on_way = True
        return Accumulator()

    # loads

    def variable(self, place: Place) -> Operand | None:
        """The variable part of a place, to load from; takes a register, if none yet holds that part."""
        part = place.variable
        if (
            part is not None
            and not isinstance(part, Register)
            and not any(part is each for each in self.prefixes)
        ):
            self.take_register()
            self.prefixes.append(part)
        return part

    def load(self, place: Place, offset: int, size: Size) -> Load:
        """Octets ``offset`` after a place."""
        return load(place.constant + offset, size, self.variable(place))

    def link_load(self, offset: int, size: Size) -> Load:
        """Octets of the link header."""
        return self.load(self.header, offset, size)

    def type_load(self, offset: int, size: Size) -> Load:
        """Octets of the link header, from the field that says what it carries."""
        return self.load(self.type_field, offset, size)

    def payload_load(self, offset: int, size: Size) -> Load:
        """Octets of the link header's payload, which starts with the LLC header, if there is one."""
        return self.load(self.payload, offset, size)

    def network_load(self, offset: int, size: Size) -> Load:
        """Octets of the network header."""
        return self.load(self.payload, self.network + offset, size)

    def llc_network_load(self, offset: int, size: Size) -> Load:
        """Octets of a network header after an LLC header without SNAP."""
        return self.load(self.payload, self.llc_network + offset, size)

    def ipv4_header_end(self) -> Operand:
        """Length of the IPv4 header, with the variable part of the payload's place."""
        variable = self.variable(self.payload)
        length = Arithmetic("<<", Arithmetic("&", self.network_load(0, 1), Constant(0xF)), Constant(2))
        return length if variable is None else plus(length, variable)

    def over_ipv4_load(self, offset: int, size: Size) -> Load:
        """Octets of the transport header over IPv4."""
        return load(self.payload.constant + self.network + offset, size, self.ipv4_header_end())

    def over_ipv6_load(self, offset: int, size: Size) -> Load:
        """Octets of the transport header over IPv6 without extension headers."""
        return self.network_load(40 + offset, size)

    def has_octets(self, place: Place, offset: int, octets: bytes) -> Code:
        """Whether these octets stand ``offset`` after a place; the last ones are looked at first."""
        checks = []
        end = len(octets)
        for size in _SIZES:
            while end >= size:
                end -= size
                checks.append(
                    equal(self.load(place, offset + end, size), int.from_bytes(octets[end : end + size]))
                )
        return every(*checks)

    def has_type_field(self) -> bool:
        """Whether the link header says what it carries."""
        return self.type_field.constant != UNSET
