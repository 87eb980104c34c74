"""Paired tests and intervals against printed quantiles, whole numbers and what is known of chance."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from ddamfn.errors import DataError
from ddamfn.study.significance import mcnemar, paired_bootstrap, t_interval


@pytest.mark.parametrize(("only_one", "only_other"), [(0, 0), (1, 0), (5, 5), (10, 2), (3, 25), (700, 600), (0, 4000)])
def test_mcnemar_is_the_sign_test_on_the_discordant_pairs(only_one: int, only_other: int) -> None:
    one = np.r_[np.ones(only_one), np.zeros(only_other), np.ones(20), np.zeros(9)].astype(bool)
    other = np.r_[np.zeros(only_one), np.ones(only_other), np.ones(20), np.zeros(9)].astype(bool)
    n = only_one + only_other
    # Whole numbers of any size are exact.
    ways = sum(math.comb(n, k) for k in range(min(only_one, only_other) + 1))
    assert mcnemar(one, other) == pytest.approx(min(1.0, 2 * ways / 2**n), rel=1e-9)
    assert mcnemar(other, one) == mcnemar(one, other)


# The 97.5 % quantiles of Student's t with 1, 2, 4 and 9 degrees of freedom.
@pytest.mark.parametrize(
    ("n", "quantile"),
    [(2, 12.706204736174659), (3, 4.302652729749458), (5, 2.7764451051977908), (10, 2.2621571627982036)],
)
def test_the_interval_of_seeds_is_student_s(n: int, quantile: float) -> None:
    values = list(np.linspace(0.861, 0.874, n))
    found, half = t_interval(values), quantile * np.std(values, ddof=1) / math.sqrt(n)
    assert (found.low, found.high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), rel=1e-9)
    assert found.deviation == pytest.approx(np.std(values, ddof=1))


def test_the_interval_of_the_published_ten_folds_is_corrected_for_their_overlap() -> None:
    folds = [90.69, 90.23, 89.89, 90.82, 89.83, 91.02, 91.82, 90.55, 90.55, 90.95]
    plain, corrected = t_interval(folds), t_interval(folds, test_share=1 / 9)
    assert corrected.mean == pytest.approx(90.635)
    half = 2.2621571627982036 * math.sqrt(1 / 10 + 1 / 9) * np.std(folds, ddof=1)
    assert corrected.high - corrected.mean == pytest.approx(half)
    # Almost half as wide again: sqrt(1 + 10 / 9).
    assert (corrected.high - corrected.low) / (plain.high - plain.low) == pytest.approx(math.sqrt(19 / 9))


def test_the_bootstrap_s_interval_is_that_of_a_mean(rng: np.random.Generator) -> None:
    one, other = rng.random(3000) < 0.9, rng.random(3000) < 0.87
    found = paired_bootstrap(one, other, np.random.default_rng(0), samples=4000)
    differences = one.astype(float) - other.astype(float)
    half = 1.96 * differences.std(ddof=1) / math.sqrt(3000)
    assert found.mean == pytest.approx(differences.mean())
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=1.5e-3)
    assert paired_bootstrap(other, one, np.random.default_rng(0), samples=4000).mean == pytest.approx(-found.mean)


def test_seeds_that_disagree_make_the_bootstrap_s_interval_wider(rng: np.random.Generator) -> None:
    base = np.tile(rng.random(2000) < 0.8, (3, 1))
    alike, spread = base.copy(), base.copy()
    wrong = np.flatnonzero(~base[0])
    for seed, more in enumerate((50, 100, 150)):
        alike[seed, wrong[:100]] = True
        spread[seed, wrong[:more]] = True
    one, other = (paired_bootstrap(a, base, np.random.default_rng(1)) for a in (alike, spread))
    assert one.mean == pytest.approx(other.mean)
    assert other.high - other.low > 1.5 * (one.high - one.low)


@pytest.mark.parametrize(
    "call",
    [
        lambda: t_interval([0.5]),
        lambda: t_interval([], test_share=0.1),
        lambda: t_interval([0.5, 0.6], test_share=0.0),
        lambda: mcnemar([True], [True, False]),
        lambda: mcnemar([], []),
    ],
)
def test_what_cannot_be_tested_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(DataError):
        call()
