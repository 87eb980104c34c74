"""Folds for cross-validation: by subject, or stratified by class."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ddamfn.errors import DataError, UsageError

Fold = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def subject_folds(subjects: Sequence[str | None], folds: int = 10) -> list[Fold]:
    """Split images into folds so that no subject is in both train and test.

    Subjects are sorted by name and dealt out in turn, as in papers on CK+, so the folds need no seed.

    Args:
        subjects: the subject of each of N images.
        folds: number of folds.

    Returns:
        Row numbers (train, test) of each fold; every image is in exactly one test part.

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
    return _folds(fold_of, folds)


def stratified_folds(labels: Sequence[int], folds: int, generator: np.random.Generator) -> list[Fold]:
    """Split images into folds that keep the share of every class, to within one image.

    Args:
        labels: class of each of N images.
        folds: number of folds.
        generator: source of randomness.

    Returns:
        Row numbers (train, test) of each fold; every image is in exactly one test part, and the sizes of the test
        parts differ by at most one.

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
    return _folds(fold_of, folds)


def _folds(fold_of: npt.NDArray[np.int64], folds: int) -> list[Fold]:
    """Return the row numbers (train, test) of each fold."""
    return [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(folds)]
