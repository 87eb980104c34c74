"""What a container declares: durations, streams, pixel aspect; and the PyAV library."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from ddamfn.errors import MissingExtra, UnreadableVideo

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_MICROSECONDS = 1e6
# Elsewhere FFmpeg guesses a duration from the file's size or its last time, which tells nothing of a missing end.
_WITH_DURATION = frozenset({"mp4", "matroska", "avi", "flv", "asf"})
# Stored pixels of DV and DVD are up to twice as wide as high; anything far beyond is a damaged header.
_WIDEST_PIXEL = 4.0


def readable_stream(container: "InputContainer", name: str) -> "VideoStream":
    """Return the video stream that a player would show, or raise UnreadableVideo if none can be decoded."""
    from av.stream import Disposition

    # The cover of a song is a "video" of one image.
    streams = [entry for entry in container.streams.video if not entry.disposition & Disposition.attached_pic]
    if not streams:
        held = " and ".join(sorted({entry.type for entry in container.streams if entry.type != "video"}))
        raise UnreadableVideo(f"{name}: no video in it" + (f", {held} alone" if held else ""))
    stream = next((entry for entry in streams if entry.disposition & Disposition.default), streams[0])
    if stream.codec_context is None:
        raise UnreadableVideo(f"{name}: its video is of a codec that this build of PyAV cannot decode")
    if not stream.codec_context.width or not stream.codec_context.height:
        raise UnreadableVideo(f"{name}: its video has no size, so the file is damaged or of an unknown kind")
    return stream


def start_offset(container: "InputContainer") -> float | None:
    """Return the container's first time in seconds, which players show as 0; None where it has none."""
    start = container.start_time
    return None if start is None else start / _MICROSECONDS


def declared_duration(container: "InputContainer", stream: "VideoStream") -> float | None:
    """Return the seconds from the container's start to the end of the video; None if unknown."""
    own = _own_duration(container, stream)
    if own is not None:
        return own
    return None if container.duration is None else container.duration / _MICROSECONDS


def announced_duration(container: "InputContainer", stream: "VideoStream") -> float | None:
    """Return the seconds recorded when the video was complete, to detect a shorter one as broken.

    None where the container has no such field, or where its field includes the sound.
    """
    if not set(container.format.name.split(",")) & _WITH_DURATION:
        return None
    if len(container.streams) == 1:
        return declared_duration(container, stream)
    return _own_duration(container, stream)


def _own_duration(container: "InputContainer", stream: "VideoStream") -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        lead_s = 0.0
        if stream.start_time is not None:
            lead_s = float(stream.start_time * stream.time_base) - (start_offset(container) or 0.0)
        return float(stream.duration * stream.time_base) + lead_s
    return _clock(stream.metadata.get("DURATION", ""))


def pixel_aspect(stream: "VideoStream") -> float:
    """Return the width of a stored pixel by its height; 1 if it is unknown or implausible."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / _WIDEST_PIXEL <= aspect <= _WIDEST_PIXEL else 1.0


def _clock(text: str) -> float | None:
    """Parse Matroska's "00:01:02.500000000"."""
    try:
        hours, minutes, seconds = (float(part) for part in text.split(":"))
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


def load_av() -> ModuleType:
    """Return the module `av`, or raise MissingExtra."""
    try:
        return importlib.import_module("av")
    except ModuleNotFoundError as error:
        # Anything else that is missing is a broken installation, which "install PyAV" would not mend.
        if error.name != "av":
            raise
        raise MissingExtra("video", "av") from None
