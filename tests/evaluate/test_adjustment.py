"""Logit adjustment after training: the shift by hand, and a tau that costs no right answer."""

import numpy as np
import pytest

from ddamfn.errors import DataError
from ddamfn.evaluate.calibration import class_shift, fit_adjustment

SHARES = (0.8, 0.15, 0.05)


def test_shift_is_minus_tau_log_share_but_for_a_constant() -> None:
    shift = class_shift(SHARES, 0.5)
    assert shift.sum() == pytest.approx(0)
    assert shift[1] - shift[0] == pytest.approx(0.5 * np.log(0.8 / 0.15))
    assert shift[2] - shift[0] == pytest.approx(0.5 * np.log(0.8 / 0.05))
    assert not class_shift(SHARES, 0.0).any()


def test_exact_probabilities_of_a_skewed_split_become_those_of_an_even_one() -> None:
    likelihood = np.array([0.2, 0.3, 0.5])
    posterior = likelihood * SHARES
    adjusted = np.log(posterior) + class_shift(SHARES, 1.0)
    even = np.exp(adjusted) / np.exp(adjusted).sum()
    assert even == pytest.approx(likelihood / likelihood.sum())


def test_the_best_mean_class_accuracy_that_costs_nothing_is_taken() -> None:
    # At tau t the third class gains t * log 16 on the first and the second t * log(16/3).
    gain = np.log(16)
    logits = np.zeros((6, 3))
    # The third class gets its two images from tau 0.35 and 0.6 on; from 0.55 on, two of the first are lost.
    logits[0] = (0.33 * gain, -9, 0)
    logits[1] = (0.58 * gain, -9, 0)
    logits[2:4] = (0.53 * gain, -9, 0)
    logits[4:] = (9, -9, 0)
    targets = np.eye(3)[[2, 2, 0, 0, 0, 0]]
    assert fit_adjustment(logits, targets, SHARES) == 0.35
    # One of the first class fewer to lose: 0.6 then has as many right as 0 has, and more of the third class.
    assert fit_adjustment(logits[[0, 1, 2, 4, 5]], targets[[0, 1, 2, 4, 5]], SHARES) == 0.6


def test_nothing_to_gain_is_no_adjustment() -> None:
    targets = np.eye(3)[[0, 1, 2]]
    assert fit_adjustment(99 * targets, targets, SHARES) == 0


def test_an_answer_among_several_is_right_by_the_rule_that_allows_several() -> None:
    logits, targets = np.array([[0.1, 0.0, -9.0]]), np.array([[0.5, 0.5, 0.0]])
    assert fit_adjustment(logits, targets, SHARES, rule="multi_target") == 0


def test_what_cannot_be_adjusted_is_said() -> None:
    with pytest.raises(DataError, match="without a training image"):
        class_shift((0.5, 0.5, 0.0), 1.0)
    with pytest.raises(DataError, match="no image to fit"):
        fit_adjustment(np.zeros((0, 3)), np.zeros((0, 3)), SHARES)
