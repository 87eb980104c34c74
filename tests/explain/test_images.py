"""Maps land where they belong: on the crop, and back in the image."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddamfn.explain.explaining import Baselines, FaceExplanation, ScoredMap
from ddamfn.explain.faithfulness import Score
from ddamfn.explain.figures import carry_back, on_image, panel
from ddamfn.explain.maps import attention_maps
from ddamfn.faces.align import warp
from ddamfn.results import Face


@pytest.fixture
def explained(explained_face: Face) -> FaceExplanation:
    score = Score(0.2, 0.8)
    scored = tuple(ScoredMap(entry, score, 3, True) for entry in attention_maps(explained_face))
    return FaceExplanation(explained_face, scored, {"happiness": Baselines((score,) * 4, score)})


def test_heat_goes_back_by_the_matrix(explained_face: Face, mouth_map: NDArray[np.float32]) -> None:
    heat, inside = carry_back(mouth_map, explained_face.matrix, (150, 200), (200, 150), 56)
    assert heat.shape == inside.shape == (150, 200)
    # The crop's square is 112 px wide and begins at (30, 10).
    assert inside[12:120, 32:140].min() == 1.0
    assert inside[:9].max() == inside[:, :29].max() == inside[124:].max() == inside[:, 144:].max() == 0.0
    # The mouth's middle, (24.5, 42) of 56 in the map's cells 2 to 4 and 4 to 5, lies at (2 x + 30, 2 y + 10).
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert abs(column - (2 * 28 + 30)) <= 16
    assert abs(row - (2 * 40 + 10)) <= 16


def test_a_smaller_drawing_shows_the_same_places(explained_face: Face, mouth_map: NDArray[np.float32]) -> None:
    large, _ = carry_back(mouth_map, explained_face.matrix, (150, 200), (200, 150), 56)
    small, _ = carry_back(mouth_map, explained_face.matrix, (150, 200), (100, 75), 56)
    halved = np.asarray(Image.fromarray(large).resize((100, 75), Image.Resampling.BOX))
    assert np.abs(small - halved).max() < 0.15


def test_there_and_back_again(mouth_map: NDArray[np.float32]) -> None:
    """Carried to the image under a turned matrix and cut out again as a face is, the map is the map."""
    angle, scale = 0.4, 0.6
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.array([[cosine, sine, -60.0], [-sine, cosine, -5.0]])
    heat, _ = carry_back(mouth_map, matrix, (260, 260), (260, 260), 56)
    image = np.repeat(np.round(255 * heat)[..., None], 3, axis=2).astype(np.uint8)
    again = warp(image, matrix, 56)[..., 0] / 255.0
    direct, _ = carry_back(mouth_map, np.eye(2, 3), (56, 56), (56, 56), 56)
    inner = slice(6, 50)
    assert np.abs(again - direct)[inner, inner].mean() < 0.03


def test_nothing_outside_the_crop_changes(explained: FaceExplanation, rng: np.random.Generator) -> None:
    image = rng.integers(0, 255, (150, 600, 3), dtype=np.uint8)
    drawn = np.asarray(on_image(image, explained, explained.maps[0].map))
    assert drawn.shape == (150 + 88, 600, 3)
    body = drawn[44:-44]
    np.testing.assert_array_equal(body[:, 150:], image[:, 150:])
    assert (body[20:110, 40:130] != image[20:110, 40:130]).any(axis=2).mean() > 0.9


def test_a_map_lies_where_the_face_is_in_an_image_that_was_decoded_smaller(explained: FaceExplanation) -> None:
    gray = np.full((300, 1200, 3), 128, np.uint8)
    whole = np.asarray(on_image(gray, explained, explained.maps[0].map).resize((600, 194)))[22:-22]
    half = np.asarray(on_image(gray[::2, ::2], explained, explained.maps[0].map, (300, 1200)))[44:-44]
    changed = [np.argwhere(np.abs(drawn.astype(int) - 128).max(axis=2) > 20) for drawn in (whole, half)]
    np.testing.assert_allclose(changed[0].max(axis=0), changed[1].max(axis=0), atol=4)


def test_large_images_are_shrunk(explained: FaceExplanation) -> None:
    drawn = on_image(np.zeros((4000, 3000, 3), np.uint8), explained, explained.maps[0].map)
    assert drawn.size == (1200, 1600 + 88)


def test_the_panel_grows_with_the_maps(explained: FaceExplanation) -> None:
    drawn = panel(explained)
    fewer = panel(FaceExplanation(explained.face, explained.maps[:1], explained.baselines))
    assert drawn.width == fewer.width
    assert drawn.height > fewer.height
    assert len(np.unique(np.asarray(drawn).reshape(-1, 3), axis=0)) > 100
