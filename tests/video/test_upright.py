from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ddamfn.video.source import VideoSource, turned, upright_rgb

_ONE = 65536


@pytest.mark.parametrize(("a", "b"), [(1, 0), (0, 1), (-1, 0), (0, -1)])
@pytest.mark.parametrize("mirrored", [1, -1])
def test_every_pixel_lands_where_the_matrix_takes_it(a: int, b: int, mirrored: int, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (3, 5, 3), np.uint8)
    # Rows are what a step to the right and a step down become.
    matrix = np.array([[a, b, 0], [-b * mirrored, a * mirrored, 0], [0, 0, 0]], np.int32) * _ONE
    result = turned(pixels, matrix)
    y, x = np.mgrid[:3, :5]
    places = np.stack([x.ravel(), y.ravel()], axis=1) @ (matrix[:2, :2] // _ONE)
    places -= places.min(axis=0)
    expected = np.zeros((*(places.max(axis=0) + 1)[::-1], 3), np.uint8)
    expected[places[:, 1], places[:, 0]] = pixels.reshape(-1, 3)
    np.testing.assert_array_equal(result, expected)


def test_no_matrix_and_an_empty_one_leave_the_image_alone(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (3, 5, 3), np.uint8)
    for matrix in (None, np.zeros((3, 3), np.int32)):
        np.testing.assert_array_equal(turned(pixels, matrix), pixels)


@pytest.mark.parametrize(
    ("rotation", "mirrored", "upright"),
    [
        (0, False, lambda pixels: pixels),
        (90, False, lambda pixels: np.rot90(pixels, 1)),
        (-90, False, lambda pixels: np.rot90(pixels, -1)),
        (180, False, lambda pixels: pixels[::-1, ::-1]),
        (0, True, lambda pixels: pixels[:, ::-1]),
    ],
)
def test_a_file_that_was_filmed_sideways_comes_upright(
    write_video: Callable[..., Path],
    tmp_path: Path,
    rotation: int,
    mirrored: bool,
    upright: Callable[[np.ndarray], np.ndarray],
) -> None:
    # Four quarters of four grays, which no compression mixes up.
    pixels = np.repeat(np.kron([[0, 80], [160, 240]], np.ones((24, 32)))[..., None], 3, axis=2).astype(np.uint8)
    path = write_video(tmp_path / "phone.mp4", [pixels] * 3, rotation=rotation, mirrored=mirrored)
    source = VideoSource(path, start_s=None, end_s=None)
    for raw in source.frames():
        np.testing.assert_allclose(upright_rgb(raw.frame).astype(int), upright(pixels).astype(int), atol=12)
    source.close()


def test_pixels_that_are_not_square_are_stretched(write_video: Callable[..., Path], tmp_path: Path) -> None:
    frames = [np.full((48, 64, 3), 90, np.uint8)] * 2
    path = write_video(tmp_path / "wide.mkv", frames, aspect=Fraction(3, 2))
    source = VideoSource(path, start_s=None, end_s=None)
    assert source.aspect == pytest.approx(1.5)
    assert [upright_rgb(raw.frame, source.aspect).shape for raw in source.frames()] == [(48, 96, 3)] * 2
    source.close()
