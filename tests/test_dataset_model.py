"""The dataset against a plain dictionary: whatever is done to it, in whatever order."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pcap2arrow.dataset import Dataset, LiveCapture, Snapshot, create_dataset, open_dataset, remove, vacuum
from pcap2arrow.errors import ConflictError
from tests.datasets import OPTIONS, capture, convert, damaged, data_files

NAMES = st.sampled_from(["a", "b", "c", "d"])
CONTENTS = st.integers(0, 3)
WAYS = st.sampled_from([OPTIONS, OPTIONS + " again"])

Model = dict[str, tuple[int, str]]
"""What is live: content and options of each name."""


def expected(model: Model, name: str, content: int, options: str, *, replace: bool) -> Model | None:
    """The model after converting a capture; None where that has to be refused."""
    if model.get(name) == (content, options):
        return model
    same = {other for other, (held, _) in model.items() if held == content}
    clashes = name in model or any(model[other][1] != options for other in same)
    if clashes and not replace:
        return None
    return model | dict.fromkeys({*same, name}, (content, options))


class DatasetMachine(RuleBasedStateMachine):
    """One writer that keeps its dataset open, with a checkpoint every third version."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="dataset-"))
        self.dataset: Dataset = create_dataset(self.root, settings={})
        self.dataset.checkpoint_every = 3
        self.model: Model = {}
        self.history: list[Snapshot] = [self.dataset.snapshot()]

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @rule(name=NAMES, content=CONTENTS, options=WAYS, replace=st.booleans())
    def convert_one(self, name: str, content: int, options: str, replace: bool) -> None:
        after = expected(self.model, name, content, options, replace=replace)
        try:
            convert(self.dataset, capture(name, content, options=options), replace=replace)
        except ConflictError:
            assert after is None
            return
        assert after is not None
        self.model = after

    @rule(names=st.lists(NAMES, min_size=2, max_size=4, unique=True), content=CONTENTS, options=WAYS)
    def replace_several(self, names: list[str], content: int, options: str) -> None:
        """Several names at once: the first two get the content, each of the others one of its own."""
        contents = [content, content, *(content + 1 + number for number in range(len(names) - 2))]
        batch = [capture(name, held, options=options) for name, held in zip(names, contents, strict=True)]
        version = self.dataset.snapshot().version
        assert convert(self.dataset, *batch, replace=True).version <= version + 1
        for name, held in zip(names, contents, strict=True):
            self.model = self.model | {
                other: (held, options)
                for other, (was, _) in self.model.items()
                if was == held and other not in names
            }
            self.model = self.model | {name: (held, options)}

    @rule(names=st.sets(NAMES, max_size=3))
    def remove_some(self, names: set[str]) -> None:
        try:
            assert set(remove(self.dataset, names)) == names
        except ConflictError:
            assert not names <= set(self.model)
            return
        self.model = {name: held for name, held in self.model.items() if name not in names}

    @rule()
    def vacuum_all(self) -> None:
        vacuum(self.dataset, older_than=timedelta(0))
        assert data_files(self.root) == self.dataset.snapshot().paths()

    @rule()
    def open_again(self) -> None:
        self.dataset = open_dataset(self.root)
        self.dataset.checkpoint_every = 3

    @invariant()
    def live_captures_are_the_models(self) -> None:
        snapshot = self.dataset.snapshot()
        held = {name: (live.identity, live.options) for name, live in snapshot.captures.items()}
        models = {name: (capture(name, content).identity, o) for name, (content, o) in self.model.items()}
        assert held == models
        assert damaged(self.dataset, snapshot) == []

    @invariant()
    def packets_count_once(self) -> None:
        contents: dict[str, LiveCapture] = {
            live.identity: live for live in self.dataset.snapshot().captures.values()
        }
        files = self.dataset.snapshot().files("packets")
        assert sum(file.rows for file in files) == sum(live.packets for live in contents.values())
        assert len(files) == len({file.path for file in files}) == 2 * len(contents)

    @invariant()
    def every_way_to_read_a_version_agrees(self) -> None:
        snapshot = self.dataset.snapshot()
        if snapshot.version == self.history[-1].version:
            assert snapshot == self.history[-1]
        else:
            assert snapshot.version == self.history[-1].version + 1
            self.history.append(snapshot)
        assert Snapshot.of(0, snapshot.captures.values()).names == snapshot.names
        afresh = open_dataset(self.root)
        assert afresh.snapshot() == Snapshot.of(-1).after(*afresh.changes(0)) == snapshot
        older = self.history[len(self.history) // 2]
        assert afresh.snapshot(older.version) == self.dataset.snapshot(older.version) == older


TestDataset = DatasetMachine.TestCase
TestDataset.settings = settings(stateful_step_count=20, max_examples=25)
