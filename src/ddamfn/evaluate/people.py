"""A network beside the people who labeled its images: how often one annotator, and the network, agree with the others.

All figures are of images with votes, rows of counts in the order of `ddamfn.data.rules.VOTE_COLUMNS`, under a vote
rule that names one expression an image ("majority", "argmax", "argmax_all"). Only votes for an expression are scored
as an annotator's, not those for "unknown" and "no face", since the network must name an expression, too.

- **One annotator and the others.** Each vote for an expression is taken away in turn, and compared with the expression
  that most of the remaining votes name. The network is scored against the same remaining votes, once for each vote
  that was taken away. A tie of m expressions counts 1/m for each of them. Images whose remaining votes name no
  expression are left out.
- **Agreement.** The accuracy of the network among images of which so many of ten votes are for the leading expression.
- **Redrawn votes.** An image's votes are drawn anew from its shares, as many as it has, and the rule is applied to
  what was drawn. A predictor that knows the shares and names the largest is right in as many images as anyone can be
  who sees the image and not the draw: the ceiling of accuracy. The network is scored against the same draws. Ten votes
  agree more than the whole public would (an image of ten equal votes is drawn without any doubt), so the ceiling is
  rather too high than too low.

The leave-one-out comparison and the ceiling are this package's own; the votes are those of Barsoum et al. 2016,
"Training deep networks for facial expression recognition with crowd-sourced label distribution".
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddamfn.data.rules import targets
from ddamfn.errors import DataError, UsageError
from ddamfn.evaluate.metrics import Floats, Ints
from ddamfn.labels import EXPRESSIONS

SINGLE_WINNER_RULES = ("majority", "argmax", "argmax_all")
"""Rules under which an image has one expression."""
DRAWS = 100

_EMOTIONS = len(EXPRESSIONS)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Images of which so many of ten votes are for the leading expression."""

    votes_of_ten: int
    n: int
    correct: int  # by the network


@dataclass(frozen=True, slots=True)
class People:
    """A network and its annotators on the same images; see the module for what the figures mean.

    Attributes:
        rule: the vote rule.
        n: images that it keeps.
        votes: votes for an expression that were compared with the others' of the same image.
        annotator: share of these votes that agree with the others', 0..1.
        network: share in which the network agrees with the same others, 0..1.
        agreement: the network's accuracy by agreement, highest first; every image is in one of the rows.
        draws: how often the votes were drawn anew.
        ceiling: accuracy against redrawn votes of a predictor that knows the shares, 0..1.
        network_redrawn: accuracy of the network against the same, 0..1.
    """

    rule: str
    n: int
    votes: int
    annotator: float
    network: float
    agreement: tuple[Agreement, ...]
    draws: int
    ceiling: float
    network_redrawn: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, ready for JSON."""
        rows = [{"votes_of_ten": row.votes_of_ten, "n": row.n, "correct": row.correct} for row in self.agreement]
        names = ("rule", "n", "votes", "annotator", "network", "draws", "ceiling", "network_redrawn")
        return {name: getattr(self, name) for name in names} | {"agreement": rows}


def compare_with_people(
    votes: ArrayLike, predictions: ArrayLike, rule: str = "argmax_all", *, draws: int = DRAWS, seed: int = 0
) -> People:
    """Compare a network with the annotators of its images.

    Args:
        votes: (N, 10) counts in the order of `ddamfn.data.rules.VOTE_COLUMNS`.
        predictions: int (N,), indices into `ddamfn.labels.EXPRESSIONS`.
        rule: one of `SINGLE_WINNER_RULES`; images that it does not keep are left out.
        draws: how often votes are drawn anew, at least 1.
        seed: of the draws.

    Raises:
        UsageError: the rule gives an image more than one expression, or is unknown.
        DataError: the lengths differ, or the rule keeps no image.
    """
    if rule not in SINGLE_WINNER_RULES:
        raise UsageError(f"{rule!r} names no single expression; use one of {', '.join(SINGLE_WINNER_RULES)}")
    raw, predicted = np.asarray(votes, dtype=np.float64), np.asarray(predictions, dtype=np.int64)
    if len(raw) != len(predicted):
        raise DataError(f"{len(raw):,} rows of votes do not fit {len(predicted):,} predictions")
    keep, true = targets(raw, rule)
    if not keep.any():
        raise DataError(f"no image is left under the rule {rule}: check the split")
    raw, predicted, winners = raw[keep], predicted[keep], true[keep].argmax(axis=1)
    counted, annotator, network = _leave_one_out(raw, predicted)
    ceiling, redrawn = _redrawn(raw, predicted, rule, draws, np.random.default_rng(seed))
    return People(
        rule=rule,
        n=len(raw),
        votes=counted,
        annotator=annotator,
        network=network,
        agreement=_by_agreement(raw, winners == predicted),
        draws=draws,
        ceiling=ceiling,
        network_redrawn=redrawn,
    )


def _leave_one_out(votes: Floats, predicted: Ints) -> tuple[int, float, float]:
    """Return the number of votes that were taken away, and the shares in which they and the network agree."""
    counted = agreed = shared = 0.0
    for taken in range(_EMOTIONS):
        # All votes for one expression of an image leave the same others behind.
        times = votes[:, taken]
        others = votes[:, :_EMOTIONS].copy()
        others[:, taken] -= 1
        rows = np.flatnonzero((times >= 1) & (others.max(axis=1) > 0))
        leading = others[rows] == others[rows].max(axis=1, keepdims=True)
        credit = leading / leading.sum(axis=1, keepdims=True)
        counted += times[rows].sum()
        agreed += (times[rows] * credit[:, taken]).sum()
        shared += (times[rows] * credit[np.arange(len(rows)), predicted[rows]]).sum()
    if not counted:
        raise DataError("no image has two votes for an expression: there is nobody to compare an annotator with")
    return int(counted), float(agreed / counted), float(shared / counted)


def _by_agreement(votes: Floats, correct: NDArray[np.bool_]) -> tuple[Agreement, ...]:
    leading = np.rint(10 * votes[:, :_EMOTIONS].max(axis=1) / votes.sum(axis=1)).astype(np.int64)
    levels = sorted(set(leading.tolist()), reverse=True)
    return tuple(
        Agreement(level, int((leading == level).sum()), int(correct[leading == level].sum())) for level in levels
    )


def _redrawn(
    votes: Floats, predicted: Ints, rule: str, draws: int, generator: np.random.Generator
) -> tuple[float, float]:
    """Return the accuracies of a predictor that knows the shares, and of the network, against redrawn votes."""
    totals = votes.sum(axis=1)
    shares = votes / totals[:, None]
    known = votes[:, :_EMOTIONS].argmax(axis=1)
    scored = by_shares = by_network = 0
    for _ in range(draws):
        drawn = generator.multinomial(np.rint(totals).astype(np.int64), shares)
        keep, true = targets(drawn, rule)
        winners = true.argmax(axis=1)
        scored += int(keep.sum())
        by_shares += int((winners == known)[keep].sum())
        by_network += int((winners == predicted)[keep].sum())
    if not scored:
        raise DataError(f"the rule {rule} keeps none of the redrawn votes: these images cannot be compared with people")
    return by_shares / scored, by_network / scored
