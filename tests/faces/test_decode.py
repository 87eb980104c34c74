import io
import os
import socket
import struct
import subprocess
import sys
import threading
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddamfn.errors import ImageTooLarge, UnreadableImage, UsageError
from ddamfn.faces import decode
from ddamfn.faces.decode import decode_scaled

RED, BLUE, GREEN, WHITE = (200, 30, 30), (30, 30, 200), (30, 160, 30), (250, 250, 250)


def _four_corners() -> Image.Image:
    """An image of 48 x 32 px whose quarters tell how it is turned: red, blue / green, white."""
    image = Image.new("RGB", (48, 32))
    for color, corner in ((RED, (0, 0)), (BLUE, (24, 0)), (GREEN, (0, 16)), (WHITE, (24, 16))):
        image.paste(color, (*corner, corner[0] + 24, corner[1] + 16))
    return image


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _png(width: int, height: int, bits: int, compressed: bytes) -> bytes:
    """Put together an RGB PNG that Pillow would not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", compressed) + chunk(b"IEND", b"")


def _assert_corners(pixels: NDArray[np.uint8], tolerance: int = 12) -> None:
    assert pixels.dtype == np.uint8
    assert pixels.shape == (32, 48, 3)
    for color, (y, x) in ((RED, (8, 12)), (BLUE, (8, 36)), (GREEN, (24, 12)), (WHITE, (24, 36))):
        assert np.abs(pixels[y, x].astype(int) - color).max() <= tolerance


# ---------------------------------------------------------------- sources


class _OwnPath:
    """A path of another library."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


def test_path_bytes_image_and_array_agree(tmp_path: Path) -> None:
    content = _saved(_four_corners(), "PNG")
    path = tmp_path / "corners.png"
    path.write_bytes(content)
    expected = np.asarray(_four_corners())
    with Image.open(path) as lazy, path.open("rb") as file:
        sources = [path, str(path), _OwnPath(path), content, bytearray(content), memoryview(content)]
        for source in (*sources, io.BytesIO(content), file, _four_corners(), lazy, expected):
            found = decode(source)
            np.testing.assert_array_equal(found, expected)
            assert found.flags.c_contiguous
            assert found.flags.writeable


def test_a_file_object_is_read_from_its_position() -> None:
    content = _saved(_four_corners(), "PNG")
    file = io.BytesIO(b"head" + content)
    file.seek(4)
    np.testing.assert_array_equal(decode(file), np.asarray(_four_corners()))
    with pytest.raises(UnreadableImage, match="<file>: empty"):
        decode(file)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bgr_arrays_are_turned_around(channels: int, dtype: type[np.unsignedinteger], rng: np.random.Generator) -> None:
    rgb = rng.integers(0, np.iinfo(dtype).max, (6, 5, channels), dtype)
    bgr = rgb[..., [2, 1, 0, 3][:channels]]
    found = decode(bgr, channel_order="bgr")
    np.testing.assert_array_equal(found, decode(rgb))
    assert found.flags.c_contiguous
    assert not np.array_equal(decode(bgr), decode(rgb))


def test_the_order_of_channels_concerns_color_arrays_alone() -> None:
    gray, image = np.full((4, 4), 9, np.uint8), _four_corners()
    for source in (gray, gray[..., None], image, _saved(image, "PNG")):
        np.testing.assert_array_equal(decode(source, channel_order="bgr"), decode(source))
    with pytest.raises(UsageError, match="channel_order"):
        decode(gray, channel_order="brg")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (None, "NoneType"),
        (7, "int"),
        ([np.zeros((4, 4, 3), np.uint8)], "list"),
        (io.StringIO("text"), "StringIO"),
        (np.uint8(3), "uint8"),
    ],
)
def test_whatever_else_comes_is_refused_by_the_name_of_its_type(source: Any, named: str) -> None:
    with pytest.raises(UsageError, match=rf"\b{named}\b") as caught:
        decode(source)
    assert "\n" not in str(caught.value)


def test_the_result_is_the_callers_own() -> None:
    array = np.zeros((4, 4, 3), dtype=np.uint8)
    decode(array)[:] = 9
    assert (array == 0).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "TGA"])
def test_common_formats_are_read(kind: str) -> None:
    _assert_corners(decode(_saved(_four_corners(), kind)))


def test_a_format_that_starts_another_program_is_not_read() -> None:
    with pytest.raises(UnreadableImage, match=r"<bytes>: .* not read"):
        decode(_saved(_four_corners(), "EPS"))


def test_an_icon_of_256_px_is_not_taken_for_a_targa(rng: np.random.Generator) -> None:
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[:128] = rng.integers(0, 256, (128, 256, 3), np.uint8)
    content = _saved(Image.fromarray(pixels), "ICO", sizes=[(256, 256)])
    assert 2**16 < len(content) < 2**17  # its size lies where a Targa has its depth: 1 bit
    np.testing.assert_array_equal(decode(content), pixels)


# ---------------------------------------------------------------- HEIC


def test_heic_is_read(heic: Callable[..., bytes], tmp_path: Path) -> None:
    content = heic(np.asarray(_four_corners().resize((96, 64), Image.Resampling.NEAREST)))
    (tmp_path / "a.heic").write_bytes(content)
    for source in (content, tmp_path / "a.heic"):
        _assert_corners(decode(source)[::2, ::2])


def test_a_turned_heic_is_upright_once(heic: Callable[..., bytes]) -> None:
    image = np.asarray(_four_corners().resize((96, 64), Image.Resampling.NEAREST))
    exif = Image.Exif()
    exif[0x0112] = 6  # cameras repeat in the metadata how the file is to be turned
    content = heic(np.ascontiguousarray(np.rot90(image, -1)), quarter_turns=1, exif=exif.tobytes())
    _assert_corners(decode(content)[::2, ::2])
    # Without the file's own turn the metadata do not count.
    _assert_corners(decode(heic(image, exif=exif.tobytes()))[::2, ::2])


def test_heic_of_ten_bits_becomes_eight(heic: Callable[..., bytes]) -> None:
    image = np.asarray(_four_corners().resize((96, 64), Image.Resampling.NEAREST)).astype(np.uint16) * 257
    _assert_corners(decode(heic(image))[::2, ::2])


def test_of_a_burst_the_image_is_taken_that_the_file_calls_its_first(heic: Callable[..., bytes]) -> None:
    images = [np.full((32, 32, 3), level, np.uint8) for level in (40, 120, 220)]
    for first, level in ((1, 40), (2, 120)):
        assert np.abs(decode(heic(*images, first=first)).astype(int) - level).max() < 6


def test_a_heic_is_weighed_and_damage_is_one_line(heic: Callable[..., bytes]) -> None:
    content = heic(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ImageTooLarge, match="64 x 64"):
        decode(content, max_pixels=64 * 64 - 1)
    for damaged in (content[:-20], content[:200], content[:24]):
        with pytest.raises(UnreadableImage, match=r"damaged|HEIF") as caught:
            decode(damaged)
        assert "\n" not in str(caught.value)


def test_heic_without_its_package_says_what_to_install(
    heic: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif.as_plugin", None)
    with pytest.raises(UnreadableImage, match="pip install pi-heif"):
        decode(heic(np.zeros((32, 32, 3), np.uint8)))


# ---------------------------------------------------------------- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_exif_orientation_comes_out_upright(orientation: int, kind: str) -> None:
    # The inverse of what a viewer has to do with each orientation.
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    image = _four_corners() if stored is None else _four_corners().transpose(stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = _saved(image, kind, exif=exif.tobytes())
    _assert_corners(decode(content))
    with Image.open(io.BytesIO(content)) as lazy:
        _assert_corners(decode(lazy))


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_damaged_metadata_does_not_cost_the_image(exif: bytes) -> None:
    _assert_corners(decode(_saved(_four_corners(), "JPEG", quality=95, exif=exif)))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_unknown_orientation_is_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    _assert_corners(decode(_saved(_four_corners(), "JPEG", quality=95, exif=exif.tobytes())))


# ---------------------------------------------------------------- color


def test_cmyk_becomes_rgb() -> None:
    content = _saved(_four_corners().convert("CMYK"), "JPEG", quality=95)
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "CMYK"
    _assert_corners(decode(content))


def test_a_palette_becomes_rgb() -> None:
    content = _saved(_four_corners().quantize(8), "PNG")
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "P"
    _assert_corners(decode(content))


@pytest.mark.parametrize("mode", ["L", "1"])
def test_gray_is_repeated(mode: str) -> None:
    gray = Image.fromarray(np.tile(np.array([0, 255], dtype=np.uint8), (6, 4))).convert(mode)
    pixels = decode(_saved(gray, "PNG"))
    assert pixels.shape == (6, 8, 3)
    assert (pixels[:, ::2] == 0).all()
    assert (pixels[:, 1::2] == 255).all()


def test_transparency_is_laid_over_white() -> None:
    rgba = np.zeros((2, 3, 4), dtype=np.uint8)
    rgba[..., 3] = [0, 128, 255]
    for source in (_saved(Image.fromarray(rgba), "PNG"), Image.fromarray(rgba), rgba):
        np.testing.assert_allclose(decode(source)[0, :, 0], [255, 127, 0], atol=1)


def test_transparent_gray_palette_and_key_color_are_laid_over_white() -> None:
    gray = Image.new("LA", (4, 4), (0, 0))
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    key = Image.new("RGB", (4, 4), (1, 2, 3))
    contents = (
        _saved(gray, "PNG"),
        _saved(palette, "PNG", transparency=0),
        _saved(palette, "PNG", transparency=b"\x00\xff"),
        _saved(key, "PNG", transparency=(1, 2, 3)),
    )
    for content in contents:
        assert (decode(content) == 255).all()


def test_premultiplied_alpha_is_understood() -> None:
    for mode in ("RGBa", "La"):
        image = Image.new("RGBA" if mode == "RGBa" else "LA", (2, 2), (0, 0, 0, 128) if mode == "RGBa" else (0, 128))
        np.testing.assert_allclose(decode(image.convert(mode)), 127, atol=1)


def test_sixteen_bits_become_eight() -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    png = _saved(Image.fromarray(values), "PNG")
    tiff = _saved(Image.fromarray(values), "TIFF")
    for source in (png, tiff, values, Image.fromarray(values.astype(np.int32))):
        np.testing.assert_array_equal(decode(source)[0, :, 1], [0, 1, 128, 255])


def test_sixteen_bit_color_becomes_eight() -> None:
    row = b"\0" + struct.pack(">6H", 0, 32896, 65535, 65535, 257, 0)
    np.testing.assert_array_equal(decode(_png(2, 1, 16, zlib.compress(row))), [[[0, 128, 255], [255, 1, 0]]])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([-0.1, 0.5, 1.1], [0, 128, 255]),
        ([0.0, 99.6, 300.0], [0, 100, 255]),
        ([0.0, 32768.0, 65535.0], [0, 128, 255]),
        ([float("nan"), 32768.0, 65535.0], [0, 128, 255]),
    ],
)
def test_floating_point_is_scaled(values: list[float], expected: list[int]) -> None:
    content = _saved(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF")
    np.testing.assert_array_equal(decode(content)[0, :, 0], expected)


def _tiff_of_32_bits(values: list[int]) -> bytes:
    """Put together a gray TIFF of unsigned numbers, which Pillow reads but does not write."""
    entries = [(256, 3, len(values)), (257, 3, 1), (258, 3, 32), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    entries += [(278, 3, 1), (279, 4, 4 * len(values)), (339, 3, 1)]
    pixels = np.array(values, "<u4").tobytes()
    directory = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory + bytes(4)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 100, 255], [0, 100, 255]), ([0, 32896, 65535], [0, 128, 255]), ([0, 2**31, 2**32 - 1], [0, 128, 255])],
)
def test_unsigned_numbers_of_32_bits_are_scaled(values: list[int], expected: list[int]) -> None:
    np.testing.assert_array_equal(decode(_tiff_of_32_bits(values))[0, :, 0], expected)


def test_numbers_without_a_known_white_are_refused() -> None:
    for content in (
        _tiff_of_32_bits([0, 100_000]),
        _saved(Image.fromarray(np.array([[0.0, 1e6]], dtype=np.float32)), "TIFF"),
    ):
        with pytest.raises(UnreadableImage, match="white"):
            decode(content)


def test_integers_of_eight_bits_stay() -> None:
    image = Image.fromarray(np.array([[0, 100, 255]], dtype=np.int32))
    np.testing.assert_array_equal(decode(image)[0, :, 0], [0, 100, 255])


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in (RED, BLUE, GREEN)]
    content = _saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    with Image.open(io.BytesIO(content)) as image:
        assert getattr(image, "n_frames", 1) == 3
    assert np.abs(decode(content).astype(int) - RED).max() < 12


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_of_gray_rgb_and_rgba_are_taken(shape: tuple[int, ...], dtype: type[np.unsignedinteger]) -> None:
    array = np.full(shape, np.iinfo(dtype).max, dtype=dtype)
    np.testing.assert_array_equal(decode(array), np.full((4, 5, 3), 255))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 3), np.int64), "int64"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"\(2, 4, 4, 3\)"),
    ],
)
def test_other_arrays_are_refused(array: NDArray[Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        decode(array)


def test_an_array_without_pixels_cannot_be_read() -> None:
    with pytest.raises(UnreadableImage, match="no pixels"):
        decode(np.zeros((0, 4, 3), np.uint8))


# ---------------------------------------------------------------- files that cannot be read


def _bomb() -> bytes:
    return _png(60_000, 60_000, 8, zlib.compress(bytes(1000)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "empty, 0 bytes"),
        (lambda: b"Dear diary, this is no image.\n" * 20, "not an image"),
        (lambda: _saved(_four_corners(), "JPEG")[:400], "damaged or truncated image"),
        (lambda: _saved(_four_corners(), "PNG")[:90], "damaged or truncated image"),
        (lambda: _saved(_four_corners(), "WEBP")[:60], "damaged or truncated|not an image"),
        (lambda: b"\xff\xd8\xff", "not an image|damaged or truncated"),
        (lambda: b"x", "not an image"),
        (lambda: b"xyz", "not an image"),
        (lambda: b"\x89PNG\r\n\x1a\n", "not an image|damaged or truncated"),
        (_bomb, "too large"),
    ],
)
def test_a_bad_file_is_one_clear_line(content: Callable[[], bytes], message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content())
    for source, name in ((path, str(path)), (content(), "<bytes>")):
        with pytest.raises(UnreadableImage, match=message) as caught:
            decode(source)
        assert str(caught.value).startswith(f"{name}: ")
        assert "\n" not in str(caught.value)


def test_an_image_is_weighed_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = _saved(_four_corners(), "PNG")
    decode(content, max_pixels=48 * 32)
    with Image.open(io.BytesIO(content)) as lazy:
        monkeypatch.setattr(type(lazy), "load", lambda self: pytest.fail("decoded before its size was checked"))
        with pytest.raises(UnreadableImage, match="48 x 32 is more than 1,535 pixels"):
            decode(content, max_pixels=48 * 32 - 1)


def test_a_large_image_below_the_limit_warns_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    # Pillow warns above this number and refuses above twice as many; an image of 13,000 x 7,000 px would be slow here.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    content = _saved(_four_corners(), "PNG")
    with pytest.warns(Image.DecompressionBombWarning), Image.open(io.BytesIO(content)):
        pass
    _assert_corners(decode(content))


def test_threads_leave_the_programs_warnings_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thread enters first and leaves first, while the second is still inside."""
    first, second = Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4))
    first_is_in, second_is_in, first_is_out = threading.Event(), threading.Event(), threading.Event()
    monkeypatch.setattr(first, "load", lambda: (first_is_in.set(), second_is_in.wait(120)))
    monkeypatch.setattr(second, "load", lambda: (second_is_in.set(), first_is_out.wait(120)))
    before = list(warnings.filters)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(decode, first)
        assert first_is_in.wait(120)
        two = pool.submit(decode, second)
        one.result()
        first_is_out.set()
        two.result()
    assert list(warnings.filters) == before


def test_three_gigabytes_of_junk_cost_no_memory(tmp_path: Path) -> None:
    """A file without blocks on the disk, read by a process that may not have a third of its size."""
    for name, head in (
        ("zeros.jpg", b""),
        ("text.jpg", b"Dear diary"),
        ("claim.webp", b"RIFF\xff\xff\xff\x7fWEBPVP8 "),
    ):
        with (tmp_path / name).open("wb") as file:
            file.write(head)
            file.truncate(3 * 2**30)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9))\n"
        "from ddamfn.errors import UnreadableImage; from ddamfn.faces.decode import decode\n"
        "for name in sys.argv[1:]:\n"
        "    try: decode(name)\n"
        "    except UnreadableImage as error: print(error)\n"
    )
    names = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=False)
    assert [line.partition(": ")[2].partition(",")[0] for line in done.stdout.splitlines()] == [
        "too large", "not an image", "not an image",
    ], done.stderr  # fmt: skip


def test_a_stream_of_junk_is_not_read_on() -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            assert 0 < size <= 4096, "everything was asked for"
            return bytes(min(size, 7))

    with pytest.raises(UnreadableImage, match="not an image"):
        decode(Endless())


def test_a_pipe_a_socket_and_a_device_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        for path, noun in ((tmp_path / "pipe.jpg", "pipe"), (tmp_path / "s", "socket"), (Path(os.devnull), "device")):
            with pytest.raises(UnreadableImage, match=rf"{path}: .*a {noun}, not a file"):
                decode(path)


def test_an_address_is_no_file() -> None:
    for address in ("https://example.org/a.jpg", "s3://bucket/a.jpg"):
        with pytest.raises(UnreadableImage, match="download"):
            decode(address)


def test_a_known_kind_that_is_not_read_says_what_to_do(tmp_path: Path) -> None:
    _four_corners().save(tmp_path / "raw.tiff", tiffinfo={254: 1, 330: 8})  # a preview, with the raw image beside it
    (tmp_path / "raw.tiff").rename(tmp_path / "raw.nef")
    (tmp_path / "a.jxl").write_bytes(b"\xff\x0a\xfa\x7f" * 9)
    for name, noun in (("raw.nef", "RawTherapee"), ("a.jxl", "djxl")):
        with pytest.raises(UnreadableImage, match=noun) as caught:
            decode(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(UnreadableImage, match="raw"):
        decode((tmp_path / "raw.nef").read_bytes())


# ---------------------------------------------------------------- larger than is read


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """Make 60,000 pixels the limit, for images of 200 megapixels would be slow here."""
    module = import_module("ddamfn.faces.decode")  # whose name in its package is the function's
    monkeypatch.setattr(module, "MAX_PIXELS", 60_000)
    monkeypatch.setattr(module, "_MOST_JPEG_PIXELS", 600_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30_000)
    return 60_000


@pytest.mark.parametrize(("side", "divisor"), [(240, 1), (301, 2), (480, 2), (511, 4), (774, 4)])
def test_a_jpeg_that_is_too_large_is_decoded_smaller(small_limit: int, side: int, divisor: int) -> None:
    image = _four_corners().resize((side, side))
    found = decode_scaled(_saved(image, "JPEG", quality=95))
    assert (found.width, found.height, found.scale) == (side, side, 1 / divisor)
    assert found.pixels.shape == (-(-side // divisor), -(-side // divisor), 3)
    quarter = round(side / divisor / 4)
    assert np.abs(found.pixels[quarter, quarter].astype(int) - RED).max() < 12


def test_a_jpeg_that_is_too_large_is_upright_too(small_limit: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = _four_corners().resize((480, 320)).transpose(Image.Transpose.ROTATE_90)
    found = decode_scaled(_saved(image, "JPEG", quality=95, exif=exif.tobytes()))
    assert (found.width, found.height, found.scale) == (480, 320, 0.5)
    _assert_corners(found.pixels[::5, ::5], tolerance=16)


def test_only_a_jpeg_of_our_own_opening_is_decoded_smaller(small_limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg, png = (_saved(_four_corners().resize((301, 301)), kind) for kind in ("JPEG", "PNG"))
    large = _saved(_four_corners().resize((900, 900)), "JPEG")
    for source, limit in ((png, None), (large, None), (jpeg, small_limit)):
        with pytest.raises(ImageTooLarge):
            decode_scaled(source, max_pixels=limit)
    with pytest.raises(ImageTooLarge):
        decode(jpeg)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with Image.open(io.BytesIO(jpeg)) as lazy:
        with pytest.raises(ImageTooLarge):
            decode_scaled(lazy)
        assert lazy.size == (301, 301)


def test_what_is_not_there_or_not_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match=r"nowhere\.png: no such file"):
        decode(tmp_path / "nowhere.png")
    with pytest.raises(UnreadableImage, match=r"cannot be read \(Is a directory\)"):
        decode(tmp_path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "JPEG2000"])
def test_flipped_bytes_never_raise_anything_else(kind: str, rng: np.random.Generator) -> None:
    content = np.frombuffer(_saved(_four_corners(), kind), dtype=np.uint8)
    messages = []
    for _ in range(60):
        damaged = content.copy()
        damaged[rng.integers(0, len(content), 8)] = rng.integers(0, 256, 8)
        try:
            assert decode(damaged.tobytes(), max_pixels=1_000_000).ndim == 3
        except UnreadableImage as error:
            messages.append(str(error))
    assert messages
    assert not any("\n" in message for message in messages)


# ---------------------------------------------------------------- what decoding may cost


def _saved_array(pixels: NDArray[Any], kind: str, **options: object) -> bytes:
    return _saved(Image.fromarray(pixels), kind, **options)


def _progressive_with_scans(count: int) -> bytes:
    """Return a progressive JPEG whose last scan is repeated."""
    content = _saved_array(np.zeros((32, 32, 3), np.uint8), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * count + content[-2:]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_saved_array(np.zeros((2**17 + 1, 1), np.uint8), "PNG"), "131,072 px"),
        (_saved_array(np.zeros((1, 2**17 + 1), np.uint8), "TIFF"), "131,072 px"),
        (_progressive_with_scans(300), "more than 200 scans"),
        (b"P3\n2 2\n255\n" + b"#\n" * 2000 + b"0 " * 12, "too many comments"),
        (b"P6\n" + b"#\n" * 2000 + b"2 2\n255\n" + b"0" * 12, "too many comments"),
    ],
    ids=["one column", "one row", "scans", "comments in pixels", "comments in the head"],
)
def test_what_costs_too_much_is_refused_before_it_is_decoded(content: bytes, reason: str) -> None:
    with pytest.raises(ImageTooLarge, match=f"too long, or too much memory, to decode .*{reason}"):
        decode(content)


def test_ordinary_files_are_within_the_budget() -> None:
    image = np.full((20, 30, 3), 90, np.uint8)
    for content in (_progressive_with_scans(20), b"P3\n# a comment\n1 1\n255\n9 9 9\n", _saved_array(image, "PPM")):
        assert decode(content).shape[2] == 3


def test_16_bits_take_no_more_memory_than_their_image_needs() -> None:
    gray = np.linspace(0, 65535, 3000 * 2000).reshape(3000, 2000).astype(np.uint16)
    expected = np.round(gray / 257).astype(np.uint8)
    content = _saved_array(gray, "PNG", compress_level=1)
    tracemalloc.start()
    found = decode(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found[..., 0], expected)
    assert peak < 9 * gray.size
