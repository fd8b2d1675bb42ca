"""The words of pcap-filter(7), as libpcap 1.10.3 knows them: what kind of token each is, and what may follow it."""

from __future__ import annotations

from enum import Enum, auto
from typing import TypeVar

_Value = TypeVar("_Value")


def _themselves(words: str) -> dict[str, str]:
    return {word: word for word in words.split()}


def _all(words: str, value: _Value) -> dict[str, _Value]:
    return dict.fromkeys(words.split(), value)


PROTOCOLS = {
    **_themselves("link arp rarp ip ip6 sctp tcp udp icmp icmp6 igmp igrp pim vrrp carp ah esp radio"),
    **_themselves("atalk aarp decnet lat sca moprc mopdl stp ipx netbeui"),
    **_themselves("iso clnp esis isis l1 l2 iih lsp snp csnp psnp"),
    **_all("ether fddi tr wlan ppp slip", "link"),
    "es-is": "esis",
    "is-is": "isis",
}
"""Names of protocols, each with the one word that stands for its synonyms."""

DIRECTIONS = {
    **_themselves("src dst addr1 addr2 addr3 addr4 ra ta"),
    **{f"address{number}": f"addr{number}" for number in range(1, 5)},
}
KINDS = _themselves("host net port portrange")
"""Kinds of identifiers that a direction may precede."""

KINDS_ALONE = _themselves("proto protochain gateway")
"""Kinds of identifiers that no direction may precede."""


class Arguments(Enum):
    """What follows the word of a primitive."""

    NONE = auto()
    NUMBER = auto()
    NAME = auto()
    NUMBER_OR_NAME = auto()
    PERHAPS_NUMBER = auto()
    """Nothing, or a number, which may stand in parentheses."""
    PERHAPS_LLC_FORMAT = auto()
    """Nothing, a name, or the word ``rnr``."""
    TYPE = auto()
    """A number or name, perhaps followed by ``subtype`` and a number or name."""
    COMPARED_BYTE = auto()
    """A number, one of ``& | < > =``, and a number."""
    FIELD = auto()
    """A number, a relation and a number, or numbers in parentheses with ``or`` between them."""


PRIMITIVES = {
    **_all("broadcast multicast inbound outbound pppoed", Arguments.NONE),
    **_all("less greater ifindex rnr srnr", Arguments.NUMBER),
    **_all("vlan mpls pppoes geneve", Arguments.PERHAPS_NUMBER),
    **_all("subtype ifname rset action", Arguments.NAME),
    **_all("dir reason", Arguments.NUMBER_OR_NAME),
    "byte": Arguments.COMPARED_BYTE,
    "llc": Arguments.PERHAPS_LLC_FORMAT,
    "type": Arguments.TYPE,
    **_all("lane metac bcc oam oamf4 oamf4ec oamf4sc sc ilmic", Arguments.NONE),
    **_all("connectmsg metaconnect fisu lssu msu hfisu hlssu hmsu", Arguments.NONE),
    **_all("vpi vci sio opc dpc sls hsio hopc hdpc hsls", Arguments.FIELD),
}
"""Words of conditions that are no identifier, each with its arguments."""

PRIMITIVES_OF_A_PROTOCOL = frozenset({"broadcast", "multicast", "type", "subtype", "dir"})
"""Those of the primitives that a protocol's name may precede."""

_PRIMITIVE_SYNONYMS = {
    "direction": "dir",
    "on": "ifname",
    "ruleset": "rset",
    "rulenum": "rnr",
    "subrulenum": "srnr",
    "lsu": "lssu",
}

KEYWORDS: dict[str, tuple[str, str]] = {
    **{word: ("protocol", one) for word, one in PROTOCOLS.items()},
    **{word: ("direction", one) for word, one in DIRECTIONS.items()},
    **{word: ("kind", one) for word, one in KINDS.items()},
    **{word: ("kind alone", one) for word, one in KINDS_ALONE.items()},
    **{word: ("primitive", word) for word in PRIMITIVES},
    **{word: ("primitive", one) for word, one in _PRIMITIVE_SYNONYMS.items()},
    **_all("len length", ("length", "len")),
    **{word: (word, word) for word in ("and", "or", "not", "mask")},
}
"""All words but named numbers: the kind of token that each is, and the one word that stands for its synonyms."""

_ICMP_TYPES = {
    "icmp-echoreply": 0,
    "icmp-unreach": 3,
    "icmp-sourcequench": 4,
    "icmp-redirect": 5,
    "icmp-echo": 8,
    "icmp-routeradvert": 9,
    "icmp-routersolicit": 10,
    "icmp-timxceed": 11,
    "icmp-paramprob": 12,
    "icmp-tstamp": 13,
    "icmp-tstampreply": 14,
    "icmp-ireq": 15,
    "icmp-ireqreply": 16,
    "icmp-maskreq": 17,
    "icmp-maskreply": 18,
}
_ICMP6_TYPES = {
    "icmp6-destinationunreach": 1,
    "icmp6-packettoobig": 2,
    "icmp6-timeexceeded": 3,
    "icmp6-parameterproblem": 4,
    "icmp6-echo": 128,
    "icmp6-echoreply": 129,
    "icmp6-multicastlistenerquery": 130,
    "icmp6-multicastlistenerreportv1": 131,
    "icmp6-multicastlistenerdone": 132,
    "icmp6-routersolicit": 133,
    "icmp6-routeradvert": 134,
    "icmp6-neighborsolicit": 135,
    "icmp6-neighboradvert": 136,
    "icmp6-redirect": 137,
    "icmp6-routerrenum": 138,
    "icmp6-nodeinformationquery": 139,
    "icmp6-nodeinformationresponse": 140,
    "icmp6-ineighbordiscoverysolicit": 141,
    "icmp6-ineighbordiscoveryadvert": 142,
    "icmp6-multicastlistenerreportv2": 143,
    "icmp6-homeagentdiscoveryrequest": 144,
    "icmp6-homeagentdiscoveryreply": 145,
    "icmp6-mobileprefixsolicit": 146,
    "icmp6-mobileprefixadvert": 147,
    "icmp6-certpathsolicit": 148,
    "icmp6-certpathadvert": 149,
    "icmp6-multicastrouteradvert": 151,
    "icmp6-multicastroutersolicit": 152,
    "icmp6-multicastrouterterm": 153,
}
_TCP_FLAGS = "fin syn rst push ack urg ece cwr"

NAMED_NUMBERS = {
    **{"icmptype": 0, "icmpcode": 1, "icmp6type": 0, "icmp6code": 1, "tcpflags": 13},
    **_ICMP_TYPES,
    **_ICMP6_TYPES,
    **{f"tcp-{flag}": 1 << bit for bit, flag in enumerate(_TCP_FLAGS.split())},
}
"""Offsets of fields, ICMP types and TCP flags, which are numbers wherever numbers stand."""

OPERATORS = frozenset({"+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"})
RELATIONS = frozenset({">", "<", ">=", "<=", "=", "!="})
BYTE_RELATIONS = frozenset({"&", "|", "<", ">", "="})
