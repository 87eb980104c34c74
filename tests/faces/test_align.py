import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage.transform import SimilarityTransform

from ddamfn.errors import DegenerateFace
from ddamfn.faces import TEMPLATES, Alignment, align, plain_resize, similarity

GOLDEN = Path(__file__).parent / "golden" / "portrait_arcface.png"
# The detector's points on the demo's portrait, written down so that these tests do not depend on it.
LANDMARKS = np.array([[204.74, 100.76], [247.40, 103.41], [223.55, 129.17], [202.43, 138.14], [244.29, 140.55]])
ARCFACE = Alignment("arcface")


def _matrix(scale: float, angle: float, x: float, y: float) -> NDArray[np.float64]:
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cosine, -sine, x], [sine, cosine, y]])


def _apply(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points @ matrix[:, :2].T + matrix[:, 2]


def _waves(height: int, width: int, period_px: float) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width] + 0.5
    values = 128 + 50 * np.sin(2 * np.pi * x / period_px) + 50 * np.cos(2 * np.pi * y / (1.3 * period_px))
    return np.repeat(np.round(values).astype(np.uint8)[..., None], 3, axis=2)


# ---------------------------------------------------------------- similarity


@settings(deadline=None)
@given(
    scale=st.floats(0.01, 100),
    angle=st.floats(-np.pi, np.pi),
    x=st.floats(-1000, 1000),
    y=st.floats(-1000, 1000),
    template=st.sampled_from(sorted(TEMPLATES)),
)
def test_a_known_similarity_is_found_again(scale: float, angle: float, x: float, y: float, template: str) -> None:
    expected = _matrix(scale, angle, x, y)
    for pose in Alignment(template).points():
        found = similarity(pose, _apply(expected, pose))
        np.testing.assert_allclose(found, expected, atol=1e-8 * max(1, scale), rtol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_noisy_points_agree_with_scikit_image(seed: int) -> None:
    generator = np.random.default_rng(seed)
    target = TEMPLATES["arcface"]
    source = _apply(_matrix(generator.uniform(0.2, 5), generator.uniform(-3, 3), 40, -70), target)
    source += generator.normal(0, 3, source.shape)
    reference = SimilarityTransform.from_estimate(source, target).params[:2]
    np.testing.assert_allclose(similarity(source, target), reference, atol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_mirrored_points_are_not_reflected(seed: int) -> None:
    generator = np.random.default_rng(seed)
    source = TEMPLATES["arcface"] * [-1, 1] + generator.normal(0, 2, (5, 2))
    matrix = similarity(source, TEMPLATES["arcface"])
    assert np.linalg.det(matrix[:, :2]) > 0
    np.testing.assert_allclose(matrix, SimilarityTransform.from_estimate(source, TEMPLATES["arcface"]).params[:2])


def test_no_other_similarity_is_closer() -> None:
    best = similarity(LANDMARKS, TEMPLATES["arcface"])

    def error(matrix: NDArray[np.float64]) -> float:
        return float(((_apply(matrix, LANDMARKS) - TEMPLATES["arcface"]) ** 2).sum())

    for direction in itertools.product((-1, 0, 1), repeat=4):
        a, b, x, y = np.array(direction) * [1e-3, 1e-3, 0.1, 0.1]
        assert error(best + np.array([[a, -b, x], [b, a, y]])) >= error(best)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.full((5, 2), 17.0), "one spot"),
        (np.full((5, 2), 1e5) + np.eye(5, 2) * 1e-4, "one spot"),
        (np.arange(5)[:, None] * [3.0, -1.0], "one line"),
        (np.array([[0, 0], [10, 0], [20, 0], [30, 0.005], [40, 0]]), "one line"),
        (np.where(np.eye(5, 2) == 1, np.nan, LANDMARKS), "not a finite number"),
        (np.where(np.eye(5, 2) == 1, np.inf, LANDMARKS), "not a finite number"),
        # Eyes and mouth exchanged at the same height and width: every turn fits as badly as every other.
        (np.array([[0, 0], [1, 0], [0.5, 0.5], [0, 1], [1, 1]]) * [-1, 1], "no scale"),
    ],
)
def test_points_of_no_face_are_refused(points: NDArray[np.float64], message: str) -> None:
    square = np.array([[0, 0], [1, 0], [0.5, 0.5], [0, 1], [1, 1]]) * 50.0
    with pytest.raises(DegenerateFace, match=message):
        similarity(points, square)


def test_a_wrong_shape_is_the_callers_error() -> None:
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        similarity(np.zeros((5, 3)), np.zeros((5, 3)))


# ---------------------------------------------------------------- align


def test_the_crop_is_the_one_that_networks_were_trained_on(portrait: NDArray[np.uint8]) -> None:
    crop = align(portrait, LANDMARKS, ARCFACE).pixels
    difference = np.abs(crop.astype(int) - np.asarray(Image.open(GOLDEN)))
    # Pillow may round differently in another version; more than that changes what every shipped network sees.
    assert difference.max() <= 2


def test_the_same_input_gives_the_same_bytes(portrait: NDArray[np.uint8]) -> None:
    first = align(portrait, LANDMARKS, ARCFACE)
    for image in (portrait.copy(), np.asfortranarray(portrait), np.flip(np.flip(portrait, 1).copy(), 1)):
        again = align(image, LANDMARKS.tolist(), ARCFACE)
        assert again.pixels.tobytes() == first.pixels.tobytes()
        assert again.matrix.tobytes() == first.matrix.tobytes()


def test_the_image_around_the_face_does_not_matter(portrait: NDArray[np.uint8]) -> None:
    """The same pixels, in the same place relative to the face, whether or not they are cut from a larger image."""
    whole = align(portrait, LANDMARKS, ARCFACE).pixels
    cut = align(portrait[20:260, 100:360], LANDMARKS - [100, 20], ARCFACE).pixels
    np.testing.assert_array_equal(whole, cut)


def test_the_matrix_takes_the_landmarks_to_the_template(portrait: NDArray[np.uint8]) -> None:
    crop = align(portrait, LANDMARKS, ARCFACE)
    assert crop.pixels.shape == (112, 112, 3)
    assert crop.pixels.dtype == np.uint8
    distance = np.linalg.norm(_apply(crop.matrix, LANDMARKS) - TEMPLATES["arcface"], axis=1)
    # The template is a mean face: this one is shorter, its nose and mouth stay 6 to 7 px away.
    assert distance.max() < 7
    assert distance.mean() < 5


@pytest.mark.parametrize("scale", [0.05, 0.3, 0.5, 0.9, 1.0, 1.7, 4.0])
@pytest.mark.parametrize("angle", [0.4, -2.0, 2.9])
def test_pixels_come_from_where_the_matrix_says(scale: float, angle: float) -> None:
    """A smooth image is known at every point, so the crop's shift against the truth can be measured."""
    size, period_px = int(170 / scale) + 8, 40 / scale
    to_image = _matrix(1 / scale, angle, 0, 0)
    to_image[:, 2] = size / 2 - to_image[:, :2] @ [56, 56]
    crop = align(_waves(size, size, period_px), _apply(to_image, TEMPLATES["arcface"]), ARCFACE)
    y, x = np.mgrid[:112, :112] + 0.5
    at = _apply(to_image, np.stack([x, y], axis=-1).reshape(-1, 2)).reshape(112, 112, 2) * 2 * np.pi / period_px
    expected = 128 + 50 * np.sin(at[..., 0]) + 50 * np.cos(at[..., 1] / 1.3)
    inside = np.s_[4:-4, 4:-4]
    difference = (crop.pixels[..., 0] - expected)[inside].ravel()
    assert np.abs(difference).max() < 3
    slope_y, slope_x = (slope[inside].ravel() for slope in np.gradient(expected))
    shift = np.linalg.lstsq(np.stack([slope_x, slope_y, np.ones_like(slope_x)], axis=1), difference)[0][:2]
    assert np.abs(shift).max() < 0.02


def test_a_crop_at_the_images_own_scale_is_a_cut(portrait: NDArray[np.uint8]) -> None:
    crop = align(portrait, TEMPLATES["arcface"] + [150, 57], ARCFACE).pixels.astype(int)
    assert np.abs(crop - portrait[57:169, 150:262]).mean() < 2


@pytest.mark.parametrize("phase", range(4))
def test_shrinking_is_antialiased(phase: int) -> None:
    """Stripes too fine for the crop become their mean; a resampler that only picks pixels turns them into a moire."""
    stripes = np.zeros((1200, 1200, 3), dtype=np.uint8)
    stripes[:, phase::4] = 200
    stripes[:, (phase + 1) % 4 :: 4] = 200
    crop = align(stripes, TEMPLATES["arcface"] * 10, ARCFACE).pixels
    assert np.abs(crop[2:-2, 2:-2].astype(int) - 100).max() <= 2


def test_fine_detail_survives_a_crop_at_the_images_own_scale() -> None:
    image = _waves(160, 160, 6)
    crop = align(image, TEMPLATES["arcface"] + [20.5, 10.25], ARCFACE).pixels
    assert crop[8:-8, 8:-8].std() > 0.85 * image.std()


def test_edges_are_repeated_outside_the_image() -> None:
    image = np.zeros((60, 60, 3), dtype=np.uint8)
    image[:, :30], image[:, 30:] = (200, 10, 20), (5, 100, 250)
    crop = align(image, TEMPLATES["arcface"] + [-30, -30], ARCFACE).pixels
    # The seam of the two colors lies at x = 60 of the crop; around the image only its edges show.
    assert (crop[:, :57] == (200, 10, 20)).all()
    assert (crop[:, 63:] == (5, 100, 250)).all()


def test_a_face_wholly_outside_the_image_shows_its_nearest_edge() -> None:
    image = np.zeros((40, 50, 3), dtype=np.uint8)
    image[-1, -1] = (255, 255, 255)
    far = align(image, TEMPLATES["arcface"] + 5000.0, ARCFACE).pixels
    assert (far == 255).all()
    assert (align(image, TEMPLATES["arcface"] - 5000.0, ARCFACE).pixels == 0).all()


@pytest.mark.parametrize("scale", [1e-3, 1e-2, 0.1, 1e3, 1e5, 1e8])
def test_absurd_sizes_cost_no_memory_and_do_not_fail(scale: float, portrait: NDArray[np.uint8]) -> None:
    crop = align(portrait, TEMPLATES["arcface"] * scale, ARCFACE)
    assert crop.pixels.shape == (112, 112, 3)


def test_one_pixel_is_an_image() -> None:
    crop = align(np.full((1, 1, 3), 77, dtype=np.uint8), TEMPLATES["arcface"], ARCFACE)
    assert (crop.pixels == 77).all()


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    scale=st.floats(0.02, 20),
    angle=st.floats(-np.pi, np.pi),
    x=st.floats(-200, 200),
    y=st.floats(-200, 200),
)
def test_a_plain_image_gives_a_plain_crop(
    height: int, width: int, scale: float, angle: float, x: float, y: float
) -> None:
    image = np.full((height, width, 3), (12, 130, 241), dtype=np.uint8)
    crop = align(image, _apply(_matrix(scale, angle, x, y), TEMPLATES["arcface"]), ARCFACE)
    assert (crop.pixels == (12, 130, 241)).all()


@pytest.mark.parametrize("pose", range(5))
def test_the_nearest_pose_is_chosen(pose: int, portrait: NDArray[np.uint8]) -> None:
    alignment = Alignment("ddamfn_five_pose")
    expected = _matrix(0.8, 0.3, 5, -9)
    backwards = np.linalg.inv(np.vstack([expected, [0, 0, 1]]))[:2]
    crop = align(portrait, _apply(backwards, alignment.points()[pose]), alignment)
    np.testing.assert_allclose(crop.matrix, expected, atol=1e-9)


def test_a_margin_shows_more(portrait: NDArray[np.uint8]) -> None:
    plain = align(portrait, LANDMARKS, ARCFACE).matrix
    wide = align(portrait, LANDMARKS, Alignment("arcface", margin=0.2)).matrix
    ratio = np.linalg.norm(plain[:, 0]) / np.linalg.norm(wide[:, 0])
    assert ratio == pytest.approx(1.2)


def test_the_side_is_the_alignments(portrait: NDArray[np.uint8]) -> None:
    assert align(portrait, LANDMARKS, Alignment("arcface", side_px=64)).pixels.shape == (64, 64, 3)


# ---------------------------------------------------------------- plain_resize


def test_a_plain_resize_keeps_the_whole_image() -> None:
    image = np.zeros((50, 300, 3), dtype=np.uint8)
    image[:, 150:] = 240
    crop = plain_resize(image, ARCFACE)
    assert (crop.pixels[:, :53] == 0).all()
    assert (crop.pixels[:, 59:] == 240).all()
    np.testing.assert_allclose(_apply(crop.matrix, np.array([[0.0, 0.0], [300.0, 50.0]])), [[0, 0], [112, 112]])


def test_a_plain_resize_is_antialiased() -> None:
    stripes = np.zeros((896, 896, 3), dtype=np.uint8)
    stripes[::2] = 200
    assert np.abs(plain_resize(stripes, ARCFACE).pixels[2:-2].astype(int) - 100).max() <= 1
