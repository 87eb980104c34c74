"""Attention maps: bright where attention is, even where there is no difference, gray beneath."""

import numpy as np
import pytest

from ddamfn.drawing import overlay
from ddamfn.drawing.palette import heat_colors, stretch


def test_the_brightest_place_is_where_the_map_is_largest() -> None:
    attention = np.zeros((7, 7), dtype=np.float32)
    attention[1, 5] = 1
    drawn = np.asarray(overlay(np.full((112, 112, 3), 120, dtype=np.uint8), attention, 140)).sum(axis=-1)
    row, column = np.unravel_index(int(drawn.argmax()), drawn.shape)
    assert abs(row - 1.5 * 20) <= 10
    assert abs(column - 5.5 * 20) <= 10


def test_a_flat_map_is_one_color_whatever_its_noise(rng: np.random.Generator) -> None:
    attention = 0.25 + 1e-5 * rng.normal(size=(7, 7))
    drawn = np.asarray(overlay(np.full((112, 112, 3), 120, dtype=np.uint8), attention, 64))
    assert (drawn == drawn[0, 0]).all()


def test_stretching_uses_the_whole_range_and_never_leaves_it(rng: np.random.Generator) -> None:
    wide = stretch(rng.uniform(0.3, 0.4, size=(7, 7)), 112)
    assert wide.shape == (112, 112)
    assert wide.min() == pytest.approx(0, abs=0.05)
    assert wide.max() == pytest.approx(1, abs=0.05)
    assert wide.min() >= 0
    assert wide.max() <= 1


def test_the_scale_grows_lighter_all_the_way() -> None:
    colors = heat_colors(np.linspace(0, 1, 65)).astype(float)
    luma = colors @ [0.299, 0.587, 0.114]
    assert (np.diff(luma) > 0).all()
    assert tuple(heat_colors(np.array(2.0))) == tuple(heat_colors(np.array(1.0)))
