"""Frames of a video file or camera: seek, trim, timestamps."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ddamfn.errors import UnreadableVideo, UsageError
from ddamfn.video.continuity import Continuity, from_key_frame
from ddamfn.video.cut import FrameSource, VideoInfo
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
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

_LOGGER = logging.getLogger(__name__)

# What a stream without any rate is given, as FFmpeg does.
_FALLBACK_RATE = 25.0
# A file that ends this much before its declared end is broken. Containers round, and the last frame's length is often
# unknown, so less proves nothing.
_LEAST_LOSS_S = 0.5
_LEAST_LOSS_FRAMES = 3


class VideoSource(FrameSource):
    """Opens a video or a camera and decodes it once; arguments and errors are those of `read_video`."""

    def __init__(
        self, source: str | os.PathLike[str] | int, *, every: int = 1, start_s: float | None, end_s: float | None
    ) -> None:
        self._av: Any = load_av()
        self._source = source if isinstance(source, int) else os.fspath(source)
        self._live = isinstance(source, int)
        super().__init__(every=every, start_s=start_s, end_s=end_s)
        if self._live and self._start_s:
            raise UsageError("a camera has no start to skip to: leave the start out")
        self._open()
        self.aspect = pixel_aspect(self._stream)
        self.info = self._describe()
        # What starts again is longer than its last time says.
        self._check_times(None if self._restarts else self.info.duration_s)
        self._period_s = 1 / self.info.rate
        self._decoded_to_s: float | None = None
        self._failures = 0

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
        self._restarts = restarts(self._container)
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
            is_address = "://" in path
            reason = "an address, and only files and cameras are read" if is_address else "no such file"
            raise UnreadableVideo(f"{path}: {reason}") from None
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
        frames = None if self._live else self._expected(self._stream.frames, rate, duration_s)
        return VideoInfo(self._name, self._stream.codec_context.name, rate, duration_s, frames, self._live)

    # ---------------------------------------------------------------- decoding

    def _from_start(self) -> Iterator[tuple[float, "VideoFrame"]]:
        """Yield the frames from the start on, seeking to the last key frame before it if the file has an index."""
        if self._start_s and not self._restarts and self._seek():
            frames = self._timed()
            first = next(frames, None)
            if first is not None and not self._is_after_start(first[0]):
                yield from (entry for entry in frames if self._is_after_start(entry[0]))
                return
            # No key frame before the start, or the file led elsewhere: the long way is the sure one.
            self._container.close()
            self._open()
            self._decoded_to_s, self._failures, self.damage = None, 0, None
        yield from (entry for entry in self._timed() if self._is_after_start(entry[0]))

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
        if self._start_s and self._restarts and self._stream.time_base is not None:
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
        continuity = Continuity(self._period_s) if self._restarts else None
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
