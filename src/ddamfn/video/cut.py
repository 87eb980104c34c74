"""Which frames of a source are asked for: from, to and every which one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddamfn.errors import UsageError

if TYPE_CHECKING:
    from av import VideoFrame

# Matroska counts milliseconds: a frame this much before a wanted time is the one that was meant.
_TICK_S = 0.0005


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


class FrameSource:
    """The frames that are asked for of a file or a camera.

    `aspect` is a stored pixel's width by its height; `damage` says after the last frame where and how the file is
    broken.
    """

    info: VideoInfo

    def __init__(self, *, every: int, start_s: float | None, end_s: float | None) -> None:
        self._every, self._start_s, self._end_s = every, start_s or 0.0, end_s
        self.aspect = 1.0
        self.damage: str | None = None

    def frames(self) -> Iterator[RawFrame]:
        """Decode and yield the frames, then look for damage."""
        index = 0
        for time_s, frame in self._from_start():
            if self._end_s is not None and time_s >= self._end_s - _TICK_S:
                if not index:
                    name = self.info.source
                    raise UsageError(f"no frame of {name} lies from {self._start_s:g} s to {self._end_s:g} s")
                return
            if index % self._every == 0:
                yield RawFrame(index, time_s, frame)
            index += 1
        self._look_for_damage(index)

    def close(self) -> None:
        """Close the file."""
        raise NotImplementedError

    def _from_start(self) -> Iterator[tuple[float, "VideoFrame"]]:
        """Yield the frames that `_is_after_start`, with their times."""
        raise NotImplementedError

    def _look_for_damage(self, count: int) -> None:
        """Say after the end what is missing; `count` frames were decoded."""
        raise NotImplementedError

    def _is_after_start(self, time_s: float) -> bool:
        return time_s >= self._start_s - _TICK_S

    def _expected(self, total: int | None, rate: float, duration_s: float | None) -> int | None:
        """Return how many frames will be read, from what the file says of all of them."""
        end_s = self._end_s if duration_s is None else min(duration_s, self._end_s or duration_s)
        if not self._start_s and self._end_s is None and total:
            return -(-total // self._every)
        if end_s is None:
            return None
        return -(-max(1, round((end_s - self._start_s) * rate)) // self._every)

    def _check_times(self, duration_s: float | None) -> None:
        """Refuse times that hold nothing; a duration that is a guess must not be given."""
        problem = None
        if duration_s is not None and self._start_s >= duration_s:
            problem = f"the start, {self._start_s:g} s, lies past the end of {self.info.source} ({duration_s:.2f} s)"
        elif self._end_s is not None and self._end_s <= self._start_s:
            problem = f"the end, {self._end_s:g} s, must lie after the start, {self._start_s:g} s"
        if problem is not None:
            self.close()
            raise UsageError(problem)
