"""Where results go: standard output, or a file that never stands half written."""

import argparse
import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ddamfn.errors import DdamfnError, UsageError

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
