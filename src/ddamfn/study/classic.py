"""Classic methods as rows of a study, fitted on the CPU; without checkpoints, so a stopped job starts over."""

import logging
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddamfn.errors import TrainingError
from ddamfn.study.images import Parts
from ddamfn.train.tensorset import TensorSplit

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

Floats = NDArray[np.float32]

log = logging.getLogger(__name__)

_PARTS = 64
_ATOMS = 200
"""Dictionary atoms per class: with all training faces as atoms, coding one face takes minutes."""


def fit_estimator(name: str, seed: int, parts: Parts, side_px: int) -> tuple[Floats, Floats, float]:
    """Fit an estimator; return one-hot validation (M, K) and test (N, K) predictions float32, and the fit's seconds."""
    estimator = _create(name, len(parts.train), seed)
    start = time.perf_counter()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            estimator.fit(_crops(parts.train, side_px), parts.train.targets.argmax(dim=1).cpu().numpy())
            seconds = time.perf_counter() - start
            valid, test = (_predict(estimator, split, side_px) for split in (parts.valid, parts.test))
    except ValueError as error:
        raise TrainingError(f"{name} cannot be fitted to {len(parts.train)} images: {error}") from error
    for warning in caught:
        log.info("%s: %s", name, warning.message)
    return valid, test, seconds


def _create(name: str, images: int, seed: int) -> "Pipeline":
    from ddamfn import classic

    if name == "lbp":
        return classic.create_lbp_svm()
    if name == "nmf":
        return classic.create_nmf_svm(parts=min(_PARTS, images), seed=seed)
    return classic.create_sparse_classifier(atoms_per_class=_ATOMS, seed=seed)


def _predict(estimator: Any, split: TensorSplit, side_px: int) -> Floats:
    columns = estimator.predict(_crops(split, side_px))
    found: Floats = np.eye(len(split.classes), dtype=np.float32)[columns]
    return found


def _crops(split: TensorSplit, side_px: int) -> NDArray[np.uint8]:
    """Crops as the estimators take them: (N, S, S) gray or (N, S, S, 3) RGB."""
    crops: NDArray[np.uint8] = split.resized(side_px).images.cpu().numpy().transpose(0, 2, 3, 1)
    return crops[..., 0] if crops.shape[-1] == 1 else crops
