"""Labels in another set's order: found by counts and by folder names, and named."""

from collections import Counter

import pytest

from ddamfn.data import Sample
from ddamfn.data.catalog import AFFECTNET, CARDS, FER2013, RAFDB
from ddamfn.data.label_order import explain_order, permuted_by_counts, permuted_by_folders


def _misread(truth: dict[str, int], own: tuple[str, ...], other: tuple[str, ...]) -> dict[str, int]:
    """Return the counts of a split whose numbers were written in the order `other` and read in the order `own`."""
    return {read: truth[written] for read, written in zip(own, other, strict=True)}


@pytest.mark.parametrize("card", [c for c in CARDS.values() if c.counts], ids=lambda c: c.name)
def test_right_labels_are_no_permutation(card) -> None:  # type: ignore[no-untyped-def]
    for counts in card.counts.values():
        assert permuted_by_counts(counts, counts) is None


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (tuple(n for n in AFFECTNET.classes if n != "contempt"), "the order of AffectNet had"),
        (FER2013.classes, "the order of FER2013 had"),
        (tuple(sorted(RAFDB.classes)), "the alphabetical order"),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_rafdb_in_another_order_is_found_and_named(other: tuple[str, ...], name: str, split: str) -> None:
    truth = dict(RAFDB.counts[split])
    moved = permuted_by_counts(_misread(truth, RAFDB.classes, other), truth)
    assert moved == {own: o for own, o in zip(RAFDB.classes, other, strict=True) if own != o}
    assert name in explain_order(moved, RAFDB.classes)


def test_a_permutation_is_found_though_images_are_missing() -> None:
    truth = dict(RAFDB.counts["train"])
    thinned = {name: round(0.9 * n) - 7 for name, n in truth.items()}
    moved = permuted_by_counts(_misread(thinned, RAFDB.classes, FER2013.classes), truth)
    assert moved is not None
    assert "the order of FER2013" in explain_order(moved, RAFDB.classes)


def test_swapping_two_classes_is_told_class_by_class() -> None:
    truth = dict(RAFDB.counts["train"])
    swapped = {**truth, "happiness": truth["neutral"], "neutral": truth["happiness"]}
    moved = permuted_by_counts(swapped, truth)
    assert moved == {"happiness": "neutral", "neutral": "happiness"}
    assert explain_order(moved, RAFDB.classes) == "'happiness' seems to be neutral; 'neutral' seems to be happiness"


def test_other_counts_are_no_permutation() -> None:
    truth = dict(RAFDB.counts["train"])
    balanced = dict.fromkeys(truth, 500)
    subset = {name: n // 3 for name, n in truth.items()}
    without_happiness = {**truth, "happiness": 0}
    for counts in (balanced, subset, without_happiness, {}, {"contempt": 5}):
        assert permuted_by_counts(counts, truth) is None


def test_labels_against_folder_names() -> None:
    right = [Sample(key=f"images/happy/{i}.png", split="train", label="happiness") for i in range(5)]
    wrong = [Sample(key=f"images/Sad/{i}.png", split="train", label="anger") for i in range(5)]
    silent = [Sample(key=f"di/{i}.png", split="train", label="fear") for i in range(5)]
    one_slip = [Sample(key="images/fear/x.png", split="train", label="happiness")]
    assert permuted_by_folders(right + silent + one_slip) == {}
    assert permuted_by_folders(right + wrong + silent) == {"anger": "sadness"}
    assert Counter(permuted_by_folders([Sample(key="happy/1.png", split="train", votes=(0.0,) * 10)])) == Counter()
