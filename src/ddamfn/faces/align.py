"""Alignment: five landmarks onto a template by a similarity transform."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from ddamfn.errors import ConfigError, DegenerateFace

_TEMPLATE_SIDE_PX = 112

_ARCFACE = [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
_FRONTAL = [(33.566, 40.559), (78.321, 40.559), (55.338, 64.967), (38.479, 90.276), (73.591, 90.276)]
_FIVE_POSE = [
    [(55.550, 49.477), (62.116, 49.339), (38.075, 70.237), (55.017, 92.262), (61.466, 92.979)],  # left profile
    [(47.241, 48.598), (72.887, 49.540), (40.555, 71.067), (47.423, 93.643), (71.236, 94.353)],  # half left
    _FRONTAL,
    [(39.516, 49.540), (65.162, 48.598), (71.849, 71.067), (41.167, 94.353), (64.980, 93.643)],  # half right
    # Right profile. Kept because it was published so: its last point lies 8 px off the left profile's mirror image.
    [(50.225, 49.339), (56.791, 49.477), (74.266, 70.237), (50.875, 92.979), (65.317, 92.262)],
]


def _frozen(points: object) -> NDArray[np.float64]:
    array = np.array(points, dtype=np.float64)
    array.flags.writeable = False
    return array


TEMPLATES: dict[str, NDArray[np.float64]] = {
    "arcface": _frozen(_ARCFACE),
    "ddamfn_frontal": _frozen(_FRONTAL),
    "ddamfn_five_pose": _frozen(_FIVE_POSE),
}
"""Points of a face in a crop of 112 px by template name: (5, 2), or (P, 5, 2) for a set of poses, as (x, y) pixels in
the order viewer's left eye, right eye, nose, left and right corner of the mouth.

"arcface" leaves more room around the face (35 px from eye to eye) than the two of DDAMFN (45 px).

Source: "arcface": InsightFace, ArcFace (Deng et al. 2019). "ddamfn_*": DDAMFN++ (Zhang et al. 2023), InsightFace's
older five poses enlarged.
"""


@dataclass(frozen=True, slots=True)
class Alignment:
    """How faces are placed in crops; part of the card of the weights that were trained with it.

    Attributes:
        template: a key of `TEMPLATES`.
        margin: how much more of the surroundings the crop shows than the template does: 0.1 is 10 % more on each axis,
            a negative number less. Above -1.
        side_px: the crop's side in pixels.

    Raises:
        ConfigError: an unknown template, or a margin or side out of range.
    """

    template: str
    margin: float = 0.0
    side_px: int = 112

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            raise ConfigError(f"unknown alignment template {self.template!r}: choose one of {', '.join(TEMPLATES)}")
        if not -1 < self.margin < float("inf"):
            raise ConfigError(f"the alignment's margin must be above -1 and finite, not {self.margin}")
        if self.side_px < 1:
            raise ConfigError(f"the alignment's side must be at least 1 px, not {self.side_px}")

    def points(self) -> NDArray[np.float64]:
        """Return the template's points in this crop.

        Returns:
            (P, 5, 2) float64, (x, y) in pixels of the crop; P is the number of poses, 1 for most templates. A margin
            pulls the points towards the crop's center by 1 / (1 + margin).
        """
        relative = TEMPLATES[self.template].reshape(-1, 5, 2) / _TEMPLATE_SIDE_PX - 0.5
        return (relative / (1 + self.margin) + 0.5) * self.side_px


# Points closer together than this, or this share of their extent from one line, do not tell a face's size and turn.
_MIN_SPREAD_PX = 1e-3
_MIN_THICKNESS = 1e-3

# The crop is rendered at twice its side and halved: at its final side, blur would depend on the sub-pixel position.
_OVERSAMPLING = 2
# The largest enlargement before the turn; more would only cost memory, for faces of a few pixels.
_MAX_ZOOM = 8.0
# Pixels around the needed region that a cubic kernel still reaches.
_REACH_PX = 4


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """An aligned face and the way back.

    Attributes:
        pixels: (S, S, 3) uint8 RGB.
        matrix: (2, 3) float64, takes image coordinates (x, y, 1) to crop coordinates, both in pixels.
    """

    pixels: NDArray[np.uint8]
    matrix: NDArray[np.float64]


def similarity(src: ArrayLike, dst: ArrayLike) -> NDArray[np.float64]:
    """Find the rotation, scale and shift that bring `src` closest to `dst`, in the least squares sense.

    A reflection is forbidden: a mirrored match fits as well, but swaps the halves of a one-sided smile.

    Args:
        src: (N, 2) points (x, y) in pixels.
        dst: (N, 2) points that belong to them.

    Returns:
        (2, 3) float64 matrix that takes (x, y, 1) of `src` to `dst`.

    Raises:
        DegenerateFace: the points are not finite, lie on one spot or on one line, or match `dst` at no scale.

    Source: Umeyama 1991, Eq. 40-42. In the plane their solution without reflection is one complex division.
    """
    source, target = _as_complex(src), _as_complex(dst)
    source_mean, target_mean = source.mean(), target.mean()
    centered = source - source_mean
    _check_spread(centered)
    turn = np.vdot(centered, target - target_mean) / np.vdot(centered, centered).real
    if abs(turn) < 1e-9:
        raise DegenerateFace(
            "the landmarks fit a face at no scale: check their order (left eye, right eye, nose, mouth)"
        )
    shift = target_mean - turn * source_mean
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def align(image: NDArray[np.uint8], landmarks: ArrayLike, alignment: Alignment) -> Crop:
    """Rotate and scale one face so that its five points match the template.

    Shrinking is antialiased, and outside the image its edge pixels are repeated. The same input gives the same bytes.

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks: (5, 2), (x, y) in pixels of `image`, viewer's left eye first.
        alignment: template, margin and side; of a set of poses the one with the least summed distance is taken.

    Returns:
        The crop with its matrix, so that an attention map drawn on it can be carried back to the image.

    Raises:
        DegenerateFace: no similarity follows from the points.

    Source: the choice among poses: DDAMFN++ (Zhang et al. 2023), after InsightFace.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    candidates = [(similarity(points, pose), pose) for pose in alignment.points()]
    matrix = min(candidates, key=lambda candidate: _distance(points, *candidate))[0]
    return Crop(warp(image, matrix, alignment.side_px), matrix)


def warp(image: NDArray[np.uint8], matrix: NDArray[np.float64], side_px: int) -> NDArray[np.uint8]:
    """Render a square crop; shrinking is antialiased, and outside the image its edge pixels are repeated.

    Args:
        image: (H, W, 3) uint8 RGB.
        matrix: (2, 3) similarity that takes (x, y, 1) of the image to the crop, both in pixels.
        side_px: S.

    Returns:
        (S, S, 3) uint8 RGB.
    """
    # The region that is needed is zoomed to twice the crop's scale, its edges repeated; then it is turned, and halved.
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    left, top, right, bottom = crop_bounds(matrix, side_px)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    zoom = min(scale * _OVERSAMPLING, _MAX_ZOOM)

    columns = _Axis.plan(left, right, image.shape[1], zoom)
    rows = _Axis.plan(top, bottom, image.shape[0], zoom)
    zoomed = _zoom(image, columns, rows)

    # Pillow's affine transform asks where in the source a pixel of the result lies.
    to_zoomed = np.array([[columns.zoom, 0, columns.offset], [0, rows.zoom, rows.offset], [0, 0, 1]])
    large = side_px * _OVERSAMPLING
    coefficients = to_zoomed @ back @ np.diag([1 / _OVERSAMPLING, 1 / _OVERSAMPLING, 1])
    turned = zoomed.transform(
        (large, large),
        Image.Transform.AFFINE,
        tuple(float(value) for value in coefficients[:2].ravel()),
        Image.Resampling.BICUBIC,
    )
    return np.array(turned.resize((side_px, side_px), Image.Resampling.BICUBIC))


def is_enlarging(matrix: NDArray[np.float64], scale: float) -> bool:
    """Whether a crop by this matrix (2, 3) is rendered larger than the face is in an image shrunk by `scale`."""
    return float(np.hypot(matrix[0, 0], matrix[1, 0])) * _OVERSAMPLING > scale


def crop_bounds(matrix: NDArray[np.float64], side_px: int) -> NDArray[np.float64]:
    """Return x1, y1, x2, y2 of the rectangle, also beyond the image, that encloses a crop by its matrix (2, 3)."""
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    corners = back[:2] @ [[0, side_px, 0, side_px], [0, 0, side_px, side_px], [1, 1, 1, 1]]
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)])


def plain_resize(image: NDArray[np.uint8], alignment: Alignment) -> Crop:
    """Resize a whole image to the crop's side: the fallback of data sets for images in which no face is found.

    Args:
        image: (H, W, 3) uint8 RGB.
        alignment: only its side is used. The image's proportions are not kept.

    Returns:
        The crop and the matrix of the two scales.
    """
    height, width = image.shape[:2]
    side = alignment.side_px
    resized = Image.fromarray(np.ascontiguousarray(image)).resize((side, side), Image.Resampling.BICUBIC)
    matrix = np.array([[side / width, 0.0, 0.0], [0.0, side / height, 0.0]])
    return Crop(np.array(resized), matrix)


def _as_complex(points: ArrayLike) -> NDArray[np.complex128]:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or len(array) < 2:
        raise ValueError(f"expected points of shape (N, 2) with N of at least 2, not {array.shape}")
    if not np.isfinite(array).all():
        raise DegenerateFace("a landmark is not a finite number")
    return array[:, 0] + 1j * array[:, 1]


def _check_spread(centered: NDArray[np.complex128]) -> None:
    extent, thickness = np.linalg.svd(np.stack([centered.real, centered.imag]), compute_uv=False)
    if extent < _MIN_SPREAD_PX:
        raise DegenerateFace("the landmarks lie on one spot")
    if thickness < _MIN_THICKNESS * extent:
        raise DegenerateFace("the landmarks lie on one line")


def _distance(points: NDArray[np.float64], matrix: NDArray[np.float64], pose: NDArray[np.float64]) -> float:
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return float(np.linalg.norm(moved - pose, axis=1).sum())


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of the zoomed region, which repeats the edge outside 0 to `size`."""

    start: int  # the image's first pixel that is needed
    stop: int  # and the one behind the last
    size: int  # how many pixels they become
    zoom: float  # pixels of the zoomed region for one of the image
    low: int  # first pixel of the zoomed region, counted from `start`
    high: int  # and the one behind its last

    @classmethod
    def plan(cls, low_px: float, high_px: float, length_px: int, zoom: float) -> "_Axis":
        reach_px = _REACH_PX * max(1.0, 1.0 / zoom)
        start = int(np.clip(np.floor(low_px - reach_px), 0, length_px - 1))
        stop = int(np.clip(np.ceil(high_px + reach_px), start + 1, length_px))
        size = max(1, round((stop - start) * zoom))
        # What shrinks to less than a pixel still is one, but must not pull the region around it to its own scale.
        zoom = size / (stop - start) if (stop - start) * zoom >= 1 else zoom
        low = int(np.floor((low_px - start) * zoom)) - _REACH_PX
        high = int(np.ceil((high_px - start) * zoom)) + _REACH_PX
        return cls(start, stop, size, zoom, low, high)

    @property
    def offset(self) -> float:
        return -self.start * self.zoom - self.low

    def with_edges(self) -> NDArray[np.intp]:
        return np.clip(np.arange(self.low, self.high), 0, self.size - 1)


def _zoom(image: NDArray[np.uint8], columns: _Axis, rows: _Axis) -> Image.Image:
    region = np.ascontiguousarray(image[rows.start : rows.stop, columns.start : columns.stop])
    zoomed = np.asarray(Image.fromarray(region).resize((columns.size, rows.size), Image.Resampling.BICUBIC))
    return Image.fromarray(zoomed[rows.with_edges()[:, None], columns.with_edges()])
