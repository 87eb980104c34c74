"""A batch of images in, a table of their faces out."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddamfn import Recognizer
from ddamfn.distributed import BatchRecognizer
from ddamfn.distributed.batch import Entry
from ddamfn.errors import PlaceError, UsageError
from ddamfn.results import row_columns


@pytest.fixture
def recognizer(stand_in_weights: Path) -> BatchRecognizer:
    return BatchRecognizer(stand_in_weights, detection=160)


@pytest.fixture
def paths(photos: Path) -> list[str]:
    return ["photos/00.png", "photos/text.jpg", "photos/black.png", "photos/gone.png", "photos/b/01.png"]


def plain(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Return columns as rows, None where there is nothing."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [{k: None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()} for row in rows]


def test_the_columns_are_the_rows_of_the_recognizer(
    recognizer: BatchRecognizer, paths: list[str], stand_in_weights: Path
) -> None:
    columns = recognizer({"path": np.array(paths), "label": np.zeros(len(paths))})
    own = Recognizer(stand_in_weights, detection=160, num_threads=1)
    expected = [row for result in own.predict_many(paths) for row in result.to_rows()]
    assert list(columns) == row_columns(own.card.labels) == recognizer.columns
    assert plain(columns) == expected
    assert [row["source"] for row in expected] == paths
    assert sum(row["error"] is not None for row in expected) == 2


def test_contents_read_as_files_do(recognizer: BatchRecognizer, paths: list[str]) -> None:
    named = recognizer({"path": paths[:3]})
    contents = np.array([Path(path).read_bytes() for path in paths[:3]], dtype=object)
    assert plain(recognizer({"bytes": contents, "path": paths[:3]})) == plain(named)
    assert plain(recognizer({"content": list(map(memoryview, contents)), "path": paths[:3]})) == plain(named)
    assert set(recognizer({"bytes": contents})["source"]) == {"<bytes>"}
    (nothing,) = plain(recognizer({"bytes": [None], "path": ["a.png"]}))
    assert nothing["source"] == "a.png"
    assert nothing["error"]


def test_an_empty_batch_has_the_columns(recognizer: BatchRecognizer) -> None:
    assert {name: len(column) for name, column in recognizer({"path": []}).items()} == dict.fromkeys(
        recognizer.columns, 0
    )


def test_a_batch_without_images_is_refused(recognizer: BatchRecognizer) -> None:
    with pytest.raises(UsageError, match="'picture'"):
        recognizer({"picture": [b""]})


def test_nothing_is_fetched_from_the_web(recognizer: BatchRecognizer) -> None:
    with pytest.raises(UsageError, match="web"):
        recognizer({"path": ["https://example.org/a.jpg"]})


def test_it_is_pickled_without_its_networks(recognizer: BatchRecognizer, paths: list[str]) -> None:
    before = recognizer({"path": paths})
    content = pickle.dumps(recognizer)
    assert len(content) < 1000
    assert plain(pickle.loads(content)({"path": paths})) == plain(before)


def test_tables_of_pandas_have_the_types_that_spark_is_told(recognizer: BatchRecognizer, paths: list[str]) -> None:
    pandas = pytest.importorskip("pandas", reason="needs the extra pandas")
    (faces,) = recognizer.map_pandas([pandas.DataFrame({"path": paths})])
    kinds = dict(part.replace("`", "").split(" ") for part in recognizer.sql_schema.split(", "))
    assert list(kinds) == list(faces.columns)
    assert {name: kind for name, kind in kinds.items() if kind != "double"} == {
        "source": "string",
        "face": "int",
        "expression": "string",
        "error": "string",
    }
    assert str(faces["face"].dtype) == "Int32"
    assert faces["face"].isna().sum() == 3
    assert faces["x1"].dtype == np.float64


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, drawn: Path) -> Iterator[list[str]]:
    """Let fetching fail for the addresses in a list."""
    broken: list[str] = []

    def fetch(address: str) -> bytes:
        if address in broken:
            raise PlaceError(address, "no answer from its server")
        return (drawn / "black.png").read_bytes()

    monkeypatch.setattr("ddamfn.distributed.batch.fetch", fetch)
    return broken


def test_a_file_that_cannot_be_fetched_is_a_row(recognizer: BatchRecognizer, failing: list[str]) -> None:
    addresses: list[Entry] = [(f"s3://b/{number}.png", None) for number in range(12)]
    failing += [address for address, _ in addresses[3:12]]
    results = list(recognizer.results(addresses))
    assert [result.source for result in results] == [address for address, _ in addresses]
    assert [result.error for result in results] == [None] * 3 + ["no answer from its server"] * 9


@pytest.mark.parametrize("broken", [slice(2, 12), slice(0, 12)])
def test_many_in_a_row_are_the_server_s_fault(recognizer: BatchRecognizer, failing: list[str], broken: slice) -> None:
    addresses: list[Entry] = [(f"s3://b/{number}.png", None) for number in range(12)]
    failing += [address for address, _ in addresses[broken]]
    with pytest.raises(PlaceError, match="no answer"):
        list(recognizer.results(addresses))


def test_a_batch_of_which_nothing_is_fetched_is_the_server_s_fault(
    recognizer: BatchRecognizer, failing: list[str]
) -> None:
    failing += ["s3://b/0.png"]
    with pytest.raises(PlaceError, match="no answer"):
        list(recognizer.results([("s3://b/0.png", None)]))


def test_the_record_tells_what_changes_results(stand_in_weights: Path, calibrated_weights: Path) -> None:
    usual = BatchRecognizer(stand_in_weights).record()
    for options in ({"detection": 160}, {"max_faces": 1}, {"shrink_on_load": False}, {"min_detection_score": 0.6}):
        assert BatchRecognizer(stand_in_weights, **options).record() != usual
    assert BatchRecognizer(stand_in_weights, num_threads=4, batch_size=1, providers=["cpu"]).record() == usual
    # The same network with another card.
    assert BatchRecognizer(calibrated_weights).record() != usual
