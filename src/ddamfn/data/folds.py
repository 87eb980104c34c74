"""Folds for cross-validation: every subject on one side, or every class with its share in each."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ddamfn.errors import DataError, UsageError


def subject_folds(
    subjects: Sequence[str | None], folds: int = 10
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Split images into folds so that nobody stands in both halves of one.

    Subjects are sorted by name and dealt out in turn, as papers on CK+ do it, so that the folds need no seed.

    Args:
        subjects: who is in each of N images.
        folds: how many.

    Returns:
        A pair of row numbers (train, test) a fold; every image is in exactly one test half.

    Raises:
        DataError: if an image has no subject, or there are fewer subjects than folds.
        UsageError: if there are fewer than two folds.
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
    return [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(folds)]


def stratified_folds(
    labels: Sequence[int], folds: int, generator: np.random.Generator
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Split images into folds in each of which every class has its share, to within one image.

    Args:
        labels: class of each of N images.
        folds: how many.
        generator: where chance comes from; the same one gives the same folds.

    Returns:
        A pair of row numbers (train, test) a fold; every image is in exactly one test half, and the test halves'
        sizes differ by at most one.

    Raises:
        DataError: if there are fewer images than folds.
        UsageError: if there are fewer than two folds.
    """
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
    return [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(folds)]
