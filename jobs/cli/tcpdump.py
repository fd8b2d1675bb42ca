"""``pcap2arrow tcpdump``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from jobs.cli.original import AsTheOriginal

if TYPE_CHECKING:
    from jobs.tcpdump import Outcome

FAILED = 1


@click.command(
    cls=AsTheOriginal,
    short_help="Filter, count and copy captures with tcpdump's letters.",
    options_metavar="",
    epilog="Expressions are those of pcap-filter(7); pcap2arrow explain EXPR tells what one means.",
)
def command(words: tuple[str, ...]) -> int:
    """Do what tcpdump does with these letters: filter a capture or dataset, and count or write the packets.

    \b
    pcap2arrow tcpdump -r SOURCE [-w FILE|-] [-c N] [--count] [-F FILE] [EXPRESSION...]

    \b
    -r SOURCE  a capture, a dataset, or - for standard input; -V FILE names several, one per line
    -w FILE    write the packets to a pcap, - for standard output
    -c N       stop after N packets
    --count    print how many packets there are
    -F FILE    the expression is in a file; comments begin with #
    -d         print the tests that the expression stands for; -y TYPE says of what link type, without -r
    --micro    write microseconds, --nano nanoseconds (without either: what the capture has)
    -O         as libpcap without its optimiser: an expression that rejects all packets is no error

    Files that are written are those of "tcpdump -O", octet for octet, but keep nanoseconds. Letters that only
    change printed lines, and -s, -U and -Z, are accepted. A damaged capture gives all whole packets, then an
    error. The exit code is tcpdump's: 0, or 1 for any error.

    \b
    pcap2arrow tcpdump -r dataset --count 'tcp[13] & 2 != 0'
    pcap2arrow tcpdump -nr capture.pcap -w https.pcap tcp port 443
    pcap2arrow tcpdump -y EN10MB -d 'vlan and ip'
    """
    from jobs.cli.output import complain, complain_of_text
    from jobs.own_process import keep_memory
    from jobs.tcpdump import read_arguments, run
    from pcap2arrow.errors import FilterError, Pcap2ArrowError

    try:
        arguments = read_arguments(words)
        if arguments.shown is not None:
            return _show(arguments.shown)
        if arguments.target is not None:
            keep_memory()
        outcome = run(arguments, opened=lambda line: print(line, file=sys.stderr, flush=True))
    except FilterError as error:
        complain_of_text(error)
        return FAILED
    except Pcap2ArrowError as error:
        complain(str(error))
        return FAILED
    _tell(outcome)
    for reason in (*outcome.warnings, *outcome.errors):
        complain(reason)
    return FAILED if outcome.errors else 0


def _show(what: str) -> int:
    """Print the version or the help, as asked for."""
    from pcap2arrow import __version__

    context = click.get_current_context()
    click.echo(f"pcap2arrow {__version__}" if what == "version" else context.get_help())
    return 0


def _tell(outcome: Outcome) -> None:
    for line in outcome.lines:
        click.echo(line)
    if outcome.packets is not None:
        click.echo(f"{outcome.packets} packet{'' if outcome.packets == 1 else 's'}")
