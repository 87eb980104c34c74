"""Colors of expressions, text and heat maps."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Colour = tuple[int, int, int]

INK: Colour = (27, 31, 36)
MUTED: Colour = (106, 115, 125)
FAINT: Colour = (232, 235, 239)
PAPER: Colour = (255, 255, 255)

_EXPRESSIONS: dict[str, Colour] = {
    "neutral": (190, 198, 209),
    "happiness": (255, 200, 61),
    "surprise": (255, 138, 61),
    "sadness": (92, 154, 255),
    "anger": (232, 62, 54),
    "disgust": (104, 190, 92),
    "fear": (150, 98, 240),
    "contempt": (36, 186, 178),
    "uncertain": (112, 120, 130),
}
_OTHER: Colour = (214, 120, 190)

# Dark violet over red to pale yellow, rising evenly in lightness, so that the scale survives grey printing and colour
# blindness; eight stops of the "inferno" scale (public domain, N. Smith and S. van der Walt), blended between.
_STOPS = np.array(
    [
        (0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99),
        (212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164),
    ],
    dtype=np.float64,
)  # fmt: skip


def expression_colour(name: str) -> Colour:
    """Return the colour of an expression, or of "uncertain"; other names share one."""
    return _EXPRESSIONS.get(name, _OTHER)


def text_colour(background: Colour) -> Colour:
    """Return ink or white, whichever reads better on `background`."""
    red, green, blue = background
    # ITU-R 601 luma; 140 rather than the middle, since white on a mid-tone reads better than ink on it.
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else PAPER


def heat_colours(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return the scale's RGB colours (..., 3) uint8 for values 0 to 1 of any shape."""
    places = np.clip(values, 0.0, 1.0) * (len(_STOPS) - 1)
    channels = [np.interp(places, np.arange(len(_STOPS)), _STOPS[:, channel]) for channel in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


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
