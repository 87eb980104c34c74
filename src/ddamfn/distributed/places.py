"""Places: folders of this machine, and those of any file system that fsspec knows, named by an address.

Credentials are those that the file system finds in the environment. What its library says of an error is not repeated,
since it may quote the request: errors name the address and one of a few reasons.
"""

import contextlib
import errno
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from ddamfn.errors import DdamfnError, MissingExtra, PlaceError, UsageError
from ddamfn.files import atomic_writer, is_address
from ddamfn.formats import IMAGE_SUFFIXES

# Larger than any photograph that is decoded; whatever else is called .jpg shall not fill a worker's memory.
_MOST_BYTES = 512 * 2**20
_REFUSED = ("http", "https")
_DENIED = "permission denied: credentials are those of the environment"


def check_address(address: str) -> None:
    """Refuse what is no address of a file system, before anything is asked of it.

    Raises:
        UsageError: an address of the web, one with a password, or a chain of several.
    """
    scheme, _, rest = address.partition(":")
    if scheme.lower() in _REFUSED:
        raise UsageError(f"{address!r} is an address of the web, and nothing is fetched from there: download it first")
    if re.match(r"/+[^/]*:[^/]*@", rest):
        raise UsageError(f"an address of {scheme}:// holds a password: credentials come from the environment alone")
    if "::" in address:
        raise UsageError(f"{address!r} is a chain of addresses: unpack or copy the files first")


def fetch(address: str) -> bytes:
    """Return the content of a file that is named by its address.

    Raises:
        PlaceError: it is not there, too large, or cannot be read.
    """
    fs, path = _open(address)
    try:
        size = fs.size(path)
        if size is not None and size > _MOST_BYTES:
            raise PlaceError(address, f"larger than {_MOST_BYTES // 2**20} MB")
        return bytes(fs.cat_file(path))
    except DdamfnError:
        raise
    except Exception as error:
        raise _failed(address, error) from None


def images_below(address: str, left_out: Counter[str]) -> Iterator[str]:
    """Yield the addresses of the images in a folder and below, by name; or the address itself if it is a file's.

    Of S3 a page of the list is held at a time, of other file systems a folder.

    Args:
        address: of a folder or a file.
        left_out: counts by ending what is no image. Hidden files and folders are not counted.

    Raises:
        UsageError: the file system is not known.
        PlaceError: it cannot be listed.
    """
    fs, root = _open(address)
    base = address.rstrip("/")
    try:
        fs.invalidate_cache()
        if not address.endswith("/") and fs.isfile(root):
            yield address
            return
        walk = _pages if hasattr(fs, "call_s3") else _walk
        for name in walk(fs, root.rstrip("/")):
            suffix = PurePosixPath(name).suffix.lower()
            if any(part.startswith(".") for part in name.split("/")):
                continue
            if suffix in IMAGE_SUFFIXES:
                yield f"{base}/{name}"
            else:
                left_out[suffix if suffix.isprintable() and suffix else "nameless kind"] += 1
    except DdamfnError:
        raise
    except Exception as error:
        raise _failed(address, error) from None


class Folder(Protocol):
    """A folder that results are written into."""

    name: str

    def names(self) -> list[str]:
        """Return the names of its files, sorted; none if there is no folder."""

    def read(self, name: str) -> bytes:
        """Return a file's content."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file that is there as a whole or not at all."""


def open_folder(name: str) -> Folder:
    """Return the folder of this name, which need not exist.

    Raises:
        UsageError: an address of no known file system.
        MissingExtra: the package for its file system is not installed.
    """
    return _RemoteFolder(name) if is_address(name) else _LocalFolder(name)


class _LocalFolder:
    """A folder of this machine, or of a file system that it has mounted."""

    def __init__(self, name: str) -> None:
        self.name = name

    def names(self) -> list[str]:
        try:
            return sorted(path.name for path in Path(self.name).iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _failed(self.name, error) from None

    def read(self, name: str) -> bytes:
        try:
            return Path(self.name, name).read_bytes()
        except OSError as error:
            raise _failed(str(Path(self.name, name)), error) from None

    def write(self, name: str, content: bytes) -> None:
        try:
            with atomic_writer(Path(self.name, name), shared=True) as stream:
                stream.write(content)
        except OSError as error:
            raise _failed(str(Path(self.name, name)), error) from None


class _RemoteFolder:
    """A folder of a file system that fsspec knows."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._fs, self._root = _open(name.rstrip("/"))

    def names(self) -> list[str]:
        try:
            self._fs.invalidate_cache()
            return sorted(path.rsplit("/", 1)[-1] for path in self._fs.ls(self._root, detail=False))
        except FileNotFoundError:
            return []
        except Exception as error:
            raise _failed(self.name, error) from None

    def read(self, name: str) -> bytes:
        return fetch(f"{self.name.rstrip('/')}/{name}")

    def write(self, name: str, content: bytes) -> None:
        # On S3 either step is atomic; on file systems of servers only the second is.
        partial = f"{self._root}/.{name}.{secrets.token_hex(4)}.part"
        try:
            # The folder alone is made, never a bucket.
            if "/" in self._root:
                with contextlib.suppress(FileExistsError):
                    self._fs.mkdir(self._root, create_parents=False)
            self._fs.pipe_file(partial, content)
            self._fs.mv(partial, f"{self._root}/{name}")
        except Exception as error:
            raise _failed(f"{self.name.rstrip('/')}/{name}", error) from None


def _open(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    check_address(address)
    scheme = address.partition(":")[0]
    try:
        import fsspec
    except ModuleNotFoundError:
        raise MissingExtra("s3", "fsspec", f"An address of {scheme}://") from None
    try:
        fs, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        if scheme in ("s3", "s3a"):
            raise MissingExtra("s3", "s3fs", f"An address of {scheme}://") from None
        package = re.search(r"[Ii]nstall ([\w.-]+)|named '?([\w.-]+)", str(error))
        missing = next((name for name in package.groups() if name), None) if package else None
        raise UsageError(f"an address of {scheme}:// needs a package: pip install {missing or scheme + 'fs'}") from None
    except ValueError:
        raise UsageError(f"no file system of addresses {scheme}:// is known: {address!r}") from None
    except Exception as error:
        raise _failed(address, error) from None
    return fs, path


def _pages(fs: Any, root: str) -> Iterator[str]:
    """Yield the names below a folder of S3, whose list comes in pages: s3fs itself would collect them all."""
    bucket, _, key = root.partition("/")
    prefix = f"{key}/" if key else ""
    more: dict[str, str] = {}
    while True:
        page = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
        for entry in page.get("Contents", ()):
            name = entry["Key"][len(prefix) :]
            if name and not name.endswith("/"):
                yield name
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _walk(fs: Any, root: str, below: str = "") -> Iterator[str]:
    """Yield the names below a folder, of each folder's entries in order; what was listed is not kept."""
    folder = f"{root}/{below}".rstrip("/")
    entries = sorted(
        (entry["name"].rstrip("/").rsplit("/", 1)[-1], entry["type"] == "directory")
        for entry in fs.ls(folder, detail=True)
    )
    fs.invalidate_cache(folder)
    for name, is_folder in entries:
        if not is_folder:
            yield below + name
        elif not name.startswith("."):
            yield from _walk(fs, root, f"{below}{name}/")


def _failed(place: str, error: Exception) -> PlaceError:
    return PlaceError(place, _reason(error), is_missing=isinstance(error, FileNotFoundError))


def _reason(error: Exception) -> str:
    """Say why a file system refused, in words that quote nothing of its library's."""
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
        return _DENIED
    if isinstance(error, (TimeoutError, ConnectionError)) or "Connect" in type(error).__name__:
        return "no answer from its server"
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return f"it cannot be used ({type(error).__name__})"
