"""The moving average of a network's weights and statistics, accurate from the first epochs on."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage(AveragedModel):
    """Weights and batch normalization's statistics, a <- d a + (1 - d) w after every step.

    d is min(decay, (1 + t) / (10 + t)), where t counts the updates before: with the full decay from the beginning the
    average would hold hardly trained weights for 1 / (1 - decay) steps. Statistics are averaged too, because those of
    the last step belong to other weights. t is `n_averaged`, part of the state and kept on the CPU, so that a resumed
    run goes on alike and no step waits for the device.

    Args:
        network: what to follow.
        decay: largest d, 0 to 1.

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
