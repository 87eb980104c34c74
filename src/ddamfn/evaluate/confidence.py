"""What an export measures of confidence on validation images: temperature, precision, and how far a class prior counts.

All images with a vote for an expression count (`CALIBRATION_RULE`), since the ambiguous ones are where confidence
matters, and each counts as the expression with the most votes, since confidence is the chance that the answer is right.
Fitted to the vote shares, it would be the share of annotators who say the same, which is far lower.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddamfn.evaluate import metrics
from ddamfn.evaluate.calibration import fit_temperature, measure_calibration
from ddamfn.evaluate.metrics import Floats, Ints, softmax
from ddamfn.evaluate.scores import resolve_targets
from ddamfn.weights import Card, ClassPriorCard
from ddamfn.weights.card import CalibrationCard, PriorTrade

CALIBRATION_RULE = "argmax_all"
"""The vote rule that keeps every image with a vote for an expression."""

_STEPS = 10
"""Weights of a class prior from 0 to 1 that are tried."""
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Confidence:
    """What was fitted on the validation images of one network."""

    temperature: float
    calibration: CalibrationCard
    class_prior: ClassPriorCard | None  # None where the shares of the training images are not known

    def words(self) -> str:
        """Say what the temperature was fitted on."""
        rule = self.calibration["rule"]
        fitted = f"{self.calibration['n']:,} validation images, rule {rule}"
        return fitted + (", every image with a vote" if rule == CALIBRATION_RULE else "")

    def on(self, card: Card) -> Card:
        """Return the card with these figures."""
        training = {**card.training, "temperature": self.words()}
        return replace(
            card,
            temperature=self.temperature,
            calibration=self.calibration,
            class_prior=self.class_prior,
            training=training,
        )


def fit_confidence(
    logits: ArrayLike,
    targets: ArrayLike,
    classes: tuple[str, ...],
    *,
    rule: str,
    majority: NDArray[np.bool_] | None = None,
    shares: Mapping[str, float] | None = None,
) -> Confidence:
    """Fit on validation images, never on those that are then scored.

    Args:
        logits: (N, K), before the temperature.
        targets: (N, K) weights; each image counts as the heaviest.
        classes: the K names.
        rule: the vote rule that made the targets.
        majority: bool (N,), images that the rule "majority" keeps too, whose calibration error is noted as well.
        shares: of the classes in training, by name, each above 0; needed for a class prior.

    Raises:
        DataError: no image is given.
    """
    table, weights = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    true = resolve_targets(weights, table.argmax(axis=1).astype(np.int64))
    temperature = fit_temperature(table, true)
    calibration = measure_calibration(table, weights, temperature, rule=rule, majority=majority)
    prior = None if shares is None else fit_class_prior(table, true, temperature, classes, shares, rule=rule)
    return Confidence(temperature, calibration, prior)


def fit_class_prior(
    logits: Floats, true: Ints, temperature: float, classes: tuple[str, ...], shares: Mapping[str, float], *, rule: str
) -> ClassPriorCard:
    """Choose the weight w of p' ~ p (prior / shares)^w on validation images (logits (N, K) and classes (N,)).

    It is the one under which images of equally common classes are the likeliest, which is the least mean over the
    classes of the mean -log p' of a class's images; the smallest of equals. What the answers to the images as they are
    then cost and gain is measured for each w.
    """
    known = np.array([shares[name] for name in classes])
    probabilities = softmax(logits, temperature)
    frequent = int(known.argmax())
    trade = [_trade(probabilities / known**weight, true, frequent, weight) for weight in _weights()]
    best = min(trade, key=lambda row: (row["balanced_nll"], row["weight"]))
    return {
        "shares": {name: round(float(shares[name]), _DIGITS) for name in classes},
        "weight": best["weight"],
        "split": "validation",
        "rule": rule,
        "n": len(true),
        "recall_of": classes[frequent],
        "trade": trade,
    }


def _weights() -> list[float]:
    return [step / _STEPS for step in range(_STEPS + 1)]


def _trade(weighed: Floats, true: Ints, frequent: int, weight: float) -> PriorTrade:
    """Score answers (N, K), whose rows need not sum to 1."""
    count = weighed.shape[1]
    probabilities = weighed / weighed.sum(axis=1, keepdims=True)
    predicted = probabilities.argmax(axis=1).astype(np.int64)
    recall = metrics.per_class_recall(true, predicted, count)
    surprise = [
        metrics.negative_log_likelihood(probabilities[true == place], true[true == place])
        for place in np.unique(true).tolist()
    ]
    correct = int((predicted == true).sum())
    return {
        "weight": weight,
        "correct": correct,
        "accuracy": round(correct / len(true), _DIGITS),
        "mean_class_accuracy": round(metrics.mean_class_accuracy(true, predicted, count), _DIGITS),
        "recall": 0.0 if np.isnan(recall[frequent]) else round(float(recall[frequent]), _DIGITS),
        "balanced_nll": round(float(np.mean(surprise)), _DIGITS),
    }
