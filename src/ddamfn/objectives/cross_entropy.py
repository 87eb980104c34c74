"""Cross-entropy against a distribution: one-hot labels, annotators' votes, or either of them smoothed."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.objectives.protocol import Criterion, Loss, Stateless, TrainingSplit


def soft_cross_entropy(
    logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Mean over the batch of -w sum_k t_k log softmax(z)_k, in float32.

    Args:
        logits: (B, K) float.
        targets: (B, K) float, rows of which sum to 1; with votes this is the KL divergence plus a constant.
        label_smoothing: e in [0, 1): targets become (1 - e) t + e / K.
        weights: (B,) float w, how much each image counts; None stands for ones. They are not made to sum to B, so
            that an image counts the same in every batch.

    Returns:
        A float32 scalar in nats.

    Source: Barsoum et al., "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
    Distribution", ICMI 2016, section 4.4; Szegedy et al., CVPR 2016, section 7, for the smoothing.
    """
    with torch.autocast(logits.device.type, enabled=False):
        if weights is None:
            return F.cross_entropy(logits.float(), targets.float(), label_smoothing=label_smoothing)
        losses = F.cross_entropy(logits.float(), targets.float(), label_smoothing=label_smoothing, reduction="none")
        return (weights * losses).mean()


@dataclass(frozen=True, kw_only=True)
class CrossEntropyObjective:
    """Cross-entropy alone: what TransFER, POSTER and the plain backbones are trained for.

    POSTER's published loss, twice the cross-entropy smoothed by 0.2 plus the plain one, is three times this with a
    smoothing of 0.4 / 3.
    """

    name: ClassVar[str] = "cross_entropy"
    takes_mixtures: ClassVar[bool] = True
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be at least 0 and below 1, not {self.label_smoothing}")

    def __call__(self, output: ModelOutput, targets: Tensor, weights: Tensor | None = None) -> Loss:
        """Loss of one batch; targets (B, K) float, rows of which sum to 1; weights (B,) float or None."""
        loss = soft_cross_entropy(output.logits, targets, label_smoothing=self.label_smoothing, weights=weights)
        return Loss(loss, {"cross_entropy": loss.detach()})

    def create_criterion(self, split: TrainingSplit) -> Criterion:
        """Begin a run."""
        return Stateless(self)
