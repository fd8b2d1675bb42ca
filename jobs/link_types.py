"""Link types by the names that tcpdump has for them."""

from __future__ import annotations

from pcap2arrow.errors import UsageError

_NAMES = """
0 NULL  1 EN10MB  6 IEEE802  7 ARCNET  8 SLIP  9 PPP  10 FDDI  11 ATM_RFC1483  12 RAW  15 SLIP_BSDOS  16 PPP_BSDOS
19 ATM_CLIP  50 PPP_SERIAL  51 PPP_ETHER  99 SYMANTEC_FIREWALL  104 C_HDLC  105 IEEE802_11  107 FRELAY  108 LOOP
109 ENC  113 LINUX_SLL  114 LTALK  117 PFLOG  119 PRISM_HEADER  122 IP_OVER_FC  123 SUNATM  127 IEEE802_11_RADIO
129 ARCNET_LINUX  130 JUNIPER_MLPPP  131 JUNIPER_MLFR  132 JUNIPER_ES  133 JUNIPER_GGSN  134 JUNIPER_MFR
135 JUNIPER_ATM2  136 JUNIPER_SERVICES  137 JUNIPER_ATM1  138 APPLE_IP_OVER_IEEE1394  139 MTP2_WITH_PHDR  140 MTP2
143 DOCSIS  144 LINUX_IRDA  163 IEEE802_11_RADIO_AVS  164 JUNIPER_MONITOR  165 BACNET_MS_TP  166 PPP_PPPD
167 JUNIPER_PPPOE  168 JUNIPER_PPPOE_ATM  177 LINUX_LAPD  178 JUNIPER_ETHER  179 JUNIPER_PPP  180 JUNIPER_FRELAY
181 JUNIPER_CHDLC  182 MFR  183 JUNIPER_VP  186 USB_FREEBSD  187 BLUETOOTH_HCI_H4  189 USB_LINUX  192 PPI
194 JUNIPER_ISM  197 ERF  200 JUNIPER_ST  201 BLUETOOTH_HCI_H4_WITH_PHDR  220 USB_LINUX_MMAPPED  226 IPNET
227 CAN_SOCKETCAN  228 IPV4  229 IPV6  232 JUNIPER_VS  233 JUNIPER_SRX_E2E  234 JUNIPER_FIBRECHANNEL
238 JUNIPER_ATM_CEMIC  239 NFLOG  240 NETANALYZER  241 NETANALYZER_TRANSPARENT  246 PFSYNC  249 USBPCAP
276 LINUX_SLL2
"""
_WORDS = _NAMES.split()
NAMES = dict(zip(map(int, _WORDS[::2]), _WORDS[1::2], strict=True))
"""Names (without ``DLT_``) by the number of the link type, for those that filters know more of than octets."""

_NUMBERS = {name: number for number, name in NAMES.items()}


def link_type_text(number: int) -> str:
    """A link type as tcpdump writes it: ``EN10MB (Ethernet)``; its number where it has no name here."""
    from queries.filters.generate.link_types import link_type

    known = link_type(number)
    if known is None or known.number not in NAMES:
        return str(number)
    return f"{NAMES[known.number]} ({known.name})"


def link_type_number(text: str) -> int:
    """The link type of that name, in any case of letters, perhaps with ``DLT_`` before it, or number.

    Raises UsageError.
    """
    name = text.upper().removeprefix("DLT_")
    if name in _NUMBERS:
        return _NUMBERS[name]
    if text.isascii() and text.isdecimal() and int(text) < 1 << 16:
        return int(text)
    raise UsageError(f"invalid data link type {text}")
