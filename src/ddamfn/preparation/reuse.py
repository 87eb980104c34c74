"""Rows of earlier preparations whose images are as they were: their crops are taken, not made again."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ddamfn.data.dataset import Dataset, Sample
from ddamfn.errors import DataError
from ddamfn.files import atomic_writer
from ddamfn.preparation.image import Outcome
from ddamfn.preparation.prepared import MANIFEST_NAME, read_manifest
from ddamfn.preparation.sources import Source, marks_of, read_digest, read_sources


@dataclass(frozen=True, slots=True)
class EarlierRow:
    """A row of an earlier preparation, and where its crop lies."""

    folder: Path
    split: str
    row: int
    outcome: Outcome
    source: Source


class Reuse:
    """Finds the rows of earlier preparations, which need not be complete, and takes over what was computed from them.

    Images that could not be read are never found: they are tried again.
    """

    def __init__(self, folders: Iterable[Path] = (), side_px: int = 0) -> None:
        """Read the rows of folders with the same alignment, whose crops have this side; the best folder first."""
        self._by_key: dict[str, EarlierRow] = {}
        self._by_content: dict[tuple[str, str], EarlierRow] = {}
        self._arrays: dict[Path, npt.NDArray[Any]] = {}
        self._taken: list[tuple[EarlierRow, str, int]] = []
        for row in (row for folder in folders for row in _rows(folder, side_px)):
            self._by_key.setdefault(row.source.key, row)
            self._by_content.setdefault((row.source.sha256, row.source.marks), row)

    def find(self, dataset: Dataset, sample: Sample, state: str) -> EarlierRow | None:
        """Return the row that was made of the same image and the same marks, wherever it was; None without one."""
        if not self._by_key or not state:
            return None
        marks, row = marks_of(sample), self._by_key.get(sample.key)
        if row is not None and (row.source.state, row.source.marks) == (state, marks):
            return row
        return self._by_content.get((read_digest(dataset, sample), marks))

    def take(self, found: EarlierRow, folder: Path, split: str, row: int) -> None:
        """Copy a row's crop to its new place."""
        self._array(folder / f"{split}.npy", "r+")[row] = self._array(found.folder / f"{found.split}.npy", "r")[
            found.row
        ]
        self._taken.append((found, split, row))

    def take_along(self, folder: Path) -> None:
        """Copy what else is known of the rows that were taken: other arrays of floats with a row per image."""
        others = {
            place: sorted(place[0].glob(f"{place[1]}.*.npy"))
            for place in {(t.folder, t.split) for t, *_ in self._taken}
        }
        for found, split, row in self._taken:
            for path in others[found.folder, found.split]:
                target = folder / f"{split}{path.name.removeprefix(found.split)}"
                if not target.exists():
                    shape = (len(self._array(folder / f"{split}.npy", "r+")), *self._array(path, "r").shape[1:])
                    with atomic_writer(target) as stream:
                        np.save(stream, np.full(shape, np.nan, dtype=np.float32))
                self._array(target, "r+")[row] = self._array(path, "r")[found.row]

    def _array(self, path: Path, mode: Literal["r", "r+"]) -> npt.NDArray[Any]:
        if path not in self._arrays:
            self._arrays[path] = np.load(path, mmap_mode=mode)
        return self._arrays[path]


def _rows(folder: Path, side_px: int) -> Iterator[EarlierRow]:
    """Yield the rows of readable images whose crops are there, up to a row that a kill has torn."""
    crops = {path.stem: _length(path, side_px) for path in folder.glob("*.npy")}
    with suppress(DataError):
        for row, source in zip(read_manifest(folder / MANIFEST_NAME), read_sources(folder), strict=False):
            if (row.key, row.outcome.error) == (source.key, "") and source.sha256 and row.row < crops.get(row.split, 0):
                yield EarlierRow(folder, row.split, row.row, row.outcome, source)


def _length(path: Path, side_px: int) -> int:
    """Return the number of crops in an array; 0 if it holds something else."""
    try:
        shape = np.load(path, mmap_mode="r").shape
    except (OSError, ValueError):
        return 0
    return int(shape[0]) if shape[1:] == (side_px, side_px, 3) else 0
