"""What each row of a prepared set was made from, to tell whether it still stands: `sources.csv` beside the manifest."""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ddamfn.data.dataset import Dataset, Sample
from ddamfn.errors import DataError, UnreadableImage
from ddamfn.files import sha256_bytes, write_bytes

SOURCES_NAME = "sources.csv"
_COLUMNS = ("key", "state", "sha256", "marks")


@dataclass(frozen=True, slots=True)
class Source:
    """What one row was made from; without a key it is not known."""

    key: str = ""
    state: str = ""  # `ImageSource.state` just before the image was read
    sha256: str = ""  # of what was read; empty if nothing was
    marks: str = ""  # digest of the data set's own landmarks and box


def states_of(dataset: Dataset) -> list[str]:
    """Return the state of every image, in the data set's order."""
    return [dataset.images.state(sample.location) for sample in dataset.samples]


def marks_of(sample: Sample) -> str:
    """Return a digest of what a data set records of the face's place; empty if that is nothing."""
    if sample.landmarks is None and sample.bbox is None:
        return ""
    return sha256_bytes(repr((sample.landmarks, sample.bbox)).encode())[:16]


def digest_of(content: bytes | npt.NDArray[np.uint8]) -> str:
    """Return the SHA-256 of an image as its source reads it."""
    return sha256_bytes(content if isinstance(content, bytes) else np.ascontiguousarray(content).data)


def read_digest(dataset: Dataset, sample: Sample) -> str:
    """Read an image and return its SHA-256; empty if it cannot be read."""
    try:
        return digest_of(dataset.read(sample))
    except UnreadableImage:
        return ""


def to_source_line(source: Source) -> str:
    """Write a source as a csv line, newline included."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(astuple(source))
    return buffer.getvalue()


def read_sources(folder: Path) -> list[Source]:
    """Read the sources of a prepared set, row by row; none if they are not recorded."""
    try:
        with (folder / SOURCES_NAME).open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            if tuple(next(reader, ())) != _COLUMNS:
                return []
            return [Source(*cells) for cells in reader if len(cells) == len(_COLUMNS)]
    except (OSError, ValueError, csv.Error):
        return []


def repair_sources(folder: Path, rows: int) -> Path:
    """Begin the file, or cut it to the manifest's rows: a source is written before its row. Return its path."""
    known = read_sources(folder)[:rows]
    known += [Source()] * (rows - len(known))
    path = folder / SOURCES_NAME
    write_bytes(path, "".join([",".join(_COLUMNS), "\n", *map(to_source_line, known)]).encode())
    return path


def refuse_changed(folder: Path, dataset: Dataset, states: Sequence[str]) -> None:
    """Raise DataError if images have changed since a prepared set was made of them."""
    changed = [
        sample.key
        for sample, state, source in zip(dataset.samples, states, read_sources(folder), strict=False)
        if source.key == sample.key and source.state != state and read_digest(dataset, sample) != source.sha256
    ]
    if changed:
        raise DataError(
            f"{folder} was made before {len(changed):,} of its images changed, {changed[0]} among them; choose another "
            "folder or delete it"
        )
