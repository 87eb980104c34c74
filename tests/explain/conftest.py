"""A classifier whose answer hangs on a known place, so that maps can be right or wrong."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ddamfn.labels import EXPRESSIONS
from ddamfn.results import BBox, Face, Landmarks, Prediction
from ddamfn.weights import Card, find_weights

SIDE = 56


class MouthReader:
    """Answers happiness by how bright one patch of the crop is: rows 35 to 49, columns 14 to 42."""

    def __init__(self) -> None:
        self.card: Card = find_weights()[1]
        self.seen = 0

    def classify(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.seen += len(crops)
        logits = np.zeros((len(crops), len(EXPRESSIONS)), np.float32)
        logits[:, self.card.labels.index("happiness")] = crops[:, 35:49, 14:42].mean(axis=(1, 2, 3)) / 25.0
        return logits, np.zeros((len(crops), 2, 7, 7), np.float32)

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        powers = np.exp(logits.astype(np.float64))
        return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture
def reader() -> MouthReader:
    return MouthReader()


@pytest.fixture
def crop() -> NDArray[np.uint8]:
    """Dark all over, with a bright mouth."""
    face = np.full((SIDE, SIDE, 3), 20, np.uint8)
    face[35:49, 14:42] = 250
    return face


@pytest.fixture
def mouth_map() -> NDArray[np.float32]:
    """A map that points at the mouth."""
    values = np.zeros((7, 7), np.float32)
    values[4:6, 2:5] = 1.0
    return values


@pytest.fixture
def explained_face(crop: NDArray[np.uint8], mouth_map: NDArray[np.float32]) -> Face:
    """A face in an image at twice the crop's scale, 30 px from the left and 10 px from the top."""
    shares = {name: 0.72 if name == "happiness" else 0.04 for name in EXPRESSIONS}
    return Face(
        bbox=BBox(40, 20, 130, 120),
        score=0.99,
        landmarks=Landmarks((60, 50), (110, 50), (85, 75), (65, 95), (105, 95)),
        prediction=Prediction("happiness", 0.72, shares),
        matrix=np.array([[0.5, 0.0, -15.0], [0.0, 0.5, -5.0]]),
        attention=np.stack([mouth_map, mouth_map.T * 0.5]),
        aligned=crop,
    )
