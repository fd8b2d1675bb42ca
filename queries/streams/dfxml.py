"""The report of tcpflow: streams as file objects of DFXML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import numpy as np
import polars as pl
from numpy.typing import NDArray

from queries.merging import ORDER
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
_STEP, _AFTER = "step", "after"
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


@dataclass(frozen=True, slots=True)
class Objects:
    """File objects of streams: of those that closed, in the order in which they did, and of those that are open.

    ``closed`` and ``open`` are frames of ``text``, with the columns that say where the closing, or the first packet is
    in the order of the whole.  ``events`` has that, too, of packets that open and close files: ``step`` is 1 or -1.
    """

    closed: pl.DataFrame
    open: pl.DataFrame
    events: pl.DataFrame

    @classmethod
    def of(cls, bucket: Bucket, names: Mapping[int, str], findings: Findings) -> Objects:
        """Those of a bucket; ``names`` are those of files."""
        streams = bucket.followed.streams
        texts = _file_objects(bucket, names, findings)
        is_closed = streams.closing >= 0
        return cls(
            _in_order(bucket.packets, streams.closing[is_closed], texts.filter(is_closed)),
            _in_order(bucket.packets, streams.first[~is_closed], texts.filter(~is_closed)),
            _events(bucket),
        )


def _in_order(packets: Packets, rows: NDArray[np.int64], texts: pl.Series) -> pl.DataFrame:
    """Texts in the order of the packets that have those rows."""
    place = packets.order[rows]
    order = np.argsort(place, kind="stable")
    return packets.table.select(ORDER)[place[order]].with_columns(texts[order].alias("text"))


def _events(bucket: Bucket) -> pl.DataFrame:
    """A packet that closes a stream and opens another closes it first."""
    packets, streams = bucket.packets, bucket.followed.streams
    with_file = streams.opening >= 0
    opening, closing = streams.opening[with_file], streams.closing[with_file]
    closes = closing >= 0
    rows: NDArray[np.int64] = np.concatenate([opening, closing[closes]])
    step = np.repeat([1, -1], [len(opening), int(closes.sum())])
    turn = np.concatenate([np.ones(len(opening), np.int8), 2 * (closing == opening)[closes].astype(np.int8)])
    told = pl.Series(_STEP, step, pl.Int8), pl.Series(_AFTER, turn, pl.Int8)
    return packets.table.select(ORDER)[packets.order[rows]].with_columns(told)


def most_open(events: Sequence[pl.DataFrame]) -> int:
    """How many streams had their file open at once."""
    if not events:
        return 0
    open_ = np.cumsum(pl.concat(events).sort(*ORDER, _AFTER)[_STEP].to_numpy(), dtype=np.int64)
    return int(open_.max(initial=0))


def report(
    texts: Iterable[pl.Series],
    counts: Mapping[str, int],
    *,
    version: str,
    usage: Mapping[str, object] | None = None,
) -> Iterator[str]:
    """The report, piece by piece, of the texts of file objects and the counts of all that stand behind them.

    ``usage`` is what the work took of the machine.
    """
    yield _HEAD.format(program="pcap2arrow", version=escape(version))
    for some in texts:
        yield from some.to_list()
    yield "  </configuration>\n"
    yield from _elements(counts, "  ")
    if usage is not None:
        yield "  <rusage>\n"
        yield from _elements(usage, "    ")
        yield "  </rusage>\n"
    yield "</dfxml>\n"


def _elements(values: Mapping[str, object], indent: str) -> Iterator[str]:
    return (f"{indent}<{name}>{value}</{name}>\n" for name, value in values.items())


def _file_objects(bucket: Bucket, names: Mapping[int, str], findings: Findings) -> pl.Series:
    """The text of a file object for each stream."""
    streams = bucket.followed.streams
    count = len(streams)
    named, found = [""] * count, [""] * count
    for stream, name in names.items():
        named[stream] = f"      <filename>{_text(name)}</filename>\n"
        found[stream] = "".join(_found(stream, findings))
    is_named = np.array([bool(each) for each in named], np.bool_)
    table = _attributes(bucket).with_columns(
        pl.Series("named", named, pl.String),
        pl.Series("found", found, pl.String),
        pl.Series("size", np.where(is_named, streams.farthest, 0)),
    )
    words = [_word(name) for name in _ATTRIBUTES if name in table.columns]
    parts = [
        "    <fileobject>\n", pl.col("named"), "      <filesize>", pl.col("size"), "</filesize>\n      <tcpflow",
        *words, " />\n", pl.col("found"), "    </fileobject>\n",
    ]  # fmt: skip
    return table.select(pl.concat_str([pl.lit(p) if isinstance(p, str) else p for p in parts])).to_series()


def _word(name: str) -> pl.Expr:
    """An attribute, if there is anything to say: null says nothing."""
    return pl.concat_str(pl.lit(f' {name}="'), pl.col(name), pl.lit('"')).fill_null("")


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


_ATTRIBUTES = (
    "startime", "endtime", "mac_daddr", "mac_saddr", "family", "src_ipn", "dst_ipn", "srcport", "dstport", "packets",
    "out_of_order_count", "violations", "len", "caplen",
)  # fmt: skip
"""What is told of each stream, in this order."""


def _attributes(bucket: Bucket) -> pl.DataFrame:
    """That, with null where nothing is told."""
    packets, streams = bucket.packets, bucket.followed.streams
    first = packets.table[packets.order[streams.first]]
    last = packets.table[packets.order[streams.last]]
    table = pl.DataFrame(
        {
            "startime": _times(first["time"]),
            "endtime": _times(last["time"]),
            "mac_daddr": pl.Series(mac_texts(first["eth_dst"]), dtype=pl.String),
            "mac_saddr": pl.Series(mac_texts(first["eth_src"]), dtype=pl.String),
            "family": first["ip_version"].replace_strict(_FAMILIES, return_dtype=pl.UInt8),
            "src_ipn": pl.Series(address_texts(first, "src"), dtype=pl.String),
            "dst_ipn": pl.Series(address_texts(first, "dst"), dtype=pl.String),
            "srcport": first["src_port"],
            "dstport": first["dst_port"],
            "packets": streams.packets,
            "out_of_order_count": streams.out_of_order,
            "violations": streams.violations,
            "len": bucket.sums("frame_len"),
            "caplen": bucket.sums("caplen"),
        }
    )

    def unless(name: str, nothing: str | int | pl.Expr) -> pl.Expr:
        return pl.when(pl.col(name) != nothing).then(name)

    return table.with_columns(
        unless("mac_daddr", pl.lit(_NO_MAC)),
        unless("mac_saddr", pl.lit(_NO_MAC)),
        unless("out_of_order_count", 0),
        unless("violations", 0),
        unless("caplen", pl.col("len")),
    )


def _times(times: pl.Series) -> pl.Series:
    """Times with microseconds where there are any."""
    nanoseconds = times.dt.epoch("ns").fill_null(0)
    micros = nanoseconds % _SECOND // 1000
    seconds = (nanoseconds // _SECOND * 1000).cast(pl.Datetime("ms"))
    fraction = "." + micros.cast(pl.String).str.zfill(6)
    return seconds.dt.to_string("%Y-%m-%dT%H:%M:%S") + fraction.zip_with(micros > 0, pl.Series([""])) + "Z"
