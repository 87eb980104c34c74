"""Series of synthetic faces, and the files that layouts write."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddamfn.synthetic.face import synthetic_face
from ddamfn.synthetic.person import Person


@dataclass(frozen=True, slots=True)
class Drawing:
    """One synthetic image and its annotations.

    Attributes:
        label: its class, in the caller's spelling.
        index: its position in the series.
        person: number of the person.
        pixels: uint8 (S, S, 3) RGB.
        landmarks: float32 (5, 2) as (x, y) pixels, viewer's left eye first.
    """

    label: str
    index: int
    person: int
    pixels: NDArray[np.uint8]
    landmarks: NDArray[np.float32]


def drawings(
    classes: Sequence[str],
    per_class: int,
    generator: np.random.Generator,
    side_px: int,
    head: float | None = None,
    people: Sequence[Person] | None = None,
) -> Iterator[Drawing]:
    """Draw `per_class` images of every class in turn; `people` take turns too if given."""
    for row in range(per_class):
        for column, label in enumerate(classes):
            index = row * len(classes) + column
            # Each row shifts the people, so that each shows several expressions.
            who = (row + 3 * column) % len(people) if people else index
            person = people[who] if people else None
            pixels, landmarks = synthetic_face(label, generator, side_px, head=head, person=person)
            yield Drawing(label, index, who, pixels, landmarks)


def held_out(per_class: int) -> int:
    """Return the images per class in a split other than train."""
    return max(1, per_class // 2)


def save(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write an image, creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=92) if path.suffix == ".jpg" else Image.fromarray(pixels).save(path)


def gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W) gray of (H, W, 3) RGB."""
    return np.asarray(Image.fromarray(pixels).convert("L"))


def write_rows(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """Write rows as csv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def face_box(landmarks: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Return (x1, y1, x2, y2) pixels of the head around five landmarks."""
    x, y = landmarks[:2].mean(axis=0)
    unit = float(np.linalg.norm(landmarks[1] - landmarks[0])) / 0.9
    return float(x) - unit, float(y) - 1.2 * unit, float(x) + unit, float(y) + 1.65 * unit
