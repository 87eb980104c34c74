from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddamfn.errors import ConfigError
from ddamfn.faces import Preprocessing, Stretch, normalize, preprocess


def _crops(rng: np.random.Generator, count: int = 4, side_px: int = 112) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (count, side_px, side_px, 3), dtype=np.uint8)


def test_as_it_is_changes_nothing(rng: np.random.Generator) -> None:
    crops = _crops(rng)
    before = crops.copy()
    assert preprocess(crops, Preprocessing()) is crops
    assert preprocess(crops, Preprocessing(detail_px=112)) is crops
    np.testing.assert_array_equal(crops, before)


def test_gray_is_pillows_luma_in_three_channels(rng: np.random.Generator) -> None:
    crops = _crops(rng)
    gray = preprocess(crops, Preprocessing("gray"))
    assert gray.shape == crops.shape
    assert gray.dtype == np.uint8
    for crop, result in zip(crops, gray, strict=True):
        luma = np.asarray(Image.fromarray(crop).convert("L"))
        np.testing.assert_array_equal(result, np.repeat(luma[..., None], 3, axis=2))


def test_gray_stays_as_it_is_when_repeated(rng: np.random.Generator) -> None:
    gray = preprocess(_crops(rng), Preprocessing("gray"))
    np.testing.assert_array_equal(preprocess(gray, Preprocessing("gray")), gray)


def test_less_detail_takes_what_a_small_image_cannot_show() -> None:
    x = np.arange(112) + 0.5
    fine = 128 + 100 * np.sin(2 * np.pi * x / 3)
    coarse = 128 + 100 * np.sin(2 * np.pi * x / 28)
    crops = np.stack([np.broadcast_to(np.round(wave)[None, :, None], (112, 112, 3)) for wave in (fine, coarse)])
    result = preprocess(crops.astype(np.uint8), Preprocessing(detail_px=48))
    assert result[0].std() < 0.05 * crops[0].std()
    assert result[1].std() > 0.95 * crops[1].std()


def test_an_enlarged_small_image_hardly_changes(rng: np.random.Generator) -> None:
    """It makes a sharp crop look like a training image, so it must leave the training images alone."""
    small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize(
        (48, 48), Image.Resampling.BICUBIC
    )
    enlarged = np.asarray(small.resize((112, 112), Image.Resampling.BICUBIC))[None]
    again = preprocess(enlarged, Preprocessing(detail_px=48))
    assert np.abs(again.astype(int) - enlarged).mean() < 2


def test_a_crop_does_not_depend_on_the_others(rng: np.random.Generator) -> None:
    crops = _crops(rng)
    preprocessing = Preprocessing("gray", 48)
    together = preprocess(crops, preprocessing)
    for row in range(len(crops)):
        np.testing.assert_array_equal(preprocess(crops[row : row + 1], preprocessing)[0], together[row])


def test_no_crops_are_no_crops() -> None:
    nothing = np.zeros((0, 112, 112, 3), dtype=np.uint8)
    assert preprocess(nothing, Preprocessing("gray", 48)).shape == (0, 112, 112, 3)
    assert normalize(nothing, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)).shape == (0, 3, 112, 112)


STRETCH = Preprocessing("gray", stretch=Stretch())


def _lit(low: int, high: int, side_px: int = 48) -> NDArray[np.uint8]:
    """A gray ramp from one level to another, as one crop."""
    ramp = np.rint(np.linspace(low, high, side_px * side_px)).astype(np.uint8).reshape(side_px, side_px)
    return np.repeat(ramp[None, :, :, None], 3, axis=3)


def test_a_dark_crop_is_stretched_to_the_range_of_a_lit_one() -> None:
    dark = _lit(0, 20)
    result = preprocess(dark, STRETCH)
    assert np.ptp(result) == pytest.approx(128, abs=4)
    assert 30 <= result.min() < result.max() <= 225
    # Order and equality of gray levels are kept: one level becomes one level.
    levels = [np.unique(result[dark == level]) for level in range(21)]
    assert all(len(level) == 1 for level in levels)
    assert (np.diff(np.concatenate(levels).astype(int)) > 0).all()


@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 140), (110, 255), (60, 200)])
def test_a_lit_crop_is_not_touched(low: int, high: int) -> None:
    crop = _lit(low, high)
    assert preprocess(crop, Preprocessing(stretch=Stretch())) is crop
    np.testing.assert_array_equal(preprocess(crop, STRETCH), preprocess(crop, Preprocessing("gray")))


def test_nothing_jumps_at_the_least_range() -> None:
    """A film's faces near the limit must not flicker."""
    for low in (0, 40, 127):
        just_below = _lit(low, low + 129)  # the range without 1 % at either end is 127 or less
        result = preprocess(just_below, STRETCH)
        assert (result != just_below).any()
        assert np.abs(result.astype(int) - just_below).max() <= 3


def test_a_black_crop_is_not_blown_up_and_an_even_one_stays() -> None:
    black = np.zeros((1, 48, 48, 3), np.uint8)
    black[0, :24] = 1
    assert np.ptp(preprocess(black, STRETCH)) == 16
    assert np.ptp(preprocess(black, Preprocessing(stretch=Stretch(largest_gain=4)))) == 4
    even = np.full((1, 48, 48, 3), 7, np.uint8)
    np.testing.assert_array_equal(preprocess(even, STRETCH), even)


def test_a_few_bright_pixels_do_not_hide_that_a_face_is_dark() -> None:
    dark = _lit(0, 20)
    dark[0, 0, :20] = 255  # 20 of 2,304 pixels, below 1 %
    assert np.ptp(preprocess(dark, STRETCH)[0, 1:]) > 100
    dark[0, 1, :20] = 255
    np.testing.assert_array_equal(preprocess(dark, STRETCH), dark)


def test_a_table_of_gray_levels_is_the_formula_in_whole_numbers() -> None:
    """Every range, against the same formula with fractions: the documents promise it to other programs."""
    stretch = Stretch(least_range=100, clip_percent=0, largest_gain=8)
    for low in range(0, 250, 7):
        for high in range(low + 1, min(255, low + 99)):
            ends = np.array([low, high], np.uint8)
            crop = np.repeat(np.resize(ends, (1, 2, 2, 1)), 3, axis=3)
            gain = Fraction(min(100, 8 * (high - low)), high - low)
            after = gain * (high - low)
            there = (255 - after) * Fraction(low, 255 - (high - low))
            start = floor((there + (gain - 1) * (255 - after) / 2) / gain)
            result = preprocess(crop, Preprocessing(stretch=stretch))
            assert (result.min(), result.max()) == (start, start + after)


def test_colors_are_stretched_by_one_table() -> None:
    crop = np.zeros((1, 48, 48, 3), np.uint8)
    crop[0, ..., 0] = np.arange(48)[None] // 2
    crop[0, ..., 1] = np.arange(48)[None] // 4
    result = preprocess(crop, Preprocessing(stretch=Stretch()))
    tables = [dict(zip(crop[..., c].ravel().tolist(), result[..., c].ravel().tolist(), strict=True)) for c in range(2)]
    assert all(tables[0][level] == there for level, there in tables[1].items())
    assert np.ptp(result) > 100


def test_a_stretched_crop_does_not_depend_on_the_others() -> None:
    crops = np.concatenate([_lit(0, 20), _lit(0, 255), _lit(100, 130)])
    together = preprocess(crops, STRETCH)
    for row in range(3):
        np.testing.assert_array_equal(preprocess(crops[row : row + 1], STRETCH)[0], together[row])
    assert preprocess(crops[:0], STRETCH).shape == (0, 48, 48, 3)


def test_detail_is_reduced_after_the_stretch() -> None:
    """Averages of stretched levels lie between them; levels stretched after averaging would be coarse steps."""
    dark = _lit(0, 12, 112)
    result = preprocess(dark, Preprocessing("gray", 48, Stretch()))
    assert len(np.unique(result)) > 40


def test_normalize_is_its_formula(rng: np.random.Generator) -> None:
    crops = _crops(rng, side_px=20)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    result = normalize(crops, mean, std)
    expected = ((crops / 255.0 - mean) / std).transpose(0, 3, 1, 2)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("sepia", None), "must be 'rgb' or 'gray', not 'sepia'"), (("rgb", 0), "detail must be at least 1 px, not 0")],
)
def test_wrong_settings_are_refused(arguments: tuple[str, int | None], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Preprocessing(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"least_range": 0}, "least_range"),
        ({"least_range": 256}, "least_range"),
        ({"least_range": 99.5}, "least_range"),
        ({"clip_percent": 50}, "clip_percent"),
        ({"clip_percent": -1}, "clip_percent"),
        ({"clip_percent": float("nan")}, "clip_percent"),
        ({"clip_percent": "1"}, "clip_percent"),
        ({"largest_gain": 0}, "largest_gain"),
        ({"largest_gain": True}, "largest_gain"),
    ],
)
def test_a_wrong_stretch_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Stretch(**settings)
