"""From face crops to gray levels, the raw material of all classic methods."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize
from sklearn.base import BaseEstimator, TransformerMixin

# ITU-R 601, as in the preprocessing of the networks' images.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def to_gray(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Gray levels of crops: uint8 (N, H, W, 3) RGB or (N, H, W) to float32 (N, H, W) from 0 to 1.

    Raises:
        ValueError: if the shape is another.
    """
    crops = np.asarray(crops)
    if crops.dtype != np.uint8 or crops.ndim not in (3, 4) or (crops.ndim == 4 and crops.shape[3] != 3):
        raise ValueError(f"crops are uint8 (N, H, W) or (N, H, W, 3) RGB, not {crops.dtype} {crops.shape}")
    gray = crops.astype(np.float32) / np.float32(255)
    return np.asarray(gray @ _LUMA if crops.ndim == 4 else gray, dtype=np.float32)


class GrayPixels(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Crops to rows of gray levels: uint8 (N, H, W[, 3]) -> float32 (N, side_px * side_px) from 0 to 1.

    Args:
        side_px: side to which the crops are shrunk, antialiased.
        unit_length: divide each row by its length, so that bright and dark images are alike.
    """

    def __init__(self, side_px: int = 28, *, unit_length: bool = False) -> None:
        self.side_px = side_px
        self.unit_length = unit_length

    def fit(self, crops: NDArray[np.uint8], y: Any = None) -> Self:
        """Nothing is learned."""
        return self

    def transform(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Shrink and flatten crops.

        Raises:
            ValueError: if the shape is not that of crops.
        """
        shape = (self.side_px, self.side_px)
        small = [resize(face, shape, order=1, anti_aliasing=True) for face in to_gray(crops)]
        rows = np.asarray(small, dtype=np.float32).reshape(len(crops), -1).clip(0, 1)
        if self.unit_length:
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return rows

    def __sklearn_is_fitted__(self) -> bool:
        return True
