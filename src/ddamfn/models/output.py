"""What every network of the registry returns."""

from typing import NamedTuple

from torch import Tensor


class ModelOutput(NamedTuple):
    """One forward pass over B pictures.

    Attributes:
        logits: (B, K) float, before softmax, in the order of the labels that the network was trained with.
        features: (B, C, H, W) float, the last spatial map before the head; (B, 512, 7, 7) for DDAMFN at 112 px.
        attention: (B, A, C, H, W) float in (0, 1), one map for each of A heads. A is 0 for a network without heads.
    """

    logits: Tensor
    features: Tensor
    attention: Tensor
