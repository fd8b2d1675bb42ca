"""What the log needs of a store, on every kind of store there is."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pcap2arrow.dataset import Store, create_dataset, open_dataset
from pcap2arrow.dataset.local_store import LocalStore
from pcap2arrow.dataset.object_store import ObjectStore
from pcap2arrow.dataset.store import is_temporary, open_store, temporary_name
from pcap2arrow.errors import DatasetError


class LinklessStore(LocalStore):
    """A file system that refuses hard links, as FAT and some network file systems do."""

    def _link(self, source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(source), None, str(target))


class OverwritingStore(LocalStore):
    """An object store that knows no conditional put and says nothing."""

    def create_if_absent(self, path: str, data: bytes) -> bool:
        self.write(path, data)
        return True


def memory_store(_: Path) -> Store:
    pytest.importorskip("obstore", reason="obstore is not installed (the extra s3)")
    from obstore.store import MemoryStore

    return ObjectStore("memory://bucket/dataset", MemoryStore())


STORES: dict[str, Callable[[Path], Store]] = {
    "local": LocalStore,
    "local without links": LinklessStore,
    "objects": memory_store,
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return STORES[request.param](tmp_path / "dataset")


def paths(store: Store, folder: str = "") -> list[str]:
    return sorted(stored.path for stored in store.list(folder))


def test_a_file_is_created_once(store: Store) -> None:
    assert store.create_if_absent("_manifest/1.json", b"first")
    assert not store.create_if_absent("_manifest/1.json", b"second")
    assert store.read("_manifest/1.json") == b"first"
    assert [path for path in paths(store) if is_temporary(path)] == []


def test_of_many_that_create_a_file_one_succeeds(store: Store) -> None:
    for number in range(20):
        path, start = f"_manifest/{number}.json", threading.Barrier(6)
        won: list[int] = []

        def create(
            who: int, path: str = path, start: threading.Barrier = start, won: list[int] = won
        ) -> None:
            start.wait()
            if store.create_if_absent(path, b"%d" % who * 100):
                won.append(who)

        threads = [threading.Thread(target=create, args=(who,)) for who in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert store.read(path) == b"%d" % won[0] * 100


def test_what_was_written_is_read_and_listed(store: Store) -> None:
    with store.output("packets/date=a/1.parquet") as file:
        file.write(b"abc")
        file.write(memoryview(b"defg"))
        assert (file.size, file.tell()) == (7, 7)
    store.write("captures/1.parquet", b"x")
    store.write("captures/1.parquet", b"yz")
    assert store.read_many(["captures/1.parquet", "captures/2.parquet"]) == [b"yz", None]
    assert store.sizes(["packets/date=a/1.parquet", "captures/2.parquet", "captures/1.parquet"]) == [
        7,
        None,
        2,
    ]
    assert paths(store) == ["captures/1.parquet", "packets/date=a/1.parquet"]
    assert paths(store, "packets") == ["packets/date=a/1.parquet"]
    assert paths(store, "blocks") == []


def test_an_output_that_fails_leaves_nothing(store: Store) -> None:
    store.write("captures/1.parquet", b"old")
    with pytest.raises(ZeroDivisionError), store.output("captures/1.parquet") as file:
        file.write(b"new, but")
        raise ZeroDivisionError
    assert store.read("captures/1.parquet") == b"old"
    assert paths(store) == ["captures/1.parquet"]


def test_a_file_is_read_at_any_offset(store: Store) -> None:
    data = os.urandom(3_000_000)
    store.write("packets/1.parquet", data)
    with store.input("packets/1.parquet") as file:
        assert file.seek(-8, os.SEEK_END) == len(data) - 8
        assert file.read() == data[-8:]
        file.seek(1_000_001)
        assert file.read(1_500_000) == data[1_000_001:2_500_001]
        assert file.seek(10, os.SEEK_CUR) == 2_500_011
        assert file.read(3) == data[2_500_011:2_500_014]
        file.seek(len(data) + 5)
        assert file.read(1) == b""
    with pytest.raises(DatasetError, match=r"packets/2\.parquet: No such file"):
        store.input("packets/2.parquet")


def test_only_what_is_old_is_deleted(store: Store) -> None:
    store.write("packets/date=a/1.parquet", b"x")
    (stored,) = store.list("packets")
    assert not store.delete_if_older("packets/date=a/1.parquet", stored.mtime_ns - 1)
    assert paths(store) == ["packets/date=a/1.parquet"]
    assert store.delete_if_older("packets/date=a/1.parquet", store.now_ns())
    assert not store.delete_if_older("packets/date=a/1.parquet", store.now_ns())
    assert paths(store) == []


def test_a_folder_that_was_cleared_away_comes_back(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write("packets/date=a/1.parquet", b"x")
    with store.output("packets/date=a/2.parquet") as file:
        store.delete_if_older("packets/date=a/1.parquet", store.now_ns())
        file.write(b"y")
    assert store.delete_if_older("packets/date=a/2.parquet", store.now_ns())
    assert not (tmp_path / "packets/date=a").exists()
    store.write("packets/date=a/3.parquet", b"z")
    assert paths(store) == ["packets/date=a/3.parquet"]


def test_without_links_a_writer_that_died_is_finished_by_the_next(tmp_path: Path) -> None:
    store = LinklessStore(tmp_path)
    assert store.create_if_absent("_manifest/1.json", b"first")
    (tmp_path / "_manifest/1.json").unlink()  # as if killed between claim and file
    assert not store.create_if_absent("_manifest/1.json", b"second")
    assert store.read("_manifest/1.json") == b"first"


def test_a_store_that_overwrites_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="overwrites"):
        create_dataset(OverwritingStore(tmp_path), settings={})
    assert paths(LocalStore(tmp_path)) == []


def test_a_dataset_is_made_on_every_store(store: Store) -> None:
    dataset = create_dataset(store, settings={"schema": "1"})
    assert dataset.settings == {"schema": "1"}
    files = [path for path in paths(store) if ".claim/" not in path]
    assert files == ["_manifest/00000000000000000000.json"]
    assert open_dataset(store).settings == {"schema": "1"}
    assert dataset.path_of("packets/1.parquet") == f"{store.url}/packets/1.parquet"


def test_stores_go_to_workers(tmp_path: Path) -> None:
    dataset = create_dataset(tmp_path / "dataset", settings={"schema": "1"})
    there = pickle.loads(pickle.dumps(dataset))
    assert (there.url, there.settings) == (dataset.url, dataset.settings)
    with there.open_output("packets/1.parquet") as file:
        file.write(b"x")
    assert paths(dataset.store, "packets") == ["packets/1.parquet"]


def test_places_are_told_apart(tmp_path: Path) -> None:
    pytest.importorskip("obstore", reason="obstore is not installed (the extra s3)")
    assert open_store(tmp_path).url == str(tmp_path)
    assert open_store(f"file://{tmp_path}/a%20b").url == f"{tmp_path}/a b"
    assert isinstance(open_store("s3://bucket/archive/"), ObjectStore)
    assert open_store("s3://bucket/archive/").location("x") == "s3://bucket/archive/x"
    with pytest.raises(DatasetError, match="zz://bucket"):
        open_store("zz://bucket")


def test_temporary_names_are_hidden_and_beside() -> None:
    name = temporary_name("packets/date=a/" + 200 * "x" + ".parquet")
    assert name.startswith("packets/date=a/.")
    assert is_temporary(name) and not is_temporary("packets/date=a/x.parquet")
    assert len(name.rpartition("/")[2]) < 120


def test_errors_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "packets").write_bytes(b"no folder")
    store = LocalStore(tmp_path)
    with pytest.raises(DatasetError, match=rf"{tmp_path}/packets/1\.parquet: .+"):
        store.write("packets/1.parquet", b"x")
    (tmp_path / "blocks").mkdir()
    with pytest.raises(DatasetError, match=rf"{tmp_path}/blocks: .+ directory"):
        store.read("blocks")


def test_a_dangling_folder_is_an_error_and_no_loop(tmp_path: Path) -> None:
    (tmp_path / "packets").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"packets/1\.parquet"):
        LocalStore(tmp_path).write("packets/1.parquet", b"x")


def test_the_log_loads_no_engine() -> None:
    code = (
        "import sys, pcap2arrow.dataset\n"
        "print(sorted({'polars', 'pyarrow', 'obstore', 'numpy', 'fsspec'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout == "[]\n"
