"""``pcap2arrow verify``."""

from __future__ import annotations

from typing import Any

import click

from jobs.cli.options import dataset_argument, json_option, scheduler_options, worker_options


@click.command(short_help="Prove that a dataset gives its captures back.")
@dataset_argument
@scheduler_options
@worker_options
@json_option
def command(dataset: str, scheduler: str | None, as_json: bool, **settings: Any) -> int:
    """Rebuild every capture from a dataset; compare it with its source or, if that is gone, its checksums.

    One line per capture, and exit code 1 if one differs. On a terminal there is a bar; --json writes a line for each
    step and each capture, and a summary at the end.

    \b
    pcap2arrow verify dataset
    pcap2arrow verify /shared/dataset --scheduler tls://scheduler:8786
    """
    import dataclasses
    import time

    from jobs.cli.output import complain, say
    from jobs.executors import THREADS
    from jobs.reports import named
    from jobs.steps import Progress, print_event, watch_steps
    from jobs.verify import verify

    begin, captures, failed = time.monotonic(), 0, 0
    with watch_steps(as_json=as_json) as tell:
        for report in verify(
            dataset,
            scheduler=scheduler or THREADS,
            watch=lambda done, total: tell(Progress("verified", done, total)),
            **settings,
        ):
            captures, failed = captures + 1, failed + (not report.ok)
            if as_json:
                print_event("capture", dataclasses.asdict(report))
            elif report.ok:
                say(f"{report.name}: equals its {report.against}")
            if not report.ok:
                complain(named(report.name, report.name, report.error or "differs"))
    if as_json:
        seconds = round(time.monotonic() - begin, 3)
        print_event("summary", {"captures": captures, "failed": failed, "seconds": seconds})
    return 1 if failed else 0
