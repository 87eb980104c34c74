"""What a network says of pictures as they come, before a vote rule decides which of them count."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddamfn.recognizer import Classifier


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Logits in the order in which pictures came; (N, L), columns in the order of the card's labels.

    Attributes:
        logits: chunks of logits.
        mirrored: the same of the crops with left and right exchanged; None if they are not asked for.
        rows: the picture's key -> its row.
        found: of each row, whether a face was found.
    """

    logits: list[NDArray[np.float32]]
    mirrored: list[NDArray[np.float32]] | None
    rows: dict[str, int]
    found: list[bool]

    @classmethod
    def none(cls, classifier: Classifier, mirrored: bool) -> "Answers":
        """Begin without a picture."""
        nothing = np.zeros((0, len(classifier.card.labels)), np.float32)
        return cls([nothing], [nothing] if mirrored else None, {}, [])

    def add(self, classifier: Classifier, crops: NDArray[np.uint8]) -> None:
        """Classify crops (N, S, S, 3), the pictures of which are then named in the same order."""
        self.logits.append(classifier.classify(crops)[0])
        if self.mirrored is not None:
            self.mirrored.append(classifier.classify(np.ascontiguousarray(crops[:, :, ::-1]))[0])

    def name(self, key: str, found: bool) -> None:
        """Say which picture the next row is of."""
        self.rows[key] = len(self.rows)
        self.found.append(found)
