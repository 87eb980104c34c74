"""Metrics of a table of logits as NumPy functions, for N images and K classes.

`targets` and `predictions` are class indices, int (N,), in 0..K-1. An empty table is refused: the accuracy of nothing
is a bug upstream and not a zero.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddamfn.errors import DataError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# A class that a network cannot answer has probability 0; its logarithm is cut here so that one such image costs 27.6
# nats and not infinity.
SMALLEST_PROBABILITY = 1e-12


def _checked(targets: ArrayLike, predictions: ArrayLike) -> tuple[Ints, Ints]:
    """Return both as int64 (N,); raise DataError if they are empty or of different lengths."""
    true, predicted = np.asarray(targets, dtype=np.int64), np.asarray(predictions, dtype=np.int64)
    if true.shape != predicted.shape or true.ndim != 1:
        raise DataError(f"targets {true.shape} and predictions {predicted.shape} must be two lists of one length")
    if true.size == 0:
        raise DataError("no image to score: check the split and the labeling rule")
    return true, predicted


def accuracy(targets: ArrayLike, predictions: ArrayLike) -> float:
    """Share of the images whose prediction equals the target, 0..1 (also called WAR)."""
    true, predicted = _checked(targets, predictions)
    return float(np.mean(true == predicted))


def confusion_matrix(targets: ArrayLike, predictions: ArrayLike, num_classes: int) -> Ints:
    """Return counts (K, K): row = true class, column = predicted class."""
    true, predicted = _checked(targets, predictions)
    if min(true.min(), predicted.min()) < 0 or max(true.max(), predicted.max()) >= num_classes:
        raise DataError(f"class indices must lie in 0..{num_classes - 1}")
    counts = np.bincount(true * num_classes + predicted, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def per_class_recall(targets: ArrayLike, predictions: ArrayLike, num_classes: int) -> Floats:
    """Recall of each class, float64 (K,), 0..1; NaN for a class that no image has."""
    matrix = confusion_matrix(targets, predictions, num_classes)
    support = matrix.sum(axis=1)
    recall: Floats = np.full(num_classes, np.nan)
    np.divide(np.diag(matrix), support, out=recall, where=support > 0)
    return recall


def mean_class_accuracy(targets: ArrayLike, predictions: ArrayLike, num_classes: int) -> float:
    """Mean recall over the classes that occur in the targets, 0..1 (also called UAR or balanced accuracy)."""
    return float(np.nanmean(per_class_recall(targets, predictions, num_classes)))


def macro_f1(targets: ArrayLike, predictions: ArrayLike, num_classes: int) -> float:
    """Mean F1 over the classes that occur in the targets, 0..1; a class never predicted has F1 = 0."""
    matrix = confusion_matrix(targets, predictions, num_classes)
    support, answered = matrix.sum(axis=1), matrix.sum(axis=0)
    occurs = support > 0
    f1 = 2.0 * np.diag(matrix)[occurs] / (support + answered)[occurs]
    return float(f1.mean())


def wilson_interval(correct: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return Wilson's confidence interval of a share, in 0..1; the default `z` gives 95 %.

    Unlike Wald's, it stays inside 0..1 and accurate for small classes and shares near 1.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.
    """
    if n <= 0 or not 0 <= correct <= n:
        raise DataError(f"{correct} correct out of {n} is no share")
    share = correct / n
    scale = 1.0 + z * z / n
    center = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1.0 - share) / n + z * z / (4 * n * n))
    # At 0 and n the ends are exact; rounding must not move them to -1e-17 or 1.0000000000000002.
    low = 0.0 if correct == 0 else center - half
    high = 1.0 if correct == n else center + half
    return low, high


def paired_drop(lost: int, gained: int, n: int, z: float = 1.959963984540054) -> tuple[float, tuple[float, float]]:
    """Return the accuracy drop (lost - gained) / n between two conditions on the same images, and its interval.

    Only images correct under one condition alone count, so the interval is far narrower than for independent
    shares.

    Source: Agresti & Min 2005, "Simple improved confidence intervals for comparing matched proportions", Statistics
    in Medicine 24: Wald's interval with half an image added to each cell of the two-by-two table.
    """
    if n <= 0 or min(lost, gained) < 0 or lost + gained > n:
        raise DataError(f"{lost} lost and {gained} gained out of {n} are no parts of it")
    return _drop(float(lost - gained), float(lost + gained), n, z)


def mean_drop(drops: ArrayLike, z: float = 1.959963984540054) -> tuple[float, tuple[float, float]]:
    """Return the mean of each image's drop (N,), in -1..1, and its interval; with one draw, that of `paired_drop`.

    An image's drop is its correctness under the first condition less the share of its draws correct under the
    second. Draws of one image are not independent: N counts images alone.
    """
    values = np.asarray(drops, dtype=np.float64)
    if not values.size:
        raise DataError("there is no image to compare")
    return _drop(float(values.sum()), float((values * values).sum()), len(values), z)


def _drop(total: float, squares: float, n: int, z: float) -> tuple[float, tuple[float, float]]:
    """Return the mean of n paired differences from their sums, and Agresti and Min's interval."""
    size = n + 2.0
    # Half an image more in every cell: one that is lost and one that is gained, each half.
    center, half = total / size, z * math.sqrt(squares + 1.0 - total * total / size) / size
    return total / n, (max(-1.0, center - half), min(1.0, center + half))


def softmax(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Return probabilities float64 (N, K) of logits (N, K) / `temperature`; a logit of minus infinity gives 0."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    exponentials: Floats = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


def negative_log_likelihood(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """Mean of -log p(target) in nats; probabilities (N, K) are floored at 1e-12."""
    table, true = np.asarray(probabilities, dtype=np.float64), np.asarray(targets, dtype=np.int64)
    chosen = table[np.arange(len(true)), true]
    return float(-np.log(np.maximum(chosen, SMALLEST_PROBABILITY)).mean())


def reliability_bins(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> tuple[Ints, Floats, Floats]:
    """Return count, mean confidence and accuracy of each equal bin of 0..1; empty bins hold 0, NaN, NaN.

    Bins are open at the left and closed at the right, as in the paper, except that 0 belongs to the first.

    Source: Guo et al. 2017, "On calibration of modern neural networks", section 2.
    """
    sure, hits = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    empty = np.full(bins, np.nan)
    mean_confidence = np.divide(np.bincount(place, sure, bins), count, out=empty.copy(), where=count > 0)
    mean_accuracy = np.divide(np.bincount(place, hits, bins), count, out=empty.copy(), where=count > 0)
    return count.astype(np.int64), mean_confidence, mean_accuracy


def ece(probabilities: ArrayLike, targets: ArrayLike, bins: int = 15) -> float:
    """Return the expected calibration error, 0..1, of probabilities (N, K) against targets (N,).

    Source: Guo et al. 2017, Eq. 3.
    """
    table = np.asarray(probabilities, dtype=np.float64)
    true, predicted = _checked(targets, table.argmax(axis=1))
    count, confidence, accuracies = reliability_bins(table.max(axis=1), true == predicted, bins)
    gaps = np.abs(confidence - accuracies)[count > 0]
    return float((gaps * count[count > 0]).sum() / count.sum())
