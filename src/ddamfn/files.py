"""Files that are never half written: atomic replacement, JSON lines, CSV, digests and locks; and files safe to read."""

import csv
import errno
import hashlib
import io
import json
import os
import re
import secrets
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

# What every usual file system takes.
_LONGEST_NAME_BYTES = 255
_CHUNK_BYTES = 2**20
_CHECKSUM = "crc32"


def is_address(text: str) -> bool:
    """Whether an argument is an address with a scheme, such as https:// or s3://, and not the name of what is there."""
    # One slash is what is left in a `Path`; one letter is a drive of Windows.
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text) is not None and not os.path.lexists(text)


def utf8(text: str) -> bytes:
    """Encode text; names of files that are not UTF-8 come as lone surrogates, and are written as JSON writes them."""
    return text.encode("utf-8", errors="backslashreplace")


@contextmanager
def atomic_writer(path: str | os.PathLike[str], *, durable: bool = True, shared: bool = False) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` only when the block ends without an exception.

    The content grows in a hidden file beside its place, so that a reader sees the old file or the whole new one, also
    after a power cut. It has the permissions of the file that it replaces.

    Args:
        path: the final place; its folder is made if need be.
        durable: wait until the new name is on the disk too; without, a power cut may bring the old file back.
        shared: several processes may write this file at once, and the last one's stays.

    Yields:
        A binary stream.

    Raises:
        OSError: if the file cannot be written; nothing is left behind.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(target)
    if shared:
        partial = partial.with_suffix(f".{secrets.token_hex(4)}.part")
    try:
        with _create(partial, target) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(target)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    if durable:
        sync_folder(target.parent)


def _create(partial: Path, target: Path) -> BinaryIO:
    """Open the hidden file, which is new: neither a link that somebody put there nor what a kill left behind."""
    partial.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    stream = os.fdopen(os.open(partial, flags, 0o666), "wb")
    if hasattr(os, "fchmod"):
        with suppress(OSError):  # there is no file to replace, or it is another user's
            os.fchmod(stream.fileno(), stat.S_IMODE(target.stat().st_mode))
    return stream


def partial_path(path: str | os.PathLike[str]) -> Path:
    """Where a file grows before it takes its place: hidden, in the same folder, its name no longer than is allowed."""
    target = Path(path)
    name = f".{target.name}.part"
    if len(os.fsencode(name)) > _LONGEST_NAME_BYTES:
        name = f".{sha256_bytes(os.fsencode(target.name))[:32]}.part"
    return target.with_name(name)


def fitting_name(name: str, ending: str) -> str:
    """Return a file's name with an ending, cut and marked by a digest where it would be longer than is allowed."""
    if len(os.fsencode(name + ending)) <= _LONGEST_NAME_BYTES:
        return name + ending
    tail = f"~{sha256_bytes(os.fsencode(name))[:8]}{ending}"
    while len(os.fsencode(name + tail)) > _LONGEST_NAME_BYTES:
        name = name[:-1]
    return name + tail


def special_kind(mode: int) -> str | None:
    """Say what a file's mode stands for where reading may wait forever or never end: a pipe, a socket or a device."""
    kinds = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
    return kinds.get(stat.S_IFMT(mode))


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading; a pipe, a socket or a device is refused, for reading it may wait forever or never end.

    Raises:
        OSError: if it cannot be opened; `strerror` says why.
    """
    kind = special_kind(Path(path).stat().st_mode)
    if kind is not None:
        raise OSError(errno.EINVAL, f"a {kind}, not a file", os.fspath(path))
    return Path(path).open("rb")


def csv_lines(rows: Iterable[Iterable[Any]]) -> str:
    """Format CSV with a line break of one character.

    Python 3.11 leaves a carriage return in a field unquoted, and readers then see a row's end, unless it is part of the
    writer's own line break.
    """
    buffer = io.StringIO()
    writer = csv.writer(_LineBreaks(buffer), lineterminator="\r\n")
    writer.writerows(rows)
    return buffer.getvalue()


class _LineBreaks:
    """Takes whole rows, and shortens the line break at their end."""

    def __init__(self, buffer: io.StringIO) -> None:
        self._buffer = buffer

    def write(self, row: str) -> int:
        return self._buffer.write(row.removesuffix("\r\n") + "\n")


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


def append_json_line(path: str | os.PathLike[str], row: Mapping[str, Any], *, checked: bool = False) -> None:
    """Add one object to a file of JSON lines; it is on the disk when this returns.

    A last line that a kill has torn is closed first, so that it cannot swallow the new one.

    Args:
        path: the file; its folder is made if need be.
        row: the object.
        checked: add a checksum as its last entry, "crc32", by which `read_json_lines` knows a damaged line.

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
        line = {**row, _CHECKSUM: _checksum_of(row)} if checked else row
        stream.write((b"\n" if torn else b"") + json.dumps(line).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_json_lines(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Objects of a file of JSON lines; none if there is no file.

    Lines that a kill has torn, lines that hold no object, and lines that differ from their checksum are left out.

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
            if isinstance(row, dict) and row.pop(_CHECKSUM, None) in (None, _checksum_of(row)):
                rows.append(row)
    return rows


def _checksum_of(row: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps({k: v for k, v in row.items() if k != _CHECKSUM}).encode()):08x}"


def crc32_file(path: str | os.PathLike[str]) -> str:
    """CRC-32 of a file, 8 lower-case hexadecimal digits: against damage, not against forgery; a gigabyte a second.

    Raises:
        OSError: if the file cannot be read.
    """
    checksum = 0
    with Path(path).open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    return f"{checksum:08x}"


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


def sync_file(path: str | os.PathLike[str]) -> None:
    """Put what was written into a file on the disk.

    Raises:
        OSError: if it cannot be.
    """
    with Path(path).open("rb+") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Put a folder's new names on the disk; Windows cannot open folders, and does this by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems refuse
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
