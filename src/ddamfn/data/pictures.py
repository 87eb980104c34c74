"""Where a data set's pictures lie: files below a folder, members of zip archives, or rows of a csv file.

A source is small and can be pickled, so that every worker process opens the data by itself; a location is whatever
its source needs to find one picture again.
"""

import zipfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ddamfn.errors import UnreadableImage

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})
"""File endings that count as pictures when a folder is listed (lower case)."""


class PictureSource(Protocol):
    """Anything that can hand out a picture by its location."""

    def read(self, location: Any) -> bytes | npt.NDArray[np.uint8]:
        """Return the file's bytes, or pixels (H, W, 3) uint8 RGB.

        Raises:
            UnreadableImage: if the picture is missing or cannot be read.
        """


class FilePictures:
    """Pictures that are files; a location is a path relative to the root, with forward slashes, or an absolute one."""

    def __init__(self, root: Path) -> None:
        """Remember the root folder."""
        self.root = Path(root)

    def read(self, location: str) -> bytes:
        """Return the file's bytes.

        Raises:
            UnreadableImage: if the file is missing or cannot be read.
        """
        path = self.root / location
        try:
            return path.read_bytes()
        except OSError as error:
            raise UnreadableImage(
                f"{path}: {error.strerror or error}; restore the file or take it off the list"
            ) from error


class ZipPictures:
    """Pictures inside zip archives; a location is `archive.zip/member`, the archive relative to the root."""

    def __init__(self, root: Path) -> None:
        """Remember the folder of the archives; each is opened on first use."""
        self.root = Path(root)
        self._open: dict[str, zipfile.ZipFile] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open files behind: a worker process must not share their read position."""
        return {"root": self.root, "_open": {}}

    def read(self, location: str) -> bytes:
        """Return the member's bytes.

        Raises:
            UnreadableImage: if the archive or the member is missing or damaged.
        """
        name, _, member = location.partition(".zip/")
        archive = f"{name}.zip"
        try:
            if archive not in self._open:
                self._open[archive] = zipfile.ZipFile(self.root / archive)
            return self._open[archive].read(member)
        except (
            OSError,
            KeyError,
            zipfile.BadZipFile,
            EOFError,
            ValueError,
            RuntimeError,
            NotImplementedError,
        ) as error:
            raise UnreadableImage(f"{self.root / archive}: {member}: {error}; download the archive again") from error
        except Exception as error:  # zlib.error has no public base but Exception
            raise UnreadableImage(f"{self.root / archive}: {member}: {error}; download the archive again") from error
