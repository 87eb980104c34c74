"""Which split of a prepared set a run trains on, selects on and is scored on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ddamfn.data.catalog import CARDS
from ddamfn.data.rules import VOTE_COLUMNS, leading_share
from ddamfn.errors import ConfigError, DataError
from ddamfn.preparation.prepared import Prepared

_VALIDATION = ("valid", "val")
_WHOLE = "all"
"""The split of sets that have none, such as CK+ or class folders alone."""


def training_split(prepared: Prepared) -> str:
    """The split that is trained on and dealt into folds: "train", or "all" of sets without splits."""
    return _WHOLE if _WHOLE in prepared.splits else "train"


def own_validation(prepared: Prepared) -> str | None:
    """Return the set's own split to select on, None if it has none.

    AffectNet's "val" is none: it has no public test split, so its scores are reported on "val".
    """
    if _without_public_test(prepared):
        return None
    return next((name for name in _VALIDATION if name in prepared.splits), None)


def score_split(prepared: Prepared) -> str:
    """Return the split that scores are reported on: "test", or "val" of AffectNet, whose test split is not public."""
    if "test" in prepared.splits:
        return "test"
    if _without_public_test(prepared) and "val" in prepared.splits:
        return "val"
    raise DataError(f"{prepared.source} has no test split to score on; use ddamfn study crossval")


def require_classes(prepared: Prepared, classes: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the classes to learn: these, or the set's own for None; raise DataError if one is missing or alone."""
    if len(prepared.classes) < 2:
        raise DataError(
            f"{prepared.source} has the class {prepared.classes[0]} alone, and a network learns to tell classes apart; "
            "add images of another expression"
        )
    if unknown := [name for name in classes or () if name not in prepared.classes]:
        raise DataError(f"{prepared.source} has no class {', '.join(unknown)}; it has {', '.join(prepared.classes)}")
    return classes or prepared.classes


def vote_weights(prepared: Prepared, keys: Sequence[str]) -> NDArray[np.float32]:
    """Return the share (N,) of all votes that each image's leading expression has; 1 for an image with a label."""
    if not prepared.votes:
        raise ConfigError(f"{prepared.source} has no votes; train with --set data.vote_weight=false")
    certain = (1.0,) + (0.0,) * (len(VOTE_COLUMNS) - 1)
    votes = {row.key: row.votes or certain for row in prepared.manifest()}
    return leading_share([votes[key] for key in keys])


def kept_by_majority(prepared: Prepared, split: str, keys: Sequence[str]) -> NDArray[np.bool_] | None:
    """Return which images of a split the rule "majority" keeps, bool (N,); None for a set without votes."""
    if not prepared.votes:
        return None
    kept = set(prepared.split(split, "majority").keys)
    return np.array([key in kept for key in keys], dtype=np.bool_)


def _without_public_test(prepared: Prepared) -> bool:
    card = CARDS.get(prepared.dataset)
    return card is not None and "test" not in card.splits
