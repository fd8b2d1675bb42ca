"""A planned conversion in a folder: ``plan.json``, and ``results/N.json`` for every group that is written.

A reader turns only those parts of the plan into values that it needs: a plan of a large archive has many thousands.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.preconf.json import JsonConverter, make_converter

from pcap2arrow.conversion.options import Options
from pcap2arrow.conversion.placed import Unit
from pcap2arrow.conversion.planning import Part, Planned, PlannedCapture, Written
from pcap2arrow.dataset.store import Store, create, open_store
from pcap2arrow.errors import PlanError, UsageError

_FORMAT = 1
_PLAN = "plan.json"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan that is written down: where its ``dataset`` is, the ``options``, and how many groups of parts it has."""

    dataset: str
    options: Options
    replace: bool
    _store: Store
    _record: dict[str, Any]

    def __len__(self) -> int:
        return len(self._record["groups"])

    @property
    def groups(self) -> list[list[int]]:
        """The numbers of the captures whose parts each group has."""
        with self._damage_named():
            return [[part["capture"] for part in group] for group in self._record["groups"]]

    @property
    def captures(self) -> list[PlannedCapture]:
        """All captures."""
        with self._damage_named():
            return [_structured(record, PlannedCapture) for record in self._record["captures"]]

    def group(self, index: int) -> tuple[list[Part], dict[int, PlannedCapture]]:
        """The parts of a group, and the captures that they are of.  Raises UsageError where there is no such group."""
        if not 0 <= index < len(self):
            raise UsageError(f"unit {index}: the plan has {len(self)}, from 0 on")
        with self._damage_named():
            parts = [_structured(record, Part) for record in self._record["groups"][index]]
            numbers = dict.fromkeys(part.capture for part in parts)
            captures = {
                number: _structured(self._record["captures"][number], PlannedCapture) for number in numbers
            }
        return parts, captures

    def write_result(self, index: int, result: Sequence[Written]) -> None:
        """Keep what became of a group; in the place of what was kept before."""
        self._store.write(_result(index), _encoded(result))

    def results(self) -> list[list[Written] | None]:
        """What became of each group, None where nothing is known yet."""
        found = self._store.read_many([_result(index) for index in range(len(self))])
        with self._damage_named():
            return [None if data is None else _structured(json.loads(data), list[Written]) for data in found]

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        with _damage_named(self._store.url):
            yield


def create_plan(
    place: str | os.PathLike[str], planned: Planned, *, dataset: str, options: Options, replace: bool
) -> PlanFile:
    """Write a plan to a folder or URL.  Raises UsageError where there is one."""
    store = open_store(place)
    record = {
        "format": _FORMAT,
        "dataset": dataset,
        "options": _converter().unstructure(options),
        "text": options.text,
        "replace": replace,
        "captures": _converter().unstructure(planned.captures),
        "groups": _converter().unstructure(planned.groups),
    }
    if not create(store, _PLAN, _encoded(record)):
        raise UsageError(f"{store.url}: there is a plan already")
    return PlanFile(dataset, options, replace, store, record)


def check_no_plan(place: str | os.PathLike[str]) -> None:
    """Raise UsageError where there is a plan already."""
    store = open_store(place)
    if store.read(_PLAN) is not None:
        raise UsageError(f"{store.url}: there is a plan already")


def open_plan(place: str | os.PathLike[str]) -> PlanFile:
    """The plan in a folder or at a URL.

    Raises UsageError where there is none, PlanError where it is damaged or of another release.
    """
    store = open_store(place)
    data = store.read(_PLAN)
    if data is None:
        raise UsageError(f"{store.url}: no plan here")
    with _damage_named(store.url):
        record = json.loads(data)
        options = _structured(record["options"], Options)
        known, made = (record["format"], record["text"]), (_FORMAT, options.text)
        plan = PlanFile(str(record["dataset"]), options, bool(record["replace"]), store, record)
        if not isinstance(record["groups"], list) or not isinstance(record["captures"], list):
            raise TypeError("captures and groups are lists")
    if known != made:
        raise PlanError(
            f"{store.url}: planned by another release ({known[1]}; this one: {made[1]}): plan again"
        )
    return plan


def _result(index: int) -> str:
    return f"results/{index}.json"


def _encoded(value: Any) -> bytes:
    return json.dumps(_converter().unstructure(value), separators=(",", ":")).encode("ascii") + b"\n"


def _structured(record: Any, kind: type[_T]) -> _T:
    return _converter().structure(record, kind)


@cache
def _converter() -> JsonConverter:
    converter = make_converter()
    marks = override(omit=True)  # a hint that saves some search, for its weight in numbers
    converter.register_unstructure_hook(Unit, make_dict_unstructure_fn(Unit, converter, marks=marks))
    converter.register_structure_hook(Unit, make_dict_structure_fn(Unit, converter, marks=marks))
    return converter


@contextmanager
def _damage_named(place: str) -> Iterator[None]:
    try:
        yield
    except (BaseValidationError, ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise PlanError(f"{place}: damaged: {str(error) or type(error).__name__}") from error
