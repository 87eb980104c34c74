"""FER2013 as the contest's csv: the class number, 48x48 gray values as text, and the usage.

Source: Goodfellow et al. 2013.
"""

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ddamfn.data.catalog import FER2013
from ddamfn.data.dataset import Dataset, Sample
from ddamfn.errors import DataError, UnknownLabel, UnreadableImage
from ddamfn.files import sha256_bytes

NAMES: tuple[str, ...] = ("fer2013.csv", "icml_face_data.csv")
"""Names under which the file is distributed."""

_USAGES = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
_SIDE_PX = 48


class PixelRows:
    """Images that are rows of a csv file; a location is the row's offset in bytes."""

    def __init__(self, path: Path, column: int) -> None:
        """Remember the file and the column of the pixels; rows are read one by one, since the file has 300 MB."""
        self.path, self.column = path, column

    def read(self, location: int) -> npt.NDArray[np.uint8]:
        """Return (48, 48, 3) uint8, three equal channels."""
        try:
            with self.path.open("rb") as file:
                file.seek(location)
                cells = next(csv.reader([file.readline().decode()]))
            values = np.array(cells[self.column].split(), dtype=np.int64)
        except (OSError, ValueError, IndexError, OverflowError, StopIteration) as error:
            raise UnreadableImage(f"{self.path}: the row at byte {location} is damaged ({error})") from error
        if values.size != _SIDE_PX**2 or values.min() < 0 or values.max() > 255:
            raise UnreadableImage(f"{self.path}: the row at byte {location} has no 48x48 values from 0 to 255")
        gray = values.reshape(_SIDE_PX, _SIDE_PX).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)

    def state(self, location: int) -> str:
        """Return the row's digest: the times of the file would change for all rows at once."""
        try:
            with self.path.open("rb") as file:
                file.seek(location)
                return sha256_bytes(file.readline())
        except OSError:
            return ""


def is_fer2013(path: Path) -> bool:
    """Tell whether a path is FER2013's csv, or a folder that holds it."""
    file = _find(path)
    return file is not None and _header(file) is not None


def open_fer2013(root: Path) -> Dataset:
    """Open FER2013's csv file or its folder; a key is the usage and the number of the data row, counted from 0."""
    path = _find(root)
    if path is None:
        raise DataError(f"{root} holds none of {', '.join(NAMES)}; give FER2013's csv file")
    columns = _header(path)
    if columns is None:
        raise DataError(f"{path}: the first line must name emotion, pixels and Usage")
    samples = []
    with path.open("rb") as file:
        offset = len(file.readline())
        for row, line in enumerate(file):
            if line.strip():
                samples.append(_sample(path, columns, row, offset, line))
            offset += len(line)
    return Dataset(FER2013, tuple(samples), PixelRows(path, columns["pixels"]), path.name)


def _find(root: Path) -> Path | None:
    candidates = [root] if root.is_file() and root.suffix == ".csv" else [root / name for name in NAMES]
    return next((path for path in candidates if path.is_file()), None)


def _header(path: Path) -> dict[str, int] | None:
    with path.open("rb") as file:
        # One copy in use spells the names with a space before them.
        names = [name.strip().lower() for name in file.readline(200).decode("utf-8-sig", "replace").split(",")]
    return {name: i for i, name in enumerate(names)} if {"emotion", "pixels", "usage"} <= set(names) else None


def _sample(path: Path, columns: dict[str, int], row: int, offset: int, line: bytes) -> Sample:
    try:
        cells = line.decode().strip().split(",")
        label = FER2013.label(int(cells[columns["emotion"]]))
        split = _USAGES[cells[columns["usage"]].strip()]
    except (ValueError, IndexError, KeyError, UnknownLabel) as error:
        raise DataError(f"{path}: data row {row} is malformed ({error}); download the file again") from error
    return Sample(key=f"{split}/{row:05d}", split=split, label=label, location=offset)
