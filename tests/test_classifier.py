"""What a card asks of the crops, and that the classifier does it or refuses."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ddamfn.classifier import Classifier
from ddamfn.errors import ConfigError, WeightsError
from ddamfn.faces import Preprocessing, Stretch, preprocess
from ddamfn.weights import Card, read_card, write_card


def test_the_card_decides_whether_dark_crops_are_stretched(stand_in_weights: Path, tmp_path: Path) -> None:
    card = read_card(stand_in_weights.with_suffix(".json"))

    def logits(asked: Card, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        return _logits(asked, crops, stand_in_weights, tmp_path)

    dark = np.random.default_rng(0).integers(0, 20, (3, 112, 112, 3), dtype=np.uint8)
    settings = {"least_range": 100, "clip_percent": 2.0, "largest_gain": 7}
    asked = {**card.preprocessing, "stretch": settings}
    stretched = replace(card, preprocessing=asked)  # type: ignore[arg-type]
    expected = preprocess(dark, Preprocessing("gray", stretch=Stretch(100, 2.0, 7)))
    assert np.array_equal(logits(stretched, dark), logits(card, expected))
    assert not np.array_equal(logits(stretched, dark), logits(card, dark))


def _logits(card: Card, crops: NDArray[np.uint8], network: Path, folder: Path) -> NDArray[np.float32]:
    shutil.copyfile(network, folder / network.name)
    write_card(card, folder / network.with_suffix(".json").name)
    return Classifier(folder / network.name).classify(crops)[0]


_STRETCH = {"least_range": 128, "clip_percent": 1.0, "largest_gain": 16}


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"sharpen": 1}, WeightsError, "sharpen"),
        ({"stretch": {**_STRETCH, "gamma": 2}}, WeightsError, "gamma"),
        ({"stretch": {**_STRETCH, "least_range": 0}}, ConfigError, "least_range"),
    ],
)
def test_a_preprocessing_that_cannot_be_applied_is_refused(
    stand_in_weights: Path, tmp_path: Path, change: dict[str, Any], error: type[Exception], named: str
) -> None:
    """Leaving it out would give other predictions than those that the card's scores stand for."""
    card = read_card(stand_in_weights.with_suffix(".json"))
    unknown = replace(card, preprocessing={**card.preprocessing, **change})  # type: ignore[typeddict-item]
    with pytest.raises(error, match=named):
        _logits(unknown, np.zeros((1, 112, 112, 3), np.uint8), stand_in_weights, tmp_path)
