"""Light: the gray levels of an image, and dark or flat ones brought to a range that a network can read."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddamfn.errors import ConfigError

_WHITE = 255

# An image is measured on about so many of its pixels.
_MEASURED_PIXELS = 2**16
# An image with a median below this is dark; a tone curve takes it to that of an ordinary photograph, as far as it may.
_DARK_MEDIAN, _LIT_MEDIAN, _STEEPEST_CURVE = 48, 110, 0.25


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


# Little is cut off at either end, so that a small lit face in front of a dark or flat scene keeps its levels.
_NARROW, _FOR_DETECTION = 64, Stretch(least_range=_WHITE, clip_percent=0.1, largest_gain=32)


def luma(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the luma (..., H, W) of RGB images (..., H, W, 3), as Pillow's mode "L" rounds it (ITU-R BT.601)."""
    weights = np.array([19595, 38470, 7471], dtype=np.uint32)  # 0.299, 0.587, 0.114 times 65536
    return ((images.astype(np.uint32) @ weights + 0x8000) >> 16).astype(np.uint8)


def lightings(image: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield an image (H, W, 3) as a detector should see it, and once more if it is dark and nothing was found.

    First the image itself, or, if its gray levels span a narrow range, stretched to the whole of it. If half of that is
    dark, such as a room around a bright window, it comes again with a tone curve: not at once, since that washes out
    a lit face in front of a black background.
    """
    height, width = image.shape[:2]
    step = max(1, math.isqrt(height * width // _MEASURED_PIXELS))
    levels = luma(image[::step, ::step])
    low, high = _ends(levels, _FOR_DETECTION.clip_percent)
    first = image
    if low < high < low + _NARROW:
        table = _stretch_table(low, high, _FOR_DETECTION)
        first, levels = table[image], table[levels]
    yield first
    median = max(1.0, float(np.median(levels)))
    if median < _DARK_MEDIAN:
        exponent = max(_STEEPEST_CURVE, math.log(_LIT_MEDIAN / _WHITE) / math.log(median / _WHITE))
        curve = np.rint(_WHITE * (np.arange(_WHITE + 1) / _WHITE) ** exponent).astype(np.uint8)
        yield curve[first]


def stretched(crops: NDArray[np.uint8], levels: NDArray[np.uint8], stretch: Stretch) -> NDArray[np.uint8]:
    """Give crops with narrow `levels` (N, S, S) their least range; return the input itself if none is narrow."""
    result = crops
    for row, crop_levels in enumerate(levels):
        low, high = _ends(crop_levels, stretch.clip_percent)
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
