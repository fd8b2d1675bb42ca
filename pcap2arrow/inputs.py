"""What the user named as input: files, folders, globs and URLs, told by their octets, not by their names."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pcap2arrow.errors import SourceError
from pcap2arrow.savefile.reader import is_capture
from pcap2arrow.savefile.source import STANDARD_INPUT, peek
from pcap2arrow.urls import filesystem, is_url, reason, remote_errors


@dataclass(frozen=True, slots=True)
class Input:
    """A capture to read: ``name`` is what it is called in a dataset, ``path`` where it is."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """Captures found, and how many other files of folders and globs were left out."""

    captures: tuple[Input, ...]
    left_out: int = 0


def find_captures(arguments: Iterable[str | os.PathLike[str]]) -> Inputs:
    """Captures that the arguments name, in their order, those of a folder or glob sorted by name.

    A file that is named itself is taken as it is; folders are walked, and globs expanded, and what does not begin as
    a capture is left out.  Raises SourceError where an argument names nothing.
    """
    captures: dict[Input, None] = {}
    left_out = 0
    for argument in (os.fspath(argument) for argument in arguments):
        for found, asked in _expand(argument):
            if asked or _begins_capture(found.path):
                captures[found] = None
            else:
                left_out += 1
    return Inputs(tuple(captures), left_out)


def _expand(argument: str) -> Iterator[tuple[Input, bool]]:
    """Inputs of one argument, each with whether it was asked for by its own name."""
    if argument == STANDARD_INPUT:
        yield Input("stdin", argument), True
    elif is_url(argument):
        yield from _expand_url(argument)
    elif Path(argument).is_dir():
        yield from ((Input(os.path.relpath(path, argument), path), False) for path in _walk(argument))
    elif os.path.lexists(argument):
        yield Input(Path(argument).name, argument), True
    elif glob.has_magic(argument):
        paths = sorted(path for path in glob.iglob(argument, recursive=True) if Path(path).is_file())  # noqa: PTH207
        if not paths:
            raise SourceError(f"{argument}: no file matches")
        yield from ((Input(Path(path).name, path), False) for path in paths)
    else:
        raise SourceError(f"{argument}: No such file or directory")


def _walk(folder: str) -> Iterator[str]:
    for where, folders, names in os.walk(folder):
        folders.sort()
        yield from (f"{where}/{name}" for name in sorted(names))


def _expand_url(url: str) -> Iterator[tuple[Input, bool]]:
    try:
        remote, path = filesystem(url)
        if glob.has_magic(path):
            inside = [(found, found.rsplit("/", 1)[-1]) for found in sorted(remote.glob(path))]
        elif remote.isdir(path):
            inside = [(found, os.path.relpath(found, path)) for found in sorted(remote.find(path))]
        else:
            yield Input(path.rsplit("/", 1)[-1], url), True
            return
    except remote_errors() as error:
        raise SourceError(f"{url}: {reason(error)}") from error
    yield from ((Input(name, remote.unstrip_protocol(found)), False) for found, name in inside)


def _begins_capture(path: str) -> bool:
    try:
        return is_capture(peek(path, 4))
    except SourceError:
        return False
