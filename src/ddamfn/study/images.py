"""The tensors that jobs train and are scored on: read once, shared by all jobs that ask for the same."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ddamfn.data.catalog import CARDS
from ddamfn.data.folds import stratified_folds, subject_folds
from ddamfn.errors import DataError
from ddamfn.faces import Alignment
from ddamfn.preparation import Prepared
from ddamfn.study.jobs import Fold, Job
from ddamfn.train import Data, open_prepared
from ddamfn.train.sources import own_validation, weighted_by_votes
from ddamfn.train.tensorset import TensorSplit, hold_out, to_tensors

Progress = Callable[[int, int], None]
Rows = NDArray[np.int64]

_FOLD_SEED = 0
"""The same folds, and the same images of a limited training, for every seed and method."""


class Parts(NamedTuple):
    """What a job needs: images to train on, to select on, and to score once."""

    train: TensorSplit
    valid: TensorSplit
    test: TensorSplit


class _Whole(NamedTuple):
    tensors: TensorSplit
    subjects: list[str | None]


class StudyImages:
    """One data set's splits as tensors, each made at the first question for it and then kept.

    Args:
        root: a data set in any known layout, or a prepared set.
        device: where the tensors shall live.
        kind: the layout, where it is not recognized.
    """

    def __init__(self, root: Path, device: torch.device, *, kind: str | None = None) -> None:
        self.device = device
        self._root, self._kind = root, kind
        self._prepared: dict[Alignment, Prepared] = {}
        self._wholes: dict[tuple[object, ...], _Whole] = {}

    def prepared(self, alignment: Alignment, progress: Progress | None = None) -> Prepared:
        """The prepared set of an alignment; `progress` is told how far its preparation has got."""
        if alignment not in self._prepared:
            self._prepared[alignment] = open_prepared(self._root, alignment, progress, kind=self._kind)
        return self._prepared[alignment]

    def parts(self, job: Job) -> Parts:
        """Images of a job. The last of the three is for its score alone.

        Raises:
            DataError: if the set lacks a split, a subject or a class.
        """
        prepared = self.prepared(job.run.data.alignment)
        train, subjects = self._whole(prepared, pool_split(prepared), job.run.data.rule, job.run.data)
        if job.fold is not None:
            rows, held = folds_of(train, subjects, job.fold)[job.fold.number]
            test: TensorSplit | None = train.subset(torch.from_numpy(held))
            train, subjects = train.subset(torch.from_numpy(rows)), [subjects[row] for row in rows.tolist()]
        else:
            test = None
        # Inside a fold the selection is on a part of the fold's own training images, whatever the set offers.
        own = None if job.fold is not None else job.run.data.validation or own_validation(prepared)
        if own is None:
            generator = torch.Generator().manual_seed(_FOLD_SEED if job.scored == "valid" else job.seed)
            train, valid = hold_out(train, job.run.data.holdout, generator, subjects)
        else:
            valid = self._whole(prepared, own, job.run.data.validation_rule, job.run.data).tensors
        if job.images is not None:
            train = limited(train, job.images)
        if job.run.data.vote_weight:
            train = weighted_by_votes(train, prepared)
        if job.scored != "test":
            test = valid
        elif test is None:
            test = self._whole(prepared, score_split(prepared), job.run.data.validation_rule, job.run.data).tensors
        for name, part in (("select", valid), ("score", test)):
            if not len(part):
                raise DataError(f"{part.origin}: no image is left to {name} on; add some")
        return Parts(train, valid, test)

    def pool(self, data: Data) -> tuple[TensorSplit, list[str | None]]:
        """All images that a cross-validation deals out, and who is in them."""
        prepared = self.prepared(data.alignment)
        return self._whole(prepared, pool_split(prepared), data.rule, data)

    def _whole(self, prepared: Prepared, name: str, rule: str, data: Data) -> _Whole:
        key = (prepared.folder, name, rule, data.classes, data.preprocessing)
        if key not in self._wholes:
            classes = data.classes or prepared.classes
            if unknown := [label for label in classes if label not in prepared.classes]:
                raise DataError(f"{prepared.folder} has no class {', '.join(unknown)}; it has {prepared.classes}")
            split = prepared.split(name, rule)
            tensors = to_tensors(split, data.preprocessing, classes, self.device, f"{name} of {prepared.folder}")
            subjects = dict(zip(split.keys, split.subjects, strict=True))
            self._wholes[key] = _Whole(tensors, [subjects[key] for key in tensors.keys])
        return self._wholes[key]


def limited(split: TensorSplit, images: int) -> TensorSplit:
    """At most so many images, every class with its share and at least one; the same ones whenever it is asked."""
    if images >= len(split):
        return split
    generator = torch.Generator().manual_seed(_FOLD_SEED)
    labels = split.targets.argmax(dim=1).cpu()
    place = torch.zeros(len(split), dtype=torch.float64)
    for label in labels.unique():
        rows = torch.nonzero(labels == label).flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        place[rows] = torch.arange(len(rows), dtype=torch.float64) / len(rows)
    return split.subset(place.argsort(stable=True)[:images].sort().values)


def pool_split(prepared: Prepared) -> str:
    """The split that is trained on and dealt into folds: "train", or "all" of sets without splits."""
    return "all" if "all" in prepared.splits else "train"


def score_split(prepared: Prepared) -> str:
    """The split that scores are reported on: "test", or "val" of AffectNet, whose test split is not public.

    Raises:
        DataError: if the set has none.
    """
    card = CARDS.get(prepared.dataset)
    if "test" in prepared.splits:
        return "test"
    if card is not None and "test" not in card.splits and "val" in prepared.splits:
        return "val"
    raise DataError(f"{prepared.folder} has no test split to score on; use ddamfn study crossval")


def folds_of(pool: TensorSplit, subjects: list[str | None], fold: Fold) -> list[tuple[Rows, Rows]]:
    """Rows (train, test) of every fold, the same for every seed.

    Raises:
        DataError: if an image has no subject and the folds are to be grouped, or there is too little of either.
    """
    if fold.grouped:
        return subject_folds(subjects, fold.of)
    labels = pool.targets.argmax(dim=1).tolist()
    return stratified_folds(labels, fold.of, np.random.default_rng(_FOLD_SEED))
