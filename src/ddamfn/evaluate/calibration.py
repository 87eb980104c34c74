"""Calibration on validation images: temperature, logit adjustment, selective prediction."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddamfn.errors import DataError, UsageError
from ddamfn.evaluate import metrics
from ddamfn.evaluate.metrics import Floats, ece, softmax, wilson_interval
from ddamfn.evaluate.scores import resolve_targets
from ddamfn.weights import Card
from ddamfn.weights.card import CalibrationCard, threshold_for

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
CALIBRATION_BINS = 15
REPORTED_PRECISIONS = (0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
"""Minimum precisions shown in a report."""

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_TAU_STEPS = 20
"""Steps of tau from 0 to 1."""
_CURVE_POINTS = 100
# Thresholds are written with six digits. Counts are taken at the written number, so that it keeps what it promises.
_THRESHOLD_SCALE = 1e6
_SHARE_SCALE = 1e4


def golden_section(function: Callable[[float], float], low: float, high: float, tolerance: float = 1e-6) -> float:
    """Locate the minimum of a unimodal function on `low`..`high`, to within `tolerance`."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > tolerance:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2.0


def fit_temperature(logits: ArrayLike, targets: ArrayLike) -> float:
    """The temperature T that minimizes the cross-entropy of softmax(logits / T) against the targets.

    The loss is convex in 1/T, so it has one valley and golden-section search over log T finds it. Fit it on the
    validation split and never on the images that are then scored. T > 1 softens an over-confident network. A network
    with no error on these images would ask for T = 0; the result is kept within 0.05..20.

    Args:
        logits: (N, K), finite, or minus infinity for a class that the network cannot predict.
        targets: int (N,) class indices, or (N, K) weights, of which each row is normalized to sum 1.

    Raises:
        DataError: if no image is left: none is given, or all belong to classes that the network cannot predict.

    Source: Guo et al. 2017, "On calibration of modern neural networks", section 4.2.
    """
    table, weights = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if weights.ndim == 1:
        weights = np.eye(table.shape[1])[np.asarray(targets, dtype=np.int64)]
    # Weight on a class that cannot be answered would make the loss infinite at every T.
    answerable = ~np.any(np.isneginf(table) & (weights > 0), axis=1)
    table, weights = table[answerable], weights[answerable]
    if len(table) == 0:
        raise DataError("no image to fit a temperature on: check the split and the labeling rule")
    weights = weights / weights.sum(axis=1, keepdims=True)
    shifted = table - table.max(axis=1, keepdims=True)
    # Weight 0 times minus infinity would be NaN; there any finite number gives the 0 that is meant.
    finite = np.where(np.isneginf(shifted), 0.0, shifted)
    expected = (weights * finite).sum(axis=1)
    # The largest logit gives exactly 1 to the normalizer; log1p of the rest stays above 0 where log would round to it.
    others = shifted.copy()
    others[np.arange(len(others)), table.argmax(axis=1)] = -np.inf

    def loss(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        normalizer = np.log1p(np.exp(others / temperature).sum(axis=1))
        return float((normalizer - expected / temperature).mean())

    return math.exp(golden_section(loss, math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE)))


def class_shift(shares: ArrayLike, tau: float) -> NDArray[np.float64]:
    """Return -tau log(share) per class (K,), centered, to add to the logits; tau = 1 balances exact probabilities.

    Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, section 4.1.
    """
    known = np.asarray(shares, dtype=np.float64)
    if not (known > 0).all():
        raise DataError("logits cannot be adjusted for a class without a training image")
    shift = -tau * np.log(known)
    return np.asarray(shift - shift.mean())


def fit_adjustment(logits: ArrayLike, targets: ArrayLike, shares: ArrayLike, *, rule: str = "majority") -> float:
    """Return the tau of 0, 0.05, ... 1 with the best mean class accuracy that does not lower the accuracy.

    Logits and targets (N, K) must be of validation images, never of those that are then scored. The smallest of
    equals is taken.
    """
    table = np.asarray(logits, dtype=np.float64)
    if len(table) == 0:
        raise DataError("no image to fit a logit adjustment on: check the split and the labeling rule")

    def reached(tau: float) -> tuple[int, float]:
        predictions = (table + class_shift(shares, tau)).argmax(axis=1).astype(np.int64)
        true = resolve_targets(targets, predictions, rule)
        mean = metrics.mean_class_accuracy(true, predictions, table.shape[1])
        return int((predictions == true).sum()), mean

    found = {step / _TAU_STEPS: reached(step / _TAU_STEPS) for step in range(_TAU_STEPS + 1)}
    least = found[0.0][0]
    return max((tau for tau, (correct, _) in found.items() if correct >= least), key=lambda tau: found[tau][1])


@dataclass(frozen=True, slots=True)
class SelectivePrediction:
    """The result of predicting only from a confidence threshold on."""

    min_precision: float  # that the threshold keeps on validation, 0..1
    threshold: float  # least confidence, 0..1
    n: int  # all images
    answered: int
    correct: int

    @property
    def coverage(self) -> float:
        """Share of the images with a prediction, 0 to 1."""
        return self.answered / self.n

    @property
    def precision(self) -> float | None:
        """Share of the predictions that are correct, 0 to 1; None without any."""
        return self.correct / self.answered if self.answered else None

    @property
    def ci95(self) -> tuple[float, float] | None:
        """Wilson interval of the precision; None without predictions."""
        return wilson_interval(self.correct, self.answered) if self.answered else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        interval = self.ci95
        derived = {"coverage": self.coverage, "precision": self.precision, "ci95": interval and list(interval)}
        return asdict(self) | derived


def measure_calibration(
    logits: ArrayLike,
    targets: ArrayLike,
    temperature: float,
    *,
    rule: str,
    split: str = "validation",
    majority: NDArray[np.bool_] | None = None,
) -> CalibrationCard:
    """Measure a card's calibration on the images that the temperature was fitted on; logits and targets are (N, K).

    With `majority`, bool (N,), the error on those images alone is added.
    """
    probabilities = softmax(logits, temperature)
    predictions, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    true = resolve_targets(targets, predictions, rule)
    is_correct = predictions == true
    thresholds = _thresholds(confidence)
    # Precision at about a hundred coverages, from answering everything to answering a hundredth.
    answered = [int((confidence >= threshold).sum()) for threshold in thresholds]
    hits = [int(is_correct[confidence >= threshold].sum()) for threshold in thresholds]
    low = [wilson_interval(correct, n)[0] for correct, n in zip(hits, answered, strict=True)]
    measured: CalibrationCard = {
        "split": split,
        "rule": rule,
        "n": len(true),
        "bins": CALIBRATION_BINS,
        "ece_before": round(ece(softmax(logits), true, CALIBRATION_BINS), 6),
        "ece_after": round(ece(probabilities, true, CALIBRATION_BINS), 6),
        "thresholds": thresholds,
        "coverage": [round(n / len(true), 4) for n in answered],
        "precision": [round(correct / n, 4) for correct, n in zip(hits, answered, strict=True)],
        "precision_low": [math.floor(share * _SHARE_SCALE) / _SHARE_SCALE for share in low],
    }
    if majority is not None and majority.any():
        plain, few = softmax(logits)[majority], true[majority]
        measured["majority"] = {
            "n": len(few),
            "ece_before": round(ece(plain, few, CALIBRATION_BINS), 6),
            "ece_after": round(ece(probabilities[majority], few, CALIBRATION_BINS), 6),
        }
    return measured


def _thresholds(confidence: Floats) -> list[float]:
    """Return about a hundred ascending thresholds: the confidences that keep 100 %, 99 %, ... 1 % of the images."""
    if confidence.size == 0:
        raise DataError("no image to measure a precision on: check the split and the labeling rule")
    ranked = np.sort(confidence)[::-1]
    ranks = {max(1, round(len(ranked) * step / _CURVE_POINTS)) for step in range(1, _CURVE_POINTS)}
    # The first threshold is 0 and not the lowest confidence of these images: others may have a lower one.
    return sorted({0.0, *(math.floor(ranked[rank - 1] * _THRESHOLD_SCALE) / _THRESHOLD_SCALE for rank in ranks)})


def selective_predictions(
    card: Card, confidence: Floats, correct: NDArray[np.bool_], precisions: Iterable[float] = REPORTED_PRECISIONS
) -> tuple[SelectivePrediction, ...]:
    """Apply a card's thresholds to other images, given confidence and correctness (N,); skip unreached precisions."""
    if card.calibration is None:
        return ()
    found = []
    for precision in precisions:
        try:
            threshold = threshold_for(card.calibration, precision)
        except UsageError:
            continue
        answered = confidence >= threshold
        counts = len(confidence), int(answered.sum()), int(correct[answered].sum())
        found.append(SelectivePrediction(precision, threshold, *counts))
    return tuple(found)
