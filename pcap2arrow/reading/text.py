"""Addresses, flags and numbers as people write them, and back."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from pcap2arrow.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

_FLAG_LETTERS = "FSRPAUEWN"  # bit 0 upwards: FIN SYN RST PSH ACK URG ECE CWR, and the nonce sum of RFC 3540


def ip(address: str) -> int | tuple[int, int]:
    """An IP address as the packet table holds it: IPv4 as one integer, IPv6 as its upper and lower 64 bits.

    Raises UsageError where it is no address.

    >>> ip("10.0.0.1")
    167772161
    >>> ip("2001:db8::1")
    (2306139568115548160, 1)
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError as error:
        raise UsageError(f"{address!r} is no IP address: write 10.0.0.1 or 2001:db8::1") from error
    value = int(parsed)
    return value if parsed.version == 4 else (value >> 64, value & (1 << 64) - 1)


def text(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The packet table with addresses and flags as text, in the places of the columns that held numbers.

    ``ip_src`` and ``ip_dst`` become strings that hold IPv4 and IPv6 addresses alike (the four ``ipv6_…`` columns
    go), Ethernet and 802.11 addresses ``00:11:22:33:44:55``, ``tcp_flags`` letters such as ``SA``.  Columns that the
    frame lacks are passed over; null stays null.

    >>> pcap2arrow.text(pcap2arrow.scan("dataset").head(5)).collect()                              # doctest: +SKIP
    """
    import polars as pl

    names = frame.collect_schema().names()
    columns = [pl.col(name) for name in names if not name.startswith("ipv6_") or name == "ipv6_flow"]
    shown: dict[str, pl.Expr] = {
        name: _mac(name) for name in ("eth_src", "eth_dst", "wlan_ra", "wlan_ta") if name in names
    }
    for side in ("src", "dst"):
        six = f"ipv6_{side}_hi" in names and f"ipv6_{side}_lo" in names
        if f"ip_{side}" in names:
            four = _ipv4(f"ip_{side}")
            shown[f"ip_{side}"] = pl.coalesce(four, _ipv6(f"ipv6_{side}")) if six else four
        elif six:
            columns.append(_ipv6(f"ipv6_{side}").alias(f"ip_{side}"))
    if "tcp_flags" in names:
        shown["tcp_flags"] = _flags()
    return (
        frame.select(columns).with_columns(**shown)
        if not shown
        else frame.with_columns(**shown).select(columns)
    )


def _ipv4(name: str) -> pl.Expr:
    import polars as pl

    octets = [(pl.col(name) // 256**k % 256).cast(pl.String) for k in (3, 2, 1, 0)]
    return pl.concat_str(octets, separator=".")


def _mac(name: str) -> pl.Expr:
    return _hex_groups(name, groups=6, width=2, separator=":")


def _hex_groups(name: str, *, groups: int, width: int, separator: str) -> pl.Expr:
    """An integer as groups of hexadecimal digits, all of them written."""
    import polars as pl

    digits = pl.Series(list("0123456789abcdef"))
    parts = []
    for group in range(groups):
        shifts = [width * (groups - group) - digit - 1 for digit in range(width)]
        nibbles = [(pl.col(name) // 16**shift % 16).cast(pl.UInt8) for shift in shifts]
        parts.append(pl.concat_str([nibble.replace_strict(range(16), digits) for nibble in nibbles]))
    return pl.concat_str(parts, separator=separator)


def _ipv6(name: str) -> pl.Expr:
    """RFC 5952 text of the two halves of an address."""
    import polars as pl

    def write(batch: pl.Series) -> pl.Series:
        values = batch.unique()
        halves = values.struct.unnest()
        written = [
            None if high is None or low is None else _ipv6_text(high << 64 | low)
            for high, low in halves.iter_rows()
        ]
        lookup = halves.with_columns(pl.Series("text", written, dtype=pl.String))
        joined = batch.struct.unnest().join(
            lookup, on=halves.columns, how="left", nulls_equal=True, maintain_order="left"
        )
        return joined.get_column("text")

    return pl.struct(f"{name}_hi", f"{name}_lo").map_batches(write, return_dtype=pl.String)


def _ipv6_text(address: int) -> str:
    """The system writes addresses as ``ipaddress`` does, in a tenth of the time, but for IPv4 in their ends."""
    written = socket.inet_ntop(socket.AF_INET6, address.to_bytes(16, "big"))
    return str(ipaddress.IPv6Address(address)) if "." in written else written


def _flags() -> pl.Expr:
    import polars as pl

    letters = [
        pl.when(pl.col("tcp_flags") // 2**bit % 2 == 1).then(pl.lit(letter)).otherwise(pl.lit(""))
        for bit, letter in enumerate(_FLAG_LETTERS)
    ]
    return pl.when(pl.col("tcp_flags").is_not_null()).then(pl.concat_str(letters))
