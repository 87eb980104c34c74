"""Vote rules: how ten annotators' votes become one target. The rules of FERPlus, and one that keeps every image.

Every accuracy on FERPlus depends on the rule, because each keeps a different number of images (the official test split
has 3,137 images by majority and 3,481 by probability): report the rule and N with every number.
"""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from ddamfn.errors import UsageError
from ddamfn.labels import EXPRESSIONS

RULES: tuple[str, ...] = ("majority", "probability", "multi_target", "shares", "argmax", "argmax_all")
"""Names of the rules; see `targets` for what each keeps."""

VOTE_COLUMNS: tuple[str, ...] = (*EXPRESSIONS, "unknown", "NF")
"""The ten vote columns in the file's order; `NF` is "no face"."""

_EMOTIONS = len(EXPRESSIONS)

Votes = npt.NDArray[np.float64]


def targets(votes: npt.NDArray[Any], rule: str) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Turn votes (N, 10) into which images a rule keeps, (N,) bool, and targets (N, 8) float32, zero rows elsewhere.

    - `majority`: single votes count as mistakes and are set to zero; an image is kept if one column holds more than
      half of the remaining votes, and that column is one of the eight expressions. The target is one-hot.
    - `probability`: after the same cleanup the strongest columns are added until they hold 75 % of the votes or
      three columns are used; kept if they hold more than half. The target is their share of the votes.
    - `multi_target`: after the same cleanup every column with at least 30 % of the votes counts; kept if together
      they hold more than half. The target is their share, for use with a loss that rewards any of them.
    - `shares`: each expression's share of the raw votes for expressions; kept if there is any. Our own.
    - `argmax`: the column with the most raw votes, the first one on a tie; kept if it is an expression. One-hot.
    - `argmax_all`: the expression with the most raw votes, the first one on a tie, regardless of votes for "unknown"
      and "no face"; kept if there is any vote for an expression. One-hot. It keeps all 3,573 rows of the official test
      split: the number that the paper's accuracy of DDAMFN (Zhang et al. 2023) fits.

    FERPlus's training split has 25,045 images by `majority`, 27,762 by `probability`, 27,667 by `multi_target`.

    Source: Barsoum et al. 2016, "Training deep networks for facial expression recognition with crowd-sourced label
    distribution", section 3; thresholds as in Microsoft's FERPlus repository (MIT).
    """
    raw = np.asarray(votes, dtype=np.float64)
    if raw.ndim != 2 or raw.shape[1] != len(VOTE_COLUMNS):
        raise UsageError(f"votes must be (N, {len(VOTE_COLUMNS)}), not {raw.shape}")
    expressions = np.where(np.arange(raw.shape[1]) < _EMOTIONS, raw, 0.0)
    if rule == "argmax":
        shares = _one_hot_of_winner(raw)
    elif rule == "argmax_all":
        shares = _one_hot_of_winner(expressions)
    elif rule == "shares":
        shares = expressions
    elif rule == "majority":
        shares = _majority(_without_single_votes(raw))
    elif rule == "probability":
        # There are few distinct rows: computing each once makes 28,000 images a matter of milliseconds.
        rows, row_of = np.unique(_without_single_votes(raw), axis=0, return_inverse=True)
        shares = np.array([_probability_row(row) for row in rows]).reshape(rows.shape)[row_of.reshape(-1)]
    elif rule == "multi_target":
        shares = _multi_target(_without_single_votes(raw))
    else:
        raise UsageError(f"{rule!r} is not a vote rule; use one of {', '.join(RULES)}")
    return _keep_expressions(shares)


def leading_share(votes: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return the share (N,) float32 of all votes (N, 10) that the strongest expression has; 0 without any vote."""
    raw = np.asarray(votes, dtype=np.float64).reshape(-1, len(VOTE_COLUMNS))
    total, leading = raw.sum(axis=1), raw[:, :_EMOTIONS].max(axis=1)
    shares: Votes = np.divide(leading, total, out=np.zeros_like(total), where=total > 0)
    return shares.astype(np.float32)


def _keep_expressions(shares: Votes) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Keep rows whose strongest column is an expression; drop `unknown` and `NF` and rescale to 1."""
    keep = (shares.sum(axis=1) > 0) & (shares.argmax(axis=1) < _EMOTIONS)
    emotions = shares[:, :_EMOTIONS] * keep[:, None]
    total = emotions.sum(axis=1, keepdims=True)
    return keep, np.divide(emotions, total, out=np.zeros_like(emotions), where=total > 0).astype(np.float32)


def _without_single_votes(raw: Votes) -> Votes:
    return np.where(raw < 1.0 + sys.float_info.epsilon, 0.0, raw)


def _one_hot_of_winner(votes: Votes) -> Votes:
    hot: Votes = np.zeros(votes.shape, dtype=np.float64)
    rows = np.flatnonzero(votes.sum(axis=1) > 0)
    hot[rows, votes[rows].argmax(axis=1)] = 1.0
    return hot


def _majority(votes: Votes) -> Votes:
    won = votes.max(axis=1, keepdims=True) > 0.5 * votes.sum(axis=1, keepdims=True)
    return np.where(won, _one_hot_of_winner(votes), 0.0)


def _multi_target(votes: Votes) -> Votes:
    total = votes.sum(axis=1, keepdims=True)
    strong = np.where(votes >= 0.3 * total, votes, 0.0)
    return np.where(strong.sum(axis=1, keepdims=True) > 0.5 * total, strong, 0.0)


def _probability_row(votes: Votes) -> Votes:
    """Apply the `probability` rule to one row of cleaned votes; zeros mean that the row is dropped.

    Columns tied for the next place are taken together; more than three of them drop the image. `unknown` and `NF`
    end the search, and get their share only if they came first.
    """
    # Kept because the published counts (27,762 / 3,480 / 3,481 with label.csv) need it: `unknown` tied with the third
    # expression counts as a fourth column and drops the image. Code without this keeps 27,947 / 3,508 / 3,507.
    left, taken = votes.copy(), np.zeros_like(votes)
    total, count, open_search = votes.sum(), 0, True
    while open_search and count < 3 and taken.sum() < 0.75 * total:
        best = left.max()
        for column in np.flatnonzero(left == best):
            count += 1
            if column >= _EMOTIONS:
                open_search = False
                if taken.sum() == 0:
                    taken[column] = best
                break
            taken[column], left[column] = best, 0.0
    if taken.sum() <= 0.5 * total or count > 3:
        return np.zeros_like(votes)
    return taken
