"""Deletion and insertion on a reader whose secret is known."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ddamfn.explain.faithfulness import Score, measure
from ddamfn.explain.maps import center_map, random_maps

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]


def test_the_right_map_beats_chance_the_center_and_its_opposite(reader: Any, crop: Pixels, mouth_map: Map) -> None:
    right = measure(reader, crop, mouth_map)["happiness"]
    wrong = measure(reader, crop, -mouth_map)["happiness"]
    others = [measure(reader, crop, values)["happiness"] for values in random_maps(6, np.random.default_rng(0))]
    center = measure(reader, crop, center_map())["happiness"]
    assert right.difference > max(score.difference for score in [*others, center]) > wrong.difference
    assert right.deletion < min(score.deletion for score in others)
    assert right.insertion > max(score.insertion for score in others)


def test_every_expression_is_measured_at_once(reader: Any, crop: Pixels, mouth_map: Map) -> None:
    scores = measure(reader, crop, mouth_map, steps=10)
    assert tuple(scores) == reader.card.labels
    assert reader.seen == 2 * 11
    # What is no happiness is shared by the others, who see the mouth vanish with relief.
    assert scores["fear"] == scores["anger"]
    assert scores["fear"].difference < 0 < scores["happiness"].difference


def test_areas_end_where_the_image_ends(crop: Pixels, mouth_map: Map, reader: Any) -> None:
    """A reader that never changes its mind has the same area under both curves, whatever the map."""
    reader.classify = lambda crops: (np.zeros((len(crops), 8), np.float32), None)
    assert measure(reader, crop, mouth_map)["happiness"] == Score(pytest.approx(1 / 8), pytest.approx(1 / 8))


def test_the_trapezoid_rule(reader: Any, crop: Pixels, mouth_map: Map) -> None:
    """Against NumPy's own integral, on curves that the reader itself draws."""
    curves: list[NDArray[np.float64]] = []
    plain = reader.probabilities

    def watch(logits: NDArray[np.float32]) -> NDArray[np.float64]:
        curves.append(plain(logits)[:, reader.card.labels.index("happiness")])
        return plain(logits)

    reader.probabilities = watch
    score = measure(reader, crop, mouth_map, steps=8)["happiness"]
    deletion, insertion = curves
    assert score.deletion == pytest.approx(np.trapezoid(deletion, np.linspace(0, 1, 9)))
    assert score.insertion == pytest.approx(np.trapezoid(insertion, np.linspace(0, 1, 9)))
    assert insertion[-1] == deletion[0]
    assert deletion[-1] < deletion[0]
