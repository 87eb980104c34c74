"""Synthetic copies of every official layout: the readers accept them, and the same seed writes the same files."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddamfn.data import open_dataset
from ddamfn.data.dataset import Dataset
from ddamfn.data.duplicates import take_fingerprints
from ddamfn.synthetic import LAYOUTS, write_synthetic_affectnet, write_synthetic_ferplus, write_synthetic_table

_TRAIN, _HELD_OUT = 1, 1
_SPLITS = {
    "affectnet": ("train", "val"),
    "affectnet-manual": ("train", "val"),
    "ckplus": ("all",),
    "fer2013": ("train", "val", "test"),
    "ferplus": ("train", "val", "test"),
    "ferplus-zip": ("train", "val", "test"),
    "folder": ("train", "val", "test"),
    "rafdb": ("train", "test"),
    "table": ("train", "val", "test"),
}


@pytest.fixture(scope="module")
def roots(drawn_layout: Callable[[str], Path]) -> dict[str, Path]:
    return {name: drawn_layout(name) for name in LAYOUTS}


def _digests(root: Path) -> dict[str, str]:
    files = (p for p in sorted(root.rglob("*")) if p.is_file())
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("layout", _SPLITS)
def test_the_reader_recognizes_the_layout_and_its_counts(layout: str, roots: dict[str, Path]) -> None:
    dataset = open_dataset(roots[layout])
    assert dataset.card.name == layout.removesuffix("-manual").removesuffix("-zip")
    assert dataset.splits == _SPLITS[layout]
    keep, target = dataset.targets("majority")
    assert keep.all()
    found = Counter((s.split, dataset.classes[k]) for s, k in zip(dataset.samples, target.argmax(axis=1), strict=True))
    # Three frames of each sequence in CK+.
    each = {"train": _TRAIN, "all": 3 * _TRAIN}
    expected = {(s, c): each.get(s, _HELD_OUT) for s in dataset.splits for c in dataset.classes}
    assert found == expected


@pytest.mark.parametrize("layout", _SPLITS)
def test_every_image_can_be_read_and_is_unique(layout: str, roots: dict[str, Path]) -> None:
    prints = take_fingerprints(open_dataset(roots[layout]), workers=1)
    assert prints.unreadable == {}
    assert len(set(prints.pixel_digests)) == len(prints.samples)


@pytest.mark.parametrize("layout", ["ferplus-zip", "rafdb", "affectnet", "table"])
def test_the_same_seed_writes_the_same_files(layout: str, tmp_path: Path, roots: dict[str, Path]) -> None:
    again = LAYOUTS[layout](tmp_path / layout, _TRAIN, np.random.default_rng(5))
    assert _digests(again) == _digests(roots[layout])


def test_another_seed_writes_other_files(tmp_path: Path, roots: dict[str, Path]) -> None:
    other = LAYOUTS["ferplus-zip"](tmp_path / "other", _TRAIN, np.random.default_rng(6))
    assert _digests(other) != _digests(roots["ferplus-zip"])


def test_folders_and_archives_of_ferplus_hold_the_same(roots: dict[str, Path]) -> None:
    def contents(dataset: Dataset) -> dict[str, tuple[object, object]]:
        return {s.key: (s.votes, dataset.read(s)) for s in dataset.samples}

    assert contents(open_dataset(roots["ferplus"])) == contents(open_dataset(roots["ferplus-zip"]))


def test_both_tables_of_ferplus_agree_though_rows_without_an_image_lie_between(tmp_path: Path) -> None:
    root = write_synthetic_ferplus(tmp_path, 2, np.random.default_rng(0))
    assert (root / "fer2013new.csv").read_text(encoding="utf-8").count(",,0,0,0,0,0,0,0,0,0,10") == 3
    by_folder = {s.key: s.votes for s in open_dataset(root).samples}
    by_table = {s.key: s.votes for s in open_dataset(root, "ferplus-fer2013new").samples}
    assert by_folder == by_table
    assert all(sum(votes or ()) == 10 for votes in by_folder.values())


def test_rafdb_has_the_landmarks_of_its_original_images(roots: dict[str, Path]) -> None:
    dataset = open_dataset(roots["rafdb"])
    for sample in dataset.samples:
        assert sample.landmarks is not None
        points = np.array(sample.landmarks)
        assert points.shape == (5, 2)
        assert points[0, 0] < points[2, 0] < points[1, 0]
        assert points[:2, 1].max() < points[2, 1] < points[3:, 1].min()
    with Image.open(roots["rafdb"] / "basic" / "Image" / "aligned" / "train_00001_aligned.jpg") as image:
        assert image.size == (100, 100)


def test_affectnet_marks_eyes_nose_and_mouth_in_both_layouts(roots: dict[str, Path]) -> None:
    points = np.load(roots["affectnet"] / "train_set" / "annotations" / "0_lnd.npy").reshape(68, 2)
    left, right = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    assert left[0] < points[30, 0] < right[0]
    assert points[48, 0] < points[54, 0]
    for sample in open_dataset(roots["affectnet-manual"]).samples:
        assert sample.bbox is not None
        x1, y1, x2, y2 = sample.bbox
        assert 0 <= x1 < x2 <= 180
        assert 0 <= y1 < y2 <= 200


def test_affectnet_has_no_third_layout(tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="2021 and manual"):
        write_synthetic_affectnet(tmp_path, 1, rng, layout="2017")


def test_frames_of_ckplus_grow_from_rest_to_the_expression(roots: dict[str, Path]) -> None:
    # Take 7 is surprise: the mouth opens, so frames differ from the first one more and more.
    folder = roots["ckplus"] / "cohn-kanade-images" / "S005" / "007"
    frames = [np.asarray(Image.open(p), dtype=np.float64) for p in sorted(folder.glob("*.png"))]
    changes = [np.abs(frame - frames[0]).mean() for frame in frames]
    assert len(frames) == 6
    assert changes == sorted(changes)
    assert changes[-1] > 0.4


def test_a_subject_of_a_table_is_in_one_split_and_shows_several_expressions(tmp_path: Path) -> None:
    dataset = open_dataset(write_synthetic_table(tmp_path, 4, np.random.default_rng(0), side_px=32))
    splits, shown = defaultdict(set), defaultdict(set)
    for sample in dataset.samples:
        splits[sample.subject].add(sample.split)
        shown[sample.subject].add(sample.label)
    assert all(len(where) == 1 for where in splits.values())
    assert min(len(labels) for labels in shown.values()) >= 4
    assert {s.group for s in dataset.samples} <= {"long hair", "short hair"}
