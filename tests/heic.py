"""HEIC files put together from HEVC images, as cameras write them: nothing that is light enough for the tests does."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

_VPS, _SPS, _PPS = 32, 33, 34


def heic(
    *images: NDArray[Any], quarter_turns: int = 0, exif: bytes = b"", first: int = 1, brand: bytes = b"heic"
) -> bytes:
    """Write images (H, W, 3) RGB, uint8 or, for 10 bits, uint16, to show turned counterclockwise; `first` counts."""
    coded = [_hevc(image) for image in images]
    properties, associations = [], []
    for number, (image, units) in enumerate(zip(images, coded, strict=True), start=1):
        size = _box(b"ispe", struct.pack(">II", image.shape[1], image.shape[0]), version=0)
        own = [_decoder_configuration(units, image.dtype == np.uint16), size]
        own += [_box(b"irot", bytes([quarter_turns]))] if quarter_turns else []
        properties += own
        # The decoder's configuration and the turn must be understood, which the highest bit says.
        places = range(len(properties) - len(own) + 1, len(properties) + 1)
        marks = bytes(place | (0 if place == places[1] else 0x80) for place in places)
        associations.append(struct.pack(">HB", number, len(own)) + marks)
    contents = [b"".join(struct.pack(">I", len(unit)) + unit for unit in _pixels(units)) for units in coded]
    kinds = [b"hvc1"] * len(coded)
    references = b""
    if exif:
        contents.append(struct.pack(">I", 6) + b"Exif\0\0" + exif.removeprefix(b"Exif\0\0"))
        kinds.append(b"Exif")
        references = _box(b"iref", _box(b"cdsc", struct.pack(">HHH", len(kinds), 1, first)), version=0)
    entries = [
        _box(b"infe", struct.pack(">HH4s", number, 0, kind) + b"\0", version=2)
        for number, kind in enumerate(kinds, start=1)
    ]
    association = _box(b"ipma", struct.pack(">I", len(associations)), *associations, version=0)
    parts = [
        _box(b"hdlr", bytes(4) + b"pict" + bytes(13), version=0),
        _box(b"pitm", struct.pack(">H", first), version=0),
        _box(b"iinf", struct.pack(">H", len(entries)), *entries, version=0),
        references,
        _box(b"iprp", _box(b"ipco", *properties), association),
    ]
    head = _box(b"ftyp", brand, bytes(4), b"mif1", b"heic")
    # The places of the contents stand before them, in a box whose size does not depend on them.
    start = len(head) + len(_box(b"meta", *parts, _places(contents, 0), version=0)) + 8
    return head + _box(b"meta", *parts, _places(contents, start), version=0) + _box(b"mdat", *contents)


def _places(contents: Sequence[bytes], start: int) -> bytes:
    rows = []
    for number, content in enumerate(contents, start=1):
        rows.append(struct.pack(">HHHII", number, 0, 1, start, len(content)))
        start += len(content)
    return _box(b"iloc", struct.pack(">HH", 0x4400, len(rows)), *rows, version=0)


def _box(kind: bytes, *parts: bytes, version: int | None = None) -> bytes:
    body = (b"" if version is None else struct.pack(">I", version << 24)) + b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def _kind(unit: bytes) -> int:
    return unit[0] >> 1 & 63


def _pixels(units: Sequence[bytes]) -> list[bytes]:
    return [unit for unit in units if _kind(unit) not in (_VPS, _SPS, _PPS)]


def _decoder_configuration(units: Sequence[bytes], is_10_bit: bool) -> bytes:
    depth = 0xF8 | (2 if is_10_bit else 0)
    profile = struct.pack(">BBI6sB", 1, 2 if is_10_bit else 1, 0x60000000, bytes(6), 93)
    head = profile + struct.pack(">HBBBBHBB", 0xF000, 0xFC, 0xFD, depth, depth, 0, 0x0F, 3)
    sets = [unit for unit in units if _kind(unit) in (_VPS, _SPS, _PPS)]
    return _box(b"hvcC", head, *(struct.pack(">BHH", 0x80 | _kind(u), 1, len(u)) + u for u in sets))


def _hevc(image: NDArray[Any]) -> list[bytes]:
    """Encode one image, nearly without loss, in full range and the colors of BT.601; return its NAL units."""
    import av

    height, width = image.shape[:2]
    encoder = av.CodecContext.create("libx265", "w")
    encoder.width, encoder.height, encoder.time_base = width, height, Fraction(1)
    encoder.pix_fmt = "yuv420p10le" if image.dtype == np.uint16 else "yuv420p"
    settings = "log-level=none:info=0:pools=none:frame-threads=1:qp=8:range=full:colormatrix=bt470bg"
    encoder.options = {"preset": "ultrafast", "x265-params": settings}
    frame = av.VideoFrame.from_ndarray(image, "rgb48le" if image.dtype == np.uint16 else "rgb24")
    frame = frame.reformat(format=encoder.pix_fmt, dst_colorspace="ITU601", dst_color_range="JPEG")
    stream = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    return [unit for unit in stream.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
