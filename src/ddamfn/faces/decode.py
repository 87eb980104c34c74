"""Decode any image to upright RGB pixels, or raise an error with one clear line."""

import contextlib
import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from ddamfn.errors import ImageTooLarge, UnreadableImage, UsageError
from ddamfn.faces.budget import problem_before_decoding, problem_before_opening
from ddamfn.files import open_regular
from ddamfn.formats import (
    HEAD_BYTES,
    image_format,
    is_read_whole,
    open_image,
    open_large_jpeg,
    raw_kind,
    unread_kind,
)

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

Shrinking = Callable[[int, int], int]
"""By how much an image of this width and height may be decoded smaller: 1, 2, 4 or 8."""

MAX_PIXELS = 178_956_970
"""Pillow's limit against decompression bombs: about 13,000 x 13,000."""

# A progressive JPEG is held whole while it is decoded, at whatever fraction: 2 GB for this many at the worst.
_MOST_JPEG_PIXELS = 2 * MAX_PIXELS

# Of formats that Pillow reads at once when it opens a file, before it knows how many pixels that has.
_MOST_BYTES_AT_ONCE = 512 * 2**20

_STRIP_PIXELS = 2**18

_ORIENTATION_TAG = 0x0112
_SAMPLE_FORMAT, _UNSIGNED = 339, 1
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_THE_SIDE = tuple(_UPRIGHT[tag] for tag in (5, 6, 7, 8))


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


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """An image that may have been decoded smaller than it is.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, contiguous and the caller's own.
        width: of the upright image itself in pixels; `pixels` has `width * scale`, rounded up.
        height: likewise.
        scale: pixels of `pixels` for one of the image: 1, or 1/2, 1/4 or 1/8.
        by_choice: whether `shrinking` made it smaller, so that all its pixels are to be had without.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    scale: float = 1.0
    by_choice: bool = False


def decode(
    source: ImageInput, *, max_pixels: int = MAX_PIXELS, channel_order: ChannelOrder = "rgb"
) -> NDArray[np.uint8]:
    """Read an image.

    Turned upright by its EXIF orientation; CMYK, palette and gray become RGB; transparency is laid over white; 16 bits
    become 8; of an animation the first frame is taken, of a HEIC file the image that it calls its first.

    A file is looked at before it is read: what is no image, a pipe or a device costs neither time nor memory.

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
    return decode_scaled(source, max_pixels=max_pixels, channel_order=channel_order).pixels


def decode_scaled(
    source: ImageInput,
    *,
    max_pixels: int | None = None,
    channel_order: ChannelOrder = "rgb",
    shrinking: Shrinking | None = None,
) -> Decoded:
    """Read an image as `decode` does, but a JPEG that is too large for it at a half, a quarter or an eighth.

    Args:
        source: as for `decode`.
        max_pixels: as for `decode`, and no image is decoded smaller; None for `MAX_PIXELS`, above which a JPEG of up to
            twice as many is decoded at the largest fraction that has no more.
        channel_order: as for `decode`.
        shrinking: by how much a JPEG is decoded smaller, which libjpeg does in a fraction of the time: 1, 2, 4 or 8 for
            its width and height. Of paths and content alone, not of Pillow images.

    Returns:
        The pixels, and how they lie in the image.

    Raises:
        ImageTooLarge: as for `decode`.
        UnreadableImage: as for `decode`.
        UsageError: as for `decode`.
    """
    if channel_order not in ("rgb", "bgr"):
        raise UsageError(f"channel_order must be 'rgb' or 'bgr', not {channel_order!r}")
    if isinstance(source, np.ndarray):
        pixels = _from_array(source, channel_order)
        return Decoded(pixels, pixels.shape[1], pixels.shape[0])
    name = image_name(source)
    try:
        # Pillow warns of odd metadata, which is of no use to a reader, and of large images, which are checked below.
        may_shrink = max_pixels is None and not isinstance(source, Image.Image)
        with _QUIET, _opened(source, name, may_shrink=may_shrink) as image:
            limit = MAX_PIXELS if max_pixels is None else max_pixels
            chosen = None if isinstance(source, Image.Image) else shrinking
            return _from_pillow(image, name, limit, may_shrink=may_shrink, shrinking=chosen)
    except (UnreadableImage, UsageError):
        raise
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


def is_stream(source: ImageInput) -> bool:
    """Whether an image is to be read from a file object."""
    return hasattr(source, "read") and not isinstance(source, Image.Image)


def content_of(source: ImageInput) -> ImageInput:
    """Read a file object to its end, so that its image can be decoded twice; anything else is returned as it is."""
    if not is_stream(source):
        return source
    with _file(source, image_name(source)) as file:
        return file.read()


@contextlib.contextmanager
def _opened(source: object, name: str, *, may_shrink: bool) -> Iterator[Image.Image]:
    """Open an image lazily, and keep its file open."""
    if isinstance(source, Image.Image):
        yield source
        return
    with _file(source, name) as file:
        head = file.read(HEAD_BYTES)
        if not head:
            raise UnreadableImage(f"{name}: empty, 0 bytes")
        _look(head, name)
        if is_read_whole(image_format(head)) and file.seek(0, os.SEEK_END) > _MOST_BYTES_AT_ONCE:
            raise ImageTooLarge(f"{name}: too large, more than {_MOST_BYTES_AT_ONCE:,} bytes")
        file.seek(0)
        _refuse_costly(problem_before_opening(file, head), name)
        try:
            opened = open_image(file)
        except UnidentifiedImageError:
            raise UnreadableImage(_unidentified(head, name)) from None
        except ImportError:
            raise UnreadableImage(f"{name}: HEIC needs pi-heif: pip install pi-heif") from None
        except Image.DecompressionBombError:
            if not may_shrink or image_format(head) != "JPEG":
                raise
            opened = open_large_jpeg(file)
        with opened as image:
            raw = raw_kind(image)
            if raw is not None:
                raise UnreadableImage(f"{name}: {raw}")
            _refuse_costly(problem_before_decoding(file, image), name)
            yield image


def _refuse_costly(problem: str | None, name: str) -> None:
    if problem is not None:
        raise ImageTooLarge(f"{name}: would take too long, or too much memory, to decode ({problem})")


def _look(head: bytes, name: str) -> None:
    """Refuse what is surely no image that is read, by its beginning and its name."""
    kind = unread_kind(head, name)
    if kind is not None:
        raise UnreadableImage(f"{name}: {kind}")
    if image_format(head) is None:
        raise UnreadableImage(_unidentified(head, name))


def _unidentified(head: bytes, name: str) -> str:
    kind = image_format(head)
    # A TGA has no mark of its own: what only looks like one is rather no image.
    if kind in (None, "TGA"):
        return f"{name}: not an image, or of a format that is not read (JPEG, PNG, WebP, HEIC, ... are)"
    return f"{name}: damaged or truncated image, or a variant of {kind} that is not read: save it again as PNG or JPEG"


def _file(source: object, name: str) -> BinaryIO:
    """Open a path, or return the content of a file object or a buffer as a file."""
    content: Any = source
    try:
        if isinstance(source, (str, os.PathLike)):
            return open_regular(os.fsdecode(source))
        if hasattr(source, "read"):
            content = _content(source, name)
    except FileNotFoundError:
        if "://" in name:
            raise UnreadableImage(f"{name}: an address, and only files are read: download it first") from None
        raise UnreadableImage(f"{name}: no such file") from None
    except (OSError, ValueError) as error:  # a closed file object, a path with a null byte
        raise UnreadableImage(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise UsageError(
            "an image is a path, bytes, a binary file object, a Pillow image or an array of uint8 or uint16, not "
            f"{type(source).__name__}"
        )
    return io.BytesIO(bytes(content))


def _content(source: Any, name: str) -> Any:
    """Read a file object to its end, unless its beginning shows that it is no image."""
    head = source.read(HEAD_BYTES)
    if not isinstance(head, (bytes, bytearray, memoryview)) or not head:
        return head
    head = bytes(head)
    # A pipe may give less than was asked for.
    while len(head) < HEAD_BYTES and (more := source.read(HEAD_BYTES - len(head))):
        head += more
    _look(head, name)
    return head + source.read()


def _from_pillow(
    image: Image.Image, name: str, max_pixels: int, *, may_shrink: bool, shrinking: Shrinking | None
) -> Decoded:
    width, height = image.size
    by_choice = False
    if isinstance(image, JpegImageFile):
        if may_shrink and max_pixels < width * height <= _MOST_JPEG_PIXELS:
            _shrink(image, max_pixels)
        elif shrinking is not None and width * height <= max_pixels:
            divisor = shrinking(width, height)
            image.draft(None, (width // divisor, height // divisor))
            by_choice = image.size != (width, height)
    if image.width * image.height > max_pixels:
        raise ImageTooLarge(f"{name}: too large, {width} x {height} is more than {max_pixels:,} pixels")
    if width * height == 0:
        raise UnreadableImage(f"{name}: no pixels, {width} x {height}")
    scale = 1 / round(width / image.width)
    image.load()
    # Read after loading: Pillow itself turns some formats while it loads them, and then takes the tag away.
    turn = _UPRIGHT.get(_orientation(image))
    rgb = _to_rgb(image, name)
    if turn is not None:
        rgb = rgb.transpose(turn)
    if scale == 1:
        width, height = rgb.size
    elif turn in _ON_THE_SIDE:
        width, height = height, width
    return Decoded(_pixels(rgb), width, height, scale, by_choice)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Copy an RGB image (W, H) into an array (H, W, 3) by strips: Pillow would make two copies of the whole first."""
    width, height = image.size
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return pixels


def _shrink(image: JpegImageFile, most: int) -> None:
    """Let a JPEG be decoded at the largest fraction that has no more pixels, which libjpeg does by itself."""
    width, height = image.size
    for divisor in (2, 4, 8):
        if -(-width // divisor) * -(-height // divisor) <= most or divisor == 8:
            image.draft(None, (width // divisor, height // divisor))
            return


def _orientation(image: Image.Image) -> int:
    # A HEIC file says by itself how it is turned, and has been: what a camera repeats in the metadata does not count.
    if image.format == "HEIF":
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    # Damaged metadata is no reason to refuse the pixels.
    except Exception:
        return 1


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "I" and getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT) == (_UNSIGNED,):
            values = values.view(np.uint32)  # Pillow knows 32 bits with a sign alone
        return Image.fromarray(_to_8_bit(values, name)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(values: NDArray[np.generic], name: str) -> NDArray[np.uint8]:
    """Convert 16-bit, 32-bit or floating-point gray values to 0..255."""
    if values.dtype == np.uint8:
        return np.asarray(values, dtype=np.uint8)
    # By strips: in float64 the whole image would take eight times its memory.
    rows = max(1, _STRIP_PIXELS // max(1, values[0].size))
    strips = [values[top : top + rows] for top in range(0, len(values), rows)]
    is_16_bit = values.dtype.kind == "u" and values.itemsize == 2
    highest = 65535.0 if is_16_bit else max(float(_levels(strip).max()) for strip in strips)
    white = 65535.0 if is_16_bit else _white(highest, values.dtype)
    if white is None:
        raise UnreadableImage(
            f"{name}: values up to {highest:g}, and what is white is not known: save it with values from 0 to 1, "
            "255 or 65535"
        )
    result = np.empty(values.shape, dtype=np.uint8)
    for number, strip in enumerate(strips):
        result[number * rows : number * rows + len(strip)] = np.clip(np.round(_levels(strip) * (255 / white)), 0, 255)
    return result


def _levels(values: NDArray[np.generic]) -> NDArray[np.float64]:
    return np.nan_to_num(np.asarray(values, dtype=np.float64), posinf=0.0, neginf=0.0)


def _white(highest: float, dtype: np.dtype[Any]) -> float | None:
    """Guess which value is white in an image of more than 16 bits, or of floating point, by its highest value."""
    if dtype.kind == "f":
        # What was sharpened or resampled goes beyond white, but never to twice.
        return next((white for white in (1.0, 255.0, 65535.0) if highest <= 2 * white), None)
    # Pillow gives some files of 16 bits as 32-bit integers.
    full = float(np.iinfo(dtype).max)
    return next((white for white in (255.0, 65535.0) if highest <= white), full if highest >= full / 256 else None)


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
    return np.array(_to_rgb(Image.fromarray(np.ascontiguousarray(_to_8_bit(shaped, "<array>"))), "<array>"))
