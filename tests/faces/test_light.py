"""The light in which a detector sees an image: dark and flat ones are stretched, others keep every bit."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ddamfn.faces.light import lightings


def noise(low: int, high: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.integers(low, high, (120, 160, 3), dtype=np.uint8, endpoint=True)


def test_an_ordinary_image_is_seen_once_and_as_it_is(portrait: NDArray[np.uint8]) -> None:
    (seen,) = lightings(portrait)
    assert seen is portrait


@pytest.mark.parametrize(("low", "high"), [(0, 12), (100, 130)], ids=["dark", "flat"])
def test_a_narrow_range_becomes_the_whole(low: int, high: int, rng: np.random.Generator) -> None:
    (seen,) = lightings(noise(low, high, rng))
    assert np.ptp(seen) > 240


def test_a_small_lit_face_in_the_dark_keeps_its_levels(rng: np.random.Generator) -> None:
    image = noise(0, 12, rng)
    image[40:48, 60:66] = noise(90, 200, rng)[:8, :6]  # a quarter of a percent of the pixels
    first, curved = lightings(image)
    assert first is image
    assert curved.max() < 255


def test_a_dark_room_around_a_window_is_seen_through_a_curve(rng: np.random.Generator) -> None:
    image = noise(0, 12, rng)
    image[:, :40] = 250
    first, curved = lightings(image)
    assert first is image
    assert 80 < np.median(curved[:, 40:]) < 140
    # A curve that turned dark over light would be no image any more.
    table = np.unique(np.stack([image, curved], axis=-1).reshape(-1, 2), axis=0)
    assert (np.diff(table[:, 1].astype(int)) >= 0).all()


def test_black_is_left_alone() -> None:
    black = np.zeros((20, 30, 3), dtype=np.uint8)
    for seen in lightings(black):
        assert not seen.any()
