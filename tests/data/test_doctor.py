"""The check of a data set: every planted fault is found, and a whole official set is called official."""

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddamfn.data import Dataset, Sample, open_dataset
from ddamfn.data.catalog import AFFECTNET, FER2013, RAFDB, DatasetCard
from ddamfn.data.dataset import FileImages
from ddamfn.data.doctor import check
from ddamfn.synthetic import write_synthetic_folder


@pytest.fixture(scope="module")
def drawn_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_folder(tmp_path_factory.mktemp("drawn") / "set", 2, np.random.default_rng(8), side_px=48)


@pytest.fixture
def folder(drawn_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(drawn_folder, tmp_path / "set")


def _listed(card: DatasetCard, splits: Sequence[str], order: Sequence[str] | None = None) -> Dataset:
    """Return a set with the card's official counts and no images; `order` misreads its labels."""
    names = dict(zip(order or card.classes, card.classes, strict=True))
    samples = tuple(
        Sample(key=f"{split}{number}{name}", split=split, label=names[name])
        for split in splits
        for name, count in card.counts[split].items()
        for number in range(count)
    )
    return Dataset(card, samples, FileImages(Path()))


def _kinds(report, kind: str):  # type: ignore[no-untyped-def]
    return [finding for finding in report.findings if finding.kind == kind]


def test_a_sound_set_of_ones_own_has_no_findings(folder: Path) -> None:
    report = check(open_dataset(folder), workers=1)
    assert report.findings == ()
    assert report.ok
    assert report.unreadable == {}
    assert report.exact_groups == 0
    assert not report.official_test
    assert "no official test split" in report.official_message
    assert "nothing wrong was found" in report.lines()


def test_unreadable_files_are_named_with_the_reason(folder: Path) -> None:
    whole = (folder / "test" / "anger" / "00004.png").read_bytes()
    (folder / "test" / "anger" / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "train" / "fear" / "empty.png").write_bytes(b"")
    (folder / "val" / "fear" / "text.jpg").write_text("not an image")
    dataset = open_dataset(folder)
    (folder / "val" / "sadness" / "00003.png").unlink()
    report = check(dataset, workers=2)
    expected = {"test/anger/truncated.png", "train/fear/empty.png", "val/fear/text.jpg", "val/sadness/00003.png"}
    assert set(report.unreadable or {}) == expected
    (finding,) = _kinds(report, "unreadable")
    assert finding.severity == "error"
    assert set(finding.keys) == expected
    assert not report.ok
    text = "\n".join(report.lines())
    assert all(key in text for key in expected)
    assert "empty" in text


def test_a_decompression_bomb_is_unreadable_and_no_warning(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (300, 300)).save(folder / "train" / "anger" / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    report = check(open_dataset(folder), workers=1)
    assert list(report.unreadable or {}) == ["train/anger/bomb.png"]


def test_duplicates_across_splits_and_within_one(folder: Path) -> None:
    source = folder / "train" / "anger" / "00004.png"
    (folder / "test" / "anger" / "copy.png").write_bytes(source.read_bytes())
    (folder / "train" / "anger" / "again.png").write_bytes(source.read_bytes())
    with Image.open(folder / "train" / "fear" / "00006.png") as image:
        image.save(folder / "val" / "fear" / "near.jpg", quality=85)
    report = check(open_dataset(folder), workers=1)
    (exact,) = _kinds(report, "exact_duplicates")
    (near,) = _kinds(report, "near_duplicates")
    (repeated,) = _kinds(report, "repeated")
    assert exact.keys == ("test/anger/copy.png",)
    assert near.keys == ("val/fear/near.jpg",)
    assert near.details == ("val/fear/near.jpg = train/fear/00006.png",)
    assert "train/anger/again.png" in repeated.keys
    assert report.exact_groups == 1
    assert {(t.key, t.split, t.other_split, t.exact) for t in report.duplicates} == {
        ("test/anger/copy.png", "test", "train", True),
        ("val/fear/near.jpg", "val", "train", False),
    }
    assert _kinds(check(open_dataset(folder), near=False, workers=1), "near_duplicates") == []


def test_equal_images_with_different_labels(folder: Path) -> None:
    source = folder / "train" / "anger" / "00004.png"
    (folder / "train" / "fear" / "same.png").write_bytes(source.read_bytes())
    (finding,) = _kinds(check(open_dataset(folder), workers=1), "label_conflict")
    assert set(finding.keys) == {"train/anger/00004.png", "train/fear/same.png"}


def test_subjects_in_two_splits(own_layout: Callable[[str], Path]) -> None:
    root = own_layout("table")
    assert _kinds(check(open_dataset(root), workers=1), "subjects") == []
    table = root / "table.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("test000", "train001"), encoding="utf-8")
    (finding,) = _kinds(check(open_dataset(root), workers=1), "subjects")
    assert finding.severity == "error"
    assert finding.keys == ("train001",)


def test_labels_against_folder_names_in_a_table(folder: Path) -> None:
    root = folder
    with (root / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        for sample in open_dataset(root, "folder").samples:
            wrong = {"anger": "fear", "fear": "anger"}.get(str(sample.label), sample.label)
            rows.writerow([sample.key, wrong, sample.split])
    report = check(open_dataset(root / "labels.csv"), images=False)
    (finding,) = _kinds(report, "label_order")
    assert set(finding.keys) == {"anger", "fear"}
    assert not report.ok


def test_labels_in_another_sets_order() -> None:
    order = [name for name in AFFECTNET.classes if name != "contempt"]
    report = check(_listed(RAFDB, ("train", "test"), order), images=False)
    findings = _kinds(report, "label_order")
    assert len(findings) == 2
    assert all("AffectNet" in finding.message for finding in findings)
    assert not report.ok
    assert not report.official_test
    assert _kinds(check(_listed(RAFDB, ("train", "test")), images=False), "label_order") == []


def test_a_class_without_images(folder: Path) -> None:
    for path in (folder / "val" / "disgust").iterdir():
        path.unlink()
    (finding,) = _kinds(check(open_dataset(folder), workers=1), "empty_class")
    assert finding.keys == ("disgust",)
    assert "val" in finding.message


def test_a_set_of_one_class(folder: Path) -> None:
    assert _kinds(check(open_dataset(folder), images=False), "one_class") == []
    for path in folder.glob("*/*"):
        if path.name != "fear":
            shutil.rmtree(path)
    (finding,) = _kinds(check(open_dataset(folder), images=False), "one_class")
    assert finding.severity == "warning"


@pytest.mark.parametrize(("card", "splits"), [(RAFDB, ("train", "test")), (FER2013, ("train", "val", "test"))])
def test_the_official_counts_make_the_official_test(card: DatasetCard, splits: tuple[str, ...]) -> None:
    report = check(_listed(card, splits), images=False)
    assert report.official_test
    assert f"{card.sizes['test']:,}" in report.official_message
    assert report.findings == ()


def test_one_image_less_is_not_the_official_test() -> None:
    whole = _listed(RAFDB, ("test",))
    report = check(replace(whole, samples=whole.samples[1:]), images=False)
    assert not report.official_test
    assert "3,067 images instead of 3,068" in report.official_message
    assert "surprise 328 of 329" in report.official_message
    assert "fear" not in report.official_message


def test_the_right_number_with_other_labels_is_not_the_official_test() -> None:
    whole = _listed(RAFDB, ("test",))
    relabeled = (replace(whole.samples[0], label="fear"), *whole.samples[1:])
    report = check(replace(whole, samples=relabeled), images=False)
    assert not report.official_test
    assert "surprise 328 of 329; fear 75 of 74" in report.official_message


def test_unreadable_images_unmake_the_official_test(own_layout: Callable[[str], Path]) -> None:
    root = own_layout("rafdb")
    whole = open_dataset(root)
    # A card of this synthetic set's own size stands in for the official one.
    counts = {"train": dict.fromkeys(RAFDB.classes, 1), "test": dict.fromkeys(RAFDB.classes, 1)}
    dataset = replace(whole, card=replace(RAFDB, sizes={"train": 7, "test": 7}, counts=counts))
    assert check(dataset, workers=1).official_test
    (root / "basic" / "Image" / "original" / "test_00003.jpg").write_bytes(b"\xff\xd8\xff")
    report = check(dataset, workers=1)
    assert not report.official_test
    assert "1 unreadable" in report.official_message


def test_both_releases_of_affectnets_validation_split_are_official() -> None:
    whole = _listed(AFFECTNET, ("val",))
    one_disgust = next(s for s in whole.samples if s.label == "disgust")
    one_anger = next(s for s in whole.samples if s.label == "anger")
    later = replace(whole, samples=tuple(s for s in whole.samples if s is not one_disgust))
    other = replace(whole, samples=tuple(s for s in whole.samples if s is not one_anger))
    assert check(whole, images=False).official_test
    assert check(later, images=False).official_test
    assert not check(other, images=False).official_test


def test_a_copy_without_the_test_split_says_so() -> None:
    report = check(_listed(RAFDB, ("train",)), images=False)
    assert not report.official_test
    assert "no test split" in report.official_message
    assert any("test" in finding.message for finding in _kinds(report, "counts"))


def test_the_report_is_json_and_a_table(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = check(open_dataset(folder), workers=1, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (32, 32)
    data = json.loads(json.dumps(report.to_dict()))
    assert data["ok"] is True
    assert data["counts"]["train"]["fear"] == 2
    assert data["unreadable"] == {}
    lines = report.lines()
    assert lines[1].split() == ["train", "val", "test"]
    assert ["images", "16", "8", "8"] in [line.split() for line in lines]


def test_counts_beside_the_official_ones(drawn_layout: Callable[[str], Path]) -> None:
    report = check(open_dataset(drawn_layout("rafdb")), images=False)
    assert ["fear", "1/281", "1/74"] in [line.split() for line in report.lines()]
    assert report.unreadable is None
    assert report.to_dict()["official_sizes"] == {"train": 12271, "test": 3068}


@pytest.mark.ferplus
def test_ferplus_is_the_official_set_by_both_vote_files(ferplus_root: Path) -> None:
    for kind in ("ferplus", "ferplus-fer2013new"):
        dataset = open_dataset(ferplus_root, kind)
        report = check(dataset, images=False)
        assert report.official_test, report.official_message
        assert report.findings == ()
        assert not check(replace(dataset, samples=dataset.samples[:-1]), images=False).official_test
        probability = check(dataset, rule="probability", images=False)
        assert probability.official_test
        assert probability.official_counts == {}
