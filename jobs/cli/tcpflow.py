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
    -o DIR       folder for streams and report;  -X FILE  where the report goes
    -T TEMPLATE  names of files;  -F[ctTXMkmg]  prefixes, counts, no files (X), MD5 (M)
    -b N         store at most N octets of a stream
    -m N         begin another stream where a segment is more than N octets off
    -I           write an index beside each file: offset, time and octets of each segment
    -e md5       put MD5 into the report
    -c, -C       print packets, with or without the names of their streams, and store nothing
    -B -0 -D -g -J  print octets as they are, no newlines, hexadecimal, in colours, as JSON
    -S tdelta=N  times in names are N seconds later;  -S enable_report=0  no report

    Files are those of tcpflow 1.6.1, but padding of frames is not taken for data, a capture that is damaged in its
    middle is read to its end, and names that would leave the folder are refused. -f, -L, -p, -P, -Q, -U and -z
    do nothing. There is no live capture; -R, -w, -K, -a, -e http and -e python are not there yet. The exit code is
    tcpflow's: 0, or 1 for any error.

    \b
    pcap2arrow tcpflow -r capture.pcap -o streams
    pcap2arrow tcpflow -r dataset -o streams -Fk -e md5 port 80
    pcap2arrow tcpflow -r capture.pcap -c host 192.0.2.1
    """
    from jobs.cli.output import complain, complain_of_text
    from jobs.tcpflow import read_arguments, run
    from pcap2arrow.errors import FilterError, Pcap2ArrowError

    try:
        arguments = read_arguments(words)
        if arguments.shown is not None:
            return _show(arguments.shown)
        for warning in dict.fromkeys(arguments.warnings):
            complain(warning)
        errors = run(arguments, write=sys.stdout.buffer.write)
        sys.stdout.buffer.flush()
    except FilterError as error:
        complain_of_text(error)
        return FAILED
    except Pcap2ArrowError as error:
        complain(str(error))
        return FAILED
    for reason in errors:
        complain(reason)
    return FAILED if errors else 0


def _show(letter: str) -> int:
    """Print the version or the help, as asked for; tcpflow's exit code for its version is 1."""
    from pcap2arrow import __version__

    if letter == "V":
        click.echo(f"pcap2arrow {__version__}")
        return FAILED
    click.echo(click.get_current_context().get_help())
    return 0
