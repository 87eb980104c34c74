"""The table that every score is computed from: logits and targets of each image of a split."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ddamfn.errors import DataError, UsageError
from ddamfn.evaluate.people import SINGLE_WINNER_RULES, People, compare_with_people
from ddamfn.evaluate.scores import Scores, score
from ddamfn.labels import EXPRESSIONS


@dataclass(frozen=True, slots=True, eq=False)
class LogitTable:
    """A network's logits of every readable image of a split that the vote rule keeps."""

    dataset: str  # short name, as on the card
    title: str  # the data set's full name
    note: str  # which copy of it
    split: str
    rule: str | None  # None for sets with one label per image
    classes: tuple[str, ...]  # canonical names of the K columns, in the set's own order
    keys: tuple[str, ...]  # N image names inside the set
    logits: NDArray[np.float32]  # (N, K) float32, no temperature; -inf for unknown classes
    targets: NDArray[np.float32]  # (N, K) float32; rows sum to 1
    found: NDArray[np.bool_]  # (N,) bool; without a face, the whole image is resized
    temperature: float  # from the card; divides the logits
    unreadable: Mapping[str, str]  # key -> reason; kept by the rule but missing here
    unanswerable: tuple[str, ...]  # classes unknown to the network; their images count as wrong
    unasked: tuple[str, ...]  # labels that the set lacks, left out before predicting
    official: bool  # whether this is the whole official evaluation split
    official_message: str  # why it is or is not
    mirrored: NDArray[np.float32] | None = None  # like `logits`, of flipped crops
    votes: NDArray[np.float64] | None = None  # (N, 10) as in `ddamfn.data.rules.VOTE_COLUMNS`; None without votes

    def __len__(self) -> int:
        return len(self.keys)

    def scores(self) -> Scores:
        """Score the table."""
        return score(
            self.logits, self.targets, self.classes, rule=self.rule or "majority", temperature=self.temperature
        )

    def flip_averaged(self) -> "LogitTable":
        """Return the table with the mean of each face's logits and its mirrored face's, at twice the work per face.

        Prediction does not do this, so its score is separate from that of the weights.
        """
        if self.mirrored is None:
            raise UsageError("the mirrored faces were not classified: predict with mirrored=True")
        return replace(self, logits=((self.logits + self.mirrored) / 2).astype(np.float32), mirrored=None)

    def with_factors(self, factors: Mapping[str, float]) -> "LogitTable":
        """Return the table of another class prior, whose probabilities are multiplied by `prior_factors`, by class.

        A factor of 0 makes a class impossible.
        """
        known = np.array([factors.get(name, 1.0) for name in self.classes])
        with np.errstate(divide="ignore"):
            shift = self.temperature * np.log(known)

        def shifted(logits: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.asarray(logits + shift, dtype=np.float32)

        mirrored = None if self.mirrored is None else shifted(self.mirrored)
        return replace(self, logits=shifted(self.logits), mirrored=mirrored)

    def people(self) -> People | None:
        """Compare the network with the annotators; None without votes to compare, or where the rule names several."""
        if self.votes is None or self.rule not in SINGLE_WINNER_RULES:
            return None
        names = np.array([EXPRESSIONS.index(name) for name in self.classes])
        try:
            return compare_with_people(self.votes, names[self.logits.argmax(axis=1)], self.rule)
        except DataError:  # no image has two votes: the scores are no worse for it
            return None

    def without(self, keys: Collection[str]) -> "LogitTable":
        """Return the table without these images; if it loses any, it is no longer an official split."""
        gone = set(keys)
        rows = np.array([i for i, key in enumerate(self.keys) if key not in gone], dtype=np.int64)
        if len(rows) == len(self):
            return self
        return replace(
            self,
            keys=tuple(self.keys[i] for i in rows),
            logits=self.logits[rows],
            targets=self.targets[rows],
            found=self.found[rows],
            mirrored=None if self.mirrored is None else self.mirrored[rows],
            votes=None if self.votes is None else self.votes[rows],
            official=False,
            official_message=f"{self.split} without {len(self) - len(rows):,} images that also stand in train",
        )


def to_classes(logits: NDArray[np.float32], labels: Sequence[str], classes: Sequence[str]) -> NDArray[np.float32]:
    """Reorder logits (N, L) by name into (N, K) float32: minus infinity for unknown classes, foreign labels dropped."""
    shared = [name for name in classes if name in labels]
    if not shared:
        raise UsageError(f"the network answers {', '.join(labels)}, none of which is among {', '.join(classes)}")
    table = np.full((len(logits), len(classes)), -np.inf, dtype=np.float32)
    for name in shared:
        table[:, classes.index(name)] = logits[:, labels.index(name)]
    return table
