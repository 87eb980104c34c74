"""Features of face crops: gray levels and histograms of local binary patterns, as scikit-learn transformers."""

import math
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from skimage.feature import local_binary_pattern
from skimage.transform import resize
from sklearn.base import BaseEstimator, TransformerMixin

# ITU-R BT.601, as in the networks' preprocessing.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def to_gray(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert crops uint8 (N, H, W, 3) RGB or (N, H, W) to gray levels float32 (N, H, W) from 0 to 1."""
    crops = np.asarray(crops)
    if crops.dtype != np.uint8 or crops.ndim not in (3, 4) or (crops.ndim == 4 and crops.shape[3] != 3):
        raise ValueError(f"crops are uint8 (N, H, W) or (N, H, W, 3) RGB, not {crops.dtype} {crops.shape}")
    gray = crops.astype(np.float32) / np.float32(255)
    return np.asarray(gray @ _LUMA if crops.ndim == 4 else gray, dtype=np.float32)


class GrayPixels(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Crops uint8 (N, H, W[, 3]) to rows of gray levels float32 (N, side_px * side_px) from 0 to 1, antialiased.

    `unit_length` divides each row by its norm, which removes differences in brightness.
    """

    def __init__(self, side_px: int = 28, *, unit_length: bool = False) -> None:
        self.side_px = side_px
        self.unit_length = unit_length

    def fit(self, crops: NDArray[np.uint8], y: Any = None) -> Self:
        """Learn nothing."""
        return self

    def transform(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Shrink and flatten crops."""
        shape = (self.side_px, self.side_px)
        small = [resize(face, shape, order=1, anti_aliasing=True) for face in to_gray(crops)]
        rows = np.asarray(small, dtype=np.float32).reshape(len(crops), -1).clip(0, 1)
        if self.unit_length:
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return rows

    def __sklearn_is_fitted__(self) -> bool:
        return True


class LBPHistograms(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Crops to histograms of uniform local binary patterns: uint8 (N, H, W[, 3]) -> float32 (N, rows * columns * P).

    P is points * (points - 1) + 3: 59 for 8 points. Each cell's histogram sums to 1.

    Source: Ojala et al., PAMI 2002.
    """

    def __init__(self, rows: int = 7, columns: int = 6, *, points: int = 8, radius_px: float = 2) -> None:
        self.rows = rows
        self.columns = columns
        self.points = points
        self.radius_px = radius_px

    def fit(self, crops: NDArray[np.uint8], y: Any = None) -> Self:
        """Learn nothing."""
        return self

    def transform(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Count the patterns of crops."""
        # Integer levels, because float rounding makes "brighter than" random on even skin.
        gray = np.round(to_gray(crops) * 255).astype(np.uint8)
        return np.stack([self._histograms(face) for face in gray])

    def _histograms(self, face: NDArray[np.uint8]) -> NDArray[np.float32]:
        patterns = self.points * (self.points - 1) + 3
        # Edge padding, since the library treats neighbors outside the image as black.
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
