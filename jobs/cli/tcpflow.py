"""``pcap2arrow tcpflow``."""

from __future__ import annotations

import sys

import click

from jobs.cli.original import AsTheOriginal

FAILED = 1


@click.command(
    cls=AsTheOriginal,
    short_help="Put TCP streams together with tcpflow's letters.",
    options_metavar="",
    epilog="Expressions are those of pcap-filter(7); pcap2arrow explain EXPR tells what one means.",
)
def command(words: tuple[str, ...]) -> int:
    """Do what tcpflow does with these letters: write the TCP streams of captures or datasets, or print them.

    \b
    pcap2arrow tcpflow -r SOURCE [-o DIR] [-b N] [-m N] [-c] [-T TEMPLATE] [EXPRESSION...]

    \b
    -r SOURCE    a capture, a dataset, or - for standard input; may come again; -l takes all words for sources
    -R SOURCE    one that only finishes streams which those of -r began
    -o DIR       folder for streams and report;  -X FILE  where the report goes
    -T TEMPLATE  names of files;  -F[ctTXMkmg]  prefixes, counts, no files (X), MD5 (M)
    -b N         store at most N octets of a stream
    -m N         begin another stream where a segment is more than N octets off
    -I           write an index beside each file: offset, time and octets of each segment
    -K           write a capture beside each file: the packets of its stream
    -w FILE      write a capture of the packets that belong to no stream
    -e http      write bodies of HTTP beside streams, decoded;  -Z  as they were sent
    -e md5       put MD5 into the report;  -a  all of that;  -x SCANNER  not that one;  -E SCANNER  only that one
    --map MODULE:FUNCTION  call a Python function with the octets of each stream; its result goes to the report.
                 The same: -e python -S py_path=DIR -S py_module=MODULE -S py_function=FUNCTION
    -c, -C       print packets, with or without the names of their streams, and store nothing
    --ordered    print streams instead: octets in their order, each once, as soon as what is before them came
    -B -0 -D -g -J  print octets as they are, no newlines, hexadecimal, in colours, as JSON
    -S tdelta=N  times in names are N seconds later;  -S enable_report=0  no report
    -q           no warnings;  -h  this text;  -V  the version

    Files are those of tcpflow 1.6.1, but padding of frames is not taken for data, a capture that is damaged in its
    middle is read to its end, and names that would leave the folder are refused. Of HTTP there are bodies of
    requests, too, and those of raw deflate, Brotli and Zstandard are decoded. -d, -f, -L, -p, -P, -Q, -s, -U, -v and
    -z do nothing, nor do the scanners that draw, netviz and wifiviz. There is no live capture. The exit code is
    tcpflow's: 0, or 1 for any error.

    \b
    pcap2arrow tcpflow -r capture.pcap -o streams
    pcap2arrow tcpflow -r dataset -o streams -Fk -e md5 port 80
    pcap2arrow tcpflow -r capture.pcap -c host 192.0.2.1
    pcap2arrow tcpflow -r capture.pcap -C --ordered port 80
    pcap2arrow tcpflow -r capture.pcap -o streams -e http --map mymodule:entropy
    """
    from jobs.cli.output import complain, complain_of_text
    from jobs.own_process import keep_memory
    from jobs.tcpflow.arguments import read_arguments
    from jobs.tcpflow.run import run
    from pcap2arrow.errors import FilterError, Pcap2ArrowError

    try:
        arguments = read_arguments(words)
        if arguments.shown is not None:
            return _show(arguments.shown)
        if not arguments.quiet:
            for warning in dict.fromkeys(arguments.warnings):
                complain(warning)
        keep_memory()
        outcome = run(arguments, write=sys.stdout.buffer.write)
        sys.stdout.buffer.flush()
    except FilterError as error:
        complain_of_text(error)
        return FAILED
    except Pcap2ArrowError as error:
        complain(str(error))
        return FAILED
    for reason in (*outcome.errors, *([] if arguments.quiet else outcome.warnings)):
        complain(reason)
    return FAILED if outcome.errors else 0


def _show(letter: str) -> int:
    """Print the version or the help, as asked for; tcpflow's exit code for its version is 1."""
    from pcap2arrow import __version__

    if letter == "V":
        click.echo(f"pcap2arrow {__version__}")
        return FAILED
    click.echo(click.get_current_context().get_help())
    return 0
