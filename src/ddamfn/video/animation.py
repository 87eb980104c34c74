"""Animated WebP as a video: FFmpeg decodes none, and Pillow does."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ddamfn.errors import UnreadableImage, UnreadableVideo
from ddamfn.faces import decode
from ddamfn.video.cut import FrameSource, VideoInfo
from ddamfn.video.demux import load_av

if TYPE_CHECKING:
    from av import VideoFrame

_MILLISECOND = Fraction(1, 1000)
# Browsers show a frame of at most so many milliseconds, which old programs wrote for "fast", for this long.
_TOO_SHORT_MS, _INSTEAD_MS = 10, 100
# RIFF's head, then the chunk VP8X, whose first byte has a bit for animation.
_HEAD_BYTES, _FLAGS, _IS_ANIMATED = 21, 20, 0x02
# What Pillow raises; EOFError where the data ends.
_DAMAGE = (OSError, EOFError, ValueError, Image.DecompressionBombError, UnreadableImage)


def is_animated_webp(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a WebP with several images, by its first bytes; False if it cannot be read."""
    file = Path(path)
    try:
        if not file.is_file():
            return False
        with file.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError:
        return False
    is_extended = len(head) == _HEAD_BYTES and head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X"
    return is_extended and bool(head[_FLAGS] & _IS_ANIMATED)


class AnimatedWebp(FrameSource):
    """Opens an animated WebP; each frame is whole, laid over those before and then over white."""

    def __init__(
        self, source: str | os.PathLike[str], *, every: int = 1, start_s: float | None, end_s: float | None
    ) -> None:
        super().__init__(every=every, start_s=start_s, end_s=end_s)
        self._av: Any = load_av()
        name = os.fspath(source)
        try:
            self._image = Image.open(name, formats=("WEBP",))
            rate = 1000 / self._load(0)
        except _DAMAGE as error:
            raise UnreadableVideo(f"{name}: damaged or truncated animation ({_reason(error)})") from error
        self._count = int(getattr(self._image, "n_frames", 1))
        self.info = VideoInfo(name, "webp", rate, None, self._expected(self._count, rate, None), live=False)
        self._check_times(None)

    def close(self) -> None:
        """Close the file."""
        self._image.close()

    def _load(self, number: int) -> int:
        """Decode a frame and return for how many milliseconds it is shown."""
        self._image.seek(number)
        self._image.load()
        shown = int(self._image.info.get("duration", 0))
        return shown if shown > _TOO_SHORT_MS else _INSTEAD_MS

    def _from_start(self) -> Iterator[tuple[float, "VideoFrame"]]:
        past_ms = 0
        for number in range(self._count):
            try:
                shown_ms = self._load(number)
                if self._is_after_start(past_ms / 1000):
                    frame: VideoFrame = self._av.VideoFrame.from_ndarray(decode(self._image), format="rgb24")
                    frame.pts, frame.time_base = past_ms, _MILLISECOND
                    yield past_ms / 1000, frame
            except _DAMAGE as error:
                self.damage = f"damaged at {past_ms / 1000:.2f} s ({_reason(error)})"
                return
            past_ms += shown_ms

    def _look_for_damage(self, count: int) -> None:
        if not count:
            reason = f", {self.damage}" if self.damage else ""
            raise UnreadableVideo(f"{self.info.source}: no frame from {self._start_s:g} s on could be decoded{reason}")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
