"""What the user names as pictures, files, folders, globs or standard input, turned into a stream of pictures."""

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ddamfn.errors import UsageError

PICTURE_SUFFIXES = frozenset(
    [
        *(".avif", ".bmp", ".dib", ".gif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
        *(".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
    ]
)
"""Which files of a folder count as pictures; a file that is named itself is always tried."""

VIDEO_SUFFIXES = frozenset(
    [
        *(".3gp", ".asf", ".avi", ".flv", ".h264", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg"),
        *(".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
    ]
)
"""Which files are videos; one is named by itself, and folders of pictures leave them out."""

STANDARD_INPUT = "-"


class Sources:
    """The pictures behind the command line's arguments; may be walked any number of times, lazily.

    Args:
        arguments: files, folders (walked to the bottom, sorted), globs, or `-`.
        skip: a folder that is left out of every walk, such as the one that results are written to.

    Raises:
        UsageError: a glob or a folder without any picture, `-` twice, or `-` without anything on standard input.
    """

    def __init__(self, arguments: Sequence[str], skip: str | None = None) -> None:
        self._arguments = tuple(arguments)
        self._skip = os.path.realpath(skip) if skip else None
        if self._arguments.count(STANDARD_INPUT) > 1:
            raise UsageError("'-' is one picture on standard input and can be named once only")
        if STANDARD_INPUT in self._arguments and sys.stdin.isatty():
            raise UsageError("'-' reads a picture from standard input, and nothing is piped in")
        for argument in self._arguments:
            if next(self._expand(argument), None) is None:
                raise UsageError(self._nothing(argument))

    @property
    def single(self) -> bool:
        """Whether the user named exactly one picture, rather than a folder, a glob or a list."""
        return len(self._arguments) == 1 and not _is_glob(self._arguments[0]) and not os.path.isdir(self._arguments[0])

    def __iter__(self) -> Iterator[str]:
        """Yield each picture's path as the user would write it, `-` for standard input."""
        for argument in self._arguments:
            yield from self._expand(argument)

    def count(self) -> int:
        """Count the pictures, without reading any."""
        return sum(1 for _ in self)

    def _expand(self, argument: str) -> Iterator[str]:
        if argument == STANDARD_INPUT or not (_is_glob(argument) or os.path.isdir(argument)):
            yield argument
        elif not _is_glob(argument):
            yield from self._walk(argument)
        else:
            for match in sorted(glob.iglob(argument, recursive=True)):
                if not os.path.isdir(match):
                    yield match
                # With "**" the folder's files are matches of their own.
                elif "**" not in argument:
                    yield from self._walk(match)

    def _walk(self, folder: str) -> Iterator[str]:
        """Yield the pictures of a folder and those below, by name; hidden files and folders are left out."""
        if self._skip is not None and os.path.realpath(folder) == self._skip:
            return
        try:
            with os.scandir(folder) as scan:
                entries = sorted((entry for entry in scan if not entry.name.startswith(".")), key=lambda e: e.name)
        except OSError:
            # The folder stands for its pictures: reading it will say why that is impossible, and count as an error.
            yield folder
            return
        for entry in entries:
            # Links to folders are not followed: they may lead round in a circle.
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in PICTURE_SUFFIXES and not entry.is_dir():
                yield entry.path

    @staticmethod
    def _nothing(argument: str) -> str:
        if _is_glob(argument):
            return f"no file matches {argument!r}: check the pattern, or name a folder"
        if any(os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES for name in os.listdir(argument)):
            return f"no pictures in the folder {argument!r}, but videos: name one of them, a video a call"
        return f"no pictures in the folder {argument!r}: looked for .jpg, .png, .webp and the like, also in its folders"


def base_folder(arguments: Sequence[str]) -> str:
    """Return the deepest folder that holds all named pictures, absolute; results mirror the paths below it."""
    folders = [_folder(argument) for argument in arguments if argument != STANDARD_INPUT]
    return os.path.commonpath(folders) if folders else os.getcwd()


def _is_glob(argument: str) -> bool:
    return glob.has_magic(argument) and not os.path.lexists(argument)


def _folder(argument: str) -> str:
    path = os.path.abspath(argument)
    if _is_glob(argument):
        fixed = Path(path).parts
        first = next(index for index, part in enumerate(fixed) if glob.has_magic(part))
        return str(Path(*fixed[:first]))
    return path if os.path.isdir(path) else os.path.dirname(path)
