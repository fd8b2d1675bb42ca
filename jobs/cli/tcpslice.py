"""``pcap2arrow tcpslice``."""

from __future__ import annotations

import sys

import click

from jobs.cli.original import AsTheOriginal

FAILED, WRONG_LETTER = 1, 255


@click.command(
    cls=AsTheOriginal,
    short_help="Slice and merge captures with tcpslice's letters.",
    options_metavar="",
    epilog="pcap2arrow export --start T --end T does the same with more formats, filters and ways to merge.",
)
def command(words: tuple[str, ...]) -> int:
    """Do what tcpslice does with these letters: write the packets between two times of one or several captures.

    \b
    pcap2arrow tcpslice [-DdhlRrtv] [--compat-dup] [-w FILE] [-s tcp [-e SECONDS] [-f FORMAT]] [START [END]] SOURCE...

    \b
    -w FILE  write a pcap there; without it to standard output, unless that is a terminal
    -D       keep packets that an earlier source has, too; else they are left out if they have the same time,
             lengths and octets
    --compat-dup
             leave out what tcpslice leaves out: only what is the same as the packet written before it
    -l       merge by the time since the first packet of each source
    -R       print each source's first and last time in seconds; -r as dates; -t as 2001y09m09d01h46m40s000000u
    -d       print the range of time
    -s tcp   track TCP sessions: those that are open at END are completed with their later packets
    -e       seconds without a packet after which a session is closed; 0, the default: never
    -f       write each session to a capture of its own: sess-%s-%.6d.pcap is sess-tcp-000001.pcap for the first
    -v       tell of all sessions that are opened and closed, else of those closed after END

    START and END are seconds since 1970 (654321098.7654), local times (21h36m, 1990y9m25d20h51m; what is left out is
    the first packet's), or after + relative: START to the first packet, END to START. A file whose name looks like
    one is written ./21h36m.

    SOURCE is a capture, compressed or not, pcap or pcapng, or a dataset. The file that is written is tcpslice's,
    octet for octet, where it reads all packets; but it keeps nanoseconds, packets that step back in time, and
    captures that tcpslice can't search (of one packet, of a year and more, ...). Captures of several link types are
    merged into a pcapng. The exit code is 0, or 1 for any error.

    \b
    pcap2arrow tcpslice -w noon.pcap 12h 13h monday.pcap
    pcap2arrow tcpslice -w both.pcap +1h +10m a.pcap b.pcap.gz
    pcap2arrow tcpslice -r dataset
    pcap2arrow tcpslice -s tcp -v -f 'sess-%s-%.6d.pcap' -w all.pcap monday.pcap
    """
    from jobs.cli.output import complain, complain_of_text
    from jobs.own_process import keep_memory
    from jobs.tcpslice import LetterError, read_arguments, run
    from pcap2arrow.errors import Pcap2ArrowError, TimeSpecError
    from queries.zones import resolve_zone

    try:
        arguments = read_arguments(words)
        if arguments.help:
            click.echo(click.get_current_context().get_help())
            return 0
        if arguments.writes and arguments.target == "-" and sys.stdout.isatty():
            complain("stdout is a terminal; redirect or use -w")
            return FAILED
        if arguments.writes:
            keep_memory()
        outcome = run(arguments, zone=resolve_zone())
    except TimeSpecError as error:
        complain_of_text(error)
        return FAILED
    except Pcap2ArrowError as error:
        complain(str(error))
        return WRONG_LETTER if isinstance(error, LetterError) else FAILED
    for line in outcome.lines:
        click.echo(line, err=arguments.writes and arguments.target == "-")
    for line in outcome.unclosed:
        click.echo(line, err=True)
    for warning in outcome.warnings:
        complain(warning)
    return 0
