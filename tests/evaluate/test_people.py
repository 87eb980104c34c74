"""A network beside its annotators: counted by hand on a few votes, and bounded by what votes allow."""

import json

import numpy as np
import pytest

from ddamfn.errors import DataError, UsageError
from ddamfn.evaluate.people import Agreement, compare_with_people

NEUTRAL, HAPPY, SAD = 0, 1, 3


def ballots(*rows: dict[int, int]) -> np.ndarray:
    votes = np.zeros((len(rows), 10))
    for row, counts in enumerate(rows):
        for column, count in counts.items():
            votes[row, column] = count
    return votes


def test_each_vote_is_compared_with_the_others() -> None:
    # Seven against three: each of the seven leaves six to three behind, each of the three seven to two.
    people = compare_with_people(ballots({HAPPY: 7, NEUTRAL: 3}), [HAPPY])
    assert (people.n, people.votes, people.annotator, people.network) == (1, 10, 0.7, 1.0)
    people = compare_with_people(ballots({HAPPY: 7, NEUTRAL: 3}), [NEUTRAL])
    assert (people.annotator, people.network) == (0.7, 0.0)


def test_a_tie_of_the_others_counts_half() -> None:
    # Without one of the three the others are two to two; without one of the two they are three to one.
    people = compare_with_people(ballots({HAPPY: 3, NEUTRAL: 2}), [HAPPY])
    assert people.annotator == pytest.approx((3 * 0.5 + 2 * 0.0) / 5)
    assert people.network == pytest.approx((3 * 0.5 + 2 * 1.0) / 5)


def test_votes_for_no_expression_are_no_annotator_s() -> None:
    unknown = 8
    with_unknown = compare_with_people(ballots({HAPPY: 4, SAD: 2, unknown: 4}), [HAPPY])
    without = compare_with_people(ballots({HAPPY: 4, SAD: 2}), [HAPPY])
    assert (with_unknown.votes, with_unknown.annotator) == (without.votes, without.annotator) == (6, 4 / 6)


def test_a_vote_alone_has_nobody_to_agree_with() -> None:
    people = compare_with_people(ballots({HAPPY: 1}, {SAD: 2}), [HAPPY, SAD])
    assert (people.n, people.votes, people.annotator) == (2, 2, 1.0)
    with pytest.raises(DataError, match="votes"):
        compare_with_people(ballots({HAPPY: 1}), [HAPPY])


def test_accuracy_is_told_by_how_many_agree() -> None:
    votes = ballots({HAPPY: 10}, {HAPPY: 10}, {SAD: 6, HAPPY: 4}, {SAD: 3, HAPPY: 2})
    people = compare_with_people(votes, [HAPPY, SAD, SAD, HAPPY])
    # Three of five votes are six of ten.
    assert people.agreement == (Agreement(10, 2, 1), Agreement(6, 2, 1))
    assert sum(row.n for row in people.agreement) == people.n


def test_the_ceiling_is_what_a_predictor_of_the_shares_reaches() -> None:
    sure = compare_with_people(ballots({HAPPY: 10}, {SAD: 10}), [HAPPY, SAD])
    assert (sure.ceiling, sure.network_redrawn) == (1.0, 1.0)
    # Of ten fair coins one side has more in (1 - 252 / 1024) / 2 of all draws, and the first one wins ties.
    votes = ballots(*[{NEUTRAL: 5, HAPPY: 5}] * 500)
    torn = compare_with_people(votes, [HAPPY] * 500, draws=40)
    assert torn.ceiling == pytest.approx((1 + 252 / 1024) / 2, abs=0.01)
    assert torn.network_redrawn == pytest.approx(1 - torn.ceiling)


def test_nobody_passes_the_ceiling(rng: np.random.Generator) -> None:
    votes = rng.multinomial(10, rng.dirichlet(np.full(10, 0.3), 300))
    votes = votes[votes[:, :8].sum(axis=1) > 2].astype(float)
    winners = votes[:, :8].argmax(axis=1)
    for rule in ("argmax_all", "majority", "argmax"):
        people = compare_with_people(votes, rng.permutation(winners), rule)
        best = compare_with_people(votes, winners, rule)
        assert people.network_redrawn < people.ceiling == best.network_redrawn
        assert people.n == sum(row.n for row in people.agreement) <= len(votes)
        assert json.loads(json.dumps(people.to_dict(), allow_nan=False)) == people.to_dict()
    assert compare_with_people(votes, winners, seed=1) == compare_with_people(votes, winners, seed=1)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UsageError, match="multi_target"):
        compare_with_people(ballots({HAPPY: 5}), [HAPPY], "multi_target")
    with pytest.raises(DataError, match="predictions"):
        compare_with_people(ballots({HAPPY: 5}), [HAPPY, SAD])
    with pytest.raises(DataError, match="no image"):
        compare_with_people(ballots({8: 5}), [HAPPY])
