"""PreciseBN: batch normalization statistics measured on unaugmented images."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from ddamfn.train.step import mixed_precision

_CHUNK = 256
"""Most images that pass the network at once."""


def with_precise_bn(network: nn.Module, images: Tensor, to_inputs: Callable[[Tensor], Tensor]) -> nn.Module:
    """Copy of a network whose batch normalizations have the mean and variance of these images.

    Running statistics are those of augmented and partly erased batches, and a moving average's lag behind its weights.
    The outputs change; `ddamfn.train.initial.give_statistics` is for weights whose outputs must stay.

    Args:
        network: stays as it is. Where it draws at random in training mode (drop path), seed torch before.
        images: (N, ...), where the network is; 2 or more, better a thousand.
        to_inputs: makes normalized (B, 3, S, S) float of some of them, so that never all are in memory as such.

    Source: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3 (PreciseBN).
    """
    copy = deepcopy(network)
    chunks = images.tensor_split(-(-len(images) // _CHUNK))  # of nearly equal size: each counts alike
    with torch.no_grad(), mixed_precision(images.device):
        update_bn(map(to_inputs, chunks), copy)
    return copy
