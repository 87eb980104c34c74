"""FERPlus: folders or archives, two sources of votes, names that stand twice."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ddamfn.data.ferplus import open_ferplus
from ddamfn.errors import DataError, UnreadableImage, UsageError
from ddamfn.synthetic import write_synthetic_ferplus


@pytest.fixture
def root(own_layout: Callable[[str], Path]) -> Path:
    return own_layout("ferplus")


def test_both_sources_have_the_same_votes_here(root: Path) -> None:
    by_label, by_new = open_ferplus(root), open_ferplus(root, "fer2013new.csv")
    assert by_label.samples == by_new.samples
    assert "label.csv" in by_label.note
    assert "fer2013new.csv" in by_new.note
    assert by_label.card.name != by_new.card.name
    assert by_label.splits == ("train", "val", "test")


def test_archives_hold_the_same_as_folders(root: Path, own_layout: Callable[[str], Path]) -> None:
    zipped = own_layout("ferplus-zip")
    folders, archives = open_ferplus(root), open_ferplus(zipped)
    assert [(s.key, s.votes) for s in folders.samples] == [(s.key, s.votes) for s in archives.samples]
    for a, b in zip(folders.samples, archives.samples, strict=True):
        assert folders.read(a) == archives.read(b)


def test_without_label_csv_the_other_source_is_taken(root: Path) -> None:
    for path in root.glob("*/label.csv"):
        path.unlink()
    assert "fer2013new.csv" in open_ferplus(root).note
    (root / "fer2013new.csv").unlink()
    with pytest.raises(DataError, match=r"label\.csv in FER2013Train, FER2013Valid, FER2013Test"):
        open_ferplus(root)


def test_a_name_that_stands_twice_keeps_its_later_row(root: Path) -> None:
    path = root / "FER2013Test" / "label.csv"
    name = path.read_text().split(",")[0]
    count = len(open_ferplus(root).select("test").samples)
    with path.open("a") as file:
        file.write(f'{name},"(0, 0, 48, 48)",0,0,0,0,0,0,0,10,0,0\n')
    samples = open_ferplus(root).select("test").samples
    assert len(samples) == count
    assert samples[0].votes == (0, 0, 0, 0, 0, 0, 0, 10, 0, 0)


def test_rows_are_joined_by_name_not_by_number(root: Path) -> None:
    path = root / "fer2013new.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "Training,,0,0,0,0,0,0,0,0,0,10", *reversed(lines[1:])]) + "\n")
    expected = {s.key: s.votes for s in open_ferplus(root, "label.csv").samples}
    assert {s.key: s.votes for s in open_ferplus(root, "fer2013new.csv").samples} == expected


def test_a_part_of_the_splits_is_enough(root: Path, tmp_path: Path) -> None:
    (root / "FER2013Train").rename(tmp_path / "elsewhere")
    assert open_ferplus(root).splits == ("val", "test")
    assert open_ferplus(root, "fer2013new.csv").splits == ("val", "test")


@pytest.mark.parametrize("row", ["x.png,box,1,2,3", 'x.png,"(0, 0, 48, 48)",0,0,0,0,0,0,0,many,0,0'])
def test_malformed_rows_name_the_file_and_the_image(root: Path, row: str) -> None:
    with (root / "FER2013Valid" / "label.csv").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(DataError, match=r"FER2013Valid: label\.csv: the row of x\.png"):
        open_ferplus(root)


def test_malformed_tables(root: Path) -> None:
    path = root / "fer2013new.csv"
    text = path.read_text()
    path.write_text(text.replace("Usage", "Use", 1))
    with pytest.raises(DataError, match="first line"):
        open_ferplus(root, "fer2013new.csv")
    path.write_text(text.replace("PublicTest", "Holiday"))
    with pytest.raises(DataError, match="unknown Usage 'Holiday'"):
        open_ferplus(root, "fer2013new.csv")
    path.unlink()
    with pytest.raises(DataError, match=r"fer2013new\.csv: cannot be read"):
        open_ferplus(root, "fer2013new.csv")


def test_damaged_archives(tmp_path: Path) -> None:
    root = write_synthetic_ferplus(tmp_path / "zipped", 1, np.random.default_rng(1), zipped=True)
    dataset = open_ferplus(root)
    archive = root / "FER2013Test.zip"
    with zipfile.ZipFile(archive) as opened:
        first = opened.infolist()[0]
    content = bytearray(archive.read_bytes())
    content[first.header_offset + 80] ^= 0xFF
    archive.write_bytes(content)
    damaged = next(s for s in dataset.samples if s.key == first.filename)
    with pytest.raises(UnreadableImage, match="archive"):
        dataset.read(damaged)
    archive.write_bytes(content[:1000])
    with pytest.raises(DataError, match=r"FER2013Test\.zip: cannot read"):
        open_ferplus(root)


def test_bad_arguments(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"label\.csv, fer2013new\.csv"):
        open_ferplus(root, "votes.csv")
    with pytest.raises(DataError, match="FER2013Train"):
        open_ferplus(tmp_path / "none")


@pytest.mark.ferplus
def test_the_official_archives(ferplus_root: Path) -> None:
    for source in ("label.csv", "fer2013new.csv"):
        dataset = open_ferplus(ferplus_root, source)
        assert {s: len(dataset.select(s).samples) for s in dataset.splits} == dataset.card.sizes
    # The repeated name's later row is the one whose image was kept.
    lines = (ferplus_root / "fer2013new.csv").read_text().splitlines()
    later = [line.split(",")[2:] for line in lines if ",fer0006953.png," in line][1]
    votes = next(s.votes for s in dataset.samples if s.key == "FER2013Train/fer0006953.png")
    assert votes == tuple(float(v) for v in later)
