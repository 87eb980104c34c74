"""Decode any image to upright RGB pixels, or raise an error with one clear line."""

import io
import os
import threading
import warnings
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ddamfn.errors import ImageTooLarge, UnreadableImage, UsageError

ImageInput = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | Image.Image
    | NDArray[np.uint8]
    | NDArray[np.uint16]
)
"""What can be read: a path, a file's content, a binary file object, a Pillow image, or an array; see `decode`."""

ChannelOrder = Literal["rgb", "bgr"]
"""How the channels of arrays are ordered; "bgr" is OpenCV's."""

MAX_PIXELS = 178_956_970
"""Pillow's limit against decompression bombs: about 13,000 x 13,000."""

# Photographs' formats only: Pillow also reads some, like EPS, by starting another program.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "TGA", "ICO")

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class _Quiet:
    """Silences warnings while any thread is inside.

    Kept because `warnings.catch_warnings` is not thread-safe: threads that leave in another order than they entered
    would silence the whole program.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)


_QUIET = _Quiet()


def decode(
    source: ImageInput, *, max_pixels: int = MAX_PIXELS, channel_order: ChannelOrder = "rgb"
) -> NDArray[np.uint8]:
    """Read an image.

    Turned upright by its EXIF orientation; CMYK, palette and gray become RGB; transparency is laid over white; 16 bits
    become 8; of an animation the first frame is taken.

    Args:
        source: a path, a file's content, a binary file object, which is read from its position on, a Pillow image, or
            an array of uint8 or uint16, 0 to the type's largest: (H, W) or (H, W, 1) gray, (H, W, 3) RGB, (H, W, 4)
            RGBA.
        max_pixels: images with more are refused before they are decoded. Pillow refuses those above `MAX_PIXELS` in
            any case.
        channel_order: of arrays with three or four channels; "bgr" reads the fourth as alpha too. Files and Pillow
            images know theirs.

    Returns:
        (H, W, 3) uint8 RGB, contiguous and the caller's own.

    Raises:
        ImageTooLarge: more pixels than `max_pixels`.
        UnreadableImage: missing, empty, truncated, or not an image.
        UsageError: a source of another type, an array of another dtype or shape, or an unknown order of channels.
    """
    if channel_order not in ("rgb", "bgr"):
        raise UsageError(f"channel_order must be 'rgb' or 'bgr', not {channel_order!r}")
    if isinstance(source, np.ndarray):
        return _from_array(source, channel_order)
    name = image_name(source)
    opened = source if isinstance(source, Image.Image) else _content(source, name)
    try:
        # Pillow warns of odd metadata, which is of no use to a reader, and of large images, which are checked below.
        with _QUIET:
            if isinstance(opened, Image.Image):
                return _from_pillow(opened, name, max_pixels)
            with Image.open(io.BytesIO(opened), formats=_formats()) as image:
                return _from_pillow(image, name, max_pixels)
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        raise UnreadableImage(
            f"{name}: not an image, or of a format that is not read (JPEG, PNG, WebP, ... are)"
        ) from None
    except Image.DecompressionBombError:
        raise ImageTooLarge(f"{name}: too large, more than {MAX_PIXELS:,} pixels") from None
    # Pillow's parsers raise a dozen kinds of exceptions at damaged files; whichever it is, the file cannot be read.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImage(f"{name}: damaged or truncated image ({reason})") from error


def image_name(source: ImageInput) -> str:
    """Return the name of an image in results and messages: its path, or `<bytes>`, `<file>`, `<image>`, `<array>`."""
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "<bytes>"
    if isinstance(source, np.ndarray):
        return "<array>"
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "<image>")
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "<file>"


def _formats() -> list[str]:
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _content(source: object, name: str) -> bytes:
    """Return the bytes of a path, a file object or a buffer."""
    content = source
    try:
        if isinstance(source, (str, os.PathLike)):
            content = Path(os.fsdecode(source)).read_bytes()
        elif hasattr(source, "read"):
            content = source.read()
    except FileNotFoundError:
        raise UnreadableImage(f"{name}: no such file") from None
    except (OSError, ValueError) as error:  # a closed file object, a path with a null byte
        raise UnreadableImage(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise UsageError(
            "an image is a path, bytes, a binary file object, a Pillow image or an array of uint8 or uint16, not "
            f"{type(source).__name__}"
        )
    if not content:
        raise UnreadableImage(f"{name}: empty, 0 bytes")
    return bytes(content)


def _from_pillow(image: Image.Image, name: str, max_pixels: int) -> NDArray[np.uint8]:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(f"{name}: too large, {width} x {height} is more than {max_pixels:,} pixels")
    if width * height == 0:
        raise UnreadableImage(f"{name}: no pixels, {width} x {height}")
    image.load()
    # Read after loading: Pillow itself turns some formats while it loads them, and then takes the tag away.
    turn = _UPRIGHT.get(_orientation(image))
    rgb = _to_rgb(image)
    if turn is not None:
        rgb = rgb.transpose(turn)
    return np.array(rgb)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    # Damaged metadata is no reason to refuse the pixels.
    except Exception:
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_8_bit(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Convert 16-bit, 32-bit or floating-point gray values to 0..255."""
    if values.dtype == np.uint8:
        return np.asarray(values, dtype=np.uint8)
    levels = np.nan_to_num(np.asarray(values, dtype=np.float64))
    if values.dtype == np.uint16:
        levels = levels / 257
    elif values.dtype.kind == "f" and levels.max() <= 1:
        levels = levels * 255
    # Pillow gives some files of 16 bits as 32-bit integers.
    elif values.dtype.kind != "f" and levels.max() > 255:
        levels = levels / 257
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)


def _from_array(array: NDArray[np.generic], channel_order: ChannelOrder) -> NDArray[np.uint8]:
    shaped = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    is_color = shaped.ndim == 3 and shaped.shape[2] in (3, 4)
    if array.dtype not in (np.uint8, np.uint16) or not (shaped.ndim == 2 or is_color):
        raise UsageError(
            "an image array is uint8 or uint16 of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not "
            f"{array.dtype} of shape {array.shape}"
        )
    if array.size == 0:
        raise UnreadableImage(f"<array>: no pixels, shape {array.shape}")
    if is_color and channel_order == "bgr":
        shaped = shaped[..., [2, 1, 0, 3][: shaped.shape[2]]]
    return np.array(_to_rgb(Image.fromarray(np.ascontiguousarray(_to_8_bit(shaped)))))
