"""From a prepared set to the tensors that a run, or a study's job, trains on, selects on and is scored on."""

import logging
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ddamfn.errors import DataError
from ddamfn.evaluate.confidence import CALIBRATION_RULE
from ddamfn.preparation import Prepared
from ddamfn.preparation.splits import own_validation, require_classes, score_split, training_split, vote_weights
from ddamfn.train.config import Data, Run
from ddamfn.train.tensorset import TensorSplit, hold_out, to_tensors

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]


class WholeSplit(NamedTuple):
    """All images of a split that a rule keeps, and who is in each, None where unknown."""

    tensors: TensorSplit
    subjects: list[str | None]


class SplitReader:
    """A prepared set's splits as tensors, each read when first asked for and then kept."""

    def __init__(self, prepared: Prepared, device: torch.device) -> None:
        self._prepared, self._device = prepared, device
        self._read: dict[tuple[object, ...], WholeSplit] = {}

    def whole(self, name: str, rule: str, data: Data) -> WholeSplit:
        """One split under a vote rule; raise DataError if the split, or a class, is missing."""
        key = (name, rule, data.classes, data.preprocessing)
        if key not in self._read:
            classes = require_classes(self._prepared, data.classes)
            split = self._prepared.split(name, rule)
            origin = f"{name} of {self._prepared.source}"
            tensors = to_tensors(split, data.preprocessing, classes, self._device, origin)
            subjects = dict(zip(split.keys, split.subjects, strict=True))
            self._read[key] = WholeSplit(tensors, [subjects[key] for key in tensors.keys])
        return self._read[key]

    def training(self, data: Data) -> WholeSplit:
        """Everything that may be trained on, validation images of a set without such a split included."""
        return self.whole(training_split(self._prepared), data.rule, data)

    def part(self, data: Data, seed: int, among: Rows | None = None) -> tuple[TensorSplit, TensorSplit]:
        """Return images to train on and to select on; the test split is never opened.

        With `among`, rows of `training`, a part of these rows is held out, whatever the set offers.
        """
        train, subjects = self.training(data)
        if among is not None:
            train, subjects = train.subset(torch.from_numpy(among)), [subjects[row] for row in among.tolist()]
        own = None if among is not None else data.validation or own_validation(self._prepared)
        if own is None:
            train, valid = hold_out(train, data.holdout, torch.Generator().manual_seed(seed), subjects)
            log.info("%d images of %s are held out to select on", len(valid), train.origin)
        else:
            valid = self.whole(own, data.validation_rule, data).tensors
        if not len(valid):
            raise DataError(f"{valid.origin}: no image is left to select on; add some, or change --set data.holdout")
        return train, valid

    def weighted(self, train: TensorSplit, data: Data) -> TensorSplit:
        """The same images, weighted by their votes where the settings ask for it."""
        return train.weighted(torch.from_numpy(vote_weights(self._prepared, train.keys))) if data.vote_weight else train

    def score(self, data: Data) -> TensorSplit:
        """Images to be scored on, once and at the end."""
        test = self.whole(score_split(self._prepared), data.validation_rule, data).tensors
        if not len(test):
            raise DataError(f"{test.origin}: no image is left to score on; add some")
        return test


def calibration_split(prepared: Prepared, run: Run, valid: TensorSplit, device: torch.device) -> TensorSplit:
    """Return all validation images with a vote for an expression, not only those that a run selects on.

    Where the set has no validation split of its own, or no votes, these are `valid`, the images of `load_splits`.
    """
    own = run.data.validation or own_validation(prepared)
    if own is None or not prepared.votes:
        return valid
    return SplitReader(prepared, device).whole(own, CALIBRATION_RULE, run.data).tensors


def load_splits(prepared: Prepared, run: Run, device: torch.device) -> tuple[TensorSplit, TensorSplit]:
    """Return a run's training and validation tensors; the test split is never opened."""
    reader = SplitReader(prepared, device)
    train, valid = reader.part(run.data, run.seed)
    train.require_every_class()
    return reader.weighted(train, run.data), valid
