"""Input and output of the verbs: images and videos named on the command line, output files, signals."""

import argparse
import contextlib
import glob
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ddamfn.errors import DdamfnError, UsageError
from ddamfn.files import IMAGE_SUFFIXES

FORMATS = ("table", "json", "jsonl", "csv", "parquet")
"""How results can be written."""


def output_format(args: argparse.Namespace) -> str:
    """Return the asked format, or the one that the output file's ending names."""
    ending = os.path.splitext(args.output or "")[1].lower().removeprefix(".")
    return str(args.format or (ending if ending in FORMATS else "table"))


def check_output(args: argparse.Namespace, kind: str) -> None:
    """Refuse an output that cannot be written to before anything is read.

    Raises:
        UsageError: Parquet on a terminal, or a folder in place of a file.
    """
    if kind == "parquet" and args.output is None and sys.stdout.isatty():
        raise UsageError("Parquet is not for a terminal: name a file with --output, or pipe it on")
    if args.output is not None and os.path.isdir(args.output):
        raise UsageError(f"--output must be a file, and {args.output!r} is a folder")


def same_file(one: str, other: str) -> bool:
    """Whether two paths lead to one place, links resolved."""
    return os.path.realpath(one) == os.path.realpath(other)


@contextlib.contextmanager
def open_output(path: str | None) -> Iterator[BinaryIO]:
    """Open a file for results, or standard output.

    The file grows under another name beside its place and is moved there at the end, also when the run is interrupted:
    what is there then is complete as far as it goes, and an older file is not lost to a run that never got going.

    Args:
        path: the file, its folder made if need be; standard output when None.

    Raises:
        DdamfnError: if the file cannot be written.
    """
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with naming_the_file(path):
        # A link stays a link; what it points to is replaced.
        target = Path(os.path.realpath(path))
        if _is_special(target):
            with target.open("wb") as stream:
                yield stream
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.part")
        with partial.open("wb") as stream:
            try:
                yield stream
            finally:
                stream.flush()
                if stream.tell():
                    partial.replace(target)
                else:
                    partial.unlink()


@contextlib.contextmanager
def naming_the_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the system's complaints about writing a file into one line that names it.

    Raises:
        DdamfnError: instead of an OSError.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DdamfnError(f"cannot write {os.fspath(path)}: {error.strerror or error}") from error


def number(count: int, noun: str) -> str:
    """Return a count with its noun, such as "1 face" or "2,000 faces"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def plain(text: str) -> str:
    """Return text that is safe in a line of a terminal: no line breaks, no control characters."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _is_special(path: Path) -> bool:
    """Whether the path is a device or a pipe, which must not be replaced by a file."""
    try:
        return not stat.S_ISREG(path.stat().st_mode) and not path.is_dir()
    except OSError:
        return False


@contextlib.contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Let `timeout` and service managers end a run as Ctrl-C does: with the results so far complete."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


VIDEO_SUFFIXES = frozenset(
    [
        *(".3gp", ".asf", ".avi", ".flv", ".h264", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg"),
        *(".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
    ]
)
"""Which files are videos; one is named by itself, and folders of images leave them out."""

STANDARD_INPUT = "-"


class Sources:
    """The images behind the command line's arguments; may be walked any number of times, lazily.

    Args:
        arguments: files, folders (walked to the bottom, sorted), globs, or `-`.
        skip: a folder that is left out of every walk, such as the one that results are written to.

    Raises:
        UsageError: a glob or a folder without any image, `-` twice, or `-` without anything on standard input.
    """

    def __init__(self, arguments: Sequence[str], skip: str | None = None) -> None:
        self._arguments = tuple(arguments)
        self._skip = os.path.realpath(skip) if skip else None
        if self._arguments.count(STANDARD_INPUT) > 1:
            raise UsageError("'-' is one image on standard input and can be named once only")
        if STANDARD_INPUT in self._arguments and sys.stdin.isatty():
            raise UsageError("'-' reads an image from standard input, and nothing is piped in")
        for argument in self._arguments:
            if next(self._expand(argument), None) is None:
                raise UsageError(self._nothing(argument))

    @property
    def single(self) -> bool:
        """Whether the user named exactly one image, rather than a folder, a glob or a list."""
        return len(self._arguments) == 1 and not _is_glob(self._arguments[0]) and not os.path.isdir(self._arguments[0])

    def __iter__(self) -> Iterator[str]:
        """Yield each image's path as the user would write it, `-` for standard input."""
        for argument in self._arguments:
            yield from self._expand(argument)

    def count(self) -> int:
        """Count the images, without reading any."""
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
        """Yield the images of a folder and those below, by name; hidden files and folders are left out."""
        if self._skip is not None and os.path.realpath(folder) == self._skip:
            return
        try:
            with os.scandir(folder) as scan:
                entries = sorted((entry for entry in scan if not entry.name.startswith(".")), key=lambda e: e.name)
        except OSError:
            # The folder stands for its images: reading it will say why that is impossible, and count as an error.
            yield folder
            return
        for entry in entries:
            # Links to folders are not followed: they may lead round in a circle.
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and not entry.is_dir():
                yield entry.path

    @staticmethod
    def _nothing(argument: str) -> str:
        if _is_glob(argument):
            return f"no file matches {argument!r}: check the pattern, or name a folder"
        if any(os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES for name in os.listdir(argument)):
            return f"no images in the folder {argument!r}, but videos: name one of them, a video a call"
        return f"no images in the folder {argument!r}: looked for .jpg, .png, .webp and the like, also in its folders"


def base_folder(arguments: Sequence[str]) -> str:
    """Return the deepest folder that holds all named images, absolute; results mirror the paths below it."""
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


_OPTIONS = ("every", "start", "end", "track", "smooth", "timeline")
# These may hold one image or many; with an option for videos they are read as such.
_MOVING_IMAGES = frozenset({".gif", ".webp", ".avif"})


def find_video(args: argparse.Namespace) -> str | int | None:
    """Return the video's path or the camera's number that the arguments name; None if they name images.

    Raises:
        UsageError: several videos, a video beside images, or an option for videos without a video.
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
    if ending in IMAGE_SUFFIXES - _MOVING_IMAGES:
        raise UsageError(f"{option} is for a video or a camera, and {sources[0]!r} is an image")
    return sources[0]


def _expand(source: str) -> list[str]:
    """Return what a glob for videos matches; anything else is left to the reader of images."""
    if _ending(source) in VIDEO_SUFFIXES and glob.has_magic(source) and not os.path.lexists(source):
        return sorted(glob.glob(source, recursive=True)) or [source]
    return [source]


def _is_video(source: str) -> bool:
    return _is_camera(source) or (_ending(source) in VIDEO_SUFFIXES and not os.path.isdir(source))


def _is_camera(source: str) -> bool:
    return source.isascii() and source.isdecimal() and not os.path.lexists(source)


def _ending(source: str) -> str:
    return os.path.splitext(source)[1].lower()
