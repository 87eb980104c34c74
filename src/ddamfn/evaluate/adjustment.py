"""Logit adjustment after training: what the training pictures' shares of the classes weigh in an answer."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddamfn.errors import DataError
from ddamfn.evaluate import metrics
from ddamfn.evaluate.scores import resolve_targets

_STEPS = 20
"""Steps of tau from 0 to 1."""


def class_shift(shares: ArrayLike, tau: float) -> NDArray[np.float64]:
    """What is added to the logits: -tau log(share) of each class, less its mean, so that no logit grows without need.

    Args:
        shares: (K,) above 0, the classes' shares of the training pictures.
        tau: 0 changes nothing; 1 answers as if all classes were equally frequent, were the probabilities exact.

    Raises:
        DataError: if a class has no training picture.

    Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, section 4.1.
    """
    known = np.asarray(shares, dtype=np.float64)
    if not (known > 0).all():
        raise DataError("logits cannot be adjusted for a class without a training picture")
    shift = -tau * np.log(known)
    return np.asarray(shift - shift.mean())


def fit_adjustment(logits: ArrayLike, targets: ArrayLike, shares: ArrayLike, *, rule: str = "majority") -> float:
    """The tau of 0, 0.05, ... 1 with the highest mean class accuracy that does not lower the accuracy.

    To be fitted on validation pictures, never on those that are then scored. The smallest of equals is taken.

    Args:
        logits: (N, K).
        targets: (N, K) non-negative weights; see `ddamfn.evaluate.scores.resolve_targets`.
        shares: (K,) above 0, the classes' shares of the training pictures.
        rule: name of the labelling rule that made the targets.

    Raises:
        DataError: if there is no picture, or a class has no training picture.
    """
    table = np.asarray(logits, dtype=np.float64)
    if len(table) == 0:
        raise DataError("no picture to fit a logit adjustment on: check the split and the labelling rule")

    def reached(tau: float) -> tuple[int, float]:
        said = (table + class_shift(shares, tau)).argmax(axis=1).astype(np.int64)
        true = resolve_targets(targets, said, rule)
        return int((said == true).sum()), metrics.mean_class_accuracy(true, said, table.shape[1])

    found = {step / _STEPS: reached(step / _STEPS) for step in range(_STEPS + 1)}
    least = found[0.0][0]
    return max((tau for tau, (right, _) in found.items() if right >= least), key=lambda tau: found[tau][1])
