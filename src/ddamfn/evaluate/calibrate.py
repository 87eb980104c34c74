"""Temperature scaling: one number that makes a network's confidence honest without changing any answer."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from ddamfn.errors import DataError

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0


def golden_section(function: Callable[[float], float], low: float, high: float, tolerance: float = 1e-6) -> float:
    """The place of the minimum of a function with a single valley on `low`..`high`, to within `tolerance`."""
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
    """The temperature T that minimises the cross-entropy of softmax(logits / T) against the targets.

    The loss is convex in 1/T, so it has one valley and golden-section search over log T finds it. Fit it on the
    validation split and never on the pictures that are then scored. T > 1 softens an over-confident network. A network
    with no error on these pictures would ask for T = 0; the result is kept within 0.05..20.

    Args:
        logits: (N, K), finite, or minus infinity for a class that the network cannot answer.
        targets: int (N,) class indices, or (N, K) weights, of which each row is normalised to sum 1.

    Raises:
        DataError: if no picture is left: none is given, or all belong to classes that the network cannot answer.

    Source: Guo et al. 2017, "On calibration of modern neural networks", section 4.2.
    """
    table, weights = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if weights.ndim == 1:
        weights = np.eye(table.shape[1])[np.asarray(targets, dtype=np.int64)]
    # Weight on a class that cannot be answered would make the loss infinite at every T; such pictures say nothing about
    # T.
    answerable = ~np.any(np.isneginf(table) & (weights > 0), axis=1)
    table, weights = table[answerable], weights[answerable]
    if len(table) == 0:
        raise DataError("no picture to fit a temperature on: check the split and the labelling rule")
    weights = weights / weights.sum(axis=1, keepdims=True)
    shifted = table - table.max(axis=1, keepdims=True)
    # Weight 0 times minus infinity would be NaN; there any finite number gives the 0 that is meant.
    finite = np.where(np.isneginf(shifted), 0.0, shifted)
    expected = (weights * finite).sum(axis=1)
    # The largest logit gives exactly 1 to the normaliser; log1p of the rest stays above 0 where log would round to it.
    others = shifted.copy()
    others[np.arange(len(others)), table.argmax(axis=1)] = -np.inf

    def loss(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        normaliser = np.log1p(np.exp(others / temperature).sum(axis=1))
        return float((normaliser - expected / temperature).mean())

    return math.exp(golden_section(loss, math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE)))
