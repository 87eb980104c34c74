"""Preprocessing of a crop: color, light and detail, as on the card."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddamfn.errors import ConfigError
from ddamfn.faces.light import Stretch, luma, stretched

Color = Literal["rgb", "gray"]


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
        levels = crops[..., 0] if preprocessing.color == "gray" else luma(crops)
        crops = stretched(crops, levels, preprocessing.stretch)
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


def _gray(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(luma(crops)[..., None], 3, axis=-1)


def _less_detail(crops: NDArray[np.uint8], detail_px: int) -> NDArray[np.uint8]:
    side_px = crops.shape[1]
    result = np.empty_like(crops)
    for row, crop in enumerate(crops):
        small = Image.fromarray(crop).resize((detail_px, detail_px), Image.Resampling.BICUBIC)
        result[row] = np.asarray(small.resize((side_px, side_px), Image.Resampling.BICUBIC))
    return result
