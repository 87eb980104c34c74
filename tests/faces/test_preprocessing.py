import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddamfn.errors import ConfigError
from ddamfn.faces import Preprocessing, normalize, preprocess


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
