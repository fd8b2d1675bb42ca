"""``pcap2arrow tcpdump`` beside tcpdump: the files that both write, what they count, say, and how they end."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest

import pcap2arrow
from jobs.cli.tcpdump import command
from jobs.link_types import link_type_number, link_type_text
from jobs.tcpdump import read_arguments
from pcap2arrow.errors import UsageError
from tests.blocks import pcap_header, pcap_record
from tests.commands import PROJECT, SAMPLE, run
from tests.conftest import CorpusCapture

Tool = Callable[[str], str]
Tcpdump = Callable[..., "Done"]

ETHERNET = 1
_EXPRESSIONS, _CAPTURES = 40, 100


@dataclass(frozen=True, slots=True)
class Done:
    """How a run ended: its exit code, what it printed, and what it wrote to ``-w`` (None: nothing)."""

    code: int
    out: str
    err: str
    written: bytes | None


@pytest.fixture
def theirs(tool: Tool) -> Tcpdump:
    """tcpdump itself; a file to write is replaced by standard output."""
    tcpdump = tool("tcpdump")

    def call(*words: str | Path, writes: bool = False) -> Done:
        to = ["-w", "-"] if writes else []
        done = subprocess.run([tcpdump, *map(str, words), *to], capture_output=True, check=False)
        out = "" if writes else done.stdout.decode()
        written = done.stdout if writes and done.stdout else None
        return Done(done.returncode, out, done.stderr.decode(), written)

    return call


@pytest.fixture
def ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Tcpdump:
    """The verb, in this process."""
    target = tmp_path / "written by us"

    def call(*words: str | Path, writes: bool = False) -> Done:
        to = ["-w", str(target)] if writes else []
        target.unlink(missing_ok=True)
        code = command.main([*to, *map(str, words)], standalone_mode=False)
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err, target.read_bytes() if target.exists() else None)

    return call


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


# Files


def _readable(manifest: Sequence[CorpusCapture]) -> list[CorpusCapture]:
    """Little-endian captures of microseconds that tcpdump reads to their end."""
    return [
        capture
        for capture in manifest
        if (capture.format, capture.byte_order, capture.time_resolution) == ("pcap", "little", "us")
        and capture.tcpdump_rc == 0
        and len(capture.link_types) == 1
    ]


@pytest.fixture(scope="module")
def expressions(shared: Path) -> dict[int, list[str]]:
    """Forty expressions for Ethernet, and those of each other link type, by the number of that."""
    texts = (shared / "expressions" / "shared.txt").read_text(encoding="utf-8").splitlines()
    found = {ETHERNET: texts[:: len(texts) // _EXPRESSIONS][:_EXPRESSIONS]}
    rows = (shared / "expressions" / "shared_dlt.tsv").read_text(encoding="utf-8").splitlines()[1:]
    for _, number, text in (row.split("\t") for row in rows):
        found.setdefault(int(number), []).append(text)
    return found


def _of_link_types(
    captures: Sequence[CorpusCapture], expressions: dict[int, list[str]], *, ethernet: int
) -> Iterator[tuple[CorpusCapture, list[str]]]:
    """So many Ethernet captures from all over the corpus, and all of other link types, with expressions for them."""
    of_ethernet = [capture for capture in captures if capture.link_types == {ETHERNET}]
    for capture in of_ethernet[:: max(len(of_ethernet) // ethernet, 1)][:ethernet]:
        yield capture, expressions[ETHERNET]
    for capture in captures:
        (link_type,) = capture.link_types
        if link_type != ETHERNET:
            yield capture, ["len > 60", *expressions.get(link_type, [])]


def _differing(
    pairs: Iterator[tuple[CorpusCapture, str]], theirs: Tcpdump, ours: Tcpdump
) -> tuple[int, list[tuple[str, str]]]:
    """How many copies were compared, and those that are not the same file, or do not end in the same way."""
    compared, wrong = 0, []
    for capture, text in pairs:
        words = ("-O", "-r", capture.path, text)
        expected, found = theirs(*words, writes=True), ours(*words, writes=True)
        compared += 1
        if (found.written, found.code) != (expected.written, expected.code):
            wrong.append((capture.name, text))
    return compared, wrong


def test_copies_are_the_same_files(
    manifest: list[CorpusCapture], expressions: dict[int, list[str]], theirs: Tcpdump, ours: Tcpdump
) -> None:
    chosen = list(_of_link_types(_readable(manifest), expressions, ethernet=_CAPTURES))
    assert len(chosen) > _CAPTURES + 10
    pairs = ((capture, texts[n % len(texts)]) for n, (capture, texts) in enumerate(chosen))
    compared, wrong = _differing(pairs, theirs, ours)
    assert wrong == []
    assert compared > _CAPTURES


@pytest.mark.long
def test_all_copies_are_the_same_files(
    manifest: list[CorpusCapture], expressions: dict[int, list[str]], theirs: Tcpdump, ours: Tcpdump
) -> None:
    """Forty expressions on a hundred captures of Ethernet and on all others, and two on every capture that is left."""
    readable = _readable(manifest)
    chosen = list(_of_link_types(readable, expressions, ethernet=_CAPTURES))
    pairs = [(capture, text) for capture, texts in chosen for text in texts]
    pairs += [(capture, text) for capture in readable for text in ("", "len > 100 or tcp[13] & 2 != 0")]
    compared, wrong = _differing(iter(pairs), theirs, ours)
    print(f"{compared:,} copies compared")
    assert wrong == []


@pytest.mark.parametrize("precision", ["--micro", "--nano"])
def test_other_formats_are_copied_as_tcpdump_copies_them(
    manifest: list[CorpusCapture], theirs: Tcpdump, ours: Tcpdump, precision: str
) -> None:
    """Big-endian, nanoseconds, Kuznetzov's variant; a pcapng of one snap length."""
    chosen = [
        capture
        for capture in manifest
        if capture.tcpdump_rc == 0
        and capture.packets_tcpdump == capture.packets
        and (capture.format, capture.byte_order, capture.time_resolution) != ("pcap", "little", "us")
        and not capture.name.startswith("tcpdump/time_")  # of a year that a pcap does not reach
    ]
    assert {capture.format for capture in chosen} >= {"pcap", "pcapng", "pcap-kuznetzov"}
    compared, wrong = 0, []
    for capture in chosen[::3] if len(chosen) > 150 else chosen:
        for text in ("", "len > 90"):
            words = ("-O", precision, "-r", capture.path, text)
            expected, found = theirs(*words, writes=True), ours(*words, writes=True)
            compared += 1
            if expected.written != found.written:
                wrong.append((capture.name, text))
    assert wrong == []
    assert compared > 60


def test_nanoseconds_are_kept_unless_cut(corpus: Path, theirs: Tcpdump, ours: Tcpdump) -> None:
    path = corpus / "derived" / "nsec-le.pcap"
    whole = ours("-r", path, writes=True).written
    assert whole == path.read_bytes() == theirs("--nano", "-r", path, writes=True).written
    assert ours("--micro", "-r", path, writes=True).written == theirs("-r", path, writes=True).written


@pytest.mark.parametrize("frames", ["stored", "referenced"])
def test_a_dataset_gives_what_its_capture_gives(
    manifest: list[CorpusCapture], tmp_path: Path, ours: Tcpdump, frames: str
) -> None:
    captures = [
        c for c in manifest if c.is_capture and c.sound and len(c.link_types) == 1 and 5 < c.packets < 900
    ]
    compared = 0
    for capture in captures[:: len(captures) // 20]:
        dataset = tmp_path / f"dataset-{compared}"
        pcap2arrow.convert([capture.path], dataset, frames=frames)  # type: ignore[arg-type]
        for text in ("", "len > 80", "not ip"):
            direct, stored = (
                ours("-O", "-r", source, text, writes=True) for source in (capture.path, dataset)
            )
            assert (direct.written, direct.code) == (stored.written, stored.code), (capture.name, text)
            assert (
                ours("-O", "--count", "-r", dataset, text).out
                == ours("-O", "--count", "-r", capture.path, text).out
            )
        compared += 1
    assert compared >= 20


def test_several_captures_in_a_row(corpus: Path, tmp_path: Path, theirs: Tcpdump, ours: Tcpdump) -> None:
    names = [corpus / "derived" / name for name in ("usec-be.pcap", "unsorted.pcap", "usec-be.pcap")]
    (tmp_path / "list").write_text("".join(f"{name}\n" for name in names))
    for words in (("tcp",), ("-c", "200")):
        expected = theirs("-V", tmp_path / "list", *words, writes=True)
        found = ours("-V", tmp_path / "list", *words, writes=True)
        assert (found.written, found.code) == (expected.written, expected.code)
        assert found.err == expected.err


# Numbers of packets


@pytest.mark.parametrize("count", [1, 2, 17, 10**6])
@pytest.mark.parametrize("expression", ["", "tcp[13] & 16 != 0"])
def test_the_first_packets(
    corpus: Path, tmp_path: Path, theirs: Tcpdump, ours: Tcpdump, expression: str, count: int
) -> None:
    path = corpus / "derived" / "usec-be.pcap"
    pcap2arrow.convert([path], tmp_path / "dataset")
    words = ("-c", str(count), expression)
    written, counted = (
        theirs("-r", path, *words, writes=True).written,
        theirs("--count", "-r", path, *words).out,
    )
    for source in (path, tmp_path / "dataset"):
        assert ours("-r", source, *words, writes=True).written == written
        assert ours("--count", "-r", source, *words).out == counted
        both = ours("--count", "-r", source, *words, writes=True)
        assert (both.out, both.written) == (counted, written)


def test_counts_are_those_of_tcpdump(
    manifest: list[CorpusCapture], expressions: dict[int, list[str]], theirs: Tcpdump, ours: Tcpdump
) -> None:
    chosen = [capture for capture in _readable(manifest) if capture.link_types == {ETHERNET}]
    for place, capture in enumerate(chosen[:: len(chosen) // 40]):
        words = ("-O", "--count", "-r", capture.path, expressions[ETHERNET][place % _EXPRESSIONS])
        expected, found = theirs(*words), ours(*words)
        assert (found.out, found.err, found.code) == (expected.out, expected.err, expected.code), words


# Damage


@pytest.mark.parametrize("missing", [1, 15, 16, 17, 40])
def test_a_cut_capture_gives_all_whole_packets_then_an_error(
    corpus: Path, tmp_path: Path, theirs: Tcpdump, ours: Tcpdump, missing: int
) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes((corpus / "derived" / "usec-be.pcap").read_bytes()[:-missing])
    for words in ((), ("tcp",), ("-c", "1000000")):
        expected, found = theirs("-r", path, *words, writes=True), ours("-r", path, *words, writes=True)
        assert (found.written, found.code) == (expected.written, expected.code) and found.code == 1
        assert re.search(r"cut\.pcap: offset \d+: expected a record of \d+ octets, found the end", found.err)
        assert ours("-r", path, "--count", *words).out == theirs("-r", path, "--count", *words).out
    assert ours("-r", path, "--count", "-c", "3").code == theirs("-r", path, "--count", "-c", "3").code == 0


def test_octets_that_are_no_capture(tmp_path: Path, theirs: Tcpdump, ours: Tcpdump) -> None:
    contents = {"empty": b"", "short": pcap_header("<")[:16], "text": b"No capture, but text.\n"}
    for name, octets in contents.items():
        (tmp_path / name).write_bytes(octets)
        for words in (("--count",), ("-c", "5", "--count")):
            expected, found = (call("-r", tmp_path / name, *words) for call in (theirs, ours))
            assert (found.code, found.out) == (expected.code, expected.out) == (1, ""), name
            assert f"{name}: offset" in found.err


# The command line

SAME = """
-c 0 -r {capture} --count                      | invalid packet count 0
-c -3 -r {capture} --count                     | invalid packet count -3
-c five -r {capture} --count                   | invalid packet count five
-r {absent} --count                            | No such file or directory
-r {capture} --count foo                       | can't parse filter expression: syntax error
-r {capture} --count tcp udp                   | can't parse filter expression: syntax error
-r {capture} --count ip6 and tcp[13]=2         | expression rejects all packets
-r {capture} --count ip host ::1               | 'ip' modifier applied to ip6 host
-r {capture} --count -F {absent}               | No such file or directory
-r {capture} -w {absent}/x tcp                 | No such file or directory
-r {capture} --count -s 262145                 | invalid snaplen 262145
-r {capture} --count -s x                      | invalid snaplen x
-r {capture} --count --time-stamp-precision x  | unsupported time stamp precision
-r {capture} --count -tttttt                   | only -t, -tt, -ttt, -tttt and -ttttt are supported
-y NOTHING -d ip                               | invalid data link type NOTHING
-r {capture} --count -k                        | k
-r {capture} --count --nothing                 | nothing
-r                                             | -r
"""


@pytest.mark.parametrize("case", SAME.strip().splitlines(), ids=lambda case: case.split("|")[0].strip())
def test_what_tcpdump_refuses_is_refused(case: str, tmp_path: Path, theirs: Tcpdump, ours: Tcpdump) -> None:
    line, reason = (part.strip() for part in case.split("|"))
    capture = tmp_path / "capture.pcap"
    capture.write_bytes(pcap_header("<") + pcap_record("<", bytes(60)))
    places = {"capture": capture, "absent": tmp_path / "absent"}
    words = [word.format_map(places) for word in line.split()]
    expected, found = theirs(*words), ours(*words)
    assert (found.code, found.out) == (expected.code, expected.out) == (1, "")
    assert reason in found.err and reason in expected.err
    assert sorted(tmp_path.iterdir()) == [capture]


REFUSED = """
-i eth0 --count          | -i: there is no live capture here: write one with tcpdump -w FILE, and read it with -r FILE
-D                       | -D: there is no live capture
--immediate-mode tcp     | --immediate-mode: there is no live capture
--direction=in tcp       | -Q: there is no live capture
-Bfoo                    | -B: there is no live capture
tcp port 80              | no capture to read: there is no live capture
-r x -C 1 -w y           | -C: there is one output file
-r x -G 10 -w y          | -G: there is one output file
-r x -w y --print        | --print: packets can't be printed yet: write them with -w FILE, or count them with --count
-nnr x tcp               | packets can't be printed yet
-dd tcp                  | -dd and -ddd print libpcap's machine code, which is not made here: -d lists the tests
-ddd tcp                 | -dd and -ddd
"""


@pytest.mark.parametrize("case", REFUSED.strip().splitlines(), ids=lambda case: case.split("|")[0].strip())
def test_what_is_not_there_is_refused_with_a_way_out(case: str, ours: Tcpdump) -> None:
    line, reason = (part.strip() for part in case.split("|"))
    done = ours(*line.split())
    assert (done.code, done.out) == (1, "")
    assert reason in done.err


SPELLINGS = (
    "-nnr {capture} -c5 --count tcp",
    "-c 5 --count tcp -r {capture}",
    "-qtttSKvvenAXr{capture} -c5 --cou tcp",
    "--count -c5 -r {capture} -s 0 -U -Z root -O -l --number -- tcp",
    "-s65535 --snapshot-length=100 --micro --time-stamp-precision=nano -r {capture} --count -c5 tcp",
    "-F {filter} -r {capture} --count -c5 udp",
)


@pytest.mark.parametrize("line", SPELLINGS)
def test_letters_are_read_as_getopt_reads_them(
    line: str, tmp_path: Path, ours: Tcpdump, theirs: Tcpdump
) -> None:
    capture, text = tmp_path / "capture.pcap", tmp_path / "filter"
    tcp = bytes.fromhex("020000000010 020000000001 0800 4500 0014 0000 0000 4006 0000 0a000001 0a000002")
    capture.write_bytes(pcap_header("<") + (pcap_record("<", tcp) + pcap_record("<", bytes(60))) * 4)
    text.write_text("# TCP over\ntcp # IPv4\n  and\tip\n")
    words = [word.format(capture=capture, filter=text) for word in line.split()]
    found = ours(*words)
    assert (found.code, found.out) == (0, "4 packets\n")
    assert found.out == theirs(*words).out


def test_words_of_an_expression_are_joined() -> None:
    arguments = read_arguments(["-w", "-", "tcp", "port  80", "-nr-", "and", "--", "-1", "<", "len"])
    assert (arguments.expression, arguments.sources, arguments.target) == (
        "tcp port  80 and -1 < len",
        ["-"],
        "-",
    )
    with pytest.raises(UsageError, match="option --nothing not recognized"):
        read_arguments(["--nothing"])


def test_help_and_version(ours: Tcpdump) -> None:
    assert ours("--version").out == f"pcap2arrow {pcap2arrow.__version__}\n"
    assert "pcap2arrow tcpdump -r dataset --count" in ours("-h").out


def test_standard_input_and_output(tmp_path: Path) -> None:
    """As processes, since octets pass through."""
    whole = run("tcpdump", "-r", "-", "--count", stdin=SAMPLE)
    assert whole.stdout == "51 packets\n"
    assert whole.stderr == "reading from file -, link-type EN10MB (Ethernet), snapshot length 262144\n"
    run("tcpdump", "-r", SAMPLE, "-w", tmp_path / "a.pcap", "tcp")
    piped = subprocess.run(
        f"python -m jobs.cli tcpdump -r {SAMPLE} -w - tcp | python -m jobs.cli tcpdump -r - -w {tmp_path}/b.pcap",
        shell=True, cwd=PROJECT, capture_output=True, check=True, env=_python_first(),
    )  # fmt: skip
    assert b"error" not in piped.stderr
    assert (tmp_path / "a.pcap").read_bytes() == (tmp_path / "b.pcap").read_bytes()


def _python_first() -> dict[str, str]:
    import os
    import sys

    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


# Link types


def test_link_types_are_named_and_written_as_tcpdump_does(
    tmp_path: Path, theirs: Tcpdump, ours: Tcpdump
) -> None:
    """All that filters know more of than octets, and FCS bits."""
    path, named = tmp_path / "capture", 0
    for word in (*range(300), 0x04000001, 0x24000001, 0xF4000071):
        path.write_bytes(pcap_header("<", link_word=word) + pcap_record("<", b"abcd"))
        expected = theirs("-O", "-r", path, writes=True)
        if expected.code or link_type_text(word & 0xFFFF).isdecimal():
            continue
        found = ours("-O", "-r", path, writes=True)
        assert (found.written, _first_line(found.err)) == (expected.written, _first_line(expected.err))
        named += 1
    assert named > 70


def test_link_types_have_numbers() -> None:
    assert [link_type_number(text) for text in ("EN10MB", "en10mb", "DLT_RAW", "276")] == [1, 1, 12, 276]
    with pytest.raises(UsageError, match="invalid data link type 65536"):
        link_type_number("65536")


def test_several_link_types_are_counted_but_not_copied(corpus: Path, ours: Tcpdump) -> None:
    path = corpus / "PcapPlusPlus" / "Pcap++Test" / "PcapExamples" / "pcapng-example.pcapng"
    assert ours("-r", path, "--count", "len > 0").code == 0
    copied = ours("-r", path, writes=True)
    assert (copied.code, copied.written) == (1, None)
    assert "a pcap holds one link type, not 1, 113: pcap2arrow export writes a pcapng" in copied.err


def test_the_plan_is_listed(tmp_path: Path, ours: Tcpdump) -> None:
    listed = ours("-y", "RAW", "-d", "udp", "port", "53").out.splitlines()
    assert listed[0] == "(000) u8[0] & 0xf0 = 0x60      ? 001 : 004"
    assert listed[-1].endswith("= 0x35 ? accept : reject")
    path = tmp_path / "capture"
    path.write_bytes(pcap_header("<", link_word=101))
    of_file = ours("-d", "-r", path, "udp port 53")
    assert of_file.out.splitlines() == listed
    assert of_file.err.startswith(f"reading from file {path}, link-type RAW (Raw IP), snapshot length")
    assert list(islice(listed, 1)) != ours("-d", "udp port 53").out.splitlines()[:1]
