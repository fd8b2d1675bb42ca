"""Link headers of variable length: how many octets come before the 802.11 header, and before the payload.

All are sums of loads without branches: what is loaded only from some frames is loaded from octet 0 of the others,
which is there.
"""

from __future__ import annotations

from queries.filters.generate.code import bit, both_bits, is_equal, load, masked, plus, product
from queries.filters.generate.link_types import LinkType
from queries.filters.program import Arithmetic, Constant, Operand

_PRISM, _RADIOTAP, _AVS, _PPI, _PFLOG = 119, 127, 163, 192, 117
_PRISM_HEADER = 144
_AVS_COOKIE, _WITHOUT_VERSION = 0x8021_1000, 0xFFFF_F000
_WLAN_HEADER = 24


def has_variable_start(link: LinkType) -> bool:
    """Whether the number of octets before the link header varies."""
    return link.number in (_PRISM, _RADIOTAP, _AVS, _PPI)


def has_variable_header(link: LinkType) -> bool:
    """Whether the length of the link header varies."""
    return link.is_wlan or link.number == _PFLOG


def before_header(link: LinkType) -> Operand | None:
    """Octets before the link header, where their number varies."""
    match link.number:
        case 127 | 192:
            return Arithmetic("|", load(2, 1), Arithmetic("<<", load(3, 1), Constant(8)))
        case 163:
            return load(4, 4)
        case 119:
            return _prism_or_avs()
    return None


def before_payload(link: LinkType, *, padded: bool) -> Operand | None:
    """Octets before the link header's payload, where their number varies; ``padded``: with radiotap's padding."""
    if link.is_wlan:
        end, is_data = _wlan_header_end(link)
        return _padded(end, is_data) if padded and link.number == _RADIOTAP else end
    if link.number == _PFLOG:
        return Arithmetic("&", plus(load(0, 1), 3), Constant(0xFFFF_FFFC))
    return None


def _prism_or_avs() -> Operand:
    """The length of a Prism header, or what an AVS header in its place says."""
    is_avs = is_equal(masked(load(0, 4), _WITHOUT_VERSION), _AVS_COOKIE)
    length = load(0, 4, product(is_avs, 4))
    is_prism = Arithmetic("^", is_avs, Constant(1))
    return plus(product(is_avs, length), product(is_prism, _PRISM_HEADER))


def _wlan_header_end(link: LinkType) -> tuple[Operand, Operand]:
    """The end of the 802.11 header, of data frames with QoS two octets longer, and whether it is a data frame."""
    start = before_header(link)
    control = load(0, 1, start)
    is_data = both_bits(bit(control, 3), Arithmetic("^", bit(control, 2), Constant(1)))
    has_qos = both_bits(is_data, bit(control, 7))
    end = plus(product(has_qos, 2), _WLAN_HEADER)
    return end if start is None else plus(start, end), is_data


def _padded(end: Operand, is_data: Operand) -> Operand:
    """``end``, or the next multiple of 4 where radiotap says that data is padded.

    Its presence bits and flags are little-endian, and looked at in a single word: none where there are more of them.
    """
    present = load(0, 4, product(is_data, 4))
    is_single = Arithmetic("^", bit(present, 7), Constant(1))
    has_flags = both_bits(is_data, both_bits(bit(present, 25), is_single))
    after_time = product(bit(present, 24), 8)
    flags = load(0, 1, product(has_flags, plus(after_time, 8)))
    filler = product(both_bits(has_flags, bit(flags, 5)), 3)
    return Arithmetic("&", plus(end, filler), Arithmetic("^", filler, Constant(0xFFFF_FFFF)))
