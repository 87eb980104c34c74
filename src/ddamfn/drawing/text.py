"""Text and rounded shapes with smooth edges."""

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from ddamfn.drawing.palette import Color

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
