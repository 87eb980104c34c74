"""A data set: its samples, classes, splits and image sources."""

import os
import stat
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ddamfn.data.catalog import DatasetCard
from ddamfn.data.rules import targets as vote_targets
from ddamfn.errors import DataError, UnknownLabel, UnreadableImage, UsageError
from ddamfn.files import open_regular, sha256_file
from ddamfn.labels import EXPRESSIONS

# No image of a data set comes near it: what does is junk, which must not fill the memory of every worker.
_MOST_BYTES = 2**30

Progress = Callable[[int, int], None]
"""Called with the number of images done and the total."""

# The coarsest clock of a file system in use, FAT's: a file that is changed twice within it may look the same.
_CLOCK_NS = 2_000_000_000


class ImageSource(Protocol):
    """Anything that reads an image by its location."""

    def read(self, location: Any) -> bytes | npt.NDArray[np.uint8]:
        """Return the file's bytes, or pixels (H, W, 3) uint8 RGB; raise UnreadableImage if it cannot be read."""

    def state(self, location: Any) -> str:
        """Return a text that changes whenever the image does, at little cost; "" if there is no such image."""


class FileImages:
    """Images that are files; a location is a path relative to the root, with forward slashes, or an absolute one."""

    def __init__(self, root: Path) -> None:
        """Remember the root folder."""
        self.root = Path(root)

    def read(self, location: str) -> bytes:
        """Return the file's bytes."""
        path = self.root / location
        try:
            with open_regular(path) as file:
                if os.fstat(file.fileno()).st_size > _MOST_BYTES:
                    raise UnreadableImage(f"{path}: larger than {_MOST_BYTES:,} bytes; remove it from the list")
                return file.read()
        except (OSError, ValueError) as error:  # a path with a null byte
            reason = getattr(error, "strerror", None) or error
            raise UnreadableImage(f"{path}: {reason}; restore the file or remove it from the list") from error

    def state(self, location: str) -> str:
        """Return the file's size and times, or its digest while it is so young that a change may leave both alone."""
        path = self.root / location
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                return ""
            if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _CLOCK_NS:
                return sha256_file(path)
        except OSError:
            return ""
        return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


class ZipImages:
    """Images inside zip archives; a location is `archive.zip/member`, the archive relative to the root."""

    def __init__(self, root: Path) -> None:
        """Remember the folder of the archives; each archive is opened on first use."""
        self.root = Path(root)
        self._open: dict[str, zipfile.ZipFile] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Drop the open files: a worker process must not share their read position."""
        return {"root": self.root, "_open": {}}

    def read(self, location: str) -> bytes:
        """Return the member's bytes."""
        archive, member = self._parts(location)
        try:
            return self._archive(archive).read(member)
        except Exception as error:  # damaged archives raise anything, and zlib.error has no base but Exception
            raise UnreadableImage(f"{self.root / archive}: {member}: {error}; download the archive again") from error

    def state(self, location: str) -> str:
        """Return the member's size and checksum, which the archive's index holds."""
        archive, member = self._parts(location)
        try:
            entry = self._archive(archive).getinfo(member)
        except Exception:  # as above
            return ""
        return f"{entry.file_size} {entry.CRC:08x}"

    def _parts(self, location: str) -> tuple[str, str]:
        name, _, member = location.partition(".zip/")
        return f"{name}.zip", member

    def _archive(self, name: str) -> zipfile.ZipFile:
        if name not in self._open:
            self._open[name] = zipfile.ZipFile(self.root / name)
        return self._open[name]


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a data set."""

    key: str  # unique in the set, such as `FER2013Test/fer0032220.png`
    split: str  # `train`, `val`, `test` or `all`
    label: str | None = None  # canonical expression
    votes: tuple[float, ...] | None = None  # ten counts as in `rules.VOTE_COLUMNS`
    subject: str | None = None  # a subject must not occur in two folds
    group: str | None = None  # subgroup to report scores for
    landmarks: tuple[tuple[float, float], ...] | None = None  # five (x, y) pixels, viewer's left eye first
    bbox: tuple[float, float, float, float] | None = None  # labeled face, (x1, y1, x2, y2) pixels
    location: Any = None  # what `ImageSource.read` takes


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set on disk."""

    card: DatasetCard
    samples: tuple[Sample, ...]  # in the set's own order, also those that a vote rule would drop
    images: ImageSource
    note: str = ""  # describes this copy, such as the file that the votes come from

    @property
    def classes(self) -> tuple[str, ...]:
        """Canonical class names in the set's own order: the columns of `targets`."""
        return self.card.classes

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that this copy holds, in the order train, val, test, others."""
        order = {"train": 0, "val": 1, "test": 2}
        return tuple(sorted({s.split for s in self.samples}, key=lambda name: (order.get(name, 3), name)))

    def read(self, sample: Sample) -> bytes | npt.NDArray[np.uint8]:
        """Return an image's bytes, or its pixels (H, W, 3) uint8 RGB; raise UnreadableImage if it cannot be read."""
        return self.images.read(sample.location)

    def select(self, split: str | None = None) -> "Dataset":
        """Return the same set with the samples of one split; all of them if `split` is None."""
        if split is None:
            return self
        chosen = tuple(s for s in self.samples if s.split == split)
        if not chosen:
            raise DataError(f"{self.card.title} has no split {split!r} here; it has {', '.join(self.splits)}")
        return Dataset(self.card, chosen, self.images, self.note)

    def targets(self, rule: str = "majority") -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
        """Return which samples a vote rule keeps, (N,) bool, and targets (N, K) float32, zero rows where not kept."""
        return sample_targets([s.label for s in self.samples], [s.votes for s in self.samples], self.classes, rule)


def sample_targets(
    labels: Sequence[str | None], votes: Sequence[Sequence[float] | None], classes: Sequence[str], rule: str
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Turn labels, or votes where the label is None, into targets over `classes`; see `Dataset.targets`."""
    count = len(labels)
    target = np.zeros((count, len(classes)), dtype=np.float32)
    keep = np.ones(count, dtype=np.bool_)
    voted = np.array([v is not None for v in votes], dtype=np.bool_)
    ballots = np.array([v for v in votes if v is not None], dtype=np.float64).reshape(-1, len(EXPRESSIONS) + 2)
    # Called even without votes, so that a misspelled rule is refused for every set.
    kept, shares = vote_targets(ballots, rule)
    if voted.any():
        missing = [name for name in EXPRESSIONS if name not in classes]
        if missing:
            raise UsageError(f"votes need all eight expressions, and {', '.join(missing)} are not among the classes")
        keep[voted] = kept
        target[voted] = shares[:, [EXPRESSIONS.index(name) for name in classes]]
    column = {name: i for i, name in enumerate(classes)}
    for row in np.flatnonzero(~voted).tolist():
        label = labels[row]
        if label is None:
            raise DataError(f"sample {row} has neither a label nor votes; correct the list")
        if label not in column:
            raise UnknownLabel(f"{label!r} is none of the set's classes {', '.join(classes)}")
        target[row, column[label]] = 1.0
    return keep, target


FoldRows = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def subject_folds(subjects: Sequence[str | None], folds: int = 10) -> list[FoldRows]:
    """Split images into folds, (train, test) row numbers each, so that no subject is in both train and test.

    Subjects are sorted by name and dealt out in turn, as in papers on CK+, so the folds need no seed.
    """
    if folds < 2:
        raise UsageError(f"folds must be at least 2, not {folds}")
    people = sorted({s for s in subjects if s is not None})
    if any(s is None for s in subjects):
        raise DataError("an image has no subject; folds by subject need one for each")
    if len(people) < folds:
        raise DataError(f"{len(people)} subjects do not make {folds} folds; ask for fewer")
    place = {person: i % folds for i, person in enumerate(people)}
    fold_of = np.array([place[s] for s in subjects if s is not None], dtype=np.int64)
    return _folds(fold_of, folds)


def stratified_folds(labels: Sequence[int], folds: int, generator: np.random.Generator) -> list[FoldRows]:
    """Split images into folds, (train, test) row numbers each, that keep every class's share to within one image."""
    if folds < 2:
        raise UsageError(f"folds must be at least 2, not {folds}")
    classes = np.asarray(labels, dtype=np.int64)
    if len(classes) < folds:
        raise DataError(f"{len(classes)} images do not make {folds} folds; ask for fewer")
    # Sorted by class after a shuffle, then dealt out in turn without a break between classes.
    shuffled = generator.permutation(len(classes))
    order = shuffled[np.argsort(classes[shuffled], kind="stable")]
    fold_of = np.empty(len(classes), dtype=np.int64)
    fold_of[order] = np.arange(len(classes)) % folds
    return _folds(fold_of, folds)


def _folds(fold_of: npt.NDArray[np.int64], folds: int) -> list[FoldRows]:
    """Return the row numbers (train, test) of each fold."""
    return [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(folds)]
