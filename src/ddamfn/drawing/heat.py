"""Attention maps drawn on the face that they belong to."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddamfn.drawing.palette import heat_colours

# A map flatter than this has no place of interest; stretching it would paint rounding noise as if it were attention.
_FLAT = 1e-3
_WEAKEST, _STRONGEST = 0.35, 0.75


def overlay(crop: NDArray[np.uint8], attention: NDArray[np.floating], side_px: int) -> Image.Image:
    """Lay one attention map over the face that it was computed from.

    Colours run from the map's own smallest value (dark) to its largest (bright); a flat map is one even colour.

    Args:
        crop: uint8 (S, S, 3) RGB, the aligned face.
        attention: (h, w), the map over the whole crop.
        side_px: side of the drawn square.

    Returns:
        An RGB picture, `side_px` square.
    """
    face = np.asarray(Image.fromarray(crop).resize((side_px, side_px), Image.Resampling.LANCZOS))
    return Image.fromarray(np.round(tint(face, stretch(attention, side_px))).astype(np.uint8))


def tint(image: NDArray[np.uint8], heat: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a picture (H, W, 3), 0 to 255, turned grey and coloured by heat (H, W) of 0 to 1."""
    grey = np.asarray(Image.fromarray(image).convert("L"), dtype=np.float64)[..., None]
    values = np.asarray(heat, dtype=np.float64)
    strength = (_WEAKEST + (_STRONGEST - _WEAKEST) * values)[..., None]
    # The picture stays grey beneath, so that every colour that is seen is attention.
    mixed: NDArray[np.float64] = grey * (1 - strength) + heat_colours(values) * strength
    return mixed


def stretch(attention: NDArray[np.floating], side_px: int) -> NDArray[np.float32]:
    """Return a map (h, w) as float32 (side_px, side_px), smoothly enlarged, its range stretched to 0 to 1."""
    low, high = float(attention.min()), float(attention.max())
    if high - low < _FLAT:
        return np.full((side_px, side_px), 0.5, dtype=np.float32)
    scaled = ((attention - low) / (high - low)).astype(np.float32)
    enlarged = Image.fromarray(scaled).resize((side_px, side_px), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(enlarged, dtype=np.float32), 0.0, 1.0)
