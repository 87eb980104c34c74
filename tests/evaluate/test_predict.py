"""A split to a table of logits: the same images and answers whichever way they come, and nothing lost in silence."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ddamfn.classifier import Classifier, alignment_of
from ddamfn.data import RULES, Dataset, open_dataset
from ddamfn.errors import DataError, UsageError
from ddamfn.evaluate.logit_table import LogitTable, to_classes
from ddamfn.evaluate.predict import predict_rules, predict_split
from ddamfn.evaluate.robustness import faces_of_dataset
from ddamfn.faces import Alignment, RetinaFace
from ddamfn.labels import EXPRESSIONS
from ddamfn.preparation import prepare
from ddamfn.preparation.image import Hints, prepare_image

ARCFACE = Alignment("arcface")


@pytest.fixture(scope="module")
def table(classifier: Classifier, drawn_ferplus: Path) -> LogitTable:
    return predict_split(classifier, open_dataset(drawn_ferplus), "test", workers=2)


def test_table_holds_every_image_in_the_sets_order(table: LogitTable, drawn_ferplus: Path) -> None:
    test = open_dataset(drawn_ferplus).select("test")
    assert table.keys == tuple(sample.key for sample in test.samples)
    assert table.classes == EXPRESSIONS
    assert table.logits.shape == table.targets.shape == (8, 8)
    np.testing.assert_array_equal(table.targets, test.targets()[1])
    assert (table.rule, table.split, table.temperature) == ("majority", "test", 1.5)
    assert (table.unanswerable, table.unasked, dict(table.unreadable)) == ((), (), {})


def test_logits_are_those_of_the_image_itself(table: LogitTable, classifier: Classifier, drawn_ferplus: Path) -> None:
    dataset = open_dataset(drawn_ferplus).select("test")
    for row in (0, 5):
        content = dataset.read(dataset.samples[row])
        outcome, crop = prepare_image(content, Hints(), RetinaFace(num_threads=1), ARCFACE)
        np.testing.assert_allclose(table.logits[row], classifier.classify(crop[None])[0][0], atol=1e-5)
        assert table.found[row] == outcome.found


def test_prepared_set_gives_the_same_bits(
    table: LogitTable, classifier: Classifier, drawn_ferplus: Path, tmp_path: Path
) -> None:
    prepared = prepare(open_dataset(drawn_ferplus), tmp_path / "prepared", ARCFACE, workers=1)
    steps: list[tuple[int, int]] = []
    again = predict_split(classifier, prepared, "test", progress=lambda done, total: steps.append((done, total)))
    assert again.keys == table.keys
    np.testing.assert_array_equal(again.logits, table.logits)
    np.testing.assert_array_equal(again.targets, table.targets)
    np.testing.assert_array_equal(again.found, table.found)
    assert (again.official, again.official_message) == (table.official, table.official_message)
    assert steps[-1] == (8, 8)


def test_crops_of_another_alignment_are_refused(classifier: Classifier, drawn_ferplus: Path, tmp_path: Path) -> None:
    prepared = prepare(
        open_dataset(drawn_ferplus).select("val"), tmp_path / "p", Alignment("ddamfn_frontal"), workers=1
    )
    with pytest.raises(UsageError, match=r"ddamfn_frontal.*needs the template arcface"):
        predict_split(classifier, prepared, "val")


def test_unreadable_image_is_named_and_ends_nothing(
    classifier: Classifier, drawn_ferplus: Path, tmp_path: Path
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(drawn_ferplus, root)
    broken = sorted((root / "FER2013Test").glob("*.png"))[3]
    broken.write_bytes(broken.read_bytes()[:40])
    dataset = as_official(open_dataset(root))
    table = predict_split(classifier, dataset, "test", workers=1)
    assert list(table.unreadable) == [f"FER2013Test/{broken.name}"]
    assert len(table) == len(table.logits) == len(table.targets) == len(table.found) == 7
    assert f"FER2013Test/{broken.name}" not in table.keys
    assert not table.official
    assert "1 unreadable" in table.official_message
    prepared = prepare(dataset, tmp_path / "prepared", ARCFACE, workers=1)
    assert list(predict_split(classifier, prepared, "test").unreadable) == [f"FER2013Test/{broken.name}"]


def as_official(dataset: Dataset, split: str = "test") -> Dataset:
    """The same set with a card by which its test split is the whole official one."""
    size = sum(sample.split == split for sample in dataset.samples)
    return replace(dataset, card=replace(dataset.card, sizes={split: size}, counts={}, variants={}))


def test_only_the_whole_evaluation_split_is_official(classifier: Classifier, drawn_ferplus: Path) -> None:
    dataset = as_official(open_dataset(drawn_ferplus))
    whole = predict_split(classifier, dataset, "test")
    assert whole.official
    assert whole.without([]) is whole
    assert not whole.without(whole.keys[:1]).official
    assert not predict_split(classifier, dataset, "val").official
    subset = replace(dataset, samples=tuple(s for s in dataset.samples if not s.key.endswith("5.png")))
    assert not predict_split(classifier, subset, "test").official


def test_images_are_left_out_by_name(table: LogitTable) -> None:
    rest = table.without([table.keys[0], table.keys[6], "no such image"])
    assert rest.keys == table.keys[1:6] + table.keys[7:]
    np.testing.assert_array_equal(rest.logits, np.delete(table.logits, [0, 6], axis=0))
    np.testing.assert_array_equal(rest.targets, np.delete(table.targets, [0, 6], axis=0))
    assert "without 2 images" in rest.official_message


def test_rule_decides_which_images_count(classifier: Classifier, drawn_ferplus: Path) -> None:
    dataset = open_dataset(drawn_ferplus)
    for rule in RULES:
        kept = int(dataset.select("val").targets(rule)[0].sum())
        table = predict_split(classifier, dataset, "val", rule)
        assert (table.rule, len(table)) == (rule, kept)


def test_mirrored_faces_are_averaged_logit_by_logit(classifier: Classifier, drawn_ferplus: Path) -> None:
    dataset = open_dataset(drawn_ferplus)
    (table,) = predict_rules(classifier, dataset, "val", ("majority",), mirrored=True, workers=1)
    plain = predict_split(classifier, dataset, "val", workers=1)
    np.testing.assert_array_equal(table.logits, plain.logits)
    source = faces_of_dataset(dataset, "val", "majority", alignment_of(classifier.card))
    faces = [(row, source.read(row)) for row in range(len(source))]
    rows = [row for row, face in faces if face is not None]
    crops = np.stack([face.crop[:, ::-1] for _, face in faces if face is not None])
    averaged = table.flip_averaged()
    expected = (plain.logits[rows] + classifier.classify(np.ascontiguousarray(crops))[0]) / 2
    np.testing.assert_allclose(averaged.logits[rows], expected, atol=1e-6)
    assert np.abs(averaged.logits - plain.logits).max() > 1e-3
    assert len(table.without([table.keys[0]]).flip_averaged()) == len(table) - 1
    with pytest.raises(UsageError, match="mirrored"):
        plain.flip_averaged()


def test_columns_are_matched_by_name() -> None:
    logits = np.array([[1.0, 2.0, 3.0]], dtype=np.float32)
    labels = ("fear", "neutral", "contempt")
    np.testing.assert_array_equal(to_classes(logits, labels, ("neutral", "fear")), [[2.0, 1.0]])
    with_gap = to_classes(logits, labels, ("contempt", "anger", "neutral"))
    np.testing.assert_array_equal(with_gap, [[3.0, -np.inf, 2.0]])
    with pytest.raises(UsageError, match="none of which"):
        to_classes(logits, labels, ("anger", "disgust"))


def test_seven_classes_meet_eight_labels(classifier: Classifier, drawn_layout: Callable[[str], Path]) -> None:
    table = predict_split(classifier, open_dataset(drawn_layout("rafdb")), "test")
    assert table.classes == ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
    assert table.unasked == ("contempt",)
    assert table.rule is None
    assert np.isfinite(table.logits).all()
    # RAF-DB brings landmarks of its own, so every face counts as found.
    assert table.found.all()


def test_network_without_contempt_fails_on_contempt(
    classifier: Classifier, drawn_layout: Callable[[str], Path]
) -> None:
    # The stand-in's labels cut to seven: contempt is the last of them.
    seven = SevenLabels(classifier)
    table = predict_split(seven, open_dataset(drawn_layout("folder")), "test")  # type: ignore[arg-type]
    assert table.unanswerable == ("contempt",)
    scores = table.scores()
    assert scores.per_class_recall["contempt"] == 0.0
    assert all(row[EXPRESSIONS.index("contempt")] == 0 for row in scores.confusion_matrix)


class SevenLabels:
    """The stand-in without its last output."""

    def __init__(self, whole: Classifier) -> None:
        assert whole.card.labels[-1] == "contempt"
        self._whole = whole
        architecture = {**whole.card.architecture, "num_classes": 7}
        self.card = replace(whole.card, labels=whole.card.labels[:-1], architecture=architecture)

    def classify(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, attention = self._whole.classify(crops)
        return logits[:, :-1], attention


def test_split_that_is_not_there_is_refused(classifier: Classifier, drawn_ferplus: Path) -> None:
    with pytest.raises(DataError, match="no split 'holdout'"):
        predict_split(classifier, open_dataset(drawn_ferplus), "holdout")
