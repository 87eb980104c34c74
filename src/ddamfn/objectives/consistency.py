"""Erasing attention consistency: what speaks for a class must lie at the same place of the face in a mirror image.

Source: Zhang et al., "Learn From All: Erasing Attention Consistency for Noisy Label Facial Expression Recognition",
ECCV 2022, section 3.
"""

from torch import Tensor


def flip_consistency_loss(class_maps: Tensor, mirrored_class_maps: Tensor) -> Tensor:
    """Squared difference of an image's class maps and its mirror image's, these flipped back: sum over positions.

    Mean over images and classes. The paper takes the mean over positions as well, of maps whose mean is the logit and
    which hence have the logits' size. Ours sum to the logits, and GDConv gives positions weights of either sign: it is
    the sum of their squares that has the size of a squared logit, so that the paper's weight of 5 means about the same.

    Args:
        class_maps: (B, K, H, W) float, each position's part of the logits.
        mirrored_class_maps: likewise of the mirror images, as the network gave them.

    Returns:
        A scalar.
    """
    return (class_maps - mirrored_class_maps.flip(-1)).square().sum(dim=(2, 3)).mean()
