"""Input and output of the verbs: images or video named on the command line, output files, signals."""

import argparse
import contextlib
import errno
import glob
import os
import signal
import stat
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ddamfn.errors import DdamfnError, UsageError
from ddamfn.files import atomic_writer, is_address, special_kind
from ddamfn.formats import IMAGE_SUFFIXES

_TABLE_WIDTH = 500
_KINDS_SHOWN = 8

FORMATS = ("table", "json", "jsonl", "csv", "csv-excel", "parquet")
"""Output formats of results."""

VIDEO_SUFFIXES = frozenset(
    [
        *(".3gp", ".asf", ".avi", ".flv", ".h264", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg"),
        *(".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
    ]
)
"""Suffixes of videos, which folders of images leave out."""

STANDARD_INPUT = "-"


def output_format(args: argparse.Namespace) -> str:
    """Return the requested format, or the one of the output file's suffix; a table where it has none or is a text."""
    suffix = _suffix(args.output or "").removeprefix(".")
    if args.format is None and suffix not in (*FORMATS, "txt", "") and not _is_special(Path(args.output)):
        raise UsageError(
            f"--output {args.output!r}: no format ends in .{suffix}: use .json, .jsonl, .csv, .parquet or .txt, or "
            "name the format with --format"
        )
    return str(args.format or (suffix if suffix in FORMATS else "table"))


def check_output(args: argparse.Namespace, kind: str) -> None:
    """Refuse an output that cannot be written, before anything is read."""
    if kind == "parquet" and args.output is None and sys.stdout.isatty():
        raise UsageError("Parquet is not for a terminal: name a file with --output, or pipe it on")
    if args.output is not None and is_folder(args.output):
        raise UsageError(f"--output must be a file, and {args.output!r} is a folder: only images are read into folders")


def is_folder(path: str) -> bool:
    """Whether an output is a folder of shards: one that exists or ends as one, or an address.

    Raises:
        UsageError: an address of a file.
    """
    if is_address(path) and _suffix(path).removeprefix(".") in (*FORMATS, "txt"):
        raise UsageError(f"{path!r} is the address of a file: name a file of this machine, or an address of a folder")
    return os.path.isdir(path) or path.endswith(("/", os.sep)) or is_address(path)


def same_file(one: str, other: str) -> bool:
    """Whether two paths lead to the same file, links resolved."""
    return os.path.realpath(one) == os.path.realpath(other)


@contextlib.contextmanager
def open_output(path: str | None) -> Iterator[BinaryIO]:
    """Open a file for results, or standard output; a run that writes nothing keeps the older file.

    The file takes its place at the end, also after an interrupt.
    """
    if path is None:
        with write_errors("standard output"):
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    # A link stays a link; what it points to is replaced.
    target = Path(os.path.realpath(path))
    with write_errors(path):
        if _is_special(target):
            with target.open("wb") as stream:
                yield stream
            return
        interruption: BaseException | None = None
        with atomic_writer(target) as stream:
            try:
                yield stream
            except BaseException as error:
                if not stream.tell():
                    raise
                interruption = error
        if interruption is not None:
            raise interruption


@contextlib.contextmanager
def write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an OSError of writing a file into a DdamfnError of one line that names the file."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = "it is closed" if error.errno == errno.EBADF else error.strerror or error
        raise DdamfnError(f"cannot write {os.fspath(path)}: {reason}") from error


def _is_special(path: Path) -> bool:
    """Whether the path is a device or a pipe, which must not be replaced by a file."""
    try:
        return not stat.S_ISREG(path.stat().st_mode) and not path.is_dir()
    except OSError:
        return False


def number(count: int, noun: str) -> str:
    """Return a count with its noun, such as "1 face" or "2,000 faces"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def plain(text: str) -> str:
    """Return text that is safe on one terminal line: no line breaks, no control characters."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def print_table(rows: Iterable[Sequence[str]], head: Sequence[str] = (), *, numbers: bool = False) -> None:
    """Print columns on standard output; with `numbers`, all but the first are aligned to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=None, show_header=bool(head), padding=(0, 0, 0, 2))
    for row in rows:
        table.add_row(*map(plain, row))
    for column in table.columns[1:] if numbers else ():
        column.justify = "right"
    # Wide enough for every row: a terminal wraps what is longer, and a pipe gets whole lines.
    Console(width=_TABLE_WIDTH, highlight=False, markup=False).print(table)


@contextlib.contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Let `timeout` and service managers stop a run as Ctrl-C does: with the results so far complete."""
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


class Sources:
    """The named files, the images of folders (recursive, sorted), `-`: lazy, repeatable, without the folder `skip`.

    Addresses of other file systems are read where the verb takes them, and refused otherwise.
    """

    def __init__(self, arguments: Sequence[str], skip: str | None = None, *, takes_addresses: bool = False) -> None:
        self._arguments = tuple(arguments)
        self._skip = os.path.realpath(skip) if skip else None
        self._left_out: Counter[str] = Counter()
        if self._arguments.count(STANDARD_INPUT) > 1:
            raise UsageError("'-' is one image on standard input and can be named once only")
        if STANDARD_INPUT in self._arguments and (sys.stdin is None or sys.stdin.isatty()):
            raise UsageError("'-' reads an image from standard input, and nothing is piped in")
        for argument in self._arguments:
            if not takes_addresses:
                check_is_local(argument)
            self._left_out.clear()
            if next(self._expand(argument), None) is None:
                raise UsageError(self._nothing(argument))

    @property
    def single(self) -> bool:
        """Whether the user named exactly one image, rather than a folder, a glob or a list."""
        return len(self._arguments) == 1 and not _is_glob(self._arguments[0]) and not os.path.isdir(self._arguments[0])

    @property
    def left_out(self) -> str:
        """Say what folders held beside the images that were yielded, by ending, the most frequent first; may be ""."""
        kinds = sorted(self._left_out.items(), key=lambda entry: (-entry[1], entry[0]))
        parts = [
            f"{count:,} {kind}" if kind[:1] == "." else number(count, kind) for kind, count in kinds[:_KINDS_SHOWN]
        ]
        others = sum(count for _, count in kinds[_KINDS_SHOWN:])
        parts += [f"{others:,} of other endings"] if others else []
        return f"left out: {', '.join(parts)}" if parts else ""

    def __iter__(self) -> Iterator[str]:
        """Yield each image's path as the user would write it, `-` for standard input."""
        self._left_out.clear()
        for argument in self._arguments:
            yield from self._expand(argument)

    def count(self) -> int:
        """Count the images, without reading any."""
        return sum(1 for _ in self)

    def _expand(self, argument: str) -> Iterator[str]:
        if is_address(argument):
            from ddamfn.distributed.places import images_below

            yield from images_below(argument, self._left_out)
        elif argument == STANDARD_INPUT or not (_is_glob(argument) or os.path.isdir(argument)):
            yield argument
        elif not _is_glob(argument):
            yield from self._walk(argument)
        else:
            for match in expand_glob(argument):
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
                continue
            kind = _left_out_as(entry)
            if kind is None:
                yield entry.path
            else:
                self._left_out[kind] += 1

    def _nothing(self, argument: str) -> str:
        if _is_glob(argument):
            return f"no file matches {argument!r}: check the pattern, or name a folder"
        if not is_address(argument) and any(_suffix(name) in VIDEO_SUFFIXES for name in os.listdir(argument)):
            return f"no images in the folder {argument!r}, but videos: name them, for example with a glob"
        left_out = f" ({self.left_out})" if self._left_out else ""
        return (
            f"no images in the folder {argument!r}: looked for .jpg, .png, .heic, .webp and the like, also in its "
            f"folders{left_out}"
        )


def _left_out_as(entry: "os.DirEntry[str]") -> str | None:
    """Say as what an entry of a folder is left out; None for an image. A broken link stays: reading it says why."""
    if not entry.is_file(follow_symlinks=False):
        try:
            mode = entry.stat().st_mode
        except OSError:
            mode = stat.S_IFREG
        kind = "linked folder" if stat.S_ISDIR(mode) else special_kind(mode)
        if kind is not None:
            return kind
    suffix = _suffix(entry.name)
    return None if suffix in IMAGE_SUFFIXES else plain(suffix) or "nameless kind"


def check_is_local(argument: str) -> None:
    """Refuse an address as a source: nothing is fetched over a network."""
    if is_address(argument):
        raise UsageError(
            f"{argument!r} is an address, and nothing is fetched: name images, videos, folders or cameras of this "
            "machine; images of other file systems are read where --output is a folder"
        )


def expand_glob(argument: str) -> list[str]:
    """Return what a glob matches, sorted, as a shell would; none for what is no glob."""
    return sorted(glob.glob(argument, recursive=True)) if _is_glob(argument) else []


def base_folder(arguments: Sequence[str]) -> str:
    """Return the deepest folder that holds all named images, absolute; results mirror the paths below it."""
    folders = [_folder(argument) for argument in arguments if argument != STANDARD_INPUT]
    return os.path.commonpath(folders) if folders else os.getcwd()


def _folder(argument: str) -> str:
    """The folder that an argument names, its glob's fixed part, or the folder that its file lies in; absolute."""
    path = os.path.abspath(argument)
    if _is_glob(argument):
        parts = Path(path).parts
        first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
        return str(Path(*parts[:first]))
    return path if os.path.isdir(path) else os.path.dirname(path)


def _is_glob(argument: str) -> bool:
    return glob.has_magic(argument) and not os.path.lexists(argument)


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()
