"""Formats of image files: which are read, how Pillow opens one, and what to convert the others with."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from PIL import Image, ImageFile

IMAGE_SUFFIXES = frozenset(
    [
        *(".avif", ".bmp", ".dib", ".gif", ".heic", ".heics", ".heif", ".heifs", ".hif", ".ico", ".jfif", ".jp2"),
        *(".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
    ]
)
"""Which files of a folder count as images, in lower case; a file that is named itself is always tried."""

HEAD_BYTES = 1024
"""How much of a file's beginning tells its kind."""

# Photographs' formats only: Pillow also reads some, like EPS, by starting another program. TGA is last, since it has no
# mark of its own and takes an icon of 256 px for one of its files.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "ICO", "TGA")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_TIFF_MARKS = (b"II*\0", b"MM\0*")
_DNG_VERSION, _NEW_SUBFILE_TYPE, _SUB_IFDS = 50706, 254, 330


# Whole clauses, which follow a file's name: what the file is, and what to do with it.
_RAW = "a camera's raw file is not read: develop it into a JPEG, for example with darktable or RawTherapee"
_JXL = "JPEG XL is not read: convert it, for example with `djxl photo.jxl photo.png`"
_LAYERS = "a file of layers is not read: export it as PNG, or convert it with `magick 'photo.psd[0]' photo.png`"
_PAGES = "a document is not read: turn its pages into images, for example with `pdftoppm -png file.pdf page`"
_VECTORS = "a vector drawing is not read: export it as PNG, for example with Inkscape"
_LINEAR = "an image of linear light is not read: export it as PNG from the program that shows it as it should look"
_MEDICAL = "a medical image is not read: convert it to PNG, for example with DCMTK"
_OTHER = "this format is not read: convert it to PNG, for example with ImageMagick"
_VIDEO = "a video, not an image: read it with `ddamfn predict FILE` or ddamfn.read_video"
_WEB_PAGE = "a web page, not an image: download the image itself"
_POINTER = "a pointer of Git LFS, not an image: get the file with `git lfs pull`"

_KIND_OF_SUFFIX: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos"),
            *(".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
        ),
        _RAW,
    ),
    ".jxl": _JXL,
    **dict.fromkeys((".psd", ".psb", ".xcf", ".kra", ".clip", ".afphoto"), _LAYERS),
    **dict.fromkeys((".pdf", ".ps", ".eps", ".djvu", ".doc", ".docx", ".ppt", ".pptx"), _PAGES),
    **dict.fromkeys((".svg", ".svgz", ".ai", ".wmf", ".emf"), _VECTORS),
    **dict.fromkeys((".exr", ".hdr", ".pfm"), _LINEAR),
    **dict.fromkeys((".dcm", ".dicom", ".nii"), _MEDICAL),
    **dict.fromkeys((".bpg", ".dds", ".flif", ".icns", ".jxr", ".pcx", ".qoi", ".sgi", ".wdp", ".xbm", ".xpm"), _OTHER),
}

_KIND_OF_HEAD: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\x0a", _JXL),
    (0, b"\0\0\0\x0cJXL ", _JXL),
    (4, b"ftypcrx ", _RAW),
    (8, b"CR\x02", _RAW),
    (0, b"FUJIFILMCCD-RAW", _RAW),
    (0, b"IIRO", _RAW),
    (0, b"IIU\0", _RAW),
    (0, b"FOVb", _RAW),
    (0, b"8BPS", _LAYERS),
    (0, b"gimp xcf", _LAYERS),
    (0, b"%PDF", _PAGES),
    (0, b"%!PS", _PAGES),
    (0, b"v/1\x01", _LINEAR),
    (0, b"#?RADIANCE", _LINEAR),
    (128, b"DICM", _MEDICAL),
    (0, b"version https://git-lfs", _POINTER),
)

# What the container of ISO 14496-12 holds besides videos, HEIC and AVIF: raw files, JPEG 2000 and XL, songs.
_NO_VIDEO_BRANDS = (b"crx ", b"jp2 ", b"jpx ", b"jpm ", b"jxl ", b"M4A ", b"M4B ", b"M4P ")
# Matroska, MPEG program and video streams, FLV, ASF, MXF, IVF, YUV4MPEG2, RealMedia and NUT.
_VIDEO_MARKS = (
    *(b"\x1aE\xdf\xa3", b"\0\0\x01\xba", b"\0\0\x01\xb3", b"FLV\x01", b"0&\xb2u\x8ef\xcf\x11", b"\x06\x0e+4\x02\x05"),
    *(b"DKIF", b"YUV4MPEG2 ", b".RMF", b"nut/multimedia container"),
)
# Where a transport stream's first packet begins, and the packets' size: of broadcasts, of disks, with error correction.
_PACKETS = ((0, 188), (4, 192), (0, 204))


# "P1 1 1 1", a plain PBM of one pixel. Some of Pillow's tests of the first bytes fail where there are fewer.
_SHORTEST_IMAGE = 8


def image_format(head: bytes) -> str | None:
    """Return Pillow's name of the format that a file begins like, or None where it is none that is read.

    Args:
        head: the file's first bytes; `HEAD_BYTES` of them are enough.
    """
    from PIL import Image

    if _is_heif(head):
        return "HEIF"
    if len(head) < _SHORTEST_IMAGE:
        return None
    Image.init()
    for name in _FORMATS:
        accept = Image.OPEN[name][1] if name in Image.OPEN else None
        if accept is not None and accept(head[:16]) is True:
            return name
    # A version of the color map, of the image and its depth, all from short lists.
    is_tga = len(head) > 18 and head[1] in (0, 1) and head[2] in (1, 2, 3, 9, 10, 11) and head[16] in (8, 16, 24, 32)
    return "TGA" if is_tga else None


def is_read_whole(kind: str | None) -> bool:
    """Whether Pillow reads files of a format at once when it opens them."""
    return kind in ("WEBP", "AVIF", "HEIF")


def open_image(file: BinaryIO) -> "Image.Image":
    """Open an image file lazily: size and format are read, the pixels not yet.

    Args:
        file: seekable and at its beginning; it must stay open until the pixels are loaded.

    Returns:
        Pillow's image; of several in a HEIC file the one that the file calls its first.

    Raises:
        PIL.UnidentifiedImageError: it is not an image, or of a format or variant that is not read.
        PIL.Image.DecompressionBombError: it has more than twice `PIL.Image.MAX_IMAGE_PIXELS`.
        Exception: Pillow raises a dozen kinds at damaged files.
    """
    from PIL import Image

    head = file.read(HEAD_BYTES)
    file.seek(0)
    if not _is_heif(head):
        Image.init()
        return Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN])
    # Not registered with Pillow: what other code of the program opens is not ours to change.
    from pi_heif.as_plugin import HeifImageFile

    image: ImageFile.ImageFile = HeifImageFile(file)
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > 2 * most:
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
    return image


def open_large_jpeg(file: BinaryIO) -> "Image.Image":
    """Open a JPEG as `open_image` does, however many pixels it has, for decoding it at a fraction of its size."""
    from PIL import Image

    file.seek(0)
    Image.init()
    factory, _ = Image.OPEN["JPEG"]
    return factory(file, "")


def is_unread_suffix(suffix: str) -> bool:
    """Whether an ending, in lower case, is that of images of a kind that is known and not read."""
    return suffix in _KIND_OF_SUFFIX and _KIND_OF_SUFFIX[suffix] is not _PAGES


def unread_kind(head: bytes, path: str | os.PathLike[str] = "") -> str | None:
    """Say what a file is that is known and not read, and what to do with it; None for an image, or what nobody knows.

    Args:
        head: the file's first bytes; `HEAD_BYTES` of them are enough.
        path: where the file has one, its ending is asked too.
    """
    # Raw files are often TIFFs, of which Pillow would read the little preview, and nearly anything may pass for a TGA.
    if image_format(head) not in (None, "TIFF", "TGA"):
        return None
    if _is_avif(head):
        return _OTHER  # where Pillow was built without it
    for place, mark, kind in _KIND_OF_HEAD:
        if head.startswith(mark, place):
            return kind
    if is_video(head):
        return _VIDEO
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return _WEB_PAGE
    if text.startswith((b"<svg", b"<?xml", b"<!doctype svg")) and b"<svg" in text:
        return _VECTORS
    return _KIND_OF_SUFFIX.get(Path(os.fsdecode(path)).suffix.lower())


def is_video(head: bytes) -> bool:
    """Whether a file begins as a video does; raw streams without a container, and images that move, do not.

    Args:
        head: the file's first bytes; `HEAD_BYTES` of them are enough.
    """
    if head[4:8] == b"ftyp":
        return not _is_heif(head) and not _is_avif(head) and head[8:12] not in _NO_VIDEO_BRANDS
    if head[:4] == b"RIFF":
        return head[8:12] in (b"AVI ", b"AMV ")
    if head[:4] == b"OggS":
        return b"theora" in head
    if head[4:8] in (b"moov", b"mdat", b"wide") or head.startswith(_VIDEO_MARKS):
        return True
    return any(head[start : start + 2 * size + 1 : size] == b"GGG" for start, size in _PACKETS)


def raw_kind(image: "Image.Image") -> str | None:
    """Say what to do with an opened TIFF that is a camera's raw file, whose first image is a preview; else None."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    is_preview = _SUB_IFDS in tags and bool(int(tags.get(_NEW_SUBFILE_TYPE, 0)) & 1)
    return _RAW if is_preview or _DNG_VERSION in tags else None


def _is_heif(head: bytes) -> bool:
    """Whether a file is HEIC, or another HEIF that does not say AVIF: both share the container."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and not _is_avif(head)


def _is_avif(head: bytes) -> bool:
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[place : place + 4] for place in range(16, size, 4))]
    return head[4:8] == b"ftyp" and any(brand in _AVIF_BRANDS for brand in brands)
