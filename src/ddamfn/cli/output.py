"""Where results go: standard output, or a file that never stands half written."""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ddamfn.errors import DdamfnError

FORMATS = ("table", "json", "jsonl", "csv", "parquet")
"""How results can be written."""


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


def plain(text: str) -> str:
    """Return text that is safe in a line of a terminal: no line breaks, no control characters."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _is_special(path: Path) -> bool:
    """Whether the path is a device or a pipe, which must not be replaced by a file."""
    try:
        return not stat.S_ISREG(path.stat().st_mode) and not path.is_dir()
    except OSError:
        return False
