"""The verbs, each imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

VERBS = (
    "convert",
    "info",
    "count",
    "export",
    "verify",
    "remove",
    "compact",
    "vacuum",
    "plan",
    "unit",
    "commit",
    "files",
    "schema",
    "explain",
    "streams",
    "flows",
    "tcpdump",
    "tcpslice",
    "tcpflow",
)
"""Modules of this package with a ``command`` each, in the order of the help text."""

BROKEN_PIPE = 141


class _Verbs(click.Group):
    """Finds commands by the names of their modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"jobs.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # as a program that SIGPIPE ends, not as one that failed
            raise click.exceptions.Exit(BROKEN_PIPE) from None


def _print_version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from pcap2arrow import __version__

        click.echo(f"pcap2arrow {__version__}")
        ctx.exit()


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, expose_value=False, callback=_print_version, help="Show version.")
def commands() -> None:
    """Packet captures as dataframes: pcap and pcapng to Arrow/Parquet packet tables and back, without loss.

    SOURCE is a dataset (directory or URL) or a capture (file, directory, glob, URL, - for standard input).

    Exit codes: 0 all done; 1 something in the input failed, everything else is done; 2 the command line is
    wrong, and nothing was done; 130 interrupted or 143 told to end, and nothing half-done is visible.
    """
