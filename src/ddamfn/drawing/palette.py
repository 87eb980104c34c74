"""Colors and text of drawings."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

INK: Color = (27, 31, 36)
MUTED: Color = (106, 115, 125)
FAINT: Color = (232, 235, 239)
PAPER: Color = (255, 255, 255)

_EXPRESSIONS: dict[str, Color] = {
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
_OTHER: Color = (214, 120, 190)

# Dark violet over red to pale yellow, rising evenly in lightness, so that the scale survives gray printing and color
# blindness; eight stops of the "inferno" scale (public domain, N. Smith and S. van der Walt), blended between.
_STOPS = np.array(
    [
        (0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99),
        (212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164),
    ],
    dtype=np.float64,
)  # fmt: skip


def expression_color(name: str) -> Color:
    """Return the color of an expression, or of "uncertain"; other names share one."""
    return _EXPRESSIONS.get(name, _OTHER)


def text_color(background: Color) -> Color:
    """Return ink or white, whichever reads better on `background`."""
    red, green, blue = background
    # ITU-R 601 luma; 140 rather than the middle, since white on a mid-tone reads better than ink on it.
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else PAPER


def heat_colors(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return the scale's RGB colors (..., 3) uint8 for values 0 to 1 of any shape."""
    places = np.clip(values, 0.0, 1.0) * (len(_STOPS) - 1)
    channels = [np.interp(places, np.arange(len(_STOPS)), _STOPS[:, channel]) for channel in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


# A map flatter than this has no place of interest; stretching it would paint rounding noise as if it were attention.
_FLAT = 1e-3
_WEAKEST, _STRONGEST = 0.35, 0.75


def overlay(crop: NDArray[np.uint8], attention: NDArray[np.floating], side_px: int) -> Image.Image:
    """Lay a map (h, w) over its face (S, S, 3), from its smallest value (dark) to its largest (bright)."""
    face = np.asarray(Image.fromarray(crop).resize((side_px, side_px), Image.Resampling.LANCZOS))
    return Image.fromarray(np.round(tint(face, stretch(attention, side_px))).astype(np.uint8))


def tint(image: NDArray[np.uint8], heat: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return an image (H, W, 3), 0 to 255, turned gray and colored by heat (H, W) of 0 to 1."""
    gray = np.asarray(Image.fromarray(image).convert("L"), dtype=np.float64)[..., None]
    values = np.asarray(heat, dtype=np.float64)
    strength = (_WEAKEST + (_STRONGEST - _WEAKEST) * values)[..., None]
    # The image stays gray beneath, so that every color that is seen is attention.
    mixed: NDArray[np.float64] = gray * (1 - strength) + heat_colors(values) * strength
    return mixed


def stretch(attention: NDArray[np.floating], side_px: int) -> NDArray[np.float32]:
    """Return a map (h, w) as float32 (side_px, side_px), smoothly enlarged, its range stretched to 0 to 1."""
    low, high = float(attention.min()), float(attention.max())
    if high - low < _FLAT:
        return np.full((side_px, side_px), 0.5, dtype=np.float32)
    scaled = ((attention - low) / (high - low)).astype(np.float32)
    enlarged = Image.fromarray(scaled).resize((side_px, side_px), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(enlarged, dtype=np.float32), 0.0, 1.0)


_SMOOTHING = 4
# A mask is drawn this many times larger and shrunk; beyond this many pixels edges are smooth enough at twice the size.
_LARGE_MASK_PX = 4_000_000


@lru_cache(maxsize=64)
def font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the typeface inside Pillow (Aileron), so that no system font is needed, at an em of `size_px`."""
    return ImageFont.load_default(size_px)


def text_width(text: str, size_px: int) -> int:
    """Return the width of a line in pixels, rounded up."""
    return -int(-font(size_px).getlength(text) // 1)


def write(
    canvas: Image.Image, place: tuple[float, float], text: str, size_px: int, color: Color, anchor: str = "lm"
) -> None:
    """Write one line with its anchor at `place`; `anchor` is Pillow's: horizontal l, m, r and vertical a, m, s."""
    # The middle of capital height, not of the line box: otherwise words with and without descenders sit unevenly.
    x, y = place
    if anchor[1] == "m":
        y, anchor = y + 0.355 * size_px, f"{anchor[0]}s"
    ImageDraw.Draw(canvas).text((x, y), text, fill=color, font=font(size_px), anchor=anchor)


def draw_rounded(
    canvas: Image.Image,
    box: tuple[int, int, int, int],
    radius_px: float,
    color: Color,
    line_px: int | None = None,
) -> None:
    """Fill a rectangle with smooth, rounded corners, or draw its outline, `line_px` thick inwards."""
    left, top, right, bottom = box
    size = (right - left, bottom - top)
    if size[0] > 0 and size[1] > 0:
        canvas.paste(color, (left, top), _mask(size, radius_px, line_px))


def clip_rounded(image: Image.Image, radius_px: float) -> Image.Image:
    """Return the mask (mode L) that rounds an image's corners."""
    return _mask(image.size, radius_px, None)


def _mask(size: tuple[int, int], radius_px: float, line_px: int | None) -> Image.Image:
    width, height = size
    factor = _SMOOTHING if width * height * _SMOOTHING**2 < _LARGE_MASK_PX else 2
    mask = Image.new("L", (width * factor, height * factor), 0)
    ImageDraw.Draw(mask).rounded_rectangle(
        (0, 0, width * factor - 1, height * factor - 1),
        radius=radius_px * factor,
        fill=None if line_px else 255,
        outline=255,
        width=(line_px or 1) * factor,
    )
    return mask.resize(size, Image.Resampling.BOX)
