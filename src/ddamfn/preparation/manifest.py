"""The manifest of a prepared set: one csv row a picture, written after its crop, so that a row means "done"."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ddamfn.data.dataset import Sample
from ddamfn.errors import DataError
from ddamfn.preparation.picture import Landmarks, Outcome

_POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")

COLUMNS: tuple[str, ...] = (
    *("key", "split", "row", "found", "score"),
    *(f"{point}_{axis}" for point in _POINTS for axis in "xy"),
    *("m00", "m01", "m02", "m10", "m11", "m12"),
    *("label", "votes", "subject", "group", "error"),
)
"""Header of `manifest.csv`. Landmarks are pixels of the picture, `m..` takes picture to crop, votes share a cell."""


@dataclass(frozen=True, slots=True, eq=False)
class ManifestRow:
    """One picture of a prepared set.

    Attributes:
        key: its name inside the data set.
        split: its split.
        row: its place in `<split>.npy`.
        outcome: what became of it.
        label: canonical expression, or None.
        votes: ten vote counts, or None.
        subject: who is in it, or None.
        group: its subgroup, or None.
    """

    key: str
    split: str
    row: int
    outcome: Outcome
    label: str | None
    votes: tuple[float, ...] | None
    subject: str | None
    group: str | None


def to_line(sample: Sample, row: int, outcome: Outcome) -> str:
    """Write one picture as a csv line, newline included; numbers keep every bit."""
    cells: list[str] = [sample.key, sample.split, str(row), str(int(outcome.found)), _number(outcome.score)]
    cells += [""] * 10 if outcome.landmarks is None else [str(v) for v in outcome.landmarks.astype(np.float32).ravel()]
    cells += [""] * 6 if outcome.matrix is None else [repr(float(v)) for v in outcome.matrix.ravel()]
    votes = "" if sample.votes is None else " ".join(f"{v:g}" for v in sample.votes)
    cells += [sample.label or "", votes, sample.subject or "", sample.group or "", outcome.error]
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def read_manifest(path: Path) -> Iterator[ManifestRow]:
    """Read a manifest row by row.

    Raises:
        DataError: if the file is missing or malformed.
    """
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
    """Cut off what a kill left unfinished at the end of a manifest and return the number of picture rows that stand.

    A file that does not exist yet, or whose header is torn, is written anew with the header alone.
    """
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
