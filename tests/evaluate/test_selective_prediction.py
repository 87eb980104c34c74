"""Precision against coverage: counted by hand, honest about small numbers, and kept on other images."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ddamfn.errors import DataError
from ddamfn.evaluate.calibration import (
    REPORTED_PRECISIONS,
    SelectivePrediction,
    measure_calibration,
    selective_predictions,
)
from ddamfn.evaluate.metrics import ece, softmax, wilson_interval
from ddamfn.weights import Card, read_card, threshold_for


def drawn(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is honest, and one-hot targets drawn from it."""
    logits = generator.normal(0, 3, (count, 8))
    cumulative = softmax(logits).cumsum(axis=1)
    return logits, np.eye(8)[(generator.random((count, 1)) > cumulative[:, :-1]).sum(axis=1)]


@pytest.fixture
def card(stand_in_weights: Path) -> Card:
    return read_card(stand_in_weights.with_suffix(".json"))


def test_every_point_of_the_curve_is_counted_at_its_own_threshold(rng: np.random.Generator) -> None:
    logits, targets = drawn(500, rng)
    curve = measure_calibration(logits, targets, 1.3, rule="majority")
    probabilities = softmax(logits, 1.3)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets.argmax(axis=1)
    columns = (curve[name] for name in ("thresholds", "coverage", "precision", "precision_low"))
    for threshold, coverage, precision, low in zip(*columns, strict=True):
        answered = confidence >= threshold
        hits, n = int(right[answered].sum()), int(answered.sum())
        assert coverage == pytest.approx(n / 500, abs=1e-4)
        assert precision == pytest.approx(hits / n, abs=1e-4)
        exact = wilson_interval(hits, n)[0]
        assert exact - 1e-4 <= low <= exact
    assert curve["thresholds"][0] == 0.0
    assert curve["coverage"][0] == 1.0
    assert curve["coverage"] == sorted(curve["coverage"], reverse=True)
    assert 90 <= len(curve["thresholds"]) <= 100
    assert json.loads(json.dumps(curve, allow_nan=False)) == curve


def test_calibration_error_stands_there_before_and_after(rng: np.random.Generator) -> None:
    logits, targets = drawn(2000, rng)
    curve = measure_calibration(2.0 * logits, targets, 2.0, rule="majority", split="val")
    assert curve["ece_before"] == pytest.approx(ece(softmax(2.0 * logits), targets.argmax(axis=1)), abs=1e-6)
    assert curve["ece_after"] == pytest.approx(ece(softmax(logits), targets.argmax(axis=1)), abs=1e-6)
    assert curve["ece_after"] < 0.03 < curve["ece_before"]
    assert (curve["split"], curve["rule"], curve["n"], curve["bins"]) == ("val", "majority", 2000, 15)


def test_a_promise_holds_on_other_images(card: Card, rng: np.random.Generator) -> None:
    """The lower end of the interval is what makes it hold: the bare share is missed about every second time."""
    kept = 0
    for _ in range(40):
        measured = replace(card, calibration=measure_calibration(*drawn(400, rng), 1.0, rule="majority"))
        logits, targets = drawn(4000, rng)
        probabilities = softmax(logits)
        right = probabilities.argmax(axis=1) == targets.argmax(axis=1)
        (entry,) = selective_predictions(measured, probabilities.max(axis=1), right, [0.85])
        assert entry.precision is not None
        kept += entry.precision >= 0.85
    assert kept >= 37


def test_a_few_lucky_answers_prove_nothing() -> None:
    logits = np.array([[9.0, 0.0]] * 5 + [[1.0, 0.0]] * 20)
    targets = np.eye(2)[[0] * 5 + [0, 1] * 10]
    curve = measure_calibration(logits, targets, 1.0, rule="majority")
    assert curve["precision"][-1] == 1.0
    assert curve["precision_low"][-1] < 0.6


def test_equal_confidences_are_answered_together() -> None:
    curve = measure_calibration(np.array([[2.0, 0.0]] * 10), np.eye(2)[[0] * 9 + [1]], 1.0, rule="majority")
    assert curve["thresholds"] == [0.0, pytest.approx(0.880797, abs=1e-6)]
    assert curve["coverage"] == [1.0, 1.0]
    assert curve["precision"] == [0.9, 0.9]


def test_any_accepted_target_is_right_under_multi_target() -> None:
    logits, targets = np.array([[0.0, 3.0, 0.0]]), np.array([[0.6, 0.4, 0.0]])
    assert measure_calibration(logits, targets, 1.0, rule="multi_target")["precision"][0] == 1.0
    assert measure_calibration(logits, targets, 1.0, rule="majority")["precision"][0] == 0.0


def test_nothing_to_measure_on_is_refused() -> None:
    with pytest.raises(DataError, match="no image"):
        measure_calibration(np.zeros((0, 3)), np.zeros((0, 3)), 1.0, rule="majority")


def test_what_is_out_of_reach_is_left_out(card: Card, rng: np.random.Generator) -> None:
    logits, targets = drawn(300, rng)
    probabilities = softmax(logits)
    right = probabilities.argmax(axis=1) == targets.argmax(axis=1)
    assert selective_predictions(card, probabilities.max(axis=1), right) == ()
    curve = measure_calibration(logits, targets, 1.0, rule="majority")
    kept = selective_predictions(replace(card, calibration=curve), probabilities.max(axis=1), right)
    reached = [share for share in REPORTED_PRECISIONS if share <= max(curve["precision_low"])]
    assert [entry.min_precision for entry in kept] == reached
    assert 0 < len(reached) < len(REPORTED_PRECISIONS)
    assert [entry.threshold for entry in kept] == [threshold_for(curve, share) for share in reached]


def test_nothing_answered_has_no_precision() -> None:
    plain = SelectivePrediction(0.9, 0.7, 10, 0, 0).to_dict()
    assert (plain["coverage"], plain["precision"], plain["ci95"]) == (0.0, None, None)
    assert SelectivePrediction(0.9, 0.7, 10, 4, 3).to_dict()["ci95"] == list(wilson_interval(3, 4))
