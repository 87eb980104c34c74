"""The manifest keeps every bit, and what a kill leaves behind is cut off."""

from pathlib import Path

import numpy as np
import pytest

from ddamfn.data.dataset import Sample
from ddamfn.errors import DataError
from ddamfn.preparation.image import Outcome
from ddamfn.preparation.prepared import COLUMNS, read_manifest, repair, to_line

HEADER = ",".join(COLUMNS) + "\n"


def line(key: str = "a.png", **fields: object) -> str:
    return to_line(Sample(key=key, split="train", **fields), 0, Outcome(False))  # type: ignore[arg-type]


def test_every_bit_comes_back(tmp_path: Path, rng: np.random.Generator) -> None:
    samples, outcomes = [], []
    for i in range(50):
        samples.append(Sample(key=f'odd, "name" {i}.png', split="train", votes=tuple(map(float, range(10)))))
        points = rng.normal(100, 300, (5, 2)).astype(np.float32)
        outcomes.append(Outcome(True, float(rng.random()), points, rng.normal(0, 3, (2, 3))))
    path = tmp_path / "manifest.csv"
    path.write_text(HEADER + "".join(to_line(s, i, o) for i, (s, o) in enumerate(zip(samples, outcomes, strict=True))))
    rows = list(read_manifest(path))
    assert [row.row for row in rows] == list(range(50))
    for sample, outcome, row in zip(samples, outcomes, rows, strict=True):
        assert (row.key, row.split, row.votes) == (sample.key, sample.split, sample.votes)
        assert row.outcome.found
        assert row.outcome.score == outcome.score
        assert row.outcome.landmarks is not None
        assert row.outcome.landmarks.dtype == np.float32
        assert (row.outcome.landmarks == outcome.landmarks).all()
        assert (row.outcome.matrix == outcome.matrix).all()


def test_empty_cells_come_back_as_none(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    sample = Sample(key="a.png", split="val", label="fear", subject="S1", group="old")
    path.write_text(HEADER + to_line(sample, 7, Outcome(False, error="a.png: truncated")) + line())
    first, second = read_manifest(path)
    assert (first.label, first.votes, first.subject, first.group) == ("fear", None, "S1", "old")
    assert (first.row, first.outcome.error) == (7, "a.png: truncated")
    assert (first.outcome.score, first.outcome.landmarks, first.outcome.matrix) == (None, None, None)
    assert (second.label, second.subject, second.group, second.outcome.error) == (None, None, None, "")


def test_a_carriage_return_in_a_name_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_bytes((HEADER + line("a\rb.png") + line("c.png")).encode())
    assert [row.key for row in read_manifest(path)] == ["a\rb.png", "c.png"]


def test_a_torn_line_is_cut_off_wherever_it_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    whole = HEADER + line("a.png") + line("b.png")
    for length in range(len(whole) + 1):
        path.write_text(whole[:length])
        rows = repair(path)
        assert rows == max(0, whole[:length].count("\n") - 1)
        assert path.read_text() == whole[: whole.rfind("\n", 0, length) + 1] or path.read_text() == HEADER
        assert len(list(read_manifest(path))) == rows


def test_a_new_manifest_is_a_header(tmp_path: Path) -> None:
    assert repair(tmp_path / "manifest.csv") == 0
    assert (tmp_path / "manifest.csv").read_text() == HEADER


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text("path,label\na.png,fear\n")
    with pytest.raises(DataError, match="not a manifest"):
        repair(path)
    assert path.read_text() == "path,label\na.png,fear\n"
    with pytest.raises(DataError, match="not a manifest"):
        list(read_manifest(path))


@pytest.mark.parametrize("bad", ["a,b\n", line().replace("train,0", "train,x")])
def test_damaged_rows(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text(HEADER + bad)
    with pytest.raises(DataError, match="cannot be read"):
        list(read_manifest(path))
    with pytest.raises(DataError, match="cannot be read"):
        list(read_manifest(tmp_path / "none.csv"))
