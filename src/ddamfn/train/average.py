"""The network that is validated and kept: moving average of the weights, PreciseBN statistics."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from ddamfn.train.step import mixed_precision


class MovingAverage(AveragedModel):
    """Weights and batch normalization's statistics, a <- d a + (1 - d) w after every step.

    d is min(decay, (1 + t) / (10 + t)), where t counts the updates before: with the full decay from the beginning the
    average would hold hardly trained weights for 1 / (1 - decay) steps. Statistics are averaged too, because those of
    the last step belong to other weights. t is `n_averaged`, part of the state and kept on the CPU, so that a resumed
    run goes on alike and no step waits for the device.

    Source: the rule of `num_updates` in TensorFlow's `tf.train.ExponentialMovingAverage`.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Follow the network by one step."""
        before = int(self.n_averaged)
        decay = min(self.decay, (1 + before) / (10 + before)) if before else 0.0
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for average, value in zip(self.module.state_dict().values(), model.state_dict().values(), strict=True):
            if average.is_floating_point() and before:
                averages.append(average)
                values.append(value)
            else:  # the first step, and counters
                average.copy_(value)
        if averages:
            torch._foreach_lerp_(averages, values, 1 - decay)
        self.n_averaged += 1


_CHUNK = 256
"""Most images that pass the network at once."""


def with_precise_bn(network: nn.Module, images: Tensor, to_inputs: Callable[[Tensor], Tensor]) -> nn.Module:
    """Copy a network and give its batch normalizations the mean and variance of these images.

    Running statistics are those of augmented and partly erased batches, and a moving average's lag behind its weights.
    The outputs change; `ddamfn.train.initial.give_statistics` is for weights whose outputs must stay. A network that
    draws at random in training mode (drop path) needs torch seeded before.

    Source: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3 (PreciseBN).
    """
    copy = deepcopy(network)
    chunks = images.tensor_split(-(-len(images) // _CHUNK))  # of nearly equal size: each counts alike
    with torch.no_grad(), mixed_precision(images.device):
        update_bn(map(to_inputs, chunks), copy)
    return copy
