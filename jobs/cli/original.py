"""Commands that are read as other programs read theirs."""

from __future__ import annotations

import click


class AsTheOriginal(click.Command):
    """A command whose words are read by the original's rules, not by click's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the words as they are."""
        ctx.params = {"words": tuple(args)}
        return []
