"""What code generation knows where it stands in the text: where the headers lie that the next term is about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from queries.filters.generate import prefixes
from queries.filters.generate.code import Accumulator, Code, Register, equal, every, load, plus
from queries.filters.generate.link_types import UNSET, LinkType
from queries.filters.generate.registers import Registers
from queries.filters.language.names import Names
from queries.filters.program import Arithmetic, Constant, Load, Operand

Size = Literal[1, 2, 4]

_SIZES: tuple[Size, ...] = (4, 2, 1)


@dataclass(slots=True, eq=False)
class Variable:
    """The variable part of a place: what a register holds, which is taken when the place is first loaded from."""

    register: int | None = None

    def copied(self) -> Variable:
        """The same for another place, which takes a register of its own, if there is none yet."""
        return Variable(self.register)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the frame: ``constant`` octets after the ``variable`` part of it."""

    constant: int
    variable: Variable | None = None

    def moved(self, octets: int) -> Place:
        """So many octets further."""
        return Place(self.constant + octets, self.variable)


@dataclass(slots=True)
class State:
    """Terms such as ``vlan`` change it, for all that stands after them in the text.

    ``header`` is the link header, ``type_field`` where it says what it carries, ``payload`` what comes after it;
    ``network`` and ``llc_network`` are as in :class:`LinkType`.  ``labels`` counts MPLS labels passed,
    ``reads_registers`` and ``reads_accumulator`` say whether any comparison does,
    ``has_tunnels`` whether any term of the text may set registers.
    """

    outermost: LinkType
    names: Names
    netmask: int
    swapped: bool
    has_tunnels: bool
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
    registers: Registers = field(default_factory=Registers)
    reads_registers: bool = False
    reads_accumulator: bool = False
    _carried: dict[int, Code] = field(default_factory=dict)
    _carried_where: tuple[object, ...] = ()
    _variable_loads: dict[tuple[int, int, Size], Load] = field(default_factory=dict)

    def __post_init__(self) -> None:
        link = self.outermost
        self.link = self.previous = link
        self.header = self.previous_header = Place(
            link.header_at, Variable() if prefixes.has_variable_start(link) else None
        )
        self.type_field = Place(link.type_at)
        self.payload = Place(link.payload_at, Variable() if prefixes.has_variable_header(link) else None)
        self.network, self.llc_network = link.network_at, link.llc_network_at

    def enter(self, link: LinkType, header: Place) -> None:
        """Go on with another link header, inside of what came before."""
        self.previous, self.previous_header = self.link, self.header
        self.link, self.header = link, header
        self.in_geneve = False

    def at_start(self) -> dict[int, Operand]:
        """What registers hold from the start: lengths of the outermost headers, for the places that are used last.

        Places that were used before another link header was entered may thus be 0, as in libpcap.
        """
        start, payload = self.header.variable, self.payload.variable
        if (
            payload is not None
            and payload.register is not None
            and start is not None
            and start.register is None
        ):
            start.register = self.registers.take()
        found = {}
        for variable, length in (
            (start, prefixes.before_header(self.outermost)),
            (payload, prefixes.before_payload(self.outermost, padded=self.link is self.outermost)),
        ):
            if variable is not None and variable.register is not None and length is not None:
                found[variable.register] = length
        return found

    @property
    def keeps_registers(self) -> bool:
        """Whether it matters what arithmetic leaves in registers."""
        return self.has_tunnels or prefixes.has_variable_header(self.outermost)

    def carried(self) -> dict[int, Code]:
        """Tests for protocols that were made where all headers lie as they do now, for long expressions."""
        where = (
            self.link,
            self.header,
            self.type_field,
            self.payload,
            self.network,
            self.labels,
            self.in_geneve,
        )
        if where != self._carried_where:
            self._carried, self._carried_where = {}, where
        return self._carried

    def new_variable(self) -> Variable:
        """A variable part that code sets on its way."""
        return Variable(self.registers.take())

    def accumulator(self) -> Accumulator:
        """What the comparison before leaves in the accumulator."""
        self.reads_accumulator = True
        return Accumulator()

    # loads

    def variable(self, place: Place) -> Register | None:
        """The variable part of a place, to load from."""
        variable = place.variable
        if variable is None:
            return None
        if variable.register is None:
            variable.register = self.registers.take()
        self.reads_registers = True
        return Register(number=variable.register)

    def load(self, place: Place, offset: int, size: Size) -> Load:
        """Octets ``offset`` after a place."""
        variable = self.variable(place)
        if variable is None:
            return load(place.constant + offset, size)
        key = place.constant + offset, variable.number, size
        if key not in self._variable_loads:
            self._variable_loads[key] = load(place.constant + offset, size, variable)
        return self._variable_loads[key]

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
