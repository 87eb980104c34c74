"""Which files are images that are read, and what is said of the others."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddamfn.formats import IMAGE_SUFFIXES, image_format, is_read_whole, is_video, open_image, unread_kind


def saved(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(file, kind, **options)
    return file.getvalue()


def test_every_suffix_of_an_image_names_a_format_that_is_read() -> None:
    Image.init()
    # Not every build of Pillow has AVIF, and what is a HEIC or MPO file takes more than one call to make.
    kinds = Image.registered_extensions() | {".avif": "AVIF", ".mpo": "MPO"}
    kinds |= dict.fromkeys((".heic", ".heics", ".heif", ".heifs", ".hif"), "HEIF")
    for kind in {kinds[suffix] for suffix in IMAGE_SUFFIXES} - {"AVIF", "HEIF", "MPO"}:
        assert image_format(saved(kind)) == kind


def test_heic_is_opened_without_changing_pillow(heic: Callable[..., bytes]) -> None:
    content = heic(np.zeros((32, 32, 3), np.uint8))
    assert image_format(content) == "HEIF"
    with open_image(io.BytesIO(content)) as image:
        assert (image.format, image.size) == ("HEIF", (32, 32))
    assert "HEIF" not in Image.OPEN


def test_a_container_that_is_shared_by_two_formats_is_told_by_its_brands(heic: Callable[..., bytes]) -> None:
    content = heic(np.zeros((32, 32, 3), np.uint8), brand=b"mif1")
    assert image_format(content) == "HEIF"
    assert image_format(content.replace(b"mif1heic", b"mif1avif")) != "HEIF"


def test_some_formats_are_read_at_once() -> None:
    assert is_read_whole("WEBP")
    assert not is_read_whole("JPEG")
    assert not is_read_whole(None)


@pytest.mark.parametrize(
    ("head", "path", "noun"),
    [
        (b"\xff\x0a\xfa\x7f\x01", "", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "photo.jpg", "JPEG XL"),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "", "raw"),
        (b"II*\0\x10\0\0\0CR\x02\0", "a.jpg", "raw"),
        (b"MM\0*\0\0\0\x08", "a.NEF", "raw"),
        (b"II*\0\x08\0\0\0", "a.dng", "raw"),
        (b"II*\0\x08\0\0\0", "a.arw", "raw"),
        (b"8BPS\0\x01", "", "layers"),
        (b"%PDF-1.7", "scan.jpg", "pdftoppm"),
        (b'<?xml version="1.0"?>\n<svg xmlns="', "", "vector"),
        (b"junk", "drawing.svg", "vector"),
        (b"junk", "a.exr", "linear"),
        (b"\0\0\0\x20ftypisom", "a.jpg", "video"),
        (b"\x1aE\xdf\xa3", "", "video"),
        (b"\n<!DOCTYPE html><html>", "a.jpg", "web page"),
        (b"version https://git-lfs.github.com/spec/v1", "a.jpg", "Git LFS"),
    ],
)
def test_a_known_kind_that_is_not_read_is_named(head: bytes, path: str, noun: str) -> None:
    kind = unread_kind(head, path)
    assert kind is not None
    assert noun in kind
    assert "\n" not in kind


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "TGA", "ICO"])
@pytest.mark.parametrize("path", ["", "photo.jpg"])
def test_an_image_is_of_no_other_kind(kind: str, path: str) -> None:
    assert unread_kind(saved(kind), path) is None


def test_content_is_believed_more_than_an_ending() -> None:
    assert unread_kind(saved("JPEG"), "photo.cr3") is None
    assert unread_kind(saved("PNG"), "photo.psd") is None


@pytest.mark.parametrize(
    ("codec", "kind"),
    [
        ("libx264", "mp4"), ("libx264", "mov"), ("libx264", "matroska"), ("libx264", "mpegts"), ("mpeg4", "avi"),
        ("mpeg2video", "vob"), ("flv1", "flv"), ("msmpeg4v3", "asf"), ("libvpx-vp9", "webm"), ("libvpx-vp9", "ivf"),
    ],
)  # fmt: skip
def test_containers_are_known_by_their_beginning(
    write_video: Callable[..., Path], tmp_path: Path, codec: str, kind: str
) -> None:
    path = write_video(tmp_path / "nameless", [np.zeros((48, 64, 3), np.uint8)] * 3, rate=25, codec=codec, kind=kind)
    assert is_video(path.read_bytes()[:1024])


def test_images_and_texts_are_no_videos(tmp_path: Path) -> None:
    for kind in ("png", "jpeg", "gif", "webp", "avif", "bmp", "tiff", "ico", "jpeg2000", "tga"):
        content = io.BytesIO()
        Image.new("RGB", (64, 48), "gray").save(content, format=kind)
        assert not is_video(content.getvalue()[:1024]), kind
    for head in (b"", b"GGG", b"Good morning\n" * 90, bytes(1024), b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"):
        assert not is_video(head)
