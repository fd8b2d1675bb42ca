"""802.11: addresses, whose places depend on what a frame is, types and directions of frames (IEEE 802.11, clause 9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pcap2arrow.errors import FilterError
from queries.filters.generate.code import Code, Inverse, any_bit, equal, every, no_bit, some
from queries.filters.generate.directions import by_direction
from queries.filters.generate.state import State

_TYPE_BITS, _SUBTYPE_BITS, _DIRECTION_BITS = 0x0C, 0xF0, 0x03
_CONTROL_TYPE, _CTS, _ACK = 0x04, 0xC0, 0xD0
_NO_ADDRESSES, _DATA = 0x04, 0x08  # bits of the type: control frames, data frames
_TO_DS, _FROM_DS = 0x01, 0x02
_BOTH_DS = _TO_DS | _FROM_DS
_ADDRESS_1, _ADDRESS_2, _ADDRESS_3, _ADDRESS_4 = 4, 10, 16, 24


def is_host(state: State, address: bytes, direction: str | None) -> Code:
    """Whether a frame is from or to an address, in the direction's sense; directions of 802.11 alone included."""

    def there(offset: int) -> Code:
        return state.has_octets(state.header, offset, address)

    match direction:
        case "addr1":
            return there(_ADDRESS_1)
        case "addr2":
            return every(_has_transmitter(state), there(_ADDRESS_2))
        case "addr3":
            return every(_is_no_control(state), there(_ADDRESS_3))
        case "addr4":
            return every(equal(state.link_load(1, 1), _BOTH_DS, _DIRECTION_BITS), there(_ADDRESS_4))
        case "ra":
            return every(_has_type_bit(state, _DATA), there(_ADDRESS_1))
        case "ta":
            return every(_has_type_bit(state, _DATA), _has_transmitter(state), there(_ADDRESS_2))
    return by_direction(direction, lambda: _source(state, there), lambda: _destination(state, there))


def is_multicast(state: State) -> Code:
    """Whether a frame's destination is a group address."""
    return _destination(state, lambda offset: any_bit(state.link_load(offset, 1), 1))


def _source(state: State, there: Callable[[int], Code]) -> Code:
    from_ds = some(
        every(_has_no_direction_bit(state, _TO_DS), there(_ADDRESS_3)),
        every(_has_direction_bit(state, _TO_DS), there(_ADDRESS_4)),
    )
    data = some(
        every(_has_no_direction_bit(state, _FROM_DS), there(_ADDRESS_2)),
        every(_has_direction_bit(state, _FROM_DS), from_ds),
    )
    return _of_management_or_data(state, there(_ADDRESS_2), data)


def _destination(state: State, there: Callable[[int], Code]) -> Code:
    data = some(
        every(_has_no_direction_bit(state, _TO_DS), there(_ADDRESS_1)),
        every(_has_direction_bit(state, _TO_DS), there(_ADDRESS_3)),
    )
    return _of_management_or_data(state, there(_ADDRESS_1), data)


def _of_management_or_data(state: State, management: Code, data: Code) -> Code:
    of_either = some(
        every(_has_no_type_bit(state, _DATA), management),
        every(_has_type_bit(state, _DATA), data),
    )
    return every(_has_no_type_bit(state, _NO_ADDRESSES), of_either)


def _has_type_bit(state: State, bits: int) -> Code:
    return any_bit(state.link_load(0, 1), bits)


def _has_no_type_bit(state: State, bits: int) -> Code:
    return no_bit(state.link_load(0, 1), bits)


def _has_direction_bit(state: State, bits: int) -> Code:
    return any_bit(state.link_load(1, 1), bits)


def _has_no_direction_bit(state: State, bits: int) -> Code:
    return no_bit(state.link_load(1, 1), bits)


def _is_no_control(state: State) -> Code:
    return Inverse(equal(state.link_load(0, 1), _CONTROL_TYPE, _TYPE_BITS))


def _has_transmitter(state: State) -> Code:
    """All but two kinds of control frames have."""
    is_neither = (Inverse(equal(state.link_load(0, 1), kind, _SUBTYPE_BITS)) for kind in (_CTS, _ACK))
    return some(_is_no_control(state), every(*is_neither))


# types


def _numbered(words: str, step: int, bits: int = 0) -> dict[str, int]:
    """Words with their numbers; those of the same number are joined by commas, and _ takes the place of none."""
    return {
        word: place * step | bits
        for place, joined in enumerate(words.split())
        for word in joined.split(",")
        if word != "_"
    }


_TYPES = _numbered("mgt,management ctl,control data", 4)
_MANAGEMENT = """assocreq,assoc-req assocresp,assoc-resp reassocreq,reassoc-req reassocresp,reassoc-resp
    probereq,probe-req proberesp,probe-resp _ _ beacon atim disassoc,disassociation auth,authentication
    deauth,deauthentication"""
_CONTROL = "_ _ _ _ _ _ _ _ _ _ ps-poll rts cts ack cf-end cf-end-ack"
_DATA_SUBTYPES = """data data-cf-ack data-cf-poll data-cf-ack-poll null cf-ack cf-poll cf-ack-poll
    qos-data qos-data-cf-ack qos-data-cf-poll qos-data-cf-ack-poll qos _ qos-cf-poll qos-cf-ack-poll"""
_SUBTYPES = {
    0: _numbered(_MANAGEMENT, 16),
    4: _numbered(_CONTROL, 16),
    8: _numbered(_DATA_SUBTYPES, 16),
}
_SUBTYPES_WITH_TYPES = {
    word: subtype | kind for kind, subtypes in _SUBTYPES.items() for word, subtype in subtypes.items()
}
_DIRECTIONS = _numbered("nods tods fromds dstods", 1)


def is_type(state: State, kind: int | str, subtype: int | str | None = None) -> Code:
    """``type``, perhaps with ``subtype``: each a name or the number as it stands in the frame."""
    number = _number(kind, _TYPES, _TYPE_BITS, "type")
    if subtype is None:
        return _has_type(state, number, _TYPE_BITS)
    if isinstance(subtype, str) and number not in _SUBTYPES:
        raise FilterError("unknown 802.11 type")
    number |= _number(subtype, _SUBTYPES.get(number, {}), _SUBTYPE_BITS, "subtype")
    return _has_type(state, number, _TYPE_BITS | _SUBTYPE_BITS)


def is_subtype(state: State, name: str) -> Code:
    """``subtype`` alone: the name of one, of whatever type."""
    number = _SUBTYPES_WITH_TYPES.get(name.lower())
    if number is None:
        raise FilterError("unknown 802.11 type name")
    return _has_type(state, number, _TYPE_BITS | _SUBTYPE_BITS)


def is_direction(state: State, direction: int | str) -> Code:
    """``dir``: the bits that say whether a frame is to and from the distribution system."""
    number = _DIRECTIONS.get(direction.lower()) if isinstance(direction, str) else direction
    if number is None:
        raise FilterError("unknown 802.11 direction")
    if not _has_types(state):
        raise FilterError("frame direction supported only with 802.11 headers")
    return equal(state.link_load(1, 1), number, _DIRECTION_BITS)


def _number(word: int | str, names: Mapping[str, int], bits: int, what: str) -> int:
    if isinstance(word, str):
        if word.lower() not in names:
            raise FilterError(f'unknown 802.11 {what} name "{word}"')
        return names[word.lower()]
    if word & ~bits:
        raise FilterError(f"invalid 802.11 {what} value 0x{word:02x}")
    return word


def _has_type(state: State, number: int, bits: int) -> Code:
    if not _has_types(state):
        raise FilterError("802.11 link-layer types supported only on 802.11")
    return equal(state.link_load(0, 1), number, bits)


_PPI = 192


def _has_types(state: State) -> bool:
    return state.link.is_wlan and state.link.number != _PPI
