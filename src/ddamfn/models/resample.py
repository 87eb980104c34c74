"""Bring a map to the side that the layers after it were made for."""

import torch.nn.functional as F
from torch import Tensor


def fit_map(features: Tensor, side: int) -> Tensor:
    """Resample a map to a square, (B, C, H, W) -> (B, C, side, side); one of that size passes unchanged.

    Some heads have one weight a position, so that their map's side is fixed. Pictures of another size than the
    network's own give another map; smaller pictures make the first epochs several times cheaper (progressive resizing).
    """
    if features.shape[-2:] == (side, side):
        return features
    return F.interpolate(features, size=(side, side), mode="bilinear", align_corners=False)
