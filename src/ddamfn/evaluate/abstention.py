"""Knowing when not to answer: precision against coverage on validation, and what a threshold keeps elsewhere."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddamfn.errors import DataError, UsageError
from ddamfn.evaluate.metrics import Floats, ece, softmax, wilson_interval
from ddamfn.evaluate.scores import resolve_targets
from ddamfn.weights import Card
from ddamfn.weights.calibration import CalibrationCard, threshold_for

BINS = 15
PRECISIONS = (0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
"""What a report asks of a curve."""

_POINTS = 100
# Thresholds are written with six digits. Counts are taken at the written number, so that it keeps what it says.
_THRESHOLD_SCALE = 1e6
_SHARE_SCALE = 1e4


@dataclass(frozen=True, slots=True)
class Kept:
    """What answering from a threshold on gives on some pictures.

    Attributes:
        asked: the precision that the threshold keeps on validation, 0 to 1.
        threshold: the confidence from which on an answer is given, 0 to 1.
        n: pictures in all.
        answered: pictures answered.
        correct: answers that are right.
    """

    asked: float
    threshold: float
    n: int
    answered: int
    correct: int

    @property
    def coverage(self) -> float:
        """Share of the pictures that are answered, 0 to 1."""
        return self.answered / self.n

    @property
    def precision(self) -> float | None:
        """Share of the answers that are right, 0 to 1; None if nothing is answered."""
        return self.correct / self.answered if self.answered else None

    @property
    def ci95(self) -> tuple[float, float] | None:
        """Wilson interval of the precision; None if nothing is answered."""
        return wilson_interval(self.correct, self.answered) if self.answered else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        interval = self.ci95
        derived = {"coverage": self.coverage, "precision": self.precision, "ci95": interval and list(interval)}
        return asdict(self) | derived


def measure_calibration(
    logits: ArrayLike, targets: ArrayLike, temperature: float, *, rule: str, split: str = "validation"
) -> CalibrationCard:
    """Measure on validation what a card says of the weights' confidence.

    Args:
        logits: (N, K), before the temperature.
        targets: (N, K) non-negative weights, see `resolve_targets`.
        temperature: fitted on these pictures.
        rule: name of the labelling rule that made the targets.
        split: what to call these pictures.

    Raises:
        DataError: if there is no picture.
    """
    probabilities = softmax(logits, temperature)
    said = probabilities.argmax(axis=1)
    true = resolve_targets(targets, said, rule)
    sure, right = probabilities.max(axis=1), said == true
    thresholds = _thresholds(sure)
    # Precision at about a hundred coverages, from answering everything to answering a hundredth.
    answered = [int((sure >= threshold).sum()) for threshold in thresholds]
    hits = [int(right[sure >= threshold].sum()) for threshold in thresholds]
    low = [wilson_interval(correct, n)[0] for correct, n in zip(hits, answered, strict=True)]
    return {
        "split": split,
        "rule": rule,
        "n": len(true),
        "bins": BINS,
        "ece_before": round(ece(softmax(logits), true, BINS), 6),
        "ece_after": round(ece(probabilities, true, BINS), 6),
        "thresholds": thresholds,
        "coverage": [round(n / len(true), 4) for n in answered],
        "precision": [round(correct / n, 4) for correct, n in zip(hits, answered, strict=True)],
        "precision_low": [math.floor(share * _SHARE_SCALE) / _SHARE_SCALE for share in low],
    }


def _thresholds(confidence: Floats) -> list[float]:
    """Return about a hundred rising thresholds: the confidences that leave 100 %, 99 %, ... 1 % of the pictures."""
    if confidence.size == 0:
        raise DataError("no picture to measure a precision on: check the split and the labelling rule")
    ranked = np.sort(confidence)[::-1]
    ranks = {max(1, round(len(ranked) * step / _POINTS)) for step in range(1, _POINTS)}
    # The first threshold is 0 and not the lowest confidence of these pictures: others may have a lower one.
    return sorted({0.0, *(math.floor(ranked[rank - 1] * _THRESHOLD_SCALE) / _THRESHOLD_SCALE for rank in ranks)})


def kept_precisions(
    card: Card, confidence: Floats, correct: NDArray[np.bool_], asked: Iterable[float] = PRECISIONS
) -> tuple[Kept, ...]:
    """Tell what the thresholds of a card keep on other pictures than those that they were chosen on.

    Args:
        card: the weights' card.
        confidence: (N,) of each answer, 0 to 1.
        correct: (N,) bool.
        asked: precisions; those that the card's curve does not reach are left out.

    Returns:
        One entry a precision; none if the card has no curve.
    """
    if card.calibration is None:
        return ()
    kept = []
    for precision in asked:
        try:
            threshold = threshold_for(card.calibration, precision)
        except UsageError:
            continue
        answered = confidence >= threshold
        kept.append(Kept(precision, threshold, len(confidence), int(answered.sum()), int(correct[answered].sum())))
    return tuple(kept)
