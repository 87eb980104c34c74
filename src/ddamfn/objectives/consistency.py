"""Erasing attention consistency: what speaks for a class must lie at the same place of the face in a mirror image.

Source: Zhang et al., "Learn From All: Erasing Attention Consistency for Noisy Label Facial Expression Recognition",
ECCV 2022, section 3.
"""

from torch import Tensor


def flip_consistency_loss(class_maps: Tensor, mirrored_class_maps: Tensor) -> Tensor:
    """Mean squared difference of a picture's class maps and its mirror image's, these flipped back.

    The paper's maps have the logits as their mean over positions (global average pooling), ours as their sum. They are
    made like the paper's here, so that the loss has its scale and its weight of 5 means the same.

    Args:
        class_maps: (B, K, H, W) float, each position's part of the logits.
        mirrored_class_maps: likewise of the mirror images, as the network gave them.

    Returns:
        A scalar.
    """
    positions = class_maps.shape[-2] * class_maps.shape[-1]
    return (positions * (class_maps - mirrored_class_maps.flip(-1))).square().mean()
