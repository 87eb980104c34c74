"""Colours: one for each expression, and a scale for attention."""

import numpy as np
from numpy.typing import NDArray

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
