"""ATM's and SS7's signalling: virtual circuits of ATM (Q.2931), and signal units of MTP2 and MTP3 (Q.703, Q.704)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pcap2arrow.errors import FilterError
from queries.filters.generate.code import (
    Check,
    Code,
    Inverse,
    above,
    at_most,
    equal,
    every,
    load,
    masked,
    some,
)
from queries.filters.generate.link import is_llc_over_atm
from queries.filters.generate.link_types import ETHERNET
from queries.filters.generate.state import Place, Size, State
from queries.filters.program import Constant, Operand

Argument = int | str

# ATM

_PATH_AT, _CIRCUIT_AT, _PAYLOAD_AT, _MESSAGE_AT = 1, 2, 4, 9
_LANE = 1
_LANE_HEADER = 2
CIRCUITS = {"metac": 1, "bcc": 2, "oamf4sc": 3, "oamf4ec": 4, "sc": 5, "ilmic": 16}
"""Words for virtual circuits that are kept for signalling, with their numbers."""

_NAMES_IN_ERRORS = {"oamf4sc": "oam4sc", "oamf4ec": "oam4ec"}
_SIGNALLING, _METASIGNALLING = 5, 1
_SETUP, _PROCEEDING, _CONNECT, _ACKNOWLEDGED, _RELEASE, _RELEASED = 0x05, 0x02, 0x07, 0x0F, 0x4D, 0x5A
_CONNECT_MESSAGES = (_RELEASED, _RELEASE, _ACKNOWLEDGED, _CONNECT, _SETUP, _PROCEEDING)
_METACONNECT_MESSAGES = (_RELEASED, _RELEASE, _CONNECT, _SETUP, _PROCEEDING)


def is_of_circuit(word: str) -> Callable[[State], Code]:
    """Words for the virtual circuits of the path 0 that are kept for signalling."""

    def test(state: State) -> Code:
        _require_atm(state, _NAMES_IN_ERRORS.get(word, word))
        return _is_of_circuit(state, CIRCUITS[word])

    return test


def is_maintenance(word: str) -> Callable[[State], Code]:
    """``oam`` and ``oamf4``: circuits for operation and maintenance."""

    def test(state: State) -> Code:
        _require_atm(state, word)
        either = some(*(equal(state.link_load(_CIRCUIT_AT, 2), circuit) for circuit in (3, 4)))
        return every(equal(state.link_load(_PATH_AT, 1), 0), either)

    return test


def is_connection(word: str) -> Callable[[State], Code]:
    """``connectmsg`` and ``metaconnect``: messages that open and close connections."""

    def test(state: State) -> Code:
        _require_atm(state, word)
        is_meta = word == "metaconnect"
        messages = _METACONNECT_MESSAGES if is_meta else _CONNECT_MESSAGES
        is_message = some(*(equal(state.link_load(_MESSAGE_AT, 1), message) for message in messages))
        return every(_is_of_circuit(state, _METASIGNALLING if is_meta else _SIGNALLING), is_message)

    return test


def is_lane(state: State) -> Code:
    """``lane``: emulated Ethernet; what follows in the text is about that."""
    _require_atm(state, "lane")
    code = equal(state.link_load(0, 1), _LANE, 0x0F)
    header = Place(_PAYLOAD_AT + _LANE_HEADER)
    state.enter(ETHERNET, header)
    state.type_field = Place(header.constant + ETHERNET.type_at, state.type_field.variable)
    state.payload = Place(header.constant + ETHERNET.payload_at, state.payload.variable)
    state.network, state.llc_network = ETHERNET.network_at, ETHERNET.llc_network_at
    return code


def is_llc(state: State) -> Code:
    """LLC over ATM; what follows in the text is about that, even after ``lane``."""
    code = is_llc_over_atm(state)
    state.link = state.previous
    return code


def has_atm_field(word: str) -> Callable[..., Code]:
    """``vpi`` and ``vci``: numbers of virtual path and circuit."""

    def test(state: State, *arguments: Argument) -> Code:
        _require_atm(state, word)
        offset, size = (_PATH_AT, 1) if word == "vpi" else (_CIRCUIT_AT, 2)
        return _compared(
            lambda: state.link_load(offset, 1 if size == 1 else 2), arguments, lambda number: number
        )

    return test


def _is_of_circuit(state: State, number: int) -> Code:
    return every(equal(state.link_load(_PATH_AT, 1), 0), equal(state.link_load(_CIRCUIT_AT, 2), number))


def _require_atm(state: State, word: str) -> None:
    if state.outermost.family != "sunatm":
        raise FilterError(f"'{word}' supported only on raw ATM")


# SS7

_MTP2_AT = {140: 0, 139: 4, 197: 20}
"""Link types with MTP2, and what stands before it."""

_LENGTH, _HIGH_SPEED_LENGTH = 0x3F, 0xFF80
UNITS = ("fisu", "lssu", "msu", "hfisu", "hlssu", "hmsu")
"""Kinds of signal units, those of high-speed links with h before."""


def is_unit(word: str) -> Callable[[State], Code]:
    """Kinds of signal units, which their lengths tell."""
    is_high_speed = word.startswith("h")
    largest = 0x0100 if is_high_speed else 2  # of a link status unit, as the length stands in the frame

    def test(state: State) -> Code:
        start = _MTP2_AT.get(state.link.number)
        if start is None:
            raise FilterError(f"'{word}' supported only on {'MTP2_HSL' if is_high_speed else 'MTP2'}")
        octets = load(start + 4, 2) if is_high_speed else load(start + 2, 1)
        length = masked(octets, _HIGH_SPEED_LENGTH if is_high_speed else _LENGTH)
        match word.removeprefix("h"):
            case "fisu":
                return equal(length, 0)
            case "lssu":
                return every(above(length, 0), at_most(length, largest))
        return above(length, largest)

    return test


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of MTP3: where, its bits there, the largest number, and how a number stands in it."""

    offset: int
    size: Size
    mask: int
    largest: int
    placed: Callable[[int], int]


_FIELDS = {
    "sio": _Field(3, 1, 0xFFFFFFFF, 255, lambda number: number),
    "opc": _Field(
        4,
        4,
        0x00C0FF0F,
        16383,
        lambda number: (number & 0x3C00) >> 10 | (number & 0x03FC) << 6 | (number & 0x0003) << 22,
    ),
    "dpc": _Field(4, 4, 0xFF3F0000, 16383, lambda number: (number & 0xFF) << 24 | (number & 0x3F00) << 8),
    "sls": _Field(7, 1, 0xF0, 15, lambda number: number << 4),
}
_HIGH_SPEED_HEADER = 3
FIELDS = (*_FIELDS, *(f"h{name}" for name in _FIELDS))
"""Fields of MTP3, those of high-speed links with h before."""


def has_ss7_field(word: str) -> Callable[..., Code]:
    """A field of MTP3: service information, originating and destination point code, link selection."""
    name = word.removeprefix("h")
    field = _FIELDS[name]

    def test(state: State, *arguments: Argument) -> Code:
        start = _MTP2_AT.get(state.outermost.number)
        if start is None:
            raise FilterError(f"'{name}' supported only on SS7")
        offset = start + field.offset + (_HIGH_SPEED_HEADER if word != name else 0)

        def placed(number: int) -> int:
            if number > field.largest:
                raise FilterError(f"{name} value {number} too big; max value = {field.largest}")
            return field.placed(number)

        return _compared(lambda: masked(load(offset, field.size), field.mask), arguments, placed)

    return test


def _compared(
    load: Callable[[], Operand], arguments: tuple[Argument, ...], placed: Callable[[int], int]
) -> Code:
    """A field compared with the number after a relation (libpcap takes != for =), or with any of several numbers."""
    relation, *others = arguments
    if isinstance(relation, int):
        return some(*(equal(load(), placed(int(number))) for number in arguments))
    right = Constant(placed(int(others[0])))
    match relation:
        case ">" | "<=":
            greater = Check(load(), ">", right)
            return greater if relation == ">" else Inverse(greater)
        case ">=" | "<":
            at_least = Check(load(), ">=", right)
            return at_least if relation == ">=" else Inverse(at_least)
    return Check(load(), "=", right)
