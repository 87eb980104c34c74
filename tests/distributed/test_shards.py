"""Batches, the record of a folder of shards, and what is finished."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ddamfn.distributed import BatchRecognizer
from ddamfn.distributed.finished import Finished, digests
from ddamfn.distributed.places import open_folder
from ddamfn.distributed.shards import RECORD, Batch, Done, OneProcess, ShardTask, batches_of, begin, do_batches
from ddamfn.errors import DdamfnError, UsageError

pytest.importorskip("pyarrow", reason="needs the extra parquet")

RULES = {"weights": "mine", "detection": "auto", "class_prior": {"neutral": 0.3}}


def test_finished_images_are_known_by_name() -> None:
    finished = Finished([digests(["a", "b", "b"]), digests([]), digests(["\udcff.jpg"])])
    assert len(finished) == 3
    # A name that is not UTF-8 is written as JSON writes it, and read back so.
    assert all(name in finished for name in ("a", "b", "\udcff.jpg", "\\udcff.jpg"))
    assert not any(name in finished for name in ("", "c", "A"))
    assert "a" not in Finished()


def test_batches_hold_what_is_not_finished_in_order() -> None:
    sources = [f"{number}" for number in range(10)]
    finished = Finished([digests(["0", "4", "5"])])
    batches = list(batches_of(sources, finished, 3))
    assert [batch.sources for batch in batches] == [("1", "2", "3"), ("6", "7", "8"), ("9",)]
    assert [batch.position for batch in batches] == [1, 6, 9]
    assert len({batch.name for batch in batches}) == 3
    assert [batch.name for batch in batches] == sorted(batch.name for batch in batches)
    assert Batch(1, ("1", "2", "3")).name == batches[0].name
    assert list(batches_of([], finished, 3)) == []


def test_the_list_is_read_no_further_than_a_batch() -> None:
    asked: list[str] = []

    def sources() -> Iterator[str]:
        for number in range(100):
            asked.append(f"{number}")
            yield asked[-1]

    next(batches_of(sources(), Finished(), 5))
    assert len(asked) == 5


class _Executor:
    """Does up to two batches at once, in the opposite order; some fail."""

    slots = 2

    def __init__(self, fails: Callable[[Batch], bool]) -> None:
        self._fails = fails
        self._batches: list[Batch] = []
        self.most = 0

    @property
    def running(self) -> int:
        return len(self._batches)

    def submit(self, batch: Batch) -> None:
        self._batches.append(batch)
        self.most = max(self.most, self.running)

    def wait(self) -> Done:
        batch = self._batches.pop()
        return Done(len(batch.sources), failure="it broke" if self._fails(batch) else None)


def test_a_batch_that_fails_does_not_stop_the_others() -> None:
    executor = _Executor(lambda batch: batch.position % 3 == 0)
    batches = list(batches_of(map(str, range(9)), Finished(), 1))
    done = list(do_batches(batches, executor))
    assert executor.most == 2
    assert len(done) == 9
    assert sum(one.failure is not None for one in done) == 3


def test_more_failures_in_a_row_than_slots_end_the_run() -> None:
    executor = _Executor(lambda _: True)
    done = do_batches(batches_of(map(str, range(99)), Finished(), 1), executor)
    assert [next(done).failure, next(done).failure] == ["it broke", "it broke"]
    with pytest.raises(DdamfnError, match="it broke"):
        next(done)


def test_a_folder_is_begun_once_and_gone_on_with(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path / "new" / "faces"))
    assert len(begin(folder, RULES)) == 0
    before = folder.read(RECORD)
    assert len(begin(folder, RULES)) == 0
    assert folder.read(RECORD) == before
    assert json.loads(before)["weights"] == "mine"
    assert folder.names() == [RECORD]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"detection": 160}, r'detection "auto".*160'),
        ({"class_prior": "training"}, 'class prior.*"training"'),
        ({"new": 1}, "new null.*1"),
    ],
)
def test_another_rule_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    folder = open_folder(str(tmp_path))
    begin(folder, RULES)
    with pytest.raises(UsageError, match=words):
        begin(folder, RULES | change)


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.parquet").touch()
    with pytest.raises(UsageError, match=RECORD):
        begin(open_folder(str(tmp_path)), RULES)
    assert not (tmp_path / RECORD).exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"PAR1"])
def test_what_is_damaged_is_named(tmp_path: Path, content: bytes) -> None:
    folder = open_folder(str(tmp_path))
    begin(folder, RULES)
    name = Batch(0, ("a",)).name
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"{name} is damaged"):
        begin(folder, RULES)
    (tmp_path / RECORD).write_bytes(content)
    with pytest.raises(UsageError, match=RECORD):
        begin(folder, RULES)


def test_a_shard_s_rows_are_in_the_order_of_its_images(photos: Path, tmp_path: Path, stand_in_weights: Path) -> None:
    import pyarrow.parquet

    names = ("photos/b/01.png", "photos/text.jpg", "photos/00.png", "photos/black.png")
    task = ShardTask(BatchRecognizer(stand_in_weights, detection=160), str(tmp_path / "faces"), "")
    seen: list[int] = []
    executor = OneProcess(task, lambda: seen.append(1))
    (done,) = do_batches([Batch(7, names)], executor)
    assert (done.images, done.faces, done.faceless, len(done.errors)) == (4, 2, 1, 1)
    assert len(seen) == 4
    table = pyarrow.parquet.read_table(tmp_path / "faces" / Batch(7, names).name)
    assert table.column("source").to_pylist() == list(names)
    assert table.column("face").to_pylist() == [0, None, 0, None]


def test_relative_paths_start_from_the_base(photos: Path, tmp_path: Path, stand_in_weights: Path) -> None:
    recognizer = BatchRecognizer(stand_in_weights, detection=160)
    (result,) = recognizer.results([("00.png", None)], base=str(photos))
    assert (result.source, result.error, len(result)) == ("00.png", None, 1)
