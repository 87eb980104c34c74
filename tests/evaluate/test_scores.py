"""From logits and targets to `Scores`: rules, unanswerable classes, what is refused."""

import json

import numpy as np
import pytest

from ddamfn.errors import DataError
from ddamfn.evaluate.metrics import softmax
from ddamfn.evaluate.scores import resolve_targets, score

CLASSES = ("neutral", "happiness", "contempt")


def test_scores_of_a_table_counted_by_hand() -> None:
    logits = np.array([[3, 1, 0], [3, 1, 0], [0, 2, 1], [0, 2, 1], [0, 0, 5]], dtype=float)
    scores = score(logits, np.eye(3)[[0, 1, 1, 1, 2]], CLASSES)
    assert (scores.correct, scores.n, scores.accuracy) == (4, 5, 0.8)
    assert scores.confusion_matrix == ((1, 0, 0), (1, 2, 0), (0, 0, 1))
    assert scores.per_class_recall == {"neutral": 1.0, "happiness": pytest.approx(2 / 3), "contempt": 1.0}
    assert scores.support == {"neutral": 1, "happiness": 3, "contempt": 1}
    assert scores.mean_class_accuracy == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert scores.macro_f1 == pytest.approx((2 / 3 + 0.8 + 1) / 3)
    assert scores.ci95[0] < 0.8 < scores.ci95[1]


def test_dictionary_is_plain_json() -> None:
    scores = score(np.eye(3)[[0, 1]], np.eye(3)[[0, 1]], CLASSES)
    plain = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert plain["per_class_recall"] == {"neutral": 1.0, "happiness": 1.0, "contempt": None}
    assert plain["ci95"] == list(scores.ci95)


def test_class_that_cannot_be_answered_counts_as_wrong() -> None:
    logits = np.array([[2.0, 1.0, -np.inf], [0.5, 3.0, -np.inf], [0.0, 1.0, -np.inf]])
    scores = score(logits, np.eye(3)[[0, 1, 2]], CLASSES)
    assert scores.correct == 2
    assert scores.per_class_recall["contempt"] == 0.0
    assert np.isfinite(scores.nll)
    assert np.isfinite(scores.ece)


def test_any_target_is_correct_under_multi_target_alone() -> None:
    shares = np.array([[0.6, 0.4, 0.0], [0.6, 0.4, 0.0], [0.6, 0.4, 0.0]])
    logits = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    several = score(logits, shares, CLASSES, rule="multi_target")
    assert several.correct == 2
    # A correct answer counts for the class that was answered, a wrong one for the heaviest target.
    assert several.confusion_matrix == ((1, 0, 1), (0, 1, 0), (0, 0, 0))
    assert score(logits, shares, CLASSES, rule="probability").correct == 1


def test_first_of_equal_targets_is_the_true_class() -> None:
    np.testing.assert_array_equal(resolve_targets([[0.0, 0.5, 0.5]], [2], "probability"), [1])


def test_temperature_changes_confidence_and_no_answer(rng: np.random.Generator) -> None:
    logits, targets = rng.normal(0, 3, (40, 3)), np.eye(3)[rng.integers(0, 3, 40)]
    plain, softened = score(logits, targets, CLASSES), score(logits, targets, CLASSES, temperature=3.0)
    assert plain.confusion_matrix == softened.confusion_matrix
    assert plain.ece != softened.ece
    by_hand = -np.log((softmax(logits / 3.0) * targets).sum(axis=1)).mean()
    assert softened.nll == pytest.approx(by_hand)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="do not fit together"):
        score(np.zeros((2, 3)), np.zeros((2, 2)), CLASSES)
    with pytest.raises(DataError, match="do not fit together"):
        score(np.zeros((2, 2)), np.zeros((2, 2)), CLASSES)
    with pytest.raises(DataError, match="no image"):
        score(np.zeros((0, 3)), np.zeros((0, 3)), CLASSES)
    with pytest.raises(DataError, match="1 images have logits that are not numbers"):
        score([[np.nan, 0, 0], [1, 0, 0]], np.eye(3)[:2], CLASSES)
