"""What decoding may cost: files that would take minutes or gigabytes for few pixels are refused before it begins."""

from typing import BinaryIO

from PIL import Image

# Each line of an image costs Pillow a pointer, also where it has one pixel; no camera or scanner comes near it.
MOST_SIDE_PX = 2**17
# Encoders write about ten scans, and a decoder goes over the whole image for each.
_MOST_SCANS = 200
_SCAN = b"\xff\xda"
# Pillow copies a block of up to a megabyte for each comment in a plain PNM.
_MOST_COMMENTS = 1000
_CHUNK_BYTES = 2**20


def problem_before_opening(file: BinaryIO, head: bytes) -> str | None:
    """Say why a file must not even be opened; `head` is its beginning, and the file is left where it was."""
    is_pnm = head[:1] == b"P" and head[1:2] in b"123456fy"
    return "too many comments" if is_pnm and _count(file, b"#", _MOST_COMMENTS) > _MOST_COMMENTS else None


def problem_before_decoding(file: BinaryIO, image: Image.Image) -> str | None:
    """Say why an opened image must not be decoded; the file is left where it was."""
    if max(image.size) > MOST_SIDE_PX:
        return f"{image.width} x {image.height} has a side of more than {MOST_SIDE_PX:,} px"
    if image.info.get("progressive") and _count(file, _SCAN, _MOST_SCANS) > _MOST_SCANS:
        return f"a progressive JPEG of more than {_MOST_SCANS} scans"
    return None


def _count(file: BinaryIO, pattern: bytes, most: int) -> int:
    """Count a pattern in a whole file, no further than one beyond `most`."""
    place, count, rest = file.tell(), 0, b""
    file.seek(0)
    while count <= most and (chunk := file.read(_CHUNK_BYTES)):
        count += (rest + chunk).count(pattern)
        rest = chunk[len(chunk) - len(pattern) + 1 :]
    file.seek(place)
    return count
