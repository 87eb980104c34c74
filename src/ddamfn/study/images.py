"""The tensors that jobs train and are scored on: read once, shared by all jobs that need them."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ddamfn.data import Progress
from ddamfn.data.dataset import stratified_folds, subject_folds
from ddamfn.faces import Alignment
from ddamfn.preparation import Prepared, open_prepared
from ddamfn.study.jobs import Fold, Job
from ddamfn.train import Data
from ddamfn.train.splits import Rows, SplitReader, WholeSplit
from ddamfn.train.tensorset import TensorSplit

log = logging.getLogger(__name__)

_FOLD_SEED = 0
"""Gives every seed and method the same folds and the same limited training images."""


class Parts(NamedTuple):
    """What a job needs: images to train on, to select on, and to score once."""

    train: TensorSplit
    valid: TensorSplit
    test: TensorSplit


class StudyImages:
    """Read a data set's splits as tensors on `device`, each on first use, and keep them."""

    def __init__(self, root: Path, device: torch.device, *, kind: str | None = None) -> None:
        self.device = device
        self._root, self._kind = root, kind
        self._prepared: dict[Alignment, Prepared] = {}
        self._readers: dict[Alignment, SplitReader] = {}

    def prepared(
        self, alignment: Alignment, progress: Progress | None = None, tell: Callable[[str], None] = log.info
    ) -> Prepared:
        """Return the prepared set of an alignment; `progress` and `tell` are those of `open_prepared`."""
        if alignment not in self._prepared:
            self._prepared[alignment] = open_prepared(self._root, alignment, progress, kind=self._kind, tell=tell)
        return self._prepared[alignment]

    def parts(self, job: Job) -> Parts:
        """Return a job's training, validation and scored images; the last part is only for the score."""
        data, reader = job.run.data, self._reader(job.run.data)
        pool, subjects = reader.training(data)
        rows, held = (None, None) if job.fold is None else folds_of(pool, subjects, job.fold)[job.fold.number]
        train, valid = reader.part(data, _FOLD_SEED if job.scored == "valid" else job.seed, rows)
        if job.images is not None:
            train = limited(train, job.images)
        train = reader.weighted(train, data)
        if job.scored != "test":
            return Parts(train, valid, valid)
        return Parts(train, valid, reader.score(data) if held is None else pool.subset(torch.from_numpy(held)))

    def pool(self, data: Data) -> WholeSplit:
        """Return all images that a cross-validation divides, and their subjects."""
        return self._reader(data).training(data)

    def _reader(self, data: Data) -> SplitReader:
        if data.alignment not in self._readers:
            self._readers[data.alignment] = SplitReader(self.prepared(data.alignment), self.device)
        return self._readers[data.alignment]


def limited(split: TensorSplit, images: int) -> TensorSplit:
    """Return at most so many images; the choice is always the same.

    A class with no more than an equal part is taken whole, since a share of it would be too few to learn from; the
    others share the rest in proportion to their size.
    """
    if images >= len(split):
        return split
    generator = torch.Generator().manual_seed(_FOLD_SEED)
    labels = split.targets.argmax(dim=1).cpu()
    classes = labels.unique()
    place = torch.zeros(len(split), dtype=torch.float64)
    for label in classes:
        rows = torch.nonzero(labels == label).flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        if len(rows) > images / len(classes):
            place[rows] = torch.arange(len(rows), dtype=torch.float64) / len(rows)
    return split.subset(place.argsort(stable=True)[:images].sort().values)


def folds_of(pool: TensorSplit, subjects: list[str | None], fold: Fold) -> list[tuple[Rows, Rows]]:
    """Return the (train, test) rows of every fold, the same for every seed."""
    if fold.grouped:
        return subject_folds(subjects, fold.of)
    labels = pool.targets.argmax(dim=1).tolist()
    return stratified_folds(labels, fold.of, np.random.default_rng(_FOLD_SEED))
