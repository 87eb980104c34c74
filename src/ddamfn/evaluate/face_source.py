"""Faces of a data set one by one, each with what is needed to cut it out anew: for measurements that change faces."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddamfn.data.dataset import Dataset
from ddamfn.errors import DataError, DegenerateFace
from ddamfn.faces import Alignment, RetinaFace, align, decode
from ddamfn.preparation import Prepared
from ddamfn.preparation.image import Hints, find_landmarks


@dataclass(frozen=True, slots=True, eq=False)
class FaceView:
    """One face.

    Attributes:
        key: the image's name inside its data set.
        crop: (S, S, 3) uint8 RGB, aligned.
        image: (H, W, 3) uint8 RGB, the image; None if only the crop is at hand.
        landmarks: (5, 2) float64 pixels of the image; None if only the crop is at hand.
        matrix: (2, 3) float64, image to crop; None if only the crop is at hand.
    """

    key: str
    crop: NDArray[np.uint8]
    image: NDArray[np.uint8] | None = None
    landmarks: NDArray[np.float64] | None = None
    matrix: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FaceSource:
    """The chosen images of a split; a face is read when it is asked for.

    Attributes:
        title: the data set's name for people.
        note: which copy of it.
        split: the split.
        rule: the vote rule, None for sets with one label an image.
        classes: canonical names of the K columns.
        targets: (N, K) float32; rows sum to 1.
        total: images that the rule keeps, of which N were chosen.
        images: whether faces come with their image, so that they can be cut out anew.
        read: from 0..N-1 to the face; None where no face was found.

    `read` raises UnreadableImage for an image that cannot be read.
    """

    title: str
    note: str
    split: str
    rule: str | None
    classes: tuple[str, ...]
    targets: NDArray[np.float32]
    total: int
    images: bool
    read: Callable[[int], FaceView | None]

    def __len__(self) -> int:
        return len(self.targets)


def faces_of_dataset(
    dataset: Dataset, split: str, rule: str, alignment: Alignment, *, limit: int | None = None, seed: int = 0
) -> FaceSource:
    """Take faces from images: decode, detect, align, as a photograph is read.

    Args:
        dataset: the set.
        split: name of the split.
        rule: one of `ddamfn.data.RULES`; without meaning for sets with one label an image.
        alignment: how faces are cut out.
        limit: this many images, chosen by chance; None for all.
        seed: of that choice.

    Raises:
        DataError: if there is no such split or the rule keeps nothing of it.
        UsageError: if the rule is unknown.
    """
    part = dataset.select(split)
    keep, targets = part.targets(rule)
    kept = np.flatnonzero(keep)
    rows = _choose(kept, limit, seed)
    detector = RetinaFace()

    def read(index: int) -> FaceView | None:
        sample = part.samples[int(rows[index])]
        image = decode(part.read(sample))
        found = find_landmarks(image, Hints(sample.landmarks, sample.bbox), detector)
        if found is None:
            return None
        landmarks = found[0].astype(np.float64)
        try:
            crop = align(image, landmarks, alignment)
        except DegenerateFace:
            return None
        return FaceView(sample.key, crop.pixels, image, landmarks, crop.matrix)

    rule_name = rule if dataset.card.votes else None
    return FaceSource(
        dataset.card.title, dataset.note, split, rule_name, dataset.classes, targets[rows], len(kept), True, read
    )


def faces_of_prepared(
    prepared: Prepared, split: str, rule: str, *, limit: int | None = None, seed: int = 0
) -> FaceSource:
    """Take faces from a prepared set: crops alone, which cannot be cut out anew.

    Args:
        prepared: the set.
        split: name of the split.
        rule: as in `faces_of_dataset`.
        limit: this many images, chosen by chance; None for all.
        seed: of that choice.

    Raises:
        DataError: if there is no such split, its files are damaged, or the rule keeps nothing of it.
        UsageError: if the rule is unknown.
    """
    part = prepared.split(split, rule)
    rows = _choose(np.arange(len(part)), limit, seed)

    def read(index: int) -> FaceView | None:
        row = int(rows[index])
        return FaceView(part.keys[row], part.crops[row]) if part.found[row] else None

    rule_name = rule if prepared.votes else None
    title, targets = prepared.dataset, part.targets[rows]
    return FaceSource(title, prepared.note, split, rule_name, part.classes, targets, len(part), False, read)


def _choose(rows: NDArray[np.intp], limit: int | None, seed: int) -> NDArray[np.intp]:
    """Return `limit` of the rows by chance, in their order; all of them where there are not more."""
    if len(rows) == 0:
        raise DataError("no image to measure on: check the split and the labeling rule")
    if limit is None or limit >= len(rows):
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))
