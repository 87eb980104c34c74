"""Whether a difference is larger than chance: paired tests of two networks on the same images, intervals of means.

Shapes: N images, S seeds. A network's right answers are bool (N,), or (S, N) where it was trained S times.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddamfn.errors import DataError

_CHUNK = 250
"""Bootstrap samples at a time: their counts are a matrix of so many rows of N."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the interval around it.

    Attributes:
        mean: of the values.
        deviation: standard deviation of the values (n - 1 in the denominator), 0 for a single one.
        low: lower end.
        high: upper end.
    """

    mean: float
    deviation: float
    low: float
    high: float


def mcnemar(one: ArrayLike, other: ArrayLike) -> float:
    """Exact two-sided p-value that two networks are right equally often, from the images that only one answers.

    Args:
        one: bool (N,), where the first network is right.
        other: bool (N,), where the second is, on the same images.

    Raises:
        DataError: if the lists do not match or are empty.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12; the exact form is the sign test on the discordant pairs.
    """
    first, second = _pair(one, other)
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    n, fewer = only_first + only_second, min(only_first, only_second)
    # Whole numbers of any size: exact for thousands of pairs, where a product of shares would be zero.
    ways, term = 0, 1
    for k in range(fewer + 1):
        ways += term
        term = term * (n - k) // (k + 1)
    everything: int = 2**n
    return min(1.0, 2 * ways / everything)


def paired_bootstrap(
    one: ArrayLike,
    other: ArrayLike,
    generator: np.random.Generator,
    *,
    samples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Interval of the difference of two accuracies, `one` minus `other`, on the same images.

    Images are drawn anew with replacement, and so are seeds where there are several: the interval then holds what
    another test set and another training would change. With one seed it holds the images' share alone.

    Args:
        one: bool (N,) or (S, N).
        other: the same shape; row s of both was trained with the same seed.
        generator: where chance comes from.
        samples: how often is drawn.
        level: share of the drawn differences that lie inside.

    Returns:
        The observed difference, the deviation of the drawn ones, and percentiles of these; all in -1..1.

    Raises:
        DataError: if the lists do not match or are empty.

    Source: Efron & Tibshirani 1993, "An introduction to the bootstrap", chapter 13.
    """
    first, second = _pair(one, other)
    differences = np.atleast_2d(first.astype(np.float64) - second.astype(np.float64))
    seeds, n = differences.shape
    drawn: list[NDArray[np.float64]] = []
    for start in range(0, samples, _CHUNK):
        rows = min(_CHUNK, samples - start)
        images = generator.multinomial(n, np.full(n, 1 / n), size=rows) / n
        weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=rows) / seeds
        drawn.append(((images @ differences.T) * weights).sum(axis=1))
    values, tail = np.concatenate(drawn), (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(differences.mean()), float(values.std(ddof=1)), float(low), float(high))


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Interval of the mean of independent values, such as accuracies of several seeds.

    Raises:
        DataError: if there are fewer than two.
    """
    return _student(values, 1 / len(values) if values else 0.0, level)


def corrected_t_interval(values: Sequence[float], test_share: float, level: float = 0.95) -> Interval:
    """Interval of the mean accuracy of cross-validation, corrected for training sets that overlap.

    The plain t interval takes the folds for independent and is too narrow; here the variance of the mean is
    (1/J + n_test / n_train) s^2.

    Args:
        values: J accuracies, one a fold (and a repetition).
        test_share: n_test / n_train, 1/9 for ten folds without a validation part.
        level: of confidence.

    Raises:
        DataError: if there are fewer than two values, or the share is not above 0.

    Source: Nadeau & Bengio 2003, "Inference for the generalization error", Machine Learning 52, Eq. 9 (corrected
    resampled t-test).
    """
    if test_share <= 0:
        raise DataError(f"n_test / n_train must be above 0, not {test_share}")
    return _student(values, (1 / len(values) if values else 0.0) + test_share, level)


def t_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t distribution.

    Args:
        probability: 0..1, both ends excluded.
        freedom: degrees of freedom, at least 1.

    Raises:
        DataError: if a number is out of range.
    """
    if not 0 < probability < 1 or freedom < 1:
        raise DataError(f"no quantile {probability} of a t distribution with {freedom} degrees of freedom")
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    # In the angle the distribution function rises over a finite range, so halving it finds any quantile.
    low, high = 0.0, math.pi / 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 + _within(middle, freedom) / 2 < probability else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _student(values: Sequence[float], factor: float, level: float) -> Interval:
    if len(values) < 2:
        raise DataError(f"an interval of a mean needs at least two values, not {len(values)}")
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    half = t_quantile((1 + level) / 2, len(values) - 1) * math.sqrt(factor) * deviation
    return Interval(mean, deviation, mean - half, mean + half)


def _within(angle: float, freedom: int) -> float:
    """Probability that |t| lies below sqrt(freedom) * tan(angle).

    Source: Abramowitz & Stegun 1964, "Handbook of mathematical functions", 26.7.3 and 26.7.4.
    """
    sine, cosine, odd = math.sin(angle), math.cos(angle), freedom % 2
    total, term = 0.0, cosine if odd else 1.0
    for k in range(freedom // 2):
        total += term
        term *= cosine * cosine * ((2 * k + 2) / (2 * k + 3) if odd else (2 * k + 1) / (2 * k + 2))
    return (angle + sine * total) * 2 / math.pi if odd else sine * total


def _pair(one: ArrayLike, other: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    first, second = np.asarray(one, dtype=np.bool_), np.asarray(other, dtype=np.bool_)
    if first.shape != second.shape or first.size == 0:
        raise DataError(f"answers {first.shape} and {second.shape} must be of the same images, at least one")
    return first, second
