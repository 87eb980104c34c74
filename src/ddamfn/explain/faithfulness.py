"""Deletion and insertion: does the prediction depend on what a map points at?

Deletion removes the face's pixels in the map's order, the most important first: the faster the expression's probability
falls, the better. Insertion puts them back into a blurred face in the same order: the faster it rises, the better. Both
are areas under the curve, 0 to 1, and mean little alone, since a confident prediction scores high in any order: only a
map that beats random maps and a center map is informative.

Source: Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, section 4.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ddamfn.classifier import Classifier

STEPS = 20
"""Number of equal parts that the pixels are divided into."""

_BLUR = 0.1
"""Standard deviation of insertion's blurred face as a share of the side, 11 px of 112."""


@dataclass(frozen=True, slots=True)
class Score:
    """Areas under the two curves of one map and one expression.

    Attributes:
        deletion: mean probability while pixels are taken away, 0 to 1; small is good.
        insertion: mean probability while they are put back, 0 to 1; large is good.
    """

    deletion: float
    insertion: float

    @property
    def difference(self) -> float:
        """Insertion minus deletion, -1 to 1: one number to compare maps by; large is good."""
        return self.insertion - self.deletion


def measure(
    classifier: Classifier, crop: NDArray[np.uint8], values: NDArray[np.floating], steps: int = STEPS
) -> Mapping[str, Score]:
    """Score a map (h, w) on a crop (S, S, 3) uint8 for every expression; each step runs the network once per curve."""
    order = _order(values, crop.shape[0])
    without = np.empty_like(crop)
    without[:] = np.round(crop.reshape(-1, 3).mean(axis=0))
    blurred = np.asarray(Image.fromarray(crop).filter(ImageFilter.GaussianBlur(_BLUR * crop.shape[0])))
    deletion = _curve(classifier, crop, without, order, steps)
    insertion = _curve(classifier, blurred, crop, order, steps)
    areas = zip(classifier.card.labels, _area(deletion), _area(insertion), strict=True)
    return {name: Score(float(gone), float(back)) for name, gone, back in areas}


def _order(values: NDArray[np.floating], side: int) -> NDArray[np.intp]:
    """Return the crop's flattened pixel indices, the most important first."""
    coarse = Image.fromarray(np.asarray(values, dtype=np.float32))
    fine = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
    # Stable, so that a flat map gives the same order on every machine.
    return np.argsort(-fine.ravel(), kind="stable")


def _curve(
    classifier: Classifier, start: NDArray[np.uint8], end: NDArray[np.uint8], order: NDArray[np.intp], steps: int
) -> NDArray[np.float64]:
    """Return probabilities (steps + 1, K) while one image becomes the other, pixel by pixel in order."""
    images = np.repeat(start.reshape(1, -1, 3), steps + 1, axis=0)
    for step in range(1, steps + 1):
        changed = order[: round(len(order) * step / steps)]
        images[step, changed] = end.reshape(-1, 3)[changed]
    logits, _ = classifier.classify(images.reshape(steps + 1, *start.shape))
    return classifier.probabilities(logits)


def _area(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area under each column by the trapezoid rule, over 0 to 1."""
    middles: NDArray[np.float64] = (curve[1:] + curve[:-1]) / 2
    return np.asarray(middles.mean(axis=0))
