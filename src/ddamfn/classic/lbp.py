"""Local binary patterns: which neighbors of a pixel are brighter than it, counted in each cell of a grid.

Source: Shan, Gong and McOwan, "Facial expression recognition based on Local Binary Patterns: A comprehensive study",
Image and Vision Computing 2009, sections 3 and 4.2 (uniform patterns of 8 neighbors at 2 px, 59 of them, 6 x 7 cells,
support vector machine with a radial kernel); the patterns: Ojala et al., PAMI 2002.
"""

import math
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from skimage.feature import local_binary_pattern
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ddamfn.classic.pixels import to_gray


class LBPHistograms(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Crops to histograms of uniform patterns, uint8 (N, H, W[, 3]) -> float32 (N, rows * columns * P).

    P is points * (points - 1) + 3: 59 for 8 points. Each cell's histogram sums to 1.

    Args:
        rows: of the grid of cells.
        columns: of the grid of cells.
        points: neighbors of a pixel.
        radius_px: their distance from it.
    """

    def __init__(self, rows: int = 7, columns: int = 6, *, points: int = 8, radius_px: float = 2) -> None:
        self.rows = rows
        self.columns = columns
        self.points = points
        self.radius_px = radius_px

    def fit(self, crops: NDArray[np.uint8], y: Any = None) -> Self:
        """Nothing is learned."""
        return self

    def transform(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Count the patterns of crops.

        Raises:
            ValueError: if the shape is not that of crops.
        """
        # Whole levels, because rounding in floats makes "brighter than" a matter of chance on even skin.
        gray = np.round(to_gray(crops) * 255).astype(np.uint8)
        return np.stack([self._histograms(face) for face in gray])

    def _histograms(self, face: NDArray[np.uint8]) -> NDArray[np.float32]:
        patterns = self.points * (self.points - 1) + 3
        # Repeated at the border, where the library would take the neighbors outside for black.
        border = math.ceil(self.radius_px)
        codes = local_binary_pattern(np.pad(face, border, "edge"), self.points, self.radius_px, method="nri_uniform")
        codes = codes[border:-border, border:-border].astype(np.int64)
        cells = [
            np.bincount(cell.ravel(), minlength=patterns) / cell.size
            for band in np.array_split(codes, self.rows, axis=0)
            for cell in np.array_split(band, self.columns, axis=1)
        ]
        return np.concatenate(cells).astype(np.float32)

    def __sklearn_is_fitted__(self) -> bool:
        return True


def create_lbp_svm(*, penalty: float = 10.0, gamma: float | str = "scale") -> Pipeline:
    """Histograms of patterns and a support vector machine with a radial kernel; takes crops.

    Args:
        penalty: C of the machine.
        gamma: of the kernel, see `sklearn.svm.SVC`.
    """
    return make_pipeline(LBPHistograms(), StandardScaler(), SVC(C=penalty, gamma=gamma))
