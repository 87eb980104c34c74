"""Each change does what its name and strength say, leaves its input alone, and meets the same chance every time."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter

from ddamfn.evaluate import perturbations
from ddamfn.evaluate.perturbations import JITTER, LEVELS, PERTURBATIONS, Perturbation, generator_for
from ddamfn.faces import Alignment, align
from ddamfn.synthetic import synthetic_face

SIDE_PX = 112
ALIGNMENT = Alignment("arcface")
OF_PIXELS = [entry for entry in PERTURBATIONS if entry.pixels is not None]


@pytest.fixture
def crop(rng: np.random.Generator) -> np.ndarray:
    return synthetic_face("happiness", rng, SIDE_PX)[0]


@pytest.fixture
def flat() -> np.ndarray:
    """An even gray, on which deviations can be measured without clipping."""
    return np.full((SIDE_PX, SIDE_PX, 3), 128, dtype=np.uint8)


def by_name(name: str) -> Perturbation:
    return next(entry for entry in PERTURBATIONS if entry.name == name)


def test_mild_is_what_was_agreed_on() -> None:
    mild = {entry.name: entry.strengths[0] for entry in PERTURBATIONS}
    assert mild == {
        "blur": 1,
        "low resolution": 0.5,
        "JPEG": 50,
        "noise": 5,
        "darkness": 0.6,
        "overexposure": 1.4,
        "low contrast": 0.7,
        "high contrast": 1.25,
        "gray": 1,
        "color cast": 0.1,
        "rotation": 5,
        "landmark jitter": 2,
        "occlusion": 0.1,
    }
    assert all(len(entry.strengths) <= len(LEVELS) for entry in PERTURBATIONS)
    assert all((entry.pixels is None) != (entry.landmarks is None) for entry in PERTURBATIONS)


@pytest.mark.parametrize("change", OF_PIXELS, ids=lambda entry: entry.name)
def test_pixels_change_more_with_each_level_and_the_input_stays(change: Perturbation, crop: np.ndarray) -> None:
    assert change.pixels is not None
    before, distances = crop.copy(), []
    for strength in change.strengths:
        changed, again = (change.pixels(crop, strength, generator_for(1, change.name, "a.png")) for _ in range(2))
        assert changed.shape == crop.shape
        assert changed.dtype == np.uint8
        assert np.array_equal(changed, again)
        distances.append(np.abs(changed.astype(int) - crop).mean())
    assert distances == sorted(distances)
    assert distances[0] > 0.2
    assert np.array_equal(crop, before)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_blur_is_a_gaussian_of_its_sigma(sigma: float, crop: np.ndarray, rng: np.random.Generator) -> None:
    blurred = perturbations.blur(crop, sigma, rng)
    exact = gaussian_filter(crop.astype(float), (sigma, sigma, 0), mode="nearest", truncate=6)
    assert np.abs(blurred - exact).max() <= 0.6
    # A line of one pixel spreads with the variance sigma squared.
    line = np.zeros((SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    line[:, 56] = 255
    profile = perturbations.blur(line, sigma, rng)[56, :, 0].astype(float)
    variance = (profile * (np.arange(SIDE_PX) - 56) ** 2).sum() / profile.sum()
    assert np.sqrt(variance) == pytest.approx(sigma, rel=0.03)


@pytest.mark.parametrize("factor", [0.5, 0.25, 0.125])
def test_rescaling_leaves_the_detail_of_the_smaller_side(factor: float, rng: np.random.Generator) -> None:
    # Stripes of a period of four of the smaller image's pixels stay; of one and a third of them they go.
    kept, lost = (_stripes(round(period / factor)) for period in (8, 4 / 3))
    assert _contrast(perturbations.rescale(kept, factor, rng)) > 0.7 * _contrast(kept)
    assert _contrast(perturbations.rescale(lost, factor, rng)) < 0.35 * _contrast(lost)


def _stripes(period_px: int) -> np.ndarray:
    wave = 127.5 + 100 * np.cos(2 * np.pi * np.arange(SIDE_PX) / period_px)
    return np.broadcast_to(np.rint(wave).astype(np.uint8)[None, :, None], (SIDE_PX, SIDE_PX, 3)).copy()


def _contrast(image: np.ndarray) -> float:
    return float(image[20:-20, 20:-20].std())


@pytest.mark.parametrize("quality", [50, 25, 10])
def test_jpeg_is_really_encoded_at_its_quality(quality: int, crop: np.ndarray, rng: np.random.Generator) -> None:
    written: list[bytes] = []
    original = Image.Image.save

    def save(image: Image.Image, target: io.BytesIO, **options: object) -> None:
        original(image, target, **options)
        written.append(target.getvalue())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "save", save)
        changed = perturbations.jpeg(crop, quality, rng)
    (content,) = written
    assert content[:3] == b"\xff\xd8\xff"
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(changed, np.asarray(image.convert("RGB")))
        tables = image.quantization  # type: ignore[attr-defined]
    # libjpeg scales the standard luminance table, whose first entry is 16, by 5000/q below quality 50.
    assert tables[0][0] == (16 * round(5000 / quality) + 50) // 100
    assert len(content) < crop.nbytes / 10


@pytest.mark.parametrize("sigma", [5.0, 15.0, 30.0])
def test_noise_has_its_sigma_in_every_channel_and_in_gray(sigma: float, flat: np.ndarray) -> None:
    noisy = perturbations.noise(flat, sigma, generator_for(0, "noise", "a.png")).astype(float) - 128
    assert noisy.std() == pytest.approx(sigma, rel=0.03)
    assert abs(noisy.mean()) < 0.05 * sigma
    assert (noisy @ [0.299, 0.587, 0.114]).std() == pytest.approx(sigma, rel=0.03)


def test_noise_keeps_its_pattern_at_every_strength(flat: np.ndarray) -> None:
    weak, strong = (perturbations.noise(flat, s, generator_for(0, "noise", "a.png")).astype(float) for s in (5, 15))
    assert np.corrcoef(weak.ravel(), strong.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(("factor", "level"), [(0.6, 77), (0.2, 26), (1.4, 179), (2.5, 255)])
def test_brightness_multiplies_and_clips(factor: float, level: int, flat: np.ndarray, rng: np.random.Generator) -> None:
    assert (perturbations.brightness(flat, factor, rng) == level).all()


def test_light_goes_from_nearly_none_to_threefold_and_from_flat_to_hard() -> None:
    dark, bright, flat, hard = (
        by_name(name).strengths for name in ("darkness", "overexposure", "low contrast", "high contrast")
    )
    assert (dark[-1], bright[-1], flat[-1], hard[-1]) == (0.05, 3.0, 0.2, 2.0)


@pytest.mark.parametrize("factor", [0.2, 0.5, 1.5])
def test_contrast_is_that_of_pillow(factor: float, rng: np.random.Generator) -> None:
    image = rng.integers(80, 176, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
    changed = perturbations.contrast(image, factor, rng).astype(int)
    # Pillow rounds the mean to a gray level, and cuts fractions off.
    expected = np.asarray(ImageEnhance.Contrast(Image.fromarray(image)).enhance(factor)).astype(int)
    assert np.abs(changed - expected).max() <= 1


def test_gray_is_the_luma_of_bt601(crop: np.ndarray, rng: np.random.Generator) -> None:
    without = perturbations.gray(crop, 1.0, rng)
    luma = np.asarray(Image.fromarray(crop).convert("L")).astype(int)
    assert (np.ptp(without, axis=2) == 0).all()
    assert np.abs(without[..., 0] - luma).max() <= 1
    assert np.array_equal(perturbations.gray(without, 1.0, rng), without)


def test_a_color_cast_turns_gray_red_or_blue(flat: np.ndarray) -> None:
    casts = [perturbations.color_cast(flat, 0.25, generator_for(0, "c", str(i)))[0, 0].tolist() for i in range(20)]
    assert {tuple(cast) for cast in casts} == {(160, 128, 96), (96, 128, 160)}


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4])
def test_an_even_rectangle_covers_its_share(share: float, rng: np.random.Generator) -> None:
    for number in range(30):
        # Values that no rectangle has in more than one pixel of ten.
        image = rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
        covered = perturbations.occlude(image, share, generator_for(0, "occlusion", str(number)))
        changed = (covered != image).any(axis=2)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        box = covered[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert len(np.unique(box)) == 1
        assert box.shape[0] * box.shape[1] / SIDE_PX**2 == pytest.approx(share, abs=0.006)
        assert 0.45 < box.shape[1] / box.shape[0] < 2.2
        assert changed.sum() > 0.95 * box.shape[0] * box.shape[1]


def _placed(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a face of 150 px; return it, its landmarks and the matrix that lays it into a crop."""
    image, landmarks = synthetic_face("surprise", rng, 150)
    points = landmarks.astype(np.float64)
    return image, points, align(image, points, ALIGNMENT).matrix


@pytest.mark.parametrize("distance", [2.0, 4.0, 6.0])
def test_jitter_moves_every_point_by_its_distance_at_the_crop(distance: float, rng: np.random.Generator) -> None:
    _, landmarks, matrix = _placed(rng)
    # A pixel of the crop must not be one of the image here, or the test could not tell them apart.
    assert np.hypot(matrix[0, 0], matrix[1, 0]) != pytest.approx(1, abs=0.02)
    moved = perturbations.jitter(landmarks, matrix, distance, generator_for(0, "j", "a.png"))
    steps = (moved - landmarks) @ matrix[:, :2].T
    assert np.linalg.norm(steps, axis=1) == pytest.approx([distance] * 5)
    assert len({tuple(step) for step in np.round(steps, 6)}) == 5
    other = perturbations.jitter(landmarks, matrix, distance, generator_for(0, "j", "a.png", draw=1))
    assert not np.allclose(moved, other)


def test_jitter_goes_in_every_direction(rng: np.random.Generator) -> None:
    _, landmarks, matrix = _placed(rng)
    steps = [
        perturbations.jitter(landmarks, matrix, 2.0, generator_for(0, "j", str(i))) - landmarks for i in range(200)
    ]
    assert np.abs(np.concatenate(steps).mean(axis=0) @ matrix[:, :2].T).max() < 0.2


@pytest.mark.parametrize("degrees", [5.0, 15.0, 30.0])
def test_rotation_turns_the_face_in_its_crop(degrees: float, rng: np.random.Generator) -> None:
    image, landmarks, matrix = _placed(rng)
    signs = set()
    for key in "abcdef":
        turned = perturbations.rotate(landmarks, matrix, degrees, generator_for(0, "r", key))
        assert turned.mean(axis=0) == pytest.approx(landmarks.mean(axis=0))
        between = align(image, turned, ALIGNMENT).matrix[:, :2] @ np.linalg.inv(matrix[:, :2])
        assert np.linalg.det(between) == pytest.approx(1.0)
        angle = float(np.rad2deg(np.arctan2(between[1, 0], between[0, 0])))
        assert abs(angle) == pytest.approx(degrees)
        signs.add(np.sign(angle))
    assert signs == {-1.0, 1.0}


@pytest.mark.parametrize(
    "other",
    [
        lambda: generator_for(1, "noise", "a"),
        lambda: generator_for(0, "blur", "a"),
        lambda: generator_for(0, "noise", "b"),
        lambda: generator_for(0, "noise", "a", 1),
    ],
)
def test_chance_depends_on_seed_change_face_and_draw(other: Callable[[], np.random.Generator]) -> None:
    first = generator_for(0, "noise", "a").random(4)
    assert np.array_equal(first, generator_for(0, "noise", "a").random(4))
    assert not np.allclose(first, other().random(4))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("blur", "σ 1 px"),
        ("low resolution", "side × 0.5 and back"),
        ("color cast", "red, blue ± 10%"),
        ("gray", "no color"),
        ("occlusion", "10% covered"),
    ],
)
def test_strengths_read_well(name: str, words: str) -> None:
    change = by_name(name)
    assert change.describe(change.strengths[0]) == words
    assert by_name("landmark jitter") is JITTER
