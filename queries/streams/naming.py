"""Names of streams' files, from templates as tcpflow has them."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import polars as pl

from pcap2arrow.errors import UsageError

DEFAULT = "%A.%a-%B.%b%V%v%C%c"
"""The template of names such as ``010.000.000.001.01234-010.000.000.002.00080``."""

COUNT = "%C%c"
"""What a template that does not tell names apart gets at its end."""

NEEDED = ("ip_version", "ip_src", "ip_dst", "ipv6_src_hi", "ipv6_src_lo", "ipv6_dst_hi", "ipv6_dst_lo",
          "src_port", "dst_port", "time", "eth_src", "eth_dst", "vlan_id", "number", "connection")  # fmt: skip
"""Columns that names are made of."""

_NANOSECONDS = 10**9


def _address(side: str) -> pl.Expr:
    octets = [_padded(pl.col(f"ip_{side}") // 256**k % 256, 3) for k in (3, 2, 1, 0)]
    halves = pl.struct(high=f"ipv6_{side}_hi", low=f"ipv6_{side}_lo")
    six = halves.map_batches(_ipv6, return_dtype=pl.String)
    return pl.when(pl.col("ip_version") == 4).then(pl.concat_str(octets, separator=".")).otherwise(six)


def _ipv6(halves: pl.Series) -> pl.Series:
    """Addresses as inet_ntop(3) writes them."""
    distinct = halves.unique()
    texts = [
        None if each["high"] is None else _ntop(each["high"] << 64 | each["low"])
        for each in distinct.to_list()
    ]
    table = distinct.struct.unnest().with_columns(text=pl.Series(texts, dtype=pl.String))
    return halves.struct.unnest().join(
        table, on=["high", "low"], how="left", nulls_equal=True, maintain_order="left"
    )["text"]


def _ntop(address: int) -> str:
    return socket.inet_ntop(socket.AF_INET6, address.to_bytes(16, "big"))


def _padded(number: pl.Expr, digits: int) -> pl.Expr:
    """A number of at most so many digits, with zeros before it: faster than ``zfill``."""
    with_one: pl.Expr = number.cast(pl.UInt32) + 10**digits
    return with_one.cast(pl.String).str.slice(1)


def _port(side: str) -> pl.Expr:
    return _padded(pl.col(f"{side}_port"), 5)


def _mac(column: str) -> pl.Expr:
    def write(addresses: pl.Series) -> pl.Series:
        return pl.Series(mac_texts(addresses), dtype=pl.String)

    return pl.col(column).map_batches(write, return_dtype=pl.String)


def mac_texts(addresses: pl.Series) -> list[str]:
    """Ethernet addresses as text; of a packet without, zeros."""
    return [(each or 0).to_bytes(6, "big").hex(":") for each in addresses.to_list()]


def address_texts(packets: pl.DataFrame, side: str) -> list[str]:
    """Addresses of a side, ``src`` or ``dst``, as inet_ntop(3) writes them."""
    columns = ("ip_version", f"ip_{side}", f"ipv6_{side}_hi", f"ipv6_{side}_lo")
    return [
        socket.inet_ntop(socket.AF_INET, four.to_bytes(4, "big")) if version == 4 else _ntop(high << 64 | low)
        for version, four, high, low in packets.select(columns).iter_rows()
    ]


def _seconds() -> pl.Expr:
    seconds: pl.Expr = pl.col("time").dt.epoch("ns").fill_null(0) // _NANOSECONDS
    return seconds


def _thousands(power: int) -> pl.Expr:
    return _padded(pl.col("number") // 1000**power % 1000, 3)


def _if_repeated(text: pl.Expr) -> pl.Expr:
    return pl.when(pl.col("count") > 0).then(text).otherwise(pl.lit(""))


_CODES: dict[str, Callable[[], pl.Expr]] = {
    "A": lambda: _address("src"),
    "B": lambda: _address("dst"),
    "a": lambda: _port("src"),
    "b": lambda: _port("dst"),
    "T": lambda: pl.from_epoch(_seconds(), time_unit="s").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "t": lambda: _seconds().cast(pl.String),
    "V": lambda: pl.when(pl.col("vlan_id").is_not_null()).then(pl.lit("--")).otherwise(pl.lit("")),
    "v": lambda: pl.col("vlan_id").cast(pl.String).fill_null(""),
    "C": lambda: _if_repeated(pl.lit("c")),
    "c": lambda: _if_repeated(pl.col("count").cast(pl.String)),
    "#": lambda: pl.col("count").cast(pl.String),
    "N": lambda: _thousands(0),
    "K": lambda: _thousands(1),
    "M": lambda: _thousands(2),
    "G": lambda: _thousands(3),
    "S": lambda: pl.col("connection").cast(pl.String).str.zfill(20),
    "E": lambda: _mac("eth_src"),
    "e": lambda: _mac("eth_dst"),
    "%": lambda: pl.lit("%"),
}


@dataclass(frozen=True, slots=True)
class Template:
    """A template of names: texts, and codes such as ``%A``; without ``%c``, and not ``complete``, it gets a count."""

    text: str = DEFAULT
    complete: bool = False

    def __post_init__(self) -> None:
        for code in re.findall(r"%(.)", self._whole, re.DOTALL):
            if code not in _CODES:
                raise UsageError(f"%{code}: no code of a name's template: there are %{' %'.join(_CODES)}")
        literal = re.sub(r"%.", "x", self._whole)
        if literal.startswith("/") or ".." in literal.split("/"):
            raise UsageError(f"{self.text!r}: a name must not lead out of the folder")

    @property
    def _whole(self) -> str:
        return self.text if "%c" in self.text or self.complete else self.text + COUNT

    @property
    def is_of_flow(self) -> bool:
        """Whether names tell flows apart by themselves: a stream's depends on nothing but those of its flow."""
        return self.text == DEFAULT

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the first packet that names are made of, beside endpoints and time."""
        needed = {"V": "vlan_id", "v": "vlan_id", "E": "eth_src", "e": "eth_dst"}
        codes = re.findall(r"%(.)", self._whole, re.DOTALL)
        return tuple(dict.fromkeys(needed[code] for code in codes if code in needed))

    @property
    def tells_connections(self) -> bool:
        """Whether numbers of connections stand in names."""
        return "S" in re.findall(r"%(.)", self._whole, re.DOTALL)

    def expression(self) -> pl.Expr:
        """The name, from columns :data:`NEEDED` and ``count``."""
        parts = re.findall(r"%.|[^%]+|%$", self._whole, re.DOTALL)
        return pl.concat_str([
            _CODES[part[1]]() if len(part) == 2 and part[0] == "%" else pl.lit(part) for part in parts
        ])  # fmt: skip


def names(streams: pl.DataFrame, template: Template, *, taken: Collection[str] = ()) -> Sequence[str]:
    """A name of its own for each stream, a row each of columns :data:`NEEDED`, in the order in which they open.

    Of those that a template gives the same name, later ones are counted; so are those whose name is ``taken``.
    """
    first = streams.with_columns(pl.lit(0).alias("count")).select(template.expression()).to_series()
    alike = first.is_duplicated().arg_true()
    count = (
        first[alike].alias("first").to_frame().select(count=pl.int_range(pl.len()).over("first")).to_series()
    )
    later = (count > 0).arg_true()
    found, again = first, alike[later]
    if len(again):
        others = streams[again].with_columns(count[later]).select(template.expression()).to_series()
        found = first.scatter(again, others)
    known = found.to_list()
    if found.n_unique() == len(found) and not (taken and set(taken).intersection(known)):
        return known
    return _counted(streams, template, set(taken))


def _counted(streams: pl.DataFrame, template: Template, taken: set[str]) -> list[str]:
    """One after another, each with the least count that makes its name a new one."""
    result: list[str] = []
    known: dict[str, int] = {}
    for at in range(len(streams)):
        row = streams[at : at + 1]
        first = _with_count(row, template, 0)
        count, name = known.get(first, 0), first
        while (name := _with_count(row, template, count)) in taken:
            count += 1
        known[first] = count + 1
        taken.add(name)
        result.append(name)
    return result


def _with_count(row: pl.DataFrame, template: Template, count: int) -> str:
    name: str = row.with_columns(pl.lit(count).alias("count")).select(template.expression()).item()
    return name
