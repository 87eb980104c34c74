"""Whether `ddamfn predict` is asked for a video or a camera, rather than for pictures."""

import argparse
import glob
import os

from ddamfn.cli.sources import PICTURE_SUFFIXES, STANDARD_INPUT, VIDEO_SUFFIXES
from ddamfn.errors import UsageError

_OPTIONS = ("every", "start", "end", "track", "smooth", "timeline")
# These may hold one picture or many; with an option for videos they are read as such.
_MOVING_PICTURES = frozenset({".gif", ".webp", ".avif"})


def find_video(args: argparse.Namespace) -> str | int | None:
    """Return the video's path or the camera's number that the arguments name; None if they name pictures.

    Raises:
        UsageError: several videos, a video beside pictures, or an option for videos without a video.
    """
    sources: list[str] = [match for source in args.sources for match in _expand(source)]
    videos = [source for source in sources if _is_video(source)]
    # By identity: `--smooth 0` is an option that was given.
    given = (name for name in _OPTIONS if getattr(args, name) is not None and getattr(args, name) is not False)
    option = next((f"--{name}" for name in given), None)
    if videos and len(sources) > 1:
        raise UsageError(f"a video is read by itself: name {videos[0]!r} alone, with one call for each video")
    if videos:
        return int(videos[0]) if _is_camera(videos[0]) else videos[0]
    if option is None:
        return None
    if len(sources) > 1 or sources[0] == STANDARD_INPUT or os.path.isdir(sources[0]):
        raise UsageError(f"{option} is for a video or a camera: name one file, or the camera's number")
    ending = _ending(sources[0])
    if ending in PICTURE_SUFFIXES - _MOVING_PICTURES:
        raise UsageError(f"{option} is for a video or a camera, and {sources[0]!r} is a picture")
    return sources[0]


def _expand(source: str) -> list[str]:
    """Return what a glob for videos matches; anything else is left to the reader of pictures."""
    if _ending(source) in VIDEO_SUFFIXES and glob.has_magic(source) and not os.path.lexists(source):
        return sorted(glob.glob(source, recursive=True)) or [source]
    return [source]


def _is_video(source: str) -> bool:
    return _is_camera(source) or (_ending(source) in VIDEO_SUFFIXES and not os.path.isdir(source))


def _is_camera(source: str) -> bool:
    return source.isascii() and source.isdecimal() and not os.path.lexists(source)


def _ending(source: str) -> str:
    return os.path.splitext(source)[1].lower()
