"""Files that are never half written: atomic replacement, JSON lines, digests and locks; and which files are images."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

IMAGE_SUFFIXES = frozenset(
    [
        *(".avif", ".bmp", ".dib", ".gif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
        *(".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
    ]
)
"""Which files of a folder count as images, in lower case; a file that is named itself is always tried. All are read by
`ddamfn.faces.decode`. The list stands here since the command line and the readers of data sets, which import nothing of
`faces`, need the same one."""


@contextmanager
def atomic_writer(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` only when the block ends without an exception.

    The content grows in a hidden file beside its place, so that a reader sees the old file or the whole new one.

    Args:
        path: the final place; its folder is made if need be.
        durable: wait until the content and the new name are on the disk.

    Yields:
        A binary stream.

    Raises:
        OSError: if the file cannot be written; nothing is left behind.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part")
    try:
        with partial.open("wb") as stream:
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        partial.replace(target)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    if durable:
        _sync_folder(target.parent)


def write_bytes(path: str | os.PathLike[str], content: bytes | memoryview, *, durable: bool = True) -> None:
    """Replace a file in one step; see `atomic_writer`.

    Raises:
        OSError: if the file cannot be written.
    """
    with atomic_writer(path, durable=durable) as stream:
        stream.write(content)


def write_json(path: str | os.PathLike[str], value: Any, *, indent: int | None = 2) -> None:
    """Replace a JSON file in one step.

    Raises:
        OSError: if the file cannot be written.
    """
    write_bytes(path, (json.dumps(value, indent=indent, ensure_ascii=False) + "\n").encode("utf-8", "surrogateescape"))


def append_json_line(path: str | os.PathLike[str], row: Mapping[str, Any]) -> None:
    """Add one object to a file of JSON lines; it is on the disk when this returns.

    A last line that a kill has torn is closed first, so that it cannot swallow the new one.

    Raises:
        OSError: if the file cannot be written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("ab+") as stream:
        end = stream.seek(0, os.SEEK_END)
        torn = False
        if end:
            stream.seek(end - 1)
            torn = stream.read(1) != b"\n"
        stream.write((b"\n" if torn else b"") + json.dumps(row).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_json_lines(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Objects of a file of JSON lines; none if there is no file.

    Lines that a kill has torn, and lines that hold no object, are left out.

    Raises:
        OSError: if the file cannot be read.
    """
    try:
        lines = Path(path).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for line in lines:
        with suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    return rows


def sha256_bytes(content: bytes | memoryview) -> str:
    """SHA-256 of bytes, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, 64 lower-case hexadecimal digits.

    Raises:
        OSError: if the file cannot be read.
    """
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def exclusive(path: str | os.PathLike[str]) -> Iterator[bool]:
    """Hold a lock file, and tell whether this process has it; the lock ends with the process.

    Where the file system knows no locks, nothing keeps a second process out.

    Raises:
        OSError: if the lock file cannot be made.
    """
    from filelock import FileLock, Timeout  # it imports asyncio, which reading an image should not pay for

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except NotImplementedError:  # raised by filelock for a file system without locks
        yield True
        return
    try:
        yield True
    finally:
        lock.release()


def _sync_folder(folder: Path) -> None:
    """Put a folder's new names on the disk; Windows cannot open folders, and does this by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems refuse
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
