"""``pcap2arrow streams``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from jobs.cli.filters import chosen_filters, filter_options
from jobs.cli.options import (
    defrag_option,
    json_option,
    scheduler_options,
    sources_argument,
    taken,
    worker_options,
)
from jobs.cli.slices import chosen_range, time_options

if TYPE_CHECKING:
    from queries.streams.naming import Template


@click.command(short_help="Put TCP streams together: files and tables.")
@sources_argument
@click.option(
    "-o", "--output", "folder", metavar="DIR", help="Write a file for each stream into this folder."
)
@click.option(
    "--tables",
    metavar="DIR",
    help="Write streams.parquet, segments.parquet and gaps.parquet into this folder.",
)
@click.option(
    "-e",
    "--extract",
    type=click.Choice(("http",)),
    help="Find HTTP in streams: write its bodies, decoded, beside them, and http.parquet, a row per transaction.",
)
@click.option(
    "--map",
    "function",
    metavar="MODULE:FUNCTION",
    help="Call a Python function with the octets of each stream; its result is a column of streams.parquet.",
)
@filter_options
@time_options
@defrag_option
@click.option(
    "--skip",
    type=click.IntRange(min=0),
    default=1 << 24,
    show_default=True,
    metavar="N",
    help="A segment more than N octets off the place that is expected begins another stream.",
)
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Keep N octets of each stream.")
@click.option(
    "--overlap",
    type=click.Choice(("last", "first")),
    default="last",
    show_default=True,
    help="Where segments overlap, take octets from the last one that came, or the first.",
)
@click.option(
    "--gaps",
    type=click.Choice(("zero", "skip", "mark", "split")),
    default="zero",
    show_default=True,
    help="Where octets are missing, files have a hole (zeros), nothing, words that say how many, or an end: the next "
    "file is NAME@OFFSET.",
)
@click.option(
    "--template", metavar="TEXT", help="Names of files, with tcpflow's codes.  [default: %A.%a-%B.%b%V%v%C%c]"
)
@click.option("--hash", "hashes", is_flag=True, help="Put MD5 and SHA-256 into the table of streams.")
@click.option("--octets", is_flag=True, help="Write the octets, too, into octets.parquet beside the tables.")
@click.option(
    "--compat",
    type=click.Choice(("tcpflow",)),
    help="Follow tcpflow also where it loses or invents octets: the same files as tcpflow 1.6.1.",
)
@click.option(
    "--temp-dir",
    "temporary",
    metavar="DIR",
    help="Folder for what does not fit in memory.  [default: beside the output]",
)
@scheduler_options
@worker_options
@json_option
def command(
    sources: tuple[str, ...],
    folder: str | None,
    tables: str | None,
    extract: str | None,
    function: str | None,
    template: str | None,
    hashes: bool,
    octets: bool,
    temporary: str | None,
    scheduler: str | None,
    workers: int | None,
    compat: str | None,
    as_json: bool,
    skip: int,
    limit: int | None,
    overlap: Any,
    gaps: Any,
    defrag: bool,
    **packets: Any,
) -> int:
    """Put the TCP streams of all sources together: one for each direction of each connection.

    SOURCE is a dataset or a capture (file, directory, glob, URL, - for standard input); packets of several are
    taken in the order of their times. Files have tcpflow's names: 010.000.000.001.01234-010.000.000.002.00080 from
    10.0.0.1, port 1234, to 10.0.0.2, port 80, c1 at the end of the second stream of that name. What is missing in a
    stream is a hole in its file, and a row of gaps.parquet; octets.parquet has a row for each run without a hole, and
    several for long ones. Memory is bounded, whatever the size of the sources, but -e http and --map hold the packets
    of a connection, and --compat tcpflow those of one in which order decides, and some numbers of all such.

    \b
    pcap2arrow streams dataset -o streams/
    pcap2arrow streams capture.pcap -f 'port 80' -o streams/ --tables tables/
    pcap2arrow streams dataset --tables tables/ --hash --limit 1000000
    pcap2arrow streams dataset -f 'port 80' -e http -o streams/ --tables tables/
    pcap2arrow streams dataset --tables tables/ --start 2024-05-01T12:00Z --end +15m
    pcap2arrow streams dataset --tables tables/ --map mymodule:entropy
    pcap2arrow streams dataset --tables tables/ --octets --scheduler processes --workers 8 --temp-dir /scratch
    """
    from jobs.cli.output import complain, print_json_line
    from jobs.own_process import keep_memory
    from jobs.sources import fitting_scheduler
    from jobs.steps import watch_steps
    from jobs.streams.api import write_streams
    from queries.streams.rules import Rules

    if folder is None and tables is None:
        raise click.UsageError("nothing to write: name a folder with -o, or with --tables")
    if gaps == "split" and (template is not None or extract is not None):
        raise click.UsageError("--gaps split: files have their usual names; not with --template or -e")
    if octets and tables is None:
        raise click.UsageError("--octets: name a folder with --tables")
    keep_memory()
    scheduling = taken(packets, ("limits", "tell_dashboard"))
    times = chosen_range(sources, **taken(packets, ("start", "end", "tz")))
    chosen = chosen_filters(**packets)
    if chosen.lines is not None:
        raise click.UsageError("--filters: streams are of one filter: -f")
    with watch_steps(as_json=as_json) as watch:
        report = write_streams(
            sources,
            rules=Rules(skip, limit, overlap, as_tcpflow=compat is not None, defrag=defrag, gaps=gaps),
            folder=folder,
            tables=tables,
            template=None if template is None else _template(template),
            chosen=chosen.one,
            times=times,
            hashes=hashes,
            octets=octets,
            with_http=extract == "http",
            function=function,
            scheduler=scheduler or fitting_scheduler(sources, workers),
            workers=workers,
            temporary=temporary,
            **scheduling,
            watch=watch,
        )
    for reason in (*report.warnings, *report.errors):
        complain(reason)
    if as_json:
        print_json_line({"event": "summary"} | asdict(report))
    else:
        conflicts = f", {report.conflicts} with conflicts" if report.conflicts else ""
        click.echo(
            f"{report.streams} streams, {report.files} with octets{conflicts}: "
            f"{report.octets} octets, {report.missing} missing"
        )
    return 1 if report.errors else 0


def _template(text: str) -> Template:
    """A template of names, loaded with Polars only where one is given: meanwhile processes could start."""
    from queries.streams.naming import Template

    return Template(text)
