"""From a decoded frame to upright RGB pixels."""

from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from ddamfn.video.hdr import is_hdr, tone_mapped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av import VideoFrame
    from av.buffer import Buffer


def upright_rgb(frame: "VideoFrame", aspect: float = 1.0) -> NDArray[np.uint8]:
    """Return a frame upright, as uint8 (H, W, 3) sRGB; `aspect` is the width of a stored pixel by its height."""
    width = frame.width if aspect == 1 else max(1, round(frame.width * aspect))
    if is_hdr(frame):
        pixels = tone_mapped(frame, width, frame.height)
    else:
        pixels = frame.to_ndarray(format="rgb24", width=width, height=frame.height).astype(np.uint8, copy=False)
    return np.ascontiguousarray(turned(pixels, _matrix(frame)))


def turned(pixels: NDArray[np.uint8], matrix: NDArray[np.int32] | None) -> NDArray[np.uint8]:
    """Return a view of pixels (H, W, 3) rotated by a display matrix to the nearest quarter turn, with mirroring.

    The matrix (3, 3) takes the row (x, y, 1) of a stored pixel to its place on the screen (ISO/IEC 14496-12,
    6.2.2).
    """
    if matrix is None or not matrix[:2, :2].any():
        return pixels
    (a, b), (c, d) = matrix[:2, :2].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        right, down = a, d
    else:
        # Columns become rows: what ran to the right now runs down or up.
        pixels, right, down = pixels.transpose(1, 0, 2), c, b
    return pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]


def _matrix(frame: "VideoFrame") -> NDArray[np.int32] | None:
    # PyAV's types know of one kind of side data only.
    side_data = cast("Mapping[str, Buffer]", frame.side_data)
    stored = side_data.get("DISPLAYMATRIX")
    # In the memory of libavutil, so in the machine's own byte order.
    return None if stored is None else np.frombuffer(bytes(stored), np.int32).reshape(3, 3)
