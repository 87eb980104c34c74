"""What a container declares: durations, streams, pixel aspect; and the PyAV library."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from ddamfn.errors import MissingExtra, UnreadableVideo

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_MICROSECONDS = 1e6
_MATROSKA = "matroska"
# Elsewhere FFmpeg guesses a duration from the file's size or its last time, which tells nothing of a missing end.
_WITH_DURATION = frozenset({"mp4", _MATROSKA, "avi", "flv", "asf"})
# FFmpeg writes the end's time into these as their duration, also if the first time is not 0.
_ENDS_AS_DURATIONS = frozenset({_MATROSKA, "asf", "nut"})
_TS_DISCONT = 0x0200  # AVFMT_TS_DISCONT in FFmpeg's avformat.h
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
    # An animated AVIF has its first image as another "video".
    stream = min(streams, key=lambda entry: (entry.frames == 1, not entry.disposition & Disposition.default))
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
    duration_s = _duration_field(container, stream)
    writer = next((text for name, text in container.metadata.items() if name.lower() == "encoder"), "")
    return _without_lead(container, duration_s) if writer.startswith("Lavf") else duration_s


def announced_duration(container: "InputContainer", stream: "VideoStream") -> float | None:
    """Return the least seconds that the video had when it was complete, to detect a shorter one as broken.

    None where the container has no such field, or where its field includes the sound.
    """
    if not _is_of(container, _WITH_DURATION):
        return None
    one = len(container.streams) == 1
    # Whoever wrote the file: no intact one must be called broken.
    return _without_lead(container, _duration_field(container, stream) if one else _own_duration(container, stream))


def restarts(container: "InputContainer") -> bool:
    """Whether times may start again within the file: MPEG and Ogg streams are joined by putting one after the other.

    Then neither the duration nor a jump to a time can be trusted.
    """
    return bool(container.format.flags & _TS_DISCONT) or _is_of(container, frozenset({"ogg"}))


def _is_of(container: "InputContainer", names: frozenset[str]) -> bool:
    return not names.isdisjoint(container.format.name.split(","))


def _without_lead(container: "InputContainer", duration_s: float | None) -> float | None:
    """Return a duration that was perhaps written as the time of the end, counted from the container's start."""
    if duration_s is None or not _is_of(container, _ENDS_AS_DURATIONS):
        return duration_s
    late_s = max(0.0, start_offset(container) or 0.0)
    # What starts after its own end gave a duration.
    return duration_s - late_s if late_s < duration_s else duration_s


def _duration_field(container: "InputContainer", stream: "VideoStream") -> float | None:
    own = _own_duration(container, stream)
    if own is not None:
        return own
    return None if container.duration is None else container.duration / _MICROSECONDS


def _own_duration(container: "InputContainer", stream: "VideoStream") -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        lead_s = 0.0
        if stream.start_time is not None:
            lead_s = float(stream.start_time * stream.time_base) - (start_offset(container) or 0.0)
        return float(stream.duration * stream.time_base) + lead_s
    # Other containers may have inherited a Matroska file's.
    return _clock(stream.metadata.get("DURATION", "")) if _is_of(container, frozenset({_MATROSKA})) else None


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
