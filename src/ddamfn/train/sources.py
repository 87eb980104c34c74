"""From a folder of images to the tensors of a run, prepared once and kept."""

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import torch

from ddamfn.data import open_dataset
from ddamfn.data.catalog import CARDS
from ddamfn.data.rules import VOTE_COLUMNS, leading_share
from ddamfn.errors import ConfigError, DataError
from ddamfn.faces import Alignment
from ddamfn.preparation import Prepared, load_prepared, prepare
from ddamfn.train.config import Run
from ddamfn.train.tensorset import TensorSplit, hold_out, to_tensors

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

_VALIDATION = ("valid", "val")
_WHOLE = "all"
"""The split of sets that have none, such as CK+ or class folders alone."""


def open_prepared(
    root: Path, alignment: Alignment, progress: Progress | None = None, *, kind: str | None = None
) -> Prepared:
    """Prepared set of a data set in any known layout, or the prepared set that `root` itself is.

    Args:
        root: a data set, prepared once into `cache_folder()`, or a prepared set.
        alignment: how faces are to be aligned.
        progress: called with (images done, images in all) while a data set is being prepared.
        kind: the layout, where it is not recognized; see `ddamfn.data.KINDS`.

    Raises:
        ConfigError: if `root` was prepared with another alignment.
        DataError: if it is no data set.
    """
    if (root / "prepared.json").exists():
        prepared = load_prepared(root)
        if prepared.alignment != alignment:
            raise ConfigError(
                f"{root} was aligned with {prepared.alignment}, the run asks for {alignment}; prepare the data set "
                "with the run's alignment, or change --set data.alignment.template, .margin and .side_px"
            )
        return prepared
    name = "|".join(str(part) for part in (root.resolve(), alignment, kind) if part is not None)
    folder = cache_folder() / f"{root.resolve().name}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return prepare(open_dataset(root, kind), folder, alignment, progress=progress)


def cache_folder() -> Path:
    """Where prepared sets are kept: `$XDG_CACHE_HOME/ddamfn/prepared`, or below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ddamfn" / "prepared"


def load_splits(prepared: Prepared, run: Run, device: torch.device) -> tuple[TensorSplit, TensorSplit]:
    """Training and validation tensors of a run; the test split is never opened.

    Raises:
        ConfigError: if votes are to weigh images of a set without votes.
        DataError: if a split is missing, a class is unknown to the set or without a training image, or nothing is
            left to validate on.
    """
    data = run.data
    classes = data.classes or prepared.classes
    unknown = [name for name in classes if name not in prepared.classes]
    if unknown:
        raise DataError(f"{prepared.folder} has no class {', '.join(unknown)}; it has {', '.join(prepared.classes)}")

    def read(name: str, rule: str) -> tuple[TensorSplit, dict[str, str | None]]:
        split = prepared.split(name, rule)
        origin = f"{name} of {prepared.folder}"
        tensors = to_tensors(split, data.preprocessing, classes, device, origin)
        return tensors, dict(zip(split.keys, split.subjects, strict=True))

    training = training_split(prepared)
    train, subjects = read(training, data.rule)
    validation = data.validation or own_validation(prepared)
    if validation is None:
        generator = torch.Generator().manual_seed(run.seed)
        train, valid = hold_out(train, data.holdout, generator, [subjects[key] for key in train.keys])
        log.info("%d images of %s are held out to select on", len(valid), train.origin)
    else:
        valid, _ = read(validation, data.validation_rule)
    train.require_every_class()
    if data.vote_weight:
        train = weighted_by_votes(train, prepared)
    if not len(valid):
        raise DataError(f"{valid.origin}: no image is left to validate on; add some, or change --set data.holdout")
    return train, valid


def weighted_by_votes(split: TensorSplit, prepared: Prepared) -> TensorSplit:
    """The same images, each weighed by the share of all its votes that its leading expression has.

    An image with a label in place of votes weighs like one on which all agree.

    Raises:
        ConfigError: if the set has no votes.
    """
    if not prepared.votes:
        raise ConfigError(f"{prepared.folder} has no votes; train with --set data.vote_weight=false")
    certain = (1.0,) + (0.0,) * (len(VOTE_COLUMNS) - 1)
    votes = {row.key: row.votes or certain for row in prepared.manifest()}
    return split.weighted(torch.from_numpy(leading_share([votes[key] for key in split.keys])))


def training_split(prepared: Prepared) -> str:
    """Name of the split to train on."""
    return "train" if _WHOLE not in prepared.splits else _WHOLE


def own_validation(prepared: Prepared) -> str | None:
    """The set's own split to select on, None if it has none.

    AffectNet's "val" is none: it has no public test split, so its scores are reported on "val".
    """
    card = CARDS.get(prepared.dataset)
    if card is not None and "test" not in card.splits:
        return None
    return next((name for name in _VALIDATION if name in prepared.splits), None)
