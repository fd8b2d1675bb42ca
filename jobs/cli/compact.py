"""``pcap2arrow compact``."""

from __future__ import annotations

import click

from jobs.cli.options import checked, dataset_argument, json_option
from jobs.cli.times import parse_octets


@click.command(short_help="Put small files of a dataset together.")
@dataset_argument
@click.option(
    "--target",
    callback=checked(parse_octets),
    default="128MiB",
    show_default=True,
    metavar="N",
    help="Octets of a file, about: 64MiB, 1G. Files of half as many and more stay as they are.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Files written at once.  [default: one per processor]",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@json_option
def command(dataset: str, target: int, workers: int | None, dry_run: bool, as_json: bool) -> None:
    """Put small files of a dataset together to large ones, in one commit, while it may be read and written.

    Archives of many small captures have many small files, which take long to open. What the dataset holds, and every
    answer, stays the same. The small files go at a vacuum, for readers that still use them. A compaction that was
    killed leaves the dataset as it was. Taking one capture out of a shared file later writes the rest of it anew.

    \b
    pcap2arrow compact dataset --dry-run
    pcap2arrow compact dataset && pcap2arrow vacuum dataset
    pcap2arrow compact s3://bucket/dataset --target 512MiB --workers 4 --json
    """
    from dataclasses import asdict

    from jobs.cli.output import complain, print_json_line
    from jobs.reports import octets_text, plural
    from jobs.steps import Progress, watch_steps
    from pcap2arrow.compaction.api import compact

    with watch_steps(as_json=as_json) as watch:
        report = compact(
            dataset,
            target=target,
            workers=workers,
            dry_run=dry_run,
            watch=lambda done, total: watch(Progress("compact", done, total)),
        )
    if as_json:
        print_json_line({"event": "summary", "dry_run": dry_run} | asdict(report))
        return
    if report.left:
        complain(
            f"{plural(report.left, 'file')} left as they were: captures of theirs were removed meanwhile"
        )
    done = "would become" if dry_run else "became"
    sizes = octets_text(report.octets_before)
    if report.octets_after is not None:
        sizes += f" before, {octets_text(report.octets_after)} now"
    click.echo(f"{plural(report.before, 'file')} {done} {report.after:,}: {sizes}")
