"""``pcap2arrow export``."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from jobs.cli.filters import ChosenFilters, chosen_filters, filter_options
from jobs.cli.options import (
    SCHEDULING,
    json_option,
    scheduler_options,
    sources_argument,
    taken,
    temporary_option,
    worker_options,
)
from jobs.cli.slices import (
    ARRANGEMENT,
    SPLIT,
    arrangement_options,
    chosen_arrangement,
    chosen_split,
    chosen_times,
    split_options,
    time_options,
)
from jobs.own_process import keep_memory
from jobs.steps import Progress, print_event, watch_steps

if TYPE_CHECKING:
    from jobs.export import FilteredExport


@click.command(short_help="Write packets or whole captures back out.")
@sources_argument
@click.option(
    "-w",
    "--write",
    "target",
    required=True,
    metavar="FILE",
    help="File to write, - for standard output; a folder with --filters.",
)
@filter_options
@click.option("--connections", is_flag=True, help="Every packet of each connection in which -f selects one.")
@click.option(
    "--flow",
    "flows",
    multiple=True,
    metavar="ID",
    help="Every packet of the connections of that Community ID.",
)
@time_options
@click.option("--capture", metavar="NAME", help="Only the capture of that name.")
@click.option(
    "--format",
    type=click.Choice(("auto", "pcap", "nspcap", "pcapng", "original")),
    default="auto",
    show_default=True,
    help="auto: pcap where it can hold the packets, else nspcap (nanoseconds), else pcapng.",
)
@click.option("--snaplen", type=click.IntRange(min=1), metavar="N", help="Cut packets to N octets.")
@arrangement_options
@split_options
@scheduler_options
@worker_options
@temporary_option
@json_option
def command(sources: tuple[str, ...], target: str, as_json: bool, **options: Any) -> int:
    """Write the packets of all sources, or those of a time or that a filter selects, merged by time to one capture.

    SOURCE is a dataset or a capture (file, directory, glob, URL, - for standard input). With --filters, -w names
    a folder, which gets a capture for each expression of the file, all in one pass: 001-tcp-port-443.pcap for
    "tcp port 443" in line 1. With --format original, captures are written as they were, octet for octet
    (decompressed, if they were compressed): one with --capture NAME, or all of them with -w DIRECTORY/, each
    under its name. --every, --max-bytes and --max-packets write one file after another: -w is a pattern of
    strftime for their names, or one that gets a number and the time (all_00000_20240501120000.pcap).

    On a terminal there is a bar; --json writes a line for each step and each capture written, and a summary at the
    end.

    \b
    pcap2arrow export dataset -w all.pcapng
    pcap2arrow export dataset -f 'tcp port 443 and net 10.0.0.0/8' -w https.pcap
    pcap2arrow export dataset --connections -f 'tcp[13] & 4 != 0' -w reset.pcap
    pcap2arrow export dataset --flow '1:LQU9qZlK+B5F3KDmev6m5PMibrg=' -w one.pcap
    pcap2arrow export dataset -w - | tcpdump -r -
    pcap2arrow export dataset --start 2024-05-01T12:00:00Z --end +15m -w noon.pcap
    pcap2arrow export a.pcap b.pcap --offset b.pcap=-0.35 --dedupe sources -w both.pcap
    pcap2arrow export dataset --every 1h -w 'out-%Y%m%d-%H%M%S.pcap' --tz Europe/Berlin
    pcap2arrow export dataset --filters expressions.txt -w captures/
    pcap2arrow export dataset --capture monday.pcap --format original -w monday.pcap
    pcap2arrow export dataset --format original -w captures/
    pcap2arrow export /shared/dataset -f 'udp port 53' -w dns.pcap --scheduler tls://scheduler:8786
    """
    from jobs.sources import found_by_all
    from jobs.spools import open_spool

    if target == "-" and sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal: name a file, or use a pipe")
    settings = {name: options.pop(name) for name in ("capture", "format", "snaplen")}
    settings["split"] = chosen_split(tz=options["tz"], **taken(options, SPLIT))
    settings["times"] = chosen_times(**taken(options, ("start", "end", "tz")))
    settings["arrangement"] = chosen_arrangement(**taken(options, ARRANGEMENT))
    if as_json and target == "-":
        raise click.UsageError("--json: standard output is taken by the capture: name a file with -w")
    scheduling = taken(options, SCHEDULING)
    connections, flows = options.pop("connections"), options.pop("flows")
    chosen = chosen_filters(**options)
    keep_memory()
    begin = time.monotonic()
    scheduling["scheduler"] = scheduling["scheduler"] or "threads"
    found = found_by_all(sources, scheduling["scheduler"])
    with watch_steps(as_json=as_json) as tell, open_spool(**scheduling) as settings["spool"]:
        settings["watch"] = lambda done, total: tell(Progress("exported", done, total))
        if connections or flows:
            done = _export_connections(found, target, chosen, flows, settings, connections=connections)
        elif chosen.one is None and chosen.lines is None:
            done = _export_all(found, target, settings)
        else:
            done = _export_selected(found, target, chosen, settings)
    return _tell(done, time.monotonic() - begin, as_json=as_json)


def _export_all(sources: list[str], target: str, settings: dict[str, Any]) -> FilteredExport:
    from jobs.export import FilteredExport
    from pcap2arrow.writing.api import export

    report = export(sources, target, **settings)
    return FilteredExport({0: report}, (), report.errors)


def _export_connections(
    sources: list[str],
    target: str,
    chosen: ChosenFilters,
    flows: tuple[str, ...],
    settings: dict[str, Any],
    *,
    connections: bool,
) -> FilteredExport:
    from jobs.flows.connections import export_connections

    if connections == bool(flows) or connections == (chosen.one is None) or chosen.lines is not None:
        raise click.UsageError("whole connections are those of --connections with -f EXPR, or of --flow ID")
    return export_connections(sources, target, chosen=chosen.one, flows=flows, **settings)


def _export_selected(
    sources: list[str], target: str, chosen: ChosenFilters, settings: dict[str, Any]
) -> FilteredExport:
    from jobs.export import export_filtered, export_lines

    if settings["split"] is not None and chosen.one is None:
        raise click.UsageError("--filters writes a capture for each expression: it can't be split")
    if chosen.one is not None:
        return export_filtered(sources, target, chosen.one, **settings)
    if target == "-":
        raise click.UsageError("--filters writes several captures: name a folder with -w")
    settings.pop("split")
    return export_lines(sources, target, chosen.lines or [], **settings)


def _tell(done: FilteredExport, seconds: float, *, as_json: bool) -> int:
    """Say what was written, and what was wrong; the result is the exit code."""
    from jobs.cli.output import complain

    if as_json:
        for number, report in done.reports.items():
            print_event("capture", {"filter": number or None} | dataclasses.asdict(report))
        summary = {
            "files": sum(len(report.files) for report in done.reports.values()),
            "packets": sum(report.packets or 0 for report in done.reports.values()),
            "octets": sum(report.octets for report in done.reports.values()),
            "failed": len(done.errors),
            "seconds": round(seconds, 3),
        }
        print_event("summary", summary)
    for reason in (*done.warnings, *done.errors):
        complain(reason)
    return 1 if done.errors else 0
