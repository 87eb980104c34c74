"""An anti-aliased canvas for synthetic faces."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Points = NDArray[np.float64]
Color = NDArray[np.float64]


def smooth(anchors: Points, closed: bool = False, steps: int = 10) -> Points:
    """Run a Catmull-Rom curve through anchors (N, 2), with `steps` points per segment: (M, 2), anchors included."""
    if closed:
        padded = np.vstack([anchors[-1:], anchors, anchors[:2]])
    else:
        # The first and last segments get a mirrored neighbor, so that the curve does not bend at its ends.
        padded = np.vstack([2 * anchors[:1] - anchors[1:2], anchors, 2 * anchors[-1:] - anchors[-2:-1]])
    t = _between(steps)
    a, b, c, d = (padded[i : len(padded) - 3 + i, None, :] for i in range(4))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    flat = curve.reshape(-1, 2)
    return flat if closed else np.vstack([flat, anchors[-1:]])


@lru_cache(maxsize=8)
def _between(steps: int) -> NDArray[np.float64]:
    """Return the places in a segment, (1, steps, 1) from 0 up to 1, computed once."""
    return np.linspace(0.0, 1.0, steps, endpoint=False)[None, :, None]


def ellipse(x: float, y: float, radius_x: float, radius_y: float, steps: int = 40) -> Points:
    """Return (steps, 2) points of an axis-aligned ellipse."""
    cosine, sine = _circle(steps)
    return np.stack([x + radius_x * cosine, y + radius_y * sine], axis=1)


@lru_cache(maxsize=8)
def _circle(steps: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return cosine and sine of equal steps around a circle, computed once: a face has fifty ellipses."""
    angle = np.linspace(0.0, 2 * np.pi, steps, endpoint=False)
    return np.cos(angle), np.sin(angle)


def ribbon(spine: Points, width: NDArray[np.float64] | float) -> Points:
    """Return the outline of a stroke along a spine (N, 2), of one full width or one per point (N,)."""
    # The central differences of np.gradient, without its general cases, which take four times as long.
    along = np.empty_like(spine)
    along[1:-1] = (spine[2:] - spine[:-2]) / 2.0
    along[0], along[-1] = spine[1] - spine[0], spine[-1] - spine[-2]
    length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / length[:, None]
    half = 0.5 * np.broadcast_to(np.asarray(width, dtype=np.float64), (len(spine),))[:, None]
    return np.vstack([spine + normal * half, (spine - normal * half)[::-1]])


class Canvas:
    """An RGB image and the affine map that takes face units to its pixels."""

    def __init__(self, image: Image.Image, matrix: NDArray[np.float64]) -> None:
        """Start on an RGB background, drawn on in place, with the matrix (2, 3) from face units to pixels."""
        self.image = image
        self.matrix = matrix
        self.scale_px = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))

    def pixels(self, points: Points) -> Points:
        """Take (N, 2) face units to (N, 2) pixels."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]

    def mask(self, points: Points) -> Image.Image:
        """Return the inside of an outline as a mask of the whole image, for use as `clip`."""
        mask = Image.new("L", self.image.size, 0)
        ImageDraw.Draw(mask).polygon(self.pixels(points).ravel().tolist(), fill=255)
        return mask

    def fill(
        self, points: Points, color: Color, soft: float = 0.0, opacity: float = 1.0, clip: Image.Image | None = None
    ) -> None:
        """Fill an outline (N, 2) with RGB 0..255; `soft` is the deviation of the edge's blur; both in face units."""
        if opacity <= 0.0:
            return
        outline = self.pixels(points)
        blur_px = soft * self.scale_px
        box = self._box(outline, 3.0 * blur_px + 2.0)
        if box is None:
            return
        patch = Image.new("L", (box[2] - box[0], box[3] - box[1]), 0)
        local = outline - np.array(box[:2])
        ImageDraw.Draw(patch).polygon(local.ravel().tolist(), fill=round(255 * min(opacity, 1.0)))
        if blur_px > 0.4:
            # Three box passes look like a Gaussian, and their cost does not grow with the radius.
            patch = patch.filter(ImageFilter.GaussianBlur(blur_px))
        if clip is not None:
            patch = ImageChops.multiply(patch, clip.crop(box))
        red, green, blue = (min(max(round(v), 0), 255) for v in color.tolist())
        self.image.paste((red, green, blue), box, patch)

    def stroke(self, spine: Points, width: NDArray[np.float64] | float, color: Color, soft: float = 0.0,
               opacity: float = 1.0, clip: Image.Image | None = None) -> None:  # fmt: skip
        """Draw a line of the given full width (face units) along (N, 2) points; the other arguments as in `fill`."""
        if opacity > 0.0:
            self.fill(ribbon(spine, width), color, soft, opacity, clip)

    def _box(self, outline: Points, margin_px: float) -> tuple[int, int, int, int] | None:
        """Return the part of the image that an outline can touch, or None if it lies outside."""
        (left, top), (right, bottom) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
        width, height = self.image.size
        box = (
            max(math.floor(left - margin_px), 0),
            max(math.floor(top - margin_px), 0),
            min(math.ceil(right + margin_px), width),
            min(math.ceil(bottom + margin_px), height),
        )
        return box if box[0] < box[2] and box[1] < box[3] else None
