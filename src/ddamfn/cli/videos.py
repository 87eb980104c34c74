"""Which of the named sources are videos or cameras: the content tells, and the ending where it does not."""

import argparse
import os
from pathlib import Path

from ddamfn.cli.io import STANDARD_INPUT, VIDEO_SUFFIXES, check_is_local, expand_glob
from ddamfn.errors import UsageError
from ddamfn.formats import HEAD_BYTES, IMAGE_SUFFIXES, is_video

_VIDEO_OPTIONS = ("every", "detect-every", "start", "end", "track", "smooth", "timeline")
# These may hold one image or many; with an option for videos they are read as videos.
_MOVING_IMAGES = frozenset({".gif", ".webp", ".avif"})


def find_videos(args: argparse.Namespace) -> tuple[list[str | int], bool]:
    """Return the paths of videos and the number of a camera among the sources, and whether one is all there is.

    Without any the sources are images.
    """
    for source in args.sources:
        check_is_local(source)
    # What a quoted glob matches is what the shell would have named.
    sources = [match for source in args.sources for match in expand_glob(source) or [source]]
    alone = len(sources) == 1
    videos = [source for source in sources if _is_camera(source) or _is_video(source, alone=alone)]
    given = video_options(args)
    if alone and given and not videos:
        _check_is_possible(sources[0], given[0])
        videos = sources
    if not videos:
        if given:
            raise UsageError(f"--{given[0]} is for a video or a camera: name one file, or the camera's number")
        return [], False
    if not alone and any(_is_camera(source) for source in videos):
        raise UsageError("a camera is read by itself: name its number alone")
    if not alone and args.timeline is not None:
        raise UsageError("--timeline draws one video: name it alone")
    return [int(source) if _is_camera(source) else source for source in videos], alone


def video_options(args: argparse.Namespace) -> list[str]:
    """Return the names of the options for videos that were given."""
    # By identity: `--smooth 0` is an option that was given.
    values = {name: getattr(args, name.replace("-", "_")) for name in _VIDEO_OPTIONS}
    return [name for name, value in values.items() if value is not None and value is not False]


def _check_is_possible(source: str, option: str) -> None:
    if source == STANDARD_INPUT or os.path.isdir(source):
        raise UsageError(f"--{option} is for a video or a camera: name one file, or the camera's number")
    if _suffix(source) in IMAGE_SUFFIXES - _MOVING_IMAGES:
        raise UsageError(f"--{option} is for a video or a camera, and {source!r} is an image")


def _is_camera(source: str) -> bool:
    return source.isascii() and source.isdecimal() and not os.path.lexists(source)


def _is_video(source: str, *, alone: bool) -> bool:
    """Whether a file is a video."""
    if os.path.isdir(source) or source == STANDARD_INPUT:
        return False
    suffix = _suffix(source)
    if suffix in VIDEO_SUFFIXES:
        return True
    # Of many files those with an image's ending are not opened, which takes time. Pipes and devices never are: what is
    # read of these is gone.
    if not os.path.isfile(source) or (suffix in IMAGE_SUFFIXES and not alone):
        return False
    try:
        with Path(source).open("rb") as stream:
            return is_video(stream.read(HEAD_BYTES))
    except OSError:
        return False


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()
