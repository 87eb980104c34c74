"""Methods before deep learning as rows of a study: fitted to the crops of a job, once, on the processor.

They know no epoch and no checkpoint: a job that is stopped is fitted from its beginning.
"""

import logging
import time
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddamfn.errors import TrainingError
from ddamfn.train.tensorset import TensorSplit

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

log = logging.getLogger(__name__)

_PARTS = 64
_ATOMS = 200
"""Per class: the dictionary of all training faces would be coded over for minutes a face."""


class Fitted(NamedTuple):
    """What an estimator answered.

    Attributes:
        valid: (M, K) float32, 1 at the answered class.
        test: (N, K) float32.
        seconds: of fitting.
    """

    valid: NDArray[np.float32]
    test: NDArray[np.float32]
    seconds: float


def _lbp(images: int, seed: int) -> "Pipeline":
    from ddamfn.classic import create_lbp_svm

    return create_lbp_svm()


def _nmf(images: int, seed: int) -> "Pipeline":
    from ddamfn.classic import create_nmf_svm

    return create_nmf_svm(parts=min(_PARTS, images), seed=seed)


def _sparse(images: int, seed: int) -> "Pipeline":
    from ddamfn.classic import create_sparse_classifier

    return create_sparse_classifier(atoms_per_class=_ATOMS, seed=seed)


ESTIMATORS: Mapping[str, Callable[[int, int], Any]] = MappingProxyType({"lbp": _lbp, "nmf": _nmf, "sparse": _sparse})
"""Name -> the function that makes an estimator for so many training images and a seed."""


def fit_estimator(
    name: str, seed: int, train: TensorSplit, valid: TensorSplit, test: TensorSplit, side_px: int
) -> Fitted:
    """Fit to the training images and answer the others.

    Args:
        name: of `ESTIMATORS`.
        seed: of the estimator.
        train: images to fit to; an image's label is the class with most votes.
        valid: images that a network would be selected on; nothing is selected here.
        test: images to score on.
        side_px: side to which all are brought first.

    Raises:
        MissingExtra: if the extra "classic" is not installed.
        TrainingError: if the estimator cannot be fitted to these images.
    """
    estimator = ESTIMATORS[name](len(train), seed)
    start = time.perf_counter()
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            estimator.fit(_crops(train, side_px), train.targets.argmax(dim=1).cpu().numpy())
            seconds = time.perf_counter() - start
            answers = [_answers(estimator, split, side_px) for split in (valid, test)]
    except ValueError as error:
        raise TrainingError(f"{name} cannot be fitted to {len(train)} images: {error}") from error
    for warning in said:
        log.info("%s: %s", name, warning.message)
    return Fitted(answers[0], answers[1], seconds)


def _answers(estimator: Any, split: TensorSplit, side_px: int) -> NDArray[np.float32]:
    columns = estimator.predict(_crops(split, side_px))
    found: NDArray[np.float32] = np.eye(len(split.classes), dtype=np.float32)[columns]
    return found


def _crops(split: TensorSplit, side_px: int) -> NDArray[np.uint8]:
    """Crops as the estimators take them: (N, S, S) gray or (N, S, S, 3) RGB."""
    crops: NDArray[np.uint8] = split.resized(side_px).images.cpu().numpy().transpose(0, 2, 3, 1)
    return crops[..., 0] if crops.shape[-1] == 1 else crops
