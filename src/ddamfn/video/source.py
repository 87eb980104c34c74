"""Frames of a video file or camera: seek, trim, timestamps, orientation."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ddamfn.errors import UnreadableVideo, UsageError
from ddamfn.video.continuity import Continuity, from_key_frame
from ddamfn.video.demux import (
    announced_duration,
    declared_duration,
    load_av,
    pixel_aspect,
    readable_stream,
    restarts,
    start_offset,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av import Packet, VideoFrame
    from av.buffer import Buffer
    from av.container import InputContainer
    from av.video.stream import VideoStream

_LOGGER = logging.getLogger(__name__)

# What a stream without any rate is given, as FFmpeg does.
_FALLBACK_RATE = 25.0
# A file that ends this much before its declared end is broken. Containers round, and the last frame's length is often
# unknown, so less proves nothing.
_LEAST_LOSS_S = 0.5
# Matroska counts milliseconds: a frame this much before a wanted time is the one that was meant.
_TICK_S = 0.0005
_LEAST_LOSS_FRAMES = 3


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """A container's description of its video.

    Attributes:
        source: the path, or `camera 0`.
        codec: name of the codec, such as `h264`.
        rate: frames per second on average; 25 if unknown.
        duration_s: seconds; None if unknown, and for a camera.
        frames: how many frames will be read; an estimate unless the file is read whole; None if unknown.
        live: whether it is a camera.
    """

    source: str
    codec: str
    rate: float
    duration_s: float | None
    frames: int | None
    live: bool


@dataclass(frozen=True, slots=True)
class RawFrame:
    """PyAV's frame with its number, from 0 where reading starts, and its time from the start of the file."""

    index: int
    time_s: float
    frame: "VideoFrame"


class VideoSource:
    """Opens a video or a camera and decodes it once; arguments and errors are those of `read_video`.

    `aspect` is a stored pixel's width by its height; `damage` says after the last frame where and how the file is
    broken.
    """

    def __init__(
        self, source: str | os.PathLike[str] | int, *, every: int = 1, start_s: float | None, end_s: float | None
    ) -> None:
        self._av: Any = load_av()
        self._source = source if isinstance(source, int) else os.fspath(source)
        self._live = isinstance(source, int)
        self._every, self._start_s, self._end_s = every, start_s or 0.0, end_s
        if self._live and self._start_s:
            raise UsageError("a camera has no start to skip to: leave the start out")
        self._open()
        self.damage: str | None = None
        self.aspect = pixel_aspect(self._stream)
        self.info = self._describe()
        self._check_times()
        self._period_s = 1 / self.info.rate
        self._decoded_to_s: float | None = None
        self._failures = 0

    def frames(self) -> Iterator[RawFrame]:
        """Decode and yield the frames, then look for damage."""
        index = 0
        for time_s, frame in self._from_start():
            if self._end_s is not None and time_s >= self._end_s - _TICK_S:
                if not index:
                    raise UsageError(f"no frame of {self._name} lies from {self._start_s:g} s to {self._end_s:g} s")
                return
            if index % self._every == 0:
                yield RawFrame(index, time_s, frame)
            index += 1
        self._look_for_damage(index)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    # ---------------------------------------------------------------- opening

    def _open(self) -> None:
        if isinstance(self._source, int):
            self._container: InputContainer = _open_camera(self._av, self._source)
        else:
            self._container = self._open_file(self._source)
        try:
            self._stream: VideoStream = readable_stream(self._container, self._name)
        except UnreadableVideo:
            self._container.close()
            raise
        self._stream.thread_type = "AUTO"
        # A camera's clock may count from 1970 or from when the machine was started.
        self._offset_s = None if self._live else start_offset(self._container)

    def _open_file(self, path: str) -> "InputContainer":
        # PyAV takes "1:2.mp4" and "data:..." for addresses of protocols; an absolute path never is one.
        absolute = Path(path).absolute()
        if absolute.is_dir():
            raise UnreadableVideo(f"{path}: a folder, not a video")
        try:
            if absolute.stat().st_size == 0 and absolute.is_file():
                raise UnreadableVideo(f"{path}: the file is empty")
            # Names of songs and places in metadata need not be UTF-8, and nothing here reads them.
            container: InputContainer = self._av.open(str(absolute), metadata_errors="replace")
        except FileNotFoundError:
            raise UnreadableVideo(f"{path}: no such file") from None
        except self._av.FFmpegError as error:
            if isinstance(error, OSError):
                raise UnreadableVideo(f"{path}: {error.strerror}") from error
            raise UnreadableVideo(
                f"{path}: not a video that can be read, or its index at the end is missing ({error.strerror})"
            ) from error
        except OSError as error:
            raise UnreadableVideo(f"{path}: {error.strerror}") from error
        return container

    @property
    def _name(self) -> str:
        return f"camera {self._source}" if self._live else str(self._source)

    def _describe(self) -> VideoInfo:
        rate = float(self._stream.average_rate or self._stream.guessed_rate or _FALLBACK_RATE)
        duration_s = None if self._live else declared_duration(self._container, self._stream)
        frames = None
        end_s = self._end_s if duration_s is None else min(duration_s, self._end_s or duration_s)
        if not self._start_s and self._end_s is None and self._stream.frames:
            frames = -(-self._stream.frames // self._every)
        elif end_s is not None and not self._live:
            frames = -(-max(1, round((end_s - self._start_s) * rate)) // self._every)
        return VideoInfo(self._name, self._stream.codec_context.name, rate, duration_s, frames, self._live)

    def _check_times(self) -> None:
        # What starts again is longer than its last time says.
        duration_s = None if restarts(self._container) else self.info.duration_s
        problem = None
        if duration_s is not None and self._start_s >= duration_s:
            problem = f"the start, {self._start_s:g} s, lies past the end of {self._name} ({duration_s:.2f} s)"
        elif self._end_s is not None and self._end_s <= self._start_s:
            problem = f"the end, {self._end_s:g} s, must lie after the start, {self._start_s:g} s"
        if problem is not None:
            self._container.close()
            raise UsageError(problem)

    # ---------------------------------------------------------------- decoding

    def _from_start(self) -> Iterator[tuple[float, "VideoFrame"]]:
        """Yield the frames from the start on, seeking to the last key frame before it if the file has an index."""
        if self._start_s and not restarts(self._container) and self._seek():
            frames = self._timed()
            first = next(frames, None)
            if first is not None and first[0] < self._start_s - _TICK_S:
                yield from (entry for entry in frames if self._after_start(entry[0]))
                return
            # No key frame before the start, or the file led elsewhere: the long way is the sure one.
            self._container.close()
            self._open()
            self._decoded_to_s, self._failures, self.damage = None, 0, None
        yield from (entry for entry in self._timed() if self._after_start(entry[0]))

    def _after_start(self, time_s: float) -> bool:
        return time_s >= self._start_s - _TICK_S

    def _seek(self) -> bool:
        # Without times in the stream, frames after a jump could not be placed.
        if self._stream.start_time is None or self._stream.time_base is None:
            return False
        try:
            # A frame earlier, since times of files are rounded to the container's ticks.
            wanted_s = max(0.0, self._start_s - self._period_s) + (self._offset_s or 0.0)
            self._container.seek(int(wanted_s / self._stream.time_base), stream=self._stream)
        except self._av.FFmpegError:
            return False
        return True

    def _timed(self) -> Iterator[tuple[float, "VideoFrame"]]:
        for frame in self._decode():
            if frame.pts is None:
                time_s = 0.0 if self._decoded_to_s is None else self._decoded_to_s
            else:
                if self._offset_s is None:
                    self._offset_s = float(frame.time)
                time_s = float(frame.time) - self._offset_s
            length_s = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
            self._decoded_to_s = time_s + (length_s or self._period_s)
            yield time_s, frame

    def _decode(self) -> Iterator["VideoFrame"]:
        """Yield every frame that can be decoded; count and skip the others."""
        packets = self._packets()
        if self._start_s and restarts(self._container) and self._stream.time_base is not None:
            # A jump to a time would land in any of the parts that have it.
            wanted_s = self._start_s - self._period_s + (self._offset_s or 0.0)
            packets = from_key_frame(packets, int(wanted_s / self._stream.time_base))
        for packet in packets:
            try:
                yield from self._stream.decode(packet)
            except self._av.EOFError:
                return
            except self._av.FFmpegError as error:
                self._note(error)

    def _packets(self) -> "Iterator[Packet[VideoStream] | None]":
        """Yield the packets, their times mended; None after an error, since the decoder may hold more frames."""
        continuity = Continuity(self._period_s) if restarts(self._container) else None
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except BlockingIOError:
                # A camera that has no new frame yet.
                time.sleep(0.005)
                continue
            except self._av.FFmpegError as error:
                self._note(error)
                yield None
                return
            if continuity is not None:
                continuity.mend(packet)
            yield packet

    def _note(self, error: Exception) -> None:
        self._failures += 1
        if self.damage is None:
            reason = getattr(error, "strerror", None) or type(error).__name__
            self.damage = f"damaged at {self._decoded_to_s or 0:.2f} s ({reason})"

    def _look_for_damage(self, count: int) -> None:
        """Compare the end with the announced one: most demuxers end a truncated file without an error."""
        if not count:
            raise UnreadableVideo(
                f"{self._name}: no frame from {self._start_s:g} s on could be decoded"
                + (f", {self.damage}" if self.damage else "")
            )
        end_s, announced_s = self._decoded_to_s or 0.0, announced_duration(self._container, self._stream)
        loss_s = max(_LEAST_LOSS_S, _LEAST_LOSS_FRAMES * self._period_s)
        if announced_s is not None and announced_s - end_s > loss_s:
            self.damage = f"breaks off at {end_s:.2f} s of {announced_s:.2f} s"
        elif self._failures:
            _LOGGER.debug("%s: %d packets could not be decoded", self._name, self._failures)


def _open_camera(av: ModuleType, number: int) -> "InputContainer":
    """Open a camera, or raise UnreadableVideo if it is missing or in use, or PyAV was built without cameras."""
    try:
        name, kind, options = _place(av, number)
        container: InputContainer = av.open(name, format=kind, options=options)
    # PyAV raises a plain ValueError where it lacks the system's interface.
    except ValueError as error:
        if isinstance(error, av.FFmpegError):
            raise UnreadableVideo(f"camera {number} gives no video: {error.strerror}") from error
        raise UnreadableVideo(f"this build of PyAV has no camera input: {error}") from error
    except FileNotFoundError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise UnreadableVideo(f"there is no camera {number}{place}: is it plugged in?") from error
    except av.FFmpegError as error:
        raise UnreadableVideo(
            f"camera {number} cannot be opened: {error.strerror}; does another program use it?"
        ) from error
    return container


def _place(av: ModuleType, number: int) -> tuple[str, str, dict[str, str]]:
    """Return the camera's name, its input format and its options on this system."""
    if sys.platform == "darwin":
        # AVFoundation refuses its own default of 29.97 on most cameras.
        return f"{number}:none", "avfoundation", {"framerate": "30"}
    if sys.platform == "win32":
        devices = [device for device in av.device.enumerate_input_devices("dshow") if "video" in device.media_types]
        if number >= len(devices):
            raise FileNotFoundError(0, f"{len(devices)} found")
        return f"video={devices[number].name}", "dshow", {}
    return f"/dev/video{number}", "v4l2", {}


def upright_rgb(frame: "VideoFrame", aspect: float = 1.0) -> NDArray[np.uint8]:
    """Return a frame upright, as uint8 (H, W, 3) RGB; `aspect` is the width of a stored pixel by its height."""
    width = frame.width if aspect == 1 else max(1, round(frame.width * aspect))
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
