"""Tables of images: csv and Parquet say the same."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ddamfn.data import open_dataset
from ddamfn.data.table import open_table
from ddamfn.errors import DataError, MissingExtra


@pytest.fixture
def root(own_layout: Callable[[str], Path]) -> Path:
    return own_layout("table")


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_column(root: Path) -> None:
    dataset = open_table(root)
    with (root / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(s.key, s.label, s.split, s.subject, s.group) for s in dataset.samples] == [
        (r["path"], r["label"], r["split"], r["subject"], r["group"]) for r in rows
    ]
    assert dataset.read(dataset.samples[0]) == (root / rows[0]["path"]).read_bytes()
    assert open_table(root / "table.csv").samples == dataset.samples


def test_path_and_label_are_enough(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", "label,path,age", "Happy,a.png,3", f"sad,{tmp_path / 'b.png'},4")
    (tmp_path / "b.png").write_bytes(b"pixels")
    dataset = open_table(path)
    assert [(s.label, s.split, s.subject, s.group) for s in dataset.samples] == [
        ("happiness", "all", None, None),
        ("sadness", "all", None, None),
    ]
    assert dataset.classes == ("happiness", "sadness")
    assert dataset.read(dataset.samples[1]) == b"pixels"


def test_parquet_says_the_same(root: Path, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from pyarrow import parquet

    with (root / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    parquet.write_table(pyarrow.Table.from_pylist(rows), root / "table.parquet")
    assert open_table(root / "table.parquet").samples == open_table(root / "table.csv").samples
    with pytest.raises(DataError, match="table"):
        open_table(root)  # two tables: which one is meant?
    parquet.write_table(pyarrow.table({" Path": ["a\\b.png"], "LABEL": ["fear"]}), tmp_path / "any.parquet")
    assert [(s.key, s.label) for s in open_table(tmp_path / "any.parquet").samples] == [("a/b.png", "fear")]
    parquet.write_table(pyarrow.table({"path": ["a.png"]}), tmp_path / "half.parquet")
    with pytest.raises(DataError, match="label"):
        open_table(tmp_path / "half.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"bad\.parquet: cannot be read"):
        open_table(tmp_path / "bad.parquet")


def test_parquet_needs_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(MissingExtra, match=r'pip install "ddamfn\[parquet\]"'):
        open_table(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("a.png,confused,train", "row 2: 'confused' is no known expression"),
        ("a.png,fear,holiday", "row 2 has the split 'holiday'; use one of"),
        (",fear,train", "row 2: the path is empty"),
        ("x.png,fear,train", r"lists x\.png twice"),
        ("a.png", "row 2: the label is empty"),
    ],
)
def test_rows_that_are_wrong(tmp_path: Path, row: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        open_table(write(tmp_path / "t.csv", "path,label,split", "x.png,fear,train", row))


def test_tables_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        open_table(write(tmp_path / "t.csv", "path,label"))
    with pytest.raises(DataError, match="no column is called path; the first line names 'file', 'label'"):
        open_table(write(tmp_path / "u.csv", "File,label", "a.png,fear"))
    (tmp_path / "v.csv").write_bytes("path,label\na.png,fear\nMüller.png,fear\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"v\.csv: line 3 is not UTF-8"):
        open_table(tmp_path / "v.csv")
    with pytest.raises(DataError, match="table"):
        open_table(tmp_path / "nowhere.csv")


def test_a_file_or_folder_that_is_nearly_a_table_is_told_what_is_wrong(tmp_path: Path) -> None:
    for place in (write(tmp_path / "u.csv", "image;emotion", "a.png;fear"), tmp_path):
        with pytest.raises(
            DataError, match="no column is called path or label; the first line names 'image', 'emotion'"
        ):
            open_dataset(place)
    (tmp_path / "u.csv").unlink()
    for name in ("a.csv", "b.tsv"):
        write(tmp_path / name, "path\tlabel", "a.png\tfear")
    with pytest.raises(DataError, match=r"several tables: name one of a\.csv, b\.tsv"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="address"):
        open_dataset("https://example.org/table.csv")


ROWS = [["Path", " Label", "SPLIT "], ["images\\deep\\ü.png", " Happy ", "Train"], [" b.png", "sad", ""], ["", "", ""]]


@pytest.mark.parametrize("separator", [",", ";", "\t", ", ", "; "])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_tables_as_spreadsheets_save_them(tmp_path: Path, separator: str, encoding: str) -> None:
    text = "\r\n".join(separator.join(row) for row in ROWS)
    path = tmp_path / "mine.csv"
    path.write_bytes(text.encode(encoding))
    dataset = open_dataset(path)
    assert [(s.key, s.label, s.split) for s in dataset.samples] == [
        ("images/deep/ü.png", "happiness", "train"),
        ("b.png", "sadness", "all"),
    ]
    assert open_dataset(tmp_path).samples == dataset.samples


def test_what_a_spreadsheet_puts_around_a_table(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", "sep=;", '"path"; "label"; "age, in years"', '"a; b.png"; "fear"; "3"', ";;")
    (sample,) = open_table(path).samples
    assert (sample.key, sample.label) == ("a; b.png", "fear")


def test_a_name_with_backslashes_that_is_there_is_itself(tmp_path: Path) -> None:
    (tmp_path / "a\\b.png").write_bytes(b"pixels")
    path = write(tmp_path / "mine.csv", "path,label", "a\\b.png,fear", "c\\d.png,fear")
    assert [s.key for s in open_table(path).samples] == ["a\\b.png", "c/d.png"]
