"""Preprocessing of a crop: color, light and detail, as on the card."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddamfn.errors import ConfigError

Color = Literal["rgb", "gray"]


_WHITE = 255


@dataclass(frozen=True, slots=True)
class Stretch:
    """How dark and flat crops are brought to the range of gray levels that a network can read.

    A crop's range is the distance between two percentiles of its luma. Crops with at least `least_range` stay as they
    are, bit for bit, so well lit faces are not touched.

    Attributes:
        least_range: gray levels that a narrower range is stretched to, 1 to 255.
        clip_percent: percentage of the pixels outside the range at either end, 0 to below 50.
        largest_gain: factor that gray levels are stretched by at most, at least 1: a black crop holds little but noise.

    Raises:
        ConfigError: a number outside these limits.

    Source: our own; the defaults were chosen on FERPlus validation (see EXPERIMENTS.md).
    """

    least_range: int = 128
    clip_percent: float = 1.0
    largest_gain: int = 16

    def __post_init__(self) -> None:
        for name, low, high in (("least_range", 1, _WHITE), ("largest_gain", 1, _WHITE)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"the stretch's {name} must be a whole number from {low} to {high}, not {value!r}")
        if not isinstance(self.clip_percent, int | float) or not 0 <= self.clip_percent < 50:
            raise ConfigError(f"the stretch's clip_percent must be 0 to below 50, not {self.clip_percent!r}")


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a network's crops look; part of the card of the weights.

    Attributes:
        color: "rgb", or "gray" for a network trained on gray images.
        detail_px: the side in pixels of the images it was trained on, if that is smaller than the crop: sharper crops
            are brought down to that much detail. None leaves them as they are.
        stretch: how dark and flat crops are brightened, before detail is reduced. None leaves them as they are.

    Raises:
        ConfigError: an unknown color, or a side below 1 px.
    """

    color: Color = "rgb"
    detail_px: int | None = None
    # Left out of a run's record where it is None, so that jobs from before it existed keep their names.
    stretch: Stretch | None = field(default=None, metadata={"written": "if set"})

    def __post_init__(self) -> None:
        if self.color not in ("rgb", "gray"):
            raise ConfigError(f"the preprocessing's color must be 'rgb' or 'gray', not {self.color!r}")
        if self.detail_px is not None and self.detail_px < 1:
            raise ConfigError(f"the preprocessing's detail must be at least 1 px, not {self.detail_px}")


def preprocess(crops: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Give crops the preprocessing that a network expects.

    Args:
        crops: (N, S, S, 3) uint8 RGB.
        preprocessing: color, stretch and detail, in this order.

    Returns:
        (N, S, S, 3) uint8; three equal channels for gray. The input itself where there is nothing to change.

    Source: gray is the luma of ITU-R BT.601, computed in integers as Pillow's mode "L" is.
    """
    if preprocessing.color == "gray":
        crops = _gray(crops)
    if preprocessing.stretch is not None:
        luma = crops[..., 0] if preprocessing.color == "gray" else _luma(crops)
        crops = _stretched(crops, luma, preprocessing.stretch)
    if preprocessing.detail_px is not None and preprocessing.detail_px < crops.shape[1]:
        crops = _less_detail(crops, preprocessing.detail_px)
    return crops


def normalize(crops: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """Turn pixels into the network's input.

    Args:
        crops: (N, S, S, 3) uint8 RGB.
        mean: three numbers, of pixels divided by 255.
        std: three numbers, of pixels divided by 255.

    Returns:
        (N, 3, S, S) float32, contiguous: (pixel / 255 - mean) / std.
    """
    # One table of 256 values a channel: as exact as dividing every pixel in float64, and faster.
    levels = np.arange(256)[:, None] / 255.0
    table = ((levels - np.asarray(mean)) / np.asarray(std)).astype(np.float32)
    result = np.empty((len(crops), 3, *crops.shape[1:3]), dtype=np.float32)
    for channel in range(3):
        np.take(table[:, channel], crops[..., channel], out=result[:, channel])
    return result


def _luma(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (N, S, S)."""
    weights = np.array([19595, 38470, 7471], dtype=np.uint32)  # 0.299, 0.587, 0.114 times 65536
    return ((crops.astype(np.uint32) @ weights + 0x8000) >> 16).astype(np.uint8)


def _gray(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(_luma(crops)[..., None], 3, axis=-1)


def _stretched(crops: NDArray[np.uint8], luma: NDArray[np.uint8], stretch: Stretch) -> NDArray[np.uint8]:
    """Give narrow crops their least range; return the input itself if none is narrow."""
    result = crops
    for row, levels in enumerate(luma):
        low, high = _ends(levels, stretch.clip_percent)
        if low < high < low + stretch.least_range:
            if result is crops:
                result = crops.copy()
            # "clip" only spares a copy: no pixel is above 255.
            np.take(_stretch_table(low, high, stretch), crops[row], out=result[row], mode="clip")
    return result


def _ends(levels: NDArray[np.uint8], clip_percent: float) -> tuple[int, int]:
    """Return the lowest and the highest gray level that are left when so many pixels are cut off at either end."""
    outside = int(levels.size * clip_percent / 100)
    up_to = np.bincount(levels.ravel(), minlength=_WHITE + 1).cumsum()
    return int(np.searchsorted(up_to, outside, "right")), int(np.searchsorted(up_to, levels.size - outside))


def _stretch_table(low: int, high: int, stretch: Stretch) -> NDArray[np.uint8]:
    """Return the 256 gray levels that replace 0..255, where `low` < `high` are the ends of the range.

    Integers throughout, so that every machine gets the same. The range is laid to where it was between black and white
    if it is hardly stretched, and the nearer to the middle the more it is: a crop just below the least range looks like
    one just above it, and a black one like neither a dark nor a bright face.
    """
    before = high - low
    after = min(stretch.least_range, before * stretch.largest_gain)
    margin, old_margin = _WHITE - after, _WHITE - before
    start = margin * (2 * low * before + (after - before) * old_margin) // (2 * after * old_margin)
    levels = start + (2 * (np.arange(_WHITE + 1) - low) * after + before) // (2 * before)
    return np.clip(levels, 0, _WHITE).astype(np.uint8)


def _less_detail(crops: NDArray[np.uint8], detail_px: int) -> NDArray[np.uint8]:
    side_px = crops.shape[1]
    result = np.empty_like(crops)
    for row, crop in enumerate(crops):
        small = Image.fromarray(crop).resize((detail_px, detail_px), Image.Resampling.BICUBIC)
        result[row] = np.asarray(small.resize((side_px, side_px), Image.Resampling.BICUBIC))
    return result
