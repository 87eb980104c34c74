"""The table that every score is computed from: logits and targets of each image of a split."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ddamfn.errors import UsageError
from ddamfn.evaluate.scores import Scores, score


@dataclass(frozen=True, slots=True, eq=False)
class LogitTable:
    """A network's logits of every image of a split that the rule keeps and that could be read.

    Attributes:
        dataset: short name of the data set, as on its card.
        title: the data set's name for people.
        note: which copy of it.
        split: the split.
        rule: the vote rule, None for sets with one label an image.
        classes: canonical names in the set's own order: the K columns.
        keys: N image names inside the set.
        logits: (N, K) float32 before the temperature; minus infinity in the column of a class the network lacks.
        targets: (N, K) float32; rows sum to 1.
        found: (N,) bool, False where no face was found and the image was resized as a whole.
        temperature: from the weights' card; logits are divided by it before they become probabilities.
        unreadable: key -> reason, for images that the rule keeps and that are missing here.
        unanswerable: classes of the set that the network does not know; their images count as wrong.
        unasked: labels of the network that the set does not have; they are left out before the prediction is made.
        official: whether this is the whole official evaluation split.
        official_message: why it is or is not.
        mirrored: (N, K) like `logits`, of the same crops with left and right exchanged; None if not classified.
    """

    dataset: str
    title: str
    note: str
    split: str
    rule: str | None
    classes: tuple[str, ...]
    keys: tuple[str, ...]
    logits: NDArray[np.float32]
    targets: NDArray[np.float32]
    found: NDArray[np.bool_]
    temperature: float
    unreadable: Mapping[str, str]
    unanswerable: tuple[str, ...]
    unasked: tuple[str, ...]
    official: bool
    official_message: str
    mirrored: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def scores(self) -> Scores:
        """Score the table.

        Raises:
            DataError: if it is empty.
        """
        return score(
            self.logits, self.targets, self.classes, rule=self.rule or "majority", temperature=self.temperature
        )

    def flip_averaged(self) -> "LogitTable":
        """The same table with the mean of each face's logits and its mirrored self's: twice the work a face.

        Prediction does not do this, so its score stands apart from that of the weights.

        Raises:
            UsageError: if the mirrored faces were not seen.
        """
        if self.mirrored is None:
            raise UsageError("the mirrored faces were not classified: predict with mirrored=True")
        return replace(self, logits=((self.logits + self.mirrored) / 2).astype(np.float32), mirrored=None)

    def without(self, keys: Collection[str]) -> "LogitTable":
        """The same table without these images; it is no official split any more, unless none of them is in it."""
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
            official=False,
            official_message=f"{self.split} without {len(self) - len(rows):,} images that also stand in train",
        )


def to_classes(logits: NDArray[np.float32], labels: Sequence[str], classes: Sequence[str]) -> NDArray[np.float32]:
    """Reorder a network's outputs into a data set's columns, by name.

    A class that the network lacks gets minus infinity: it is never predicted. A label that the set lacks is left out:
    the prediction is the best of the set's own classes.

    Args:
        logits: (N, L) in the order of `labels`.
        labels: L canonical names.
        classes: K canonical names.

    Returns:
        (N, K) float32.

    Raises:
        UsageError: if no class has a label.
    """
    shared = [name for name in classes if name in labels]
    if not shared:
        raise UsageError(f"the network answers {', '.join(labels)}, none of which is among {', '.join(classes)}")
    table = np.full((len(logits), len(classes)), -np.inf, dtype=np.float32)
    for name in shared:
        table[:, classes.index(name)] = logits[:, labels.index(name)]
    return table
