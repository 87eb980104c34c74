"""The expected mix of expressions: probabilities for images with other shares than the training images.

A network learns how common each expression was. Where the images to be read have other shares, Bayes' rule gives
p' ~ p * prior / training prior for each expression; the weight on the card is an exponent of that ratio. At 1 it is
Bayes' rule, at 0 nothing changes. Less than 1 is right for a network that was trained, or exported, to lean less to the
common classes; for such a network only "uniform" is exact.

Source: Saerens et al. 2002, "Adjusting the outputs of a classifier to new a priori probabilities", Neural Computation
14, Eq. 2.4.
"""

import math
import reprlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ddamfn.errors import UnknownLabel, UsageError
from ddamfn.labels import canonical
from ddamfn.weights.card import Card

ClassPrior = str | Mapping[str, float]
"""An expected mix: "training", "uniform", or the shares of expressions by name; see `prior_shares`."""
TRAINING, UNIFORM = "training", "uniform"

# Shares that are typed with two digits may miss 1 by a little.
_ROUNDING = 0.015


def prior_factors(card: Card, prior: ClassPrior) -> NDArray[np.float64] | None:
    """Return what each probability is multiplied by under an expected mix, before the sum is made 1 again.

    Args:
        card: of the weights; it holds the shares of the training images.
        prior: the expected mix.

    Returns:
        float64 (K,), at least 0, in the order of the card's labels; None for "training", which changes nothing.

    Raises:
        UsageError: the card has no training shares, or the mix is none of these labels.
    """
    if prior == TRAINING:
        return None
    shares = prior_shares(card, prior)
    known = card.class_prior
    assert known is not None  # or `prior_shares` would have refused
    training = np.array([known["shares"][label] for label in card.labels])
    return np.asarray((shares / training) ** known["weight"])


def prior_shares(card: Card, prior: ClassPrior) -> NDArray[np.float64]:
    """Return the shares of a mix, float64 (K,) in the order of the card's labels, with sum 1.

    "training" is the mix of the training images, "uniform" has the same share for every expression. A mapping may
    leave expressions out: they divide what is left in the proportions of the training images.

    Raises:
        UsageError: the card has no training shares; or the mix is of another kind, names an expression that the
            weights do not know, or has shares below 0 or a sum other than 1.
    """
    if card.class_prior is None:
        raise UsageError(
            f"{card.name} cannot take a class prior: its card lacks the shares of its training images; export the "
            "weights again with their data"
        )
    training = np.array([card.class_prior["shares"][label] for label in card.labels])
    if prior == TRAINING:
        return np.asarray(training / training.sum())
    if prior == UNIFORM:
        return np.full(len(training), 1 / len(training))
    if not isinstance(prior, Mapping):
        raise UsageError(f"the class prior must be {TRAINING}, {UNIFORM}, or shares by name, not {prior!r}")
    named = _named(card, prior)
    rest = 1.0 - sum(named.values())
    others = [place for place, label in enumerate(card.labels) if label not in named]
    if rest < -_ROUNDING or (not others and abs(rest) > _ROUNDING):
        raise UsageError(f"the shares of the class prior must sum to 1, not to {1.0 - rest:g}")
    shares = np.array([named.get(label, 0.0) for label in card.labels])
    if others:
        shares[others] = max(0.0, rest) * training[others] / training[others].sum()
    return np.asarray(shares / shares.sum())


def _named(card: Card, prior: Mapping[str, float]) -> dict[str, float]:
    """Return the shares that a mapping names, by canonical name."""
    named: dict[str, float] = {}
    for name, share in prior.items():
        try:
            label = canonical(name)
        except UnknownLabel as error:
            raise UsageError(f"class prior: {error}") from None
        if label not in card.labels:
            raise UsageError(f"class prior: {card.name} does not know {label}; it knows {', '.join(card.labels)}")
        if label in named:
            raise UsageError(f"class prior: {label} has two shares")
        if not (math.isfinite(share) and 0 <= share <= 1):
            raise UsageError(f"class prior: the share of {label} must be from 0 to 1, not {share}")
        named[label] = float(share)
    if not named:
        raise UsageError("class prior: name at least one expression, such as neutral=.3")
    return named


def parse_class_prior(text: str) -> ClassPrior:
    """Read a class prior from text: "training", "uniform", or "neutral=.3,happiness=.4".

    Raises:
        UsageError: it is none of these. Names and sums are checked by `prior_shares`, which knows the weights.
    """
    word = text.strip().casefold()
    if word in (TRAINING, UNIFORM):
        return word
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = part.partition("=")
        try:
            share = float(number)
        except ValueError:
            share = math.nan
        if not equals or not name.strip() or math.isnan(share):
            raise UsageError(
                f"a class prior is {TRAINING}, {UNIFORM}, or shares such as neutral=.3,happiness=.4, not "
                f"{reprlib.repr(text)}"
            )
        if name.strip() in shares:
            raise UsageError(f"class prior: {name.strip()} has two shares")
        shares[name.strip()] = share
    return shares


def describe_class_prior(prior: ClassPrior) -> str:
    """Return the text that `parse_class_prior` reads."""
    return prior if isinstance(prior, str) else ",".join(f"{name}={share:g}" for name, share in prior.items())


def with_factors(probabilities: NDArray[np.float64], factors: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return probabilities (..., K) multiplied by `prior_factors`, with sum 1 again; the same array for None."""
    if factors is None:
        return probabilities
    weighed = probabilities * factors
    total = weighed.sum(axis=-1, keepdims=True)
    # Only where every expression of a share above 0 has no probability at all: then nothing speaks for any of them.
    return np.asarray(np.divide(weighed, total, out=factors / factors.sum() * np.ones_like(weighed), where=total > 0))
