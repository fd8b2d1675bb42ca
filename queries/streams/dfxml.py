"""The report of tcpflow: streams as file objects of DFXML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from queries.streams.naming import address_texts, mac_texts
from queries.streams.packets import Packets

if TYPE_CHECKING:
    from queries.streams.bucket import Bucket

_HEAD = """<?xml version='1.0' encoding='UTF-8'?>
<dfxml xmloutputversion='1.0'>
  <metadata xmlns='http://afflib.org/tcpflow/' xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' xmlns:dc='http://purl.org/dc/elements/1.1/'>
    <dc:type>Feature Extraction</dc:type>
  </metadata>
  <creator version='1.0'>
    <program>{program}</program>
    <version>{version}</version>
  </creator>
  <configuration>
"""
_FAMILIES = {4: 2, 6: 10}
_SECOND = 10**9
_SPACE = "http://afflib.org/tcpflow/"
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NO_MAC = "00:00:00:00:00:00"


@dataclass(frozen=True, slots=True)
class Inner:
    """A file that was taken out of a stream, from the place ``offset`` on."""

    offset: int
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known of streams beside their packets, by their numbers.

    ``digests`` are MD5 (None: not asked for), ``inner`` the files that were taken out of those that were looked into,
    ``results`` what a function of Python said.
    """

    digests: Sequence[str | None] | None = None
    inner: Mapping[int, Sequence[Inner]] = field(default_factory=dict)
    results: Mapping[int, str] = field(default_factory=dict)


def report(
    bucket: Bucket | None,
    names: Mapping[int, str],
    findings: Findings,
    *,
    version: str,
    usage: Mapping[str, object] | None = None,
) -> Iterator[str]:
    """The report, piece by piece: a file object per stream, in the order in which they closed.

    ``names`` are those of files, ``usage`` is what the work took of the machine.
    """
    yield _HEAD.format(program="pcap2arrow", version=escape(version))
    if bucket is not None:
        yield from _file_objects(bucket, names, findings)
    yield "  </configuration>\n"
    counts = {
        "max_open_flows": 0 if bucket is None else _most_open(bucket),
        "total_flows": 0 if bucket is None else len(bucket.followed.streams),
        "total_packets": 0 if bucket is None else int(bucket.followed.streams.packets.sum()),
    }
    yield from _elements(counts, "  ")
    if usage is not None:
        yield "  <rusage>\n"
        yield from _elements(usage, "    ")
        yield "  </rusage>\n"
    yield "</dfxml>\n"


def _elements(values: Mapping[str, object], indent: str) -> Iterator[str]:
    return (f"{indent}<{name}>{value}</{name}>\n" for name, value in values.items())


def _most_open(bucket: Bucket) -> int:
    """How many streams had their file open at once; a packet that closes one and opens another closes it first."""
    packets, streams = bucket.packets, bucket.followed.streams
    with_file = streams.opening >= 0
    opens = packets.order[streams.opening[with_file]]
    closing = streams.closing[with_file]
    closes = packets.order[closing] + (closing == streams.opening[with_file])
    opens, closes = np.sort(opens), np.sort(closes[closing >= 0])
    open_ = np.arange(1, len(opens) + 1) - np.searchsorted(closes, opens, side="right")
    return int(open_.max(initial=0))


def _file_objects(bucket: Bucket, names: Mapping[int, str], findings: Findings) -> Iterator[str]:
    packets, streams = bucket.packets, bucket.followed.streams
    attributes = list(_attributes(bucket))
    turn = np.where(streams.closing >= 0, packets.order[streams.closing], len(packets))
    for stream in np.argsort(turn, kind="stable").tolist():
        name = names.get(stream)
        named = f"      <filename>{_text(name)}</filename>\n" if name is not None else ""
        size = int(streams.farthest[stream]) if name is not None else 0
        words = " ".join(f"{key}={quoteattr(str(value))}" for key, value in attributes[stream].items())
        sized = f"      <filesize>{size}</filesize>\n      <tcpflow {words} />\n"
        yield f"    <fileobject>\n{named}{sized}"
        if name is not None:
            yield from _found(stream, findings)
        yield "    </fileobject>\n"


def _found(stream: int, findings: Findings) -> Iterator[str]:
    """What was found in a stream that has a file."""
    digest = None if findings.digests is None else findings.digests[stream]
    if digest is not None:
        yield f"      <hashdigest type='MD5'>{digest}</hashdigest>\n"
    if stream in findings.inner:
        yield "      <byte_runs>\n"
        for each in findings.inner[stream]:
            file = f"<filename>{_text(each.name)}</filename><filesize>{each.size}</filesize>"
            yield f"        <byte_run file_offset='{each.offset}'><fileobject>{file}</fileobject></byte_run>\n"
        yield "      </byte_runs>\n"
    if stream in findings.results:
        result = _text(findings.results[stream])
        yield f"      <tcpflow:result xmlns:tcpflow='{_SPACE}' scanner='python'>{result}</tcpflow:result>\n"


def _text(text: str) -> str:
    """Text in XML 1.0, which has no place for most control characters."""
    return escape(_NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text))


def _attributes(bucket: Bucket) -> Iterator[dict[str, object]]:
    """What is known of each stream, as attributes."""
    packets, streams = bucket.packets, bucket.followed.streams
    first = packets.table[packets.order[streams.first]]
    last = packets.table[packets.order[streams.last]]
    frame_len, caplen = (_sums(bucket, column) for column in ("frame_len", "caplen"))
    columns = {
        "startime": [_time(each) for each in first["time"].dt.epoch("ns").to_list()],
        "endtime": [_time(each) for each in last["time"].dt.epoch("ns").to_list()],
        "mac_daddr": mac_texts(first["eth_dst"]),
        "mac_saddr": mac_texts(first["eth_src"]),
        "family": [_FAMILIES[version] for version in first["ip_version"].to_list()],
        "src_ipn": address_texts(first, "src"),
        "dst_ipn": address_texts(first, "dst"),
        "srcport": first["src_port"].to_list(),
        "dstport": first["dst_port"].to_list(),
        "packets": streams.packets.tolist(),
    }
    for number in range(len(streams)):
        found: dict[str, object] = {
            name: values[number] for name, values in columns.items() if values[number] != _NO_MAC
        }
        for name, count in (("out_of_order_count", streams.out_of_order), ("violations", streams.violations)):
            if count[number]:
                found[name] = int(count[number])
        found["len"] = int(frame_len[number])
        if caplen[number] != frame_len[number]:
            found["caplen"] = int(caplen[number])
        yield found


def _sums(bucket: Bucket, column: str) -> NDArray[np.int64]:
    """A column summed over the packets of each stream."""
    packets, streams = bucket.packets, bucket.followed.streams
    values = _in_rows(packets, column)
    values[bucket.followed.ignored] = 0
    summed = np.append(0, np.cumsum(values))
    sums: NDArray[np.int64] = summed[streams.last + 1] - summed[streams.first]
    return sums


def _in_rows(packets: Packets, column: str) -> NDArray[np.int64]:
    values: NDArray[np.int64] = packets.table[column].to_numpy()[packets.order].astype(np.int64)
    return values


def _time(nanoseconds: int | None) -> str:
    """A time with microseconds where there are any."""
    seconds, rest = divmod(nanoseconds or 0, _SECOND)
    fraction = f".{rest // 1000:06}" if rest // 1000 else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"
