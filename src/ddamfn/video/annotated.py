"""The video with its faces marked: frames at their own times, as H.264 where PyAV can write it."""

import logging
import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddamfn.errors import DdamfnError, UsageError
from ddamfn.files import partial_path, sync_file, sync_folder
from ddamfn.video.demux import load_av
from ddamfn.video.frames import FrameResult

if TYPE_CHECKING:
    from av.video.stream import VideoStream

_LOGGER = logging.getLogger(__name__)

ANNOTATED_SUFFIXES = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""File suffix -> FFmpeg's name of the container, for those that can be written."""

# H.264 first, since every browser and player shows it; MPEG-4 part 2 is in every build of FFmpeg.
_ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf", "mpeg4")
# About what a viewer calls lossless at a fraction of the time that slower settings take.
_OPTIONS = {"libx264": {"preset": "veryfast", "crf": "20"}, "mpeg4": {"qmin": "2", "qmax": "5"}}
# Ticks of a second: whole numbers of them make 24, 25, 29.97, 30 and 60 frames a second, and MPEG-4 takes no more.
_TICKS = 60_000
_BT709 = 1
_LIMITED_RANGE = 1


class AnnotatedVideo:
    """Writes frames into a video file; the sound is left out.

    The file grows under another name beside its place and is moved there when it is closed, also after an interrupt:
    what is there then is complete as far as it goes.

    Args:
        path: of the file; its ending names the container.
        rate: frames per second on average, for the container's header; frames keep their own times.

    Attributes:
        encoder: FFmpeg's name of the encoder in use.

    Raises:
        UsageError: the ending is none of `ANNOTATED_SUFFIXES`.
        DdamfnError: PyAV has no encoder, or the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], rate: float) -> None:
        self._path = Path(os.path.realpath(path))
        kind = ANNOTATED_SUFFIXES.get(self._path.suffix.lower())
        if kind is None:
            raise UsageError(f"an annotated video ends in {', '.join(ANNOTATED_SUFFIXES)}, not {os.fspath(path)!r}")
        self._av: Any = load_av()
        self._rate = Fraction(rate).limit_denominator(1001)
        self.encoder = next((name for name in _ENCODERS if self._can_write(name)), "")
        if not self.encoder:
            raise DdamfnError("this build of PyAV can write neither H.264 nor MPEG-4: leave the annotated video out")
        # Not `files.atomic_writer`: FFmpeg opens a path by itself, and after an error the frames so far are kept.
        self._partial = partial_path(self._path)
        self._stream: VideoStream | None = None
        self._last_tick = -1
        self._first_s: float | None = None
        self._kind = kind
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._container = self._av.open(str(self._partial), "w", format=kind)
        except (OSError, self._av.FFmpegError) as error:
            raise self._cannot(error) from error

    @property
    def is_h264(self) -> bool:
        """Whether every browser and player will show the file."""
        return self.encoder != "mpeg4"

    def write(self, frame: FrameResult) -> None:
        """Draw and encode one frame; the first one sets the size.

        Raises:
            ValueError: the frame's pixels were not kept.
            DdamfnError: the file cannot be written.
        """
        drawn = frame.plot()
        try:
            if self._stream is None:
                self._stream = self._begin(drawn.size)
            encoded = self._av.VideoFrame.from_ndarray(_fitted(drawn, self._stream.width, self._stream.height))
            encoded = encoded.reformat(format="yuv420p", dst_colorspace="ITU709")
            encoded.pts, encoded.time_base = self._tick(frame.time_s), Fraction(1, _TICKS)
            self._container.mux(self._stream.encode(encoded))
        except (OSError, self._av.FFmpegError) as error:
            raise self._cannot(error) from error

    def close(self) -> None:
        """Finish the file and move it to its place; without any frame there is none.

        Raises:
            DdamfnError: the file cannot be written.
        """
        try:
            if self._stream is None:
                self._container.close()
                self._partial.unlink(missing_ok=True)
                return
            self._container.mux(self._stream.encode(None))
            self._container.close()
            sync_file(self._partial)
            self._partial.replace(self._path)
            sync_folder(self._path.parent)
        except (OSError, self._av.FFmpegError) as error:
            self._partial.unlink(missing_ok=True)
            raise self._cannot(error) from error

    def __enter__(self) -> Self:
        """The file is open already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _can_write(self, name: str) -> bool:
        # An encoder of the system may be listed and still be missing on this machine.
        try:
            self._av.Codec(name, "w").create()
        except (self._av.FFmpegError, ValueError):
            return False
        return True

    def _begin(self, size: tuple[int, int]) -> "VideoStream":
        stream: VideoStream = self._container.add_stream(
            self.encoder, rate=self._rate, options=dict(_OPTIONS.get(self.encoder, {}))
        )
        # Chroma of half the size needs even sides.
        stream.width, stream.height = (side + side % 2 for side in size)
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, _TICKS)
        context.colorspace, context.color_range = _BT709, _LIMITED_RANGE
        context.color_primaries = context.color_trc = _BT709
        return stream

    def _tick(self, time_s: float) -> int:
        """Return the frame's time in ticks since the first frame; always increasing, as encoders require."""
        self._first_s = time_s if self._first_s is None else self._first_s
        self._last_tick = max(round((time_s - self._first_s) * _TICKS), self._last_tick + 1)
        return self._last_tick

    def _cannot(self, error: Exception) -> DdamfnError:
        return DdamfnError(f"cannot write {self._path}: {getattr(error, 'strerror', None) or error}")


def _fitted(drawn: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """Pad to the stream's size by repeating edge pixels; resize a frame of another size."""
    if not (0 <= width - drawn.width <= 1 and 0 <= height - drawn.height <= 1):
        drawn = drawn.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(drawn)
    return np.pad(pixels, ((0, height - drawn.height), (0, width - drawn.width), (0, 0)), mode="edge")
