"""The expected mix: shares of any wording, Bayes' rule, and cards that cannot take one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ddamfn.errors import UsageError, WeightsError
from ddamfn.weights import Card, ClassPrior, read_card
from ddamfn.weights.prior import describe_class_prior, parse_class_prior, prior_factors, prior_shares, with_factors

SHARES = [0.4, 0.3, 0.1, 0.1, 0.05, 0.02, 0.02, 0.01]


@pytest.fixture
def card(stand_in_weights: Path) -> Card:
    plain = read_card(stand_in_weights.with_suffix(".json"))
    return replace(plain, class_prior={"shares": dict(zip(plain.labels, SHARES, strict=True)), "weight": 1.0})


def test_training_changes_nothing(card: Card, stand_in_weights: Path) -> None:
    assert prior_factors(card, "training") is None
    assert prior_factors(read_card(stand_in_weights.with_suffix(".json")), "training") is None
    probabilities = np.array([[0.3, 0.7]])
    assert with_factors(probabilities, None) is probabilities


def test_bayes_rule_gives_the_answers_of_the_other_mix(card: Card, rng: np.random.Generator) -> None:
    """Likelihoods times one prior, times the other over the one, are the likelihoods times the other."""
    likelihoods, other = rng.random((20, 8)), rng.dirichlet(np.ones(8))
    labels = card.labels

    def posterior(prior: np.ndarray) -> np.ndarray:
        joint = likelihoods * prior
        return np.asarray(joint / joint.sum(axis=1, keepdims=True))

    factors = prior_factors(card, dict(zip(labels, other.tolist(), strict=True)))
    np.testing.assert_allclose(with_factors(posterior(np.array(SHARES)), factors), posterior(other), rtol=1e-9)
    uniform = with_factors(posterior(np.array(SHARES)), prior_factors(card, "uniform"))
    np.testing.assert_allclose(uniform, posterior(np.ones(8) / 8), rtol=1e-9)


def test_the_weight_is_an_exponent(card: Card) -> None:
    assert card.class_prior is not None
    half = prior_factors(replace(card, class_prior={**card.class_prior, "weight": 0.5}), "uniform")
    whole = prior_factors(card, "uniform")
    assert half is not None
    assert whole is not None
    np.testing.assert_allclose(half**2, whole)


def test_expressions_that_are_left_out_divide_the_rest(card: Card) -> None:
    shares = prior_shares(card, {"Neutral": 0.1, "happy": 0.5})
    assert shares[:2].tolist() == [0.1, 0.5]
    np.testing.assert_allclose(shares[2:], np.array(SHARES[2:]) / sum(SHARES[2:]) * 0.4)
    np.testing.assert_allclose(prior_shares(card, "training"), SHARES)
    # Nothing is left for the others: they are never the answer.
    factors = prior_factors(card, {"neutral": 0.5, "happiness": 0.5})
    assert with_factors(np.full((1, 8), 0.125), factors)[0, 2:].tolist() == [0.0] * 6


@pytest.mark.parametrize(
    ("prior", "noun"),
    [
        ({"joyless": 0.5}, "joyless"),
        ({"neutral": 1.2}, "neutral"),
        ({"neutral": float("nan")}, "neutral"),
        ({"neutral": 0.7, "fear": 0.6}, "sum to 1"),
        ({"neutral": 0.3, "calm": 0.2}, "two shares"),
        ({}, "at least one"),
        ("equal", "equal"),
        (
            dict.fromkeys(["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"], 0.1),
            "sum",
        ),
    ],
)
def test_mixes_that_are_none_are_named(card: Card, prior: ClassPrior, noun: str) -> None:
    with pytest.raises(UsageError, match=noun):
        prior_factors(card, prior)


def test_weights_without_shares_or_the_expression_refuse(card: Card, stand_in_weights: Path) -> None:
    with pytest.raises(UsageError, match="training images"):
        prior_factors(read_card(stand_in_weights.with_suffix(".json")), "uniform")
    labels = card.labels[:7]
    seven = replace(
        card,
        labels=labels,
        architecture={**card.architecture, "num_classes": 7},
        class_prior={"shares": dict.fromkeys(labels, 1 / 7), "weight": 1.0},
    )
    with pytest.raises(UsageError, match="does not know contempt"):
        prior_factors(seven, {"contempt": 0.2})


def test_text_is_read_and_written() -> None:
    assert parse_class_prior(" Uniform ") == "uniform"
    assert parse_class_prior("neutral=.3, happiness = 0.4") == {"neutral": 0.3, "happiness": 0.4}
    assert describe_class_prior({"neutral": 0.3, "happiness": 0.4}) == "neutral=0.3,happiness=0.4"
    for text in ("", "even", "neutral", "neutral=", "neutral=x", "=.3", "neutral=.3,neutral=.2"):
        with pytest.raises(UsageError, match="class prior"):
            parse_class_prior(text)


def test_a_card_s_shares_are_checked_and_kept(card: Card) -> None:
    assert Card.from_dict(card.to_dict()).class_prior == card.class_prior
    shares = dict(zip(card.labels, SHARES, strict=True))
    for wrong, noun in (
        ({"shares": shares}, "weight"),
        ({"shares": {"neutral": 1.0}, "weight": 1.0}, "each label"),
        ({"shares": {**shares, "fear": 0.0}, "weight": 1.0}, "above 0"),
        ({"shares": shares, "weight": 2.0}, "weight"),
    ):
        with pytest.raises(WeightsError, match=noun):
            Card.from_dict(card.to_dict() | {"class_prior": wrong})


def test_evidence_for_none_of_the_expected_gives_their_shares() -> None:
    given = with_factors(np.array([[1.0, 0.0, 0.0]]), np.array([0.0, 3.0, 1.0]))
    assert given.tolist() == [[0.0, 0.75, 0.25]]
