"""Duplicates across splits: planted ones are found, others are not, and FERPlus's known ones come out exactly."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddamfn.data import Sample, open_dataset
from ddamfn.data.duplicates import (
    Fingerprints,
    duplicates,
    exact_duplicates,
    exact_groups,
    known_duplicates,
    near_duplicates,
    take_fingerprints,
    write_duplicates,
)
from ddamfn.errors import UsageError
from ddamfn.synthetic import write_synthetic_ferplus, write_synthetic_folder

# The near duplicates that are no exact ones, each with its match in train, from a scan of all 35,887 images.
GOLDEN = Path(__file__).parent / "golden"
_FERPLUS_FOLDERS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a synthetic set in which one test image is a copy of train's, one re-saved, and one a little changed."""
    root = write_synthetic_folder(tmp_path_factory.mktemp("set"), 2, np.random.default_rng(2), side_px=64)
    source = root / "train" / "anger" / "00004.png"
    (root / "test" / "anger" / "copy.png").write_bytes(source.read_bytes())
    with Image.open(root / "train" / "fear" / "00006.png") as image:
        image.save(root / "test" / "fear" / "resaved.bmp")
    with Image.open(root / "train" / "disgust" / "00005.png") as image:
        brighter = image.point(lambda v: min(255, int(v * 1.06)))
        brighter.resize((60, 60), Image.Resampling.LANCZOS).save(root / "test" / "disgust" / "changed.jpg")
    return root


def test_exact_duplicates_are_equal_files_and_equal_pixels(root: Path) -> None:
    prints = take_fingerprints(open_dataset(root), workers=2)
    pairs = {(t.key, t.other_key) for t in exact_duplicates(prints, "test", "train")}
    assert pairs == {
        ("test/anger/copy.png", "train/anger/00004.png"),
        ("test/fear/resaved.bmp", "train/fear/00006.png"),
    }
    groups = [{prints.samples[i].key for i in group} for group in exact_groups(prints)]
    assert sorted(map(sorted, groups)) == sorted(map(sorted, pairs))
    assert exact_duplicates(prints, "val", "train") == []


def test_heic_has_a_fingerprint_too(own_layout: Callable[[str], Path], heic: Callable[..., bytes]) -> None:
    root = own_layout("folder")
    with Image.open(root / "train" / "fear" / "00006.png") as image:
        (root / "test" / "fear" / "again.heic").write_bytes(heic(np.asarray(image.convert("RGB"))))
    prints = take_fingerprints(open_dataset(root), workers=1)
    assert not prints.unreadable
    assert ("test/fear/again.heic", "train/fear/00006.png") in {
        (t.key, t.other_key) for t in near_duplicates(prints, "test", "train")
    }


def test_near_duplicates_are_the_exact_ones_and_the_changed_one(root: Path) -> None:
    prints = take_fingerprints(open_dataset(root), workers=1)
    found = {t.key: t for t in near_duplicates(prints, "test", "train")}
    assert set(found) == {"test/anger/copy.png", "test/fear/resaved.bmp", "test/disgust/changed.jpg"}
    changed = found["test/disgust/changed.jpg"]
    assert changed.other_key == "train/disgust/00005.png"
    assert not changed.exact
    assert 0.985 < changed.correlation <= 1.0
    assert found["test/anger/copy.png"].exact


def test_near_duplicates_in_blocks_are_those_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    thumbs = generator.integers(0, 256, (90, 24, 24), dtype=np.uint8)
    thumbs[[70, 77]] = thumbs[[12, 31]] // 2 + 40
    thumbs[80] = 128  # one gray: it correlates with nothing, and must not divide by zero
    samples = tuple(_sample(i, "train" if i < 60 else "test") for i in range(90))
    prints = Fingerprints(samples, tuple(str(i).encode() for i in range(90)), thumbs, {})
    whole = near_duplicates(prints, "test", "train")
    monkeypatch.setattr("ddamfn.data.duplicates._ROWS", 7)
    monkeypatch.setattr("ddamfn.data.duplicates._COLUMNS", 11)
    blocks = near_duplicates(prints, "test", "train")
    for pairs in (whole, blocks):
        assert [(t.key, t.other_key) for t in pairs] == [("70", "12"), ("77", "31")]
    reference = [np.corrcoef(thumbs[a].ravel(), thumbs[b].ravel())[0, 1] for a, b in ((70, 12), (77, 31))]
    assert [t.correlation for t in blocks] == pytest.approx(reference, abs=1e-5)


def _sample(number: int, split: str) -> Sample:
    return Sample(key=str(number), split=split, label="fear")


def test_duplicates_names_evaluation_images_only(root: Path) -> None:
    dataset = open_dataset(root)
    assert duplicates(dataset, workers=1) == {"test/anger/copy.png", "test/fear/resaved.bmp"}
    assert duplicates(dataset, near=True, workers=1) == {
        "test/anger/copy.png",
        "test/fear/resaved.bmp",
        "test/disgust/changed.jpg",
    }
    assert duplicates(dataset.select("test")) == set()


def test_the_shipped_list_is_not_used_for_a_copy_of_another_size(tmp_path: Path, rng: np.random.Generator) -> None:
    root = write_synthetic_ferplus(tmp_path, 1, rng)
    # One image has a name that is on the list of the official set.
    folder = root / "FER2013Test"
    (folder / "fer0032220.png").rename(folder / "fer0032236.png")
    labels = (folder / "label.csv").read_text(encoding="utf-8")
    (folder / "label.csv").write_text(labels.replace("fer0032220", "fer0032236"), encoding="utf-8")
    dataset = open_dataset(root)
    assert {s.key for s in dataset.samples} & known_duplicates("ferplus")
    assert duplicates(dataset, workers=1) == set()


def test_the_shipped_list_has_the_known_numbers_of_names() -> None:
    exact, near = known_duplicates("ferplus"), known_duplicates("ferplus", ("near",))
    count = {folder: sum(key.startswith(folder) for key in exact) for folder in _FERPLUS_FOLDERS.values()}
    assert count == {"FER2013Train": 0, "FER2013Valid": 279, "FER2013Test": 288}
    assert not exact & near
    assert known_duplicates("ferplus-fer2013new") == exact
    assert known_duplicates("rafdb") == set()
    with pytest.raises(UsageError, match="exact or near"):
        known_duplicates("ferplus", ("similar",))


def test_written_lists_name_every_duplicate_with_its_kind(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "duplicates.txt"
    assert write_duplicates(open_dataset(root), path, workers=1) == 3
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("#")
    assert lines[1:] == ["test/anger/copy.png exact", "test/disgust/changed.jpg near", "test/fear/resaved.bmp exact"]


def _known_groups(root: Path) -> set[frozenset[str]]:
    """Return FERPlus's groups of equal images as another program listed them, beside the archives."""
    groups: dict[str, set[str]] = {}
    with (root / "fer2013_exact_duplicates.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            groups.setdefault(row["group"], set()).add(f"{row['folder']}/{row['image']}")
    return {frozenset(group) for group in groups.values()}


@pytest.mark.ferplus
def test_ferplus_gives_exactly_the_known_duplicates(ferplus_root: Path) -> None:
    """All images that are known to have a duplicate, and a sixth of the 32,000 others, among which none is found."""
    groups = _known_groups(ferplus_root)
    pairs = dict(line.split() for line in (GOLDEN / "ferplus_near.txt").read_text(encoding="utf-8").splitlines())
    known = {key for group in groups for key in group} | known_duplicates("ferplus", ("exact", "near"))
    known |= set(pairs.values())
    dataset = open_dataset(ferplus_root)
    samples = tuple(s for number, s in enumerate(dataset.samples) if s.key in known or number % 6 == 0)
    assert len(known) + 5000 < len(samples) < len(known) + 6000
    prints = take_fingerprints(replace(dataset, samples=samples))
    assert prints.unreadable == {}
    found = {frozenset(prints.samples[i].key for i in group) for group in exact_groups(prints)}
    assert len(found) == 1513
    assert found == groups
    exact = {split: exact_duplicates(prints, split, "train") for split in ("test", "val")}
    near = {split: near_duplicates(prints, split, "train") for split in ("test", "val")}
    assert {split: len(each) for split, each in exact.items()} == {"test": 288, "val": 279}
    assert {split: len(each) for split, each in near.items()} == {"test": 337, "val": 311}
    # The shipped list is the scan's result, and needs one split only.
    assert {t.key for each in exact.values() for t in each} == known_duplicates("ferplus")
    assert {t.key for each in near.values() for t in each} == known_duplicates("ferplus", ("exact", "near"))
    # Of equal images in train any may be the match.
    alike = {key: group for group in groups for key in group}
    matches = {t.key: t.other_key for each in near.values() for t in each if not t.exact}
    assert matches.keys() == pairs.keys()
    assert all(match in {pairs[key], *alike.get(pairs[key], ())} for key, match in matches.items())
    assert duplicates(dataset.select("test"), near=True) == {t.key for t in near["test"]}
    assert duplicates(open_dataset(ferplus_root, "ferplus-fer2013new").select("val")) == {t.key for t in exact["val"]}
