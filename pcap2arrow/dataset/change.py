"""The rules of a dataset: what converted captures, or names to remove, change in a snapshot."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from pcap2arrow.dataset.snapshot import Change, LiveCapture, Snapshot, shared_files
from pcap2arrow.errors import ConflictError


def plan_change(snapshot: Snapshot, captures: Iterable[LiveCapture], *, replace: bool = False) -> Change:
    """The change that brings converted captures into a dataset.

    - Live under its name, with its identity and options: nothing to do.
    - Live under another name only, with its options: a second name, which shares the files of packets and
      blocks (so that the capture may come without them) and brings its own file of the captures table.
    - Its name is another content's, or its content is live with other options: refused, or with ``replace``
      changed in the same commit.  Other names of the content follow to the new options; other names of the
      old content stay.

    Raises:
        ConflictError: as above; or because two contents have one capture id, or ``captures`` contradict each
            other.

    Example:
        >>> dataset.commit(lambda snapshot: plan_change(snapshot, captures, replace=True))  # doctest: +SKIP
    """
    wanted = _consistent(captures)
    added: dict[str, LiveCapture] = {}
    converted: dict[str, LiveCapture] = {}
    for capture in wanted.values():
        live = snapshot.captures.get(capture.name)
        if live is not None and _same_conversion(live, capture):
            continue
        names = [other for other in snapshot.of_content(capture) if other.identity == capture.identity]
        current = [other for other in names if other.options == capture.options]
        outdated = [other for other in names if other.options != capture.options]
        if not replace:
            _refuse_replacement(capture, live, outdated)
        holder = converted.get(capture.identity) or next(iter(current), capture)
        added[capture.name] = converted[capture.identity] = capture = _sharing(capture, holder)
        for other in outdated:
            if other.name not in wanted:
                added[other.name] = _sharing(other, capture)
    change = Change(
        add=tuple(added.values()), remove=tuple(name for name in added if name in snapshot.captures)
    )
    snapshot.after(change)
    return change


def plan_removal(snapshot: Snapshot, names: Iterable[str] = (), *, before: int | None = None) -> Change:
    """The change that takes captures out: those ``names``, and those whose packets all lie ``before``
    (nanoseconds).

    Raises:
        ConflictError: if a name is not in the dataset.
    """
    removed = dict.fromkeys(names)
    absent = [name for name in removed if name not in snapshot.captures]
    if absent:
        raise ConflictError(f"not in the dataset: {', '.join(map(repr, absent))}")
    if before is not None:
        removed |= dict.fromkeys(
            name for name, capture in snapshot.captures.items() if _ends_before(capture, before)
        )
    return Change(remove=tuple(removed))


def _ends_before(capture: LiveCapture, time: int) -> bool:
    return capture.last_time is not None and capture.last_time < time


def _consistent(captures: Iterable[LiveCapture]) -> dict[str, LiveCapture]:
    """Captures by name, each once, after a look whether they contradict each other."""
    wanted: dict[str, LiveCapture] = {}
    options: dict[str, str] = {}
    for capture in captures:
        if not _same_conversion(wanted.setdefault(capture.name, capture), capture):
            raise ConflictError(f"two different captures have the name {capture.name!r}")
        if options.setdefault(capture.identity, capture.options) != capture.options:
            raise ConflictError(f"capture {capture.name!r} was converted in two ways at once")
    return wanted


def _same_conversion(one: LiveCapture, other: LiveCapture) -> bool:
    return one.identity == other.identity and one.options == other.options


def _sharing(capture: LiveCapture, holder: LiveCapture) -> LiveCapture:
    """``capture`` with the conversion of ``holder``, and its own file of the captures table."""
    own = tuple(file for file in capture.files if file.table == "captures")
    return dataclasses.replace(
        capture, options=holder.options, packets=holder.packets, files=(*shared_files(holder), *own)
    )


def _refuse_replacement(capture: LiveCapture, live: LiveCapture | None, outdated: list[LiveCapture]) -> None:
    """Refuse a capture whose name is taken, or whose content is live with other options."""
    if live is not None and live.identity != capture.identity:
        raise ConflictError(
            f"the dataset holds another capture {live.name!r} (identity {live.identity[:16]}, {live.packets} "
            f"packets; this one: {capture.identity[:16]}, {capture.packets}): remove it, replace it, or use "
            "another name"
        )
    if outdated:
        name = outdated[0].name
        where = "" if name == capture.name else f" as {name!r}"
        raise ConflictError(
            f"capture {capture.name!r} is in the dataset{where}, converted with other options "
            f"({outdated[0].options}; now {capture.options}): remove it or replace it"
        )
