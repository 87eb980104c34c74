"""Metrics of a table of logits: plain NumPy functions, no state.

Shapes: N images, K classes. `targets` and `predictions` are class indices, int (N,), in 0..K-1. Every function
refuses an empty table, because the accuracy of nothing is a bug upstream and not a zero.
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
    """Both as int64 (N,); raises DataError if they are empty or of different length."""
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
    """Counts (K, K): row = true class, column = predicted class.

    Raises:
        DataError: if an index lies outside 0..K-1 or the lists do not match.
    """
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
    """Confidence interval of a share, both ends in 0..1; the default `z` gives 95 %.

    Wilson's and not Wald's: it keeps inside 0..1 and stays accurate for small classes and for shares near 1.

    Raises:
        DataError: if `n` is not positive or `correct` lies outside 0..n.

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
    """How much an accuracy falls between two conditions on the same images, and its interval.

    Only images that are correct under one condition alone count, so the interval is far narrower than that of two
    independent shares.

    Args:
        lost: images correct under the first condition and wrong under the second.
        gained: the reverse.
        n: images in all.
        z: the default gives 95 %.

    Returns:
        The drop (lost - gained) / n, -1..1, negative for a rise; and the ends of its interval.

    Raises:
        DataError: if the counts are no parts of `n`.

    Source: Agresti & Min 2005, "Simple improved confidence intervals for comparing matched proportions", Statistics in
    Medicine 24: Wald's interval with half an image added to each cell of the table of two by two.
    """
    if n <= 0 or min(lost, gained) < 0 or lost + gained > n:
        raise DataError(f"{lost} lost and {gained} gained out of {n} are no parts of it")
    return _drop(float(lost - gained), float(lost + gained), n, z)


def mean_drop(drops: ArrayLike, z: float = 1.959963984540054) -> tuple[float, tuple[float, float]]:
    """Like `paired_drop`, where the second condition was drawn several times for each image.

    The draws of one image are alike and do not count as independent: only the images are many.

    Args:
        drops: (N,) float, -1..1: for each image, whether it is correct under the first condition (1 or 0), less the
            share of its draws that are correct under the second.
        z: the default gives 95 %.

    Returns:
        Their mean, and the ends of its interval. With one draw it is that of `paired_drop`.

    Raises:
        DataError: if there is no image.
    """
    values = np.asarray(drops, dtype=np.float64)
    if not values.size:
        raise DataError("there is no image to compare")
    return _drop(float(values.sum()), float((values * values).sum()), len(values), z)


def _drop(total: float, squares: float, n: int, z: float) -> tuple[float, tuple[float, float]]:
    """Mean of n paired differences by their sums, and Agresti and Min's interval."""
    size = n + 2.0
    # Half an image more in every cell: one that is lost and one that is gained, each half.
    center, half = total / size, z * math.sqrt(squares + 1.0 - total * total / size) / size
    return total / n, (max(-1.0, center - half), min(1.0, center + half))


def softmax(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Probabilities float64 (N, K) of logits (N, K) divided by `temperature`; a logit of minus infinity gives 0."""
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
    """Count, mean confidence and accuracy of each of `bins` equal slices of 0..1; empty slices hold 0, NaN, NaN.

    Slices are open at the left and closed at the right, as in the paper, except that 0 belongs to the first.

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
    """Expected calibration error, 0..1: mean distance of confidence and accuracy over equal slices, weighted by count.

    Args:
        probabilities: (N, K), each row summing to 1; the row's largest entry is its confidence.
        targets: int (N,).
        bins: number of slices of 0..1.

    Source: Guo et al. 2017, Eq. 3.
    """
    table = np.asarray(probabilities, dtype=np.float64)
    true, predicted = _checked(targets, table.argmax(axis=1))
    count, confidence, accuracies = reliability_bins(table.max(axis=1), true == predicted, bins)
    gaps = np.abs(confidence - accuracies)[count > 0]
    return float((gaps * count[count > 0]).sum() / count.sum())
