"""RAF-DB: original and aligned images, manual landmarks, attributes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ddamfn.data.rafdb import open_rafdb
from ddamfn.errors import DataError, UnknownLabel, UsageError
from ddamfn.faces import decode


@pytest.fixture
def root(own_layout: Callable[[str], Path]) -> Path:
    return own_layout("rafdb")


def test_original_images_come_with_their_landmarks(root: Path) -> None:
    dataset = open_rafdb(root)
    assert dataset.splits == ("train", "test")
    assert [s.label for s in dataset.select("train").samples] == list(dataset.classes)
    sample = dataset.samples[0]
    text = (root / "basic/Annotation/manual/train_00001_manu_attri.txt").read_text().split()
    assert sample.landmarks == tuple((float(text[i]), float(text[i + 1])) for i in range(0, 10, 2))
    eye_left, eye_right, nose, mouth_left, mouth_right = sample.landmarks
    assert eye_left[0] < nose[0] < eye_right[0]
    assert mouth_left[1] > nose[1] > eye_left[1]
    assert mouth_left[0] < mouth_right[0]
    assert sample.group is not None
    assert sample.group.startswith("gender=")
    assert decode(dataset.read(sample)).shape == (200, 200, 3)


def test_aligned_images_have_no_landmarks(root: Path) -> None:
    dataset = open_rafdb(root, "aligned")
    assert all(s.landmarks is None for s in dataset.samples)
    assert decode(dataset.read(dataset.samples[0])).shape == (100, 100, 3)
    original = open_rafdb(root, "original")
    assert [(s.key, s.label) for s in dataset.samples] == [(s.key, s.label) for s in original.samples]
    for path in (root / "basic/Image/original").iterdir():
        path.unlink()
    (root / "basic/Image/original").rmdir()
    assert open_rafdb(root).note == "aligned images"


def test_the_folder_basic_itself(root: Path) -> None:
    assert open_rafdb(root / "basic").samples == open_rafdb(root).samples


def test_lost_landmarks_are_detected_later_and_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "basic/Annotation/manual/train_00001_manu_attri.txt").write_text("1 2\n3 x\n")
    (root / "basic/Annotation/manual/train_00002_manu_attri.txt").unlink()
    dataset = open_rafdb(root)
    assert [s.landmarks is None for s in dataset.samples[:3]] == [True, True, False]
    assert "2 of" in caplog.text


def test_landmarks_without_attributes(root: Path) -> None:
    path = root / "basic/Annotation/manual/train_00001_manu_attri.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:5]))
    sample = open_rafdb(root).samples[0]
    assert sample.landmarks is not None
    assert sample.group is None


@pytest.mark.parametrize(
    ("line", "error", "match"),
    [
        ("train_00001.jpg", DataError, "list_patition_label.txt:1: expected"),
        ("train_00001.jpg happy", DataError, "list_patition_label.txt:1: expected"),
        ("holiday.jpg 1", DataError, "begin with train_ or test_"),
        ("train_00001.jpg 8", UnknownLabel, "classes 1 to 7, not 8"),
    ],
)
def test_malformed_lists(root: Path, line: str, error: type[Exception], match: str) -> None:
    (root / "basic/EmoLabel/list_patition_label.txt").write_text(line + "\n")
    with pytest.raises(error, match=match):
        open_rafdb(root)


def test_bad_arguments(root: Path) -> None:
    with pytest.raises(UsageError, match="original and aligned"):
        open_rafdb(root, "cropped")
    for path in (root / "basic/Image/aligned").iterdir():
        path.unlink()
    (root / "basic/Image/aligned").rmdir()
    with pytest.raises(DataError, match="aligned is missing"):
        open_rafdb(root, "aligned")
