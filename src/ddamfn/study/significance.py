"""Whether a difference is larger than chance: paired tests of two networks on the same images, intervals of means.

Shapes: N images, S seeds. Which predictions are correct is bool (N,), or (S, N) for a network trained S times.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

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
    """Exact two-sided p-value of McNemar's test: do two networks classify equally many images correctly?

    Args:
        one: bool (N,), where the first network is correct.
        other: bool (N,), where the second is, on the same images.

    Raises:
        DataError: if the lists do not match or are empty.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12; the exact form is the sign test on the discordant pairs.
    """
    first, second = _pair(one, other)
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    discordant = only_first + only_second
    return float(stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0


def paired_bootstrap(
    one: ArrayLike,
    other: ArrayLike,
    generator: np.random.Generator,
    *,
    samples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Interval of the difference of two accuracies, `one` minus `other`, on the same images.

    Images are resampled with replacement, and so are seeds where there are several: the interval then covers another
    test set and another training. With one seed it covers the choice of images alone.

    Args:
        one: bool (N,) or (S, N).
        other: the same shape; row s of both was trained with the same seed.
        generator: source of randomness.
        samples: number of bootstrap samples.
        level: share of the resampled differences inside the interval.

    Returns:
        The observed difference, the deviation of the resampled ones, and their percentiles; all in -1..1.

    Raises:
        DataError: if the lists do not match or are empty.

    Source: Efron & Tibshirani 1993, "An introduction to the bootstrap", chapter 13.
    """
    first, second = _pair(one, other)
    differences = np.atleast_2d(first.astype(np.float64) - second.astype(np.float64))
    seeds, n = differences.shape
    resampled: list[NDArray[np.float64]] = []
    for start in range(0, samples, _CHUNK):
        rows = min(_CHUNK, samples - start)
        images = generator.multinomial(n, np.full(n, 1 / n), size=rows) / n
        weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=rows) / seeds
        resampled.append(((images @ differences.T) * weights).sum(axis=1))
    values, tail = np.concatenate(resampled), (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(differences.mean()), float(values.std(ddof=1)), float(low), float(high))


def t_interval(values: Sequence[float], *, test_share: float | None = None, level: float = 0.95) -> Interval:
    """Interval of a mean: of independent values, such as accuracies of several seeds, or of cross-validation.

    The folds of a cross-validation are not independent, since their training sets overlap: with `test_share` the
    variance of the mean is (1/J + n_test / n_train) s^2 instead of s^2 / J.

    Args:
        values: J accuracies, one per seed or per fold (and repetition).
        test_share: n_test / n_train of the folds, 1/9 for ten folds without a validation part; None for seeds.
        level: of confidence.

    Raises:
        DataError: if there are fewer than two values, or the share is not above 0.

    Source: Nadeau & Bengio 2003, "Inference for the generalization error", Machine Learning 52, Eq. 9 (corrected
    resampled t-test).
    """
    if len(values) < 2:
        raise DataError(f"an interval of a mean needs at least two values, not {len(values)}")
    if test_share is not None and test_share <= 0:
        raise DataError(f"n_test / n_train must be above 0, not {test_share}")
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    quantile = float(stats.t.ppf((1 + level) / 2, len(values) - 1))
    half = quantile * math.sqrt(1 / len(values) + (test_share or 0.0)) * deviation
    return Interval(mean, deviation, mean - half, mean + half)


def _pair(one: ArrayLike, other: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    first, second = np.asarray(one, dtype=np.bool_), np.asarray(other, dtype=np.bool_)
    if first.shape != second.shape or first.size == 0:
        raise DataError(
            f"predictions of shape {first.shape} and {second.shape} must be of the same images, at least one"
        )
    return first, second
