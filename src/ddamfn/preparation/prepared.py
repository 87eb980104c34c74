"""A prepared set on disk: manifest, card, splits and crops."""

import csv
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ddamfn.data.dataset import Sample, sample_targets
from ddamfn.errors import ConfigError, DataError
from ddamfn.faces import Alignment
from ddamfn.files import crc32_file, csv_lines, write_json
from ddamfn.preparation.image import Landmarks, Outcome

log = logging.getLogger(__name__)

FORMAT = 3
CARD_NAME = "prepared.json"
LOCK_NAME = ".lock"
MANIFEST_NAME = "manifest.csv"

_POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")

COLUMNS: tuple[str, ...] = (
    *("key", "split", "row", "found", "score"),
    *(f"{point}_{axis}" for point in _POINTS for axis in "xy"),
    *("m00", "m01", "m02", "m10", "m11", "m12"),
    *("label", "votes", "subject", "group", "error"),
)
"""Header of `manifest.csv`. Landmarks are pixels of the image, `m..` takes image to crop, votes share a cell."""


@dataclass(frozen=True, slots=True, eq=False)
class ManifestRow:
    """One image of a prepared set."""

    key: str
    split: str
    row: int  # its place in `<split>.npy`
    outcome: Outcome
    label: str | None  # canonical expression
    votes: tuple[float, ...] | None  # ten counts
    subject: str | None
    group: str | None


def to_line(sample: Sample, row: int, outcome: Outcome) -> str:
    """Write one image as a csv line, newline included; numbers keep every bit."""
    cells: list[str] = [sample.key, sample.split, str(row), str(int(outcome.found)), _number(outcome.score)]
    cells += [""] * 10 if outcome.landmarks is None else [str(v) for v in outcome.landmarks.astype(np.float32).ravel()]
    cells += [""] * 6 if outcome.matrix is None else [repr(float(v)) for v in outcome.matrix.ravel()]
    votes = "" if sample.votes is None else " ".join(f"{v:g}" for v in sample.votes)
    cells += [sample.label or "", votes, sample.subject or "", sample.group or "", outcome.error]
    return csv_lines([cells])


def read_manifest(path: Path) -> Iterator[ManifestRow]:
    """Read a manifest row by row; raise DataError if it is missing or malformed."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            if tuple(next(reader, ())) != COLUMNS:
                raise DataError(f"{path}: not a manifest of this version; prepare the data set again")
            for cells in reader:
                yield _row(cells)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); prepare the data set again") from error


def repair(path: Path) -> int:
    """Cut off a torn last line, or begin the file with its header, and return the number of image rows."""
    header = ",".join(COLUMNS) + "\n"
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if not whole.startswith(header.encode()):
        if whole:
            raise DataError(f"{path}: not a manifest of this version; delete the folder and prepare the data set again")
        path.write_text(header, encoding="utf-8")
        return 0
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return whole.count(b"\n") - 1


def _number(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _row(cells: list[str]) -> ManifestRow:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"a row has {len(cells)} cells instead of {len(COLUMNS)}")
    key, split, row, found, score = cells[:5]
    label, votes, subject, group, error = cells[21:]
    landmarks: Landmarks | None = np.array(cells[5:15], dtype=np.float32).reshape(5, 2) if cells[5] else None
    matrix: npt.NDArray[np.float64] | None = (
        np.array(cells[15:21], dtype=np.float64).reshape(2, 3) if cells[15] else None
    )
    outcome = Outcome(found == "1", float(score) if score else None, landmarks, matrix, error)
    ballot = tuple(float(v) for v in votes.split()) if votes else None
    return ManifestRow(key, split, int(row), outcome, label or None, ballot, subject or None, group or None)


class Crops:
    """Chosen rows of a memory-mapped array, read on demand; indexed like an array (N, S, S, 3) uint8 RGB."""

    def __init__(self, array: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64]) -> None:
        """Remember the array and which of its rows count."""
        self._array, self._rows = array, rows

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, S, S, 3)."""
        return (len(self._rows), *self._array.shape[1:])

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """Always uint8."""
        return self._array.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> npt.NDArray[np.uint8]:
        return np.asarray(self._array[self._rows[index]])

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("the crops lie on disk; reading them is a copy")
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype, copy=False)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedSplit:
    """N images of one split under one vote rule, ready for training or scoring."""

    name: str
    rule: str  # "single label" where the set has no votes, "no label" where none was asked for
    crops: Crops  # (N, S, S, 3) uint8 RGB, read on demand
    targets: npt.NDArray[np.float32]  # (N, K); every row sums to 1
    keys: list[str]  # names inside the data set
    found: npt.NDArray[np.bool_]  # (N,), False where the crop is the whole image
    subjects: list[str | None]
    groups: list[str | None]
    classes: tuple[str, ...]  # canonical names of the K columns
    unreadable: int  # images that the rule keeps, but that could not be read

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A complete prepared set; counts per split: `images`, `found`, `given` (landmarks), `resized`, `unreadable`."""

    folder: Path
    dataset: str  # the card's name
    note: str  # which copy of the data set it was
    classes: tuple[str, ...]  # canonical, in the set's own order
    alignment: Alignment
    detector: str  # SHA-256 of the detector's network
    samples: str  # fingerprint of the data set
    counts: Mapping[str, Mapping[str, int]]
    votes: bool  # whether a vote rule matters
    checksums: Mapping[str, str]  # CRC-32 of every file
    source: str  # what messages call it: the data set of a set in the cache, else the folder

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of its splits."""
        return tuple(self.counts)

    def manifest(self) -> Iterator[ManifestRow]:
        """Yield every image's row, in the data set's order; raise DataError if they are not those that were written."""
        verify(self.folder / MANIFEST_NAME, self.checksums)
        return read_manifest(self.folder / MANIFEST_NAME)

    def split(self, name: str, rule: str | None = "majority") -> PreparedSplit:
        """Return one split under a vote rule; None keeps every readable image, with no classes and targets (N, 0)."""
        if name not in self.counts:
            raise DataError(f"{self.source} has no split {name!r}; it has {', '.join(self.splits)}")
        rows = [row for row in self.manifest() if row.split == name]
        if len(rows) != self.counts[name]["images"]:
            raise DataError(f"{self.folder / MANIFEST_NAME} lacks rows of {name}; prepare the data set again")
        if rule is None:
            keep, targets = np.ones(len(rows), dtype=np.bool_), np.zeros((len(rows), 0), dtype=np.float32)
        else:
            keep, targets = sample_targets([r.label for r in rows], [r.votes for r in rows], self.classes, rule)
        readable = np.array([not r.outcome.error for r in rows], dtype=np.bool_)
        missing = int((keep & ~readable).sum())
        if missing:
            log.warning("%s: %d unreadable images of %s are left out", self.source, missing, name)
        chosen = np.flatnonzero(keep & readable)
        picked = [rows[i] for i in chosen.tolist()]
        return PreparedSplit(
            name=name,
            rule="no label" if rule is None else rule if self.votes else "single label",
            crops=Crops(self._array(name), np.array([r.row for r in picked], dtype=np.int64)),
            targets=targets[chosen],
            keys=[r.key for r in picked],
            found=np.array([r.outcome.found for r in picked], dtype=np.bool_),
            subjects=[r.subject for r in picked],
            groups=[r.group for r in picked],
            classes=() if rule is None else self.classes,
            unreadable=missing,
        )

    def _array(self, name: str) -> npt.NDArray[np.uint8]:
        path = self.folder / f"{name}.npy"
        verify(path, self.checksums)
        try:
            array: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be opened ({error}); prepare the data set again") from error
        return array


def load_prepared(folder: str | Path) -> Prepared:
    """Open a prepared set; raise DataError if the folder holds none, or an unfinished one."""
    folder = Path(folder)
    card = read_prepared_card(folder)
    if card is None:
        raise DataError(f"{folder} holds no prepared set; make one with: ddamfn data prepare SRC {folder}")
    if card.get("format") != FORMAT:
        raise DataError(f"{folder} was prepared by another version; delete it and prepare the data set again")
    if not card.get("complete"):
        raise DataError(
            f"{folder}: the preparation has not come to its end; run the same ddamfn data prepare again to go on"
        )
    try:
        return Prepared(
            folder=folder,
            dataset=card["dataset"],
            note=card["note"],
            classes=tuple(card["classes"]),
            alignment=Alignment(**card["alignment"]),
            detector=card["detector"],
            samples=card["samples"],
            counts=card["counts"],
            votes=card["votes"],
            checksums=card["checksums"],
            source=card.get("source") or str(folder),
        )
    except (KeyError, TypeError, ConfigError) as error:
        raise DataError(
            f"{folder / CARD_NAME}: not readable by this version ({error}); prepare the set again"
        ) from error


def read_prepared_card(folder: Path) -> dict[str, Any] | None:
    """Content of a folder's `prepared.json`, None without one; raise DataError if it cannot be read."""
    path = folder / CARD_NAME
    if not path.is_file():
        return None
    try:
        card: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete {folder} and prepare again") from error
    if not isinstance(card, dict):
        raise DataError(f"{path}: holds no prepared set's description; delete {folder} and prepare again")
    return card


def write_prepared_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write `prepared.json` in one step, so that a kill leaves the old or the new one and never half of it."""
    write_json(folder / CARD_NAME, card)


def verify(path: Path, checksums: Mapping[str, str]) -> None:
    """Raise DataError if a prepared set's file is not as it was when the set was completed; read once a process."""
    try:
        status = path.stat()
        if _crc32_of_state(path, status.st_size, status.st_mtime_ns) == checksums.get(path.name):
            return
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error})"
        raise DataError(f"{path}: {reason}; delete {path.parent} and prepare the data set again") from error
    raise DataError(
        f"{path}: differs from its checksum, so it was damaged or changed; delete {path.parent} and prepare the data "
        "set again"
    )


@lru_cache(maxsize=64)
def _crc32_of_state(path: Path, size: int, mtime_ns: int) -> str:
    """CRC-32 of a file in one state."""
    return crc32_file(path)
