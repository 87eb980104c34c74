"""Scores of a table of logits: `score` computes, `Scores` holds."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ddamfn.errors import DataError
from ddamfn.evaluate import metrics
from ddamfn.evaluate.metrics import Ints


@dataclass(frozen=True, slots=True)
class Scores:
    """What one table of logits scores; K classes in the order of `classes`.

    Attributes:
        accuracy: correct / n, 0..1.
        correct: images predicted correctly.
        n: images scored.
        ci95: Wilson interval of the accuracy, (low, high), 0..1.
        mean_class_accuracy: mean recall over the classes that occur.
        macro_f1: mean F1 over the classes that occur.
        per_class_recall: recall of each class, 0..1; None for a class that no image has.
        support: images of each class.
        confusion_matrix: counts; a row is the true class, a column the prediction.
        classes: canonical names, the order of every list and matrix here.
        ece: expected calibration error over 15 slices, 0..1.
        ece_before: the same without the temperature.
        nll: mean negative log-likelihood in nats, probabilities floored at 1e-12.
    """

    accuracy: float
    correct: int
    n: int
    ci95: tuple[float, float]
    mean_class_accuracy: float
    macro_f1: float
    per_class_recall: dict[str, float | None]
    support: dict[str, int]
    confusion_matrix: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...]
    ece: float
    ece_before: float
    nll: float

    def to_dict(self) -> dict[str, Any]:
        """The same as plain lists, numbers and dictionaries, ready for `json.dumps`."""
        matrix = [list(row) for row in self.confusion_matrix]
        lists = {"ci95": list(self.ci95), "confusion_matrix": matrix, "classes": list(self.classes)}
        return asdict(self) | lists


def resolve_targets(targets: ArrayLike, predictions: ArrayLike, rule: str = "majority") -> Ints:
    """Return one true class per image, int64 (N,), from target weights (N, K): the heaviest, the first one on a tie.

    Under `multi_target` a prediction among the targets is correct: such an image counts for the predicted class.
    """
    weights, predicted = np.asarray(targets, dtype=np.float64), np.asarray(predictions, dtype=np.int64)
    heaviest: Ints = weights.argmax(axis=1).astype(np.int64)
    if rule != "multi_target":
        return heaviest
    accepted = weights[np.arange(len(predicted)), predicted] > 0
    heaviest[accepted] = predicted[accepted]
    return heaviest


def score(
    logits: ArrayLike, targets: ArrayLike, classes: tuple[str, ...], *, rule: str = "majority", temperature: float = 1.0
) -> Scores:
    """Score a table of logits.

    Args:
        logits: (N, K); minus infinity where the network cannot predict a class.
        targets: (N, K) non-negative weights, see `resolve_targets`.
        classes: the K names in the order of the columns.
        rule: name of the labeling rule that made the targets.
        temperature: divides the logits before ECE and NLL; the predictions do not depend on it.

    Raises:
        DataError: if the shapes disagree, no image is given, or a logit is NaN (a network that diverged).
    """
    table, weights = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if table.ndim != 2 or table.shape != weights.shape or table.shape[1] != len(classes):
        raise DataError(f"logits {table.shape}, targets {weights.shape} and {len(classes)} classes do not fit together")
    if np.isnan(table).any():
        raise DataError(f"{int(np.isnan(table).any(axis=1).sum())} images have logits that are not numbers")
    predicted = table.argmax(axis=1).astype(np.int64)
    true = resolve_targets(weights, predicted, rule)
    matrix = metrics.confusion_matrix(true, predicted, len(classes))
    correct, n = int(np.trace(matrix)), int(matrix.sum())
    recall = metrics.per_class_recall(true, predicted, len(classes))
    probabilities = metrics.softmax(table, temperature)
    return Scores(
        classes=tuple(classes),
        n=n,
        correct=correct,
        accuracy=correct / n,
        ci95=metrics.wilson_interval(correct, n),
        mean_class_accuracy=metrics.mean_class_accuracy(true, predicted, len(classes)),
        macro_f1=metrics.macro_f1(true, predicted, len(classes)),
        per_class_recall={c: None if np.isnan(r) else float(r) for c, r in zip(classes, recall, strict=True)},
        support={c: int(row.sum()) for c, row in zip(classes, matrix, strict=True)},
        confusion_matrix=tuple(tuple(int(v) for v in row) for row in matrix),
        ece=metrics.ece(probabilities, true),
        ece_before=metrics.ece(metrics.softmax(table), true),
        nll=metrics.negative_log_likelihood(probabilities, true),
    )
