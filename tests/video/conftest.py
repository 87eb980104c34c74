"""Frames that say their own number, faces at chosen places, and a recognizer with stand-in weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ddamfn.recognizer import Recognizer
from ddamfn.results import BBox, Face, Landmarks, Prediction


@pytest.fixture(scope="session")
def recognizer(stand_in_weights: Path) -> Recognizer:
    return Recognizer(stand_in_weights, num_threads=1)


@pytest.fixture
def numbered() -> Callable[[int], list[np.ndarray]]:
    """Return what makes frames (48, 64) whose gray is their number times 5."""
    return lambda count: [np.full((48, 64, 3), 5 * number, np.uint8) for number in range(count)]


@pytest.fixture
def face_at() -> Callable[..., Face]:
    """Return what makes a face of a size around a place, with probabilities that lean to its first expression."""

    def make(x: float, y: float, size: float = 100, probabilities: dict[str, float] | None = None) -> Face:
        offsets = np.array([(-0.2, -0.15), (0.2, -0.15), (0, 0.05), (-0.15, 0.25), (0.15, 0.25)]) * size
        named = probabilities or {"neutral": 0.75, "happiness": 0.25}
        return Face(
            bbox=BBox(x - size / 2, y - size / 2, x + size / 2, y + size / 2),
            score=0.9,
            landmarks=Landmarks.from_points(np.array([x, y]) + offsets),
            prediction=Prediction.of(named),
            matrix=np.eye(2, 3),
        )

    return make
