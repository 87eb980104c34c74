"""Class folders, with and without splits."""

import os
from pathlib import Path

import pytest

from ddamfn.data.catalog import AFFECTNET_7, RAFDB
from ddamfn.data.folder import open_folder
from ddamfn.errors import DataError
from ddamfn.formats import IMAGE_SUFFIXES


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_splits_and_classes_by_any_spelling(tmp_path: Path) -> None:
    root = touch(
        tmp_path, "Training/Happy/b.JPG", "Training/Happy/a.png", "valid/3_sad/deep/c.jpeg", "test/angry/d.png"
    )
    dataset = open_folder(root)
    assert [(s.key, s.split, s.label) for s in dataset.samples] == [
        ("Training/Happy/a.png", "train", "happiness"),
        ("Training/Happy/b.JPG", "train", "happiness"),
        ("valid/3_sad/deep/c.jpeg", "val", "sadness"),
        ("test/angry/d.png", "test", "anger"),
    ]
    assert dataset.classes == ("happiness", "sadness", "anger")
    assert dataset.splits == ("train", "val", "test")


def test_without_splits(tmp_path: Path) -> None:
    dataset = open_folder(touch(tmp_path, "fear/a.png", "neutral/b.png"))
    assert [(s.split, s.label) for s in dataset.samples] == [("all", "fear"), ("all", "neutral")]
    assert dataset.classes == ("neutral", "fear")


def test_what_is_no_image_is_passed_over(tmp_path: Path) -> None:
    root = touch(tmp_path, "fear/a.png", "fear/notes.txt", "fear/.hidden.png", ".cache/x/y.png")
    assert [s.key for s in open_folder(root).samples] == ["fear/a.png"]


def test_pipes_are_passed_over_and_lost_images_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = touch(tmp_path, "fear/a.png", "fear/b.JXL", "anger/c.jxl", "anger/d.cr3", "fear/notes.txt", "fear/list.pdf")
    os.mkfifo(root / "fear" / "pipe.jpg")
    (root / "fear" / "x.png").mkdir()
    (root / "fear" / "gone.jpg").symlink_to("nowhere.jpg")
    assert [s.key for s in open_folder(root).samples] == ["fear/a.png", "fear/gone.jpg"]
    (line,) = caplog.messages
    assert line.endswith("left out: 2 .jxl, 1 .cr3, 1 pipe")


def test_every_suffix_of_an_image_counts(tmp_path: Path) -> None:
    names = sorted(f"fear/a{suffix}" for suffix in IMAGE_SUFFIXES)
    assert [s.key for s in open_folder(touch(tmp_path, *names)).samples] == names


def test_a_folder_with_a_name_that_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="confused"):
        open_folder(touch(tmp_path, "train/fear/a.png", "train/confused/b.png"))


def test_numbers_belong_to_a_set(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/1/a.png", "train/7/b.png")
    with pytest.raises(DataError, match="--kind"):
        open_folder(root)
    assert [s.label for s in open_folder(root, RAFDB).samples] == ["surprise", "neutral"]
    with pytest.raises(DataError, match="'7'"):
        open_folder(root, AFFECTNET_7)


def test_a_class_that_the_named_set_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="RAF-DB"):
        open_folder(touch(tmp_path, "train/contempt/a.png"), RAFDB)


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images"):
        open_folder(touch(tmp_path, "train/fear/a.txt"))
    with pytest.raises(DataError, match="none"):
        open_folder(tmp_path / "none")
