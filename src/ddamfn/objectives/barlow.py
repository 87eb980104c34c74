"""Barlow Twins: two views of an image agree in every number, and no two numbers are redundant.

Source: Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", ICML 2021.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ddamfn.models import ModelOutput
from ddamfn.objectives.pretext import TwoViewObjective, TwoViews, perceptron, pooled
from ddamfn.objectives.protocol import Context, Loss, TrainingSplit, require_at_least_0

_SMALLEST_VARIANCE = 1e-5
"""Of a number over the batch, as in batch normalization: one that is the same for all faces correlates with nothing."""


def cross_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Correlation of every number of one view with every number of the other, over the batch: (D, D) float, -1 to 1.

    Args:
        one: (B, D) float.
        other: (B, D) float, of the same images.

    Source: Eq. 2, for numbers whose mean over the batch was taken away.
    """
    first, second = (
        (view - view.mean(dim=0)) / (view.var(dim=0, correction=0) + _SMALLEST_VARIANCE).sqrt() for view in (one, other)
    )
    return first.T @ second / len(one)


def barlow_twins_loss(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Invariance and redundancy: sum of (1 - C_ii)^2, and sum of C_ij^2 over i != j.

    Source: Eq. 1, whose loss is the first plus lambda times the second.
    """
    correlation = cross_correlation(one, other)
    diagonal = correlation.diagonal()
    return (1 - diagonal).square().sum(), correlation.square().sum() - diagonal.square().sum()


@dataclass(frozen=True, kw_only=True)
class BarlowObjective(TwoViewObjective):
    """Barlow Twins. The paper projects to 8,192 numbers, from a map of 2,048 channels."""

    name: ClassVar[str] = "barlow"
    redundancy_weight: float = 0.005
    """Lambda of the paper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_0(redundancy_weight=self.redundancy_weight)

    def create_criterion(self, split: TrainingSplit) -> "BarlowCriterion":
        """Begin a run."""
        return BarlowCriterion(self)


class BarlowCriterion(TwoViews):
    """Barlow Twins at work; the projector is learned with the network."""

    def __init__(self, config: BarlowObjective) -> None:
        super().__init__()
        self.config = config
        self.projector = perceptron(config.channels, config.width, config.width, config.width)

    def forward(self, output: ModelOutput, targets: Tensor, context: Context | None = None) -> Loss:
        """Compute the loss of a batch's 2 B views."""
        one, other = (self.projector(view) for view in pooled(output, self.config.channels).chunk(2))
        with torch.autocast(one.device.type, enabled=False):
            invariance, redundancy = barlow_twins_loss(one, other)
        total = invariance + self.config.redundancy_weight * redundancy
        return Loss(total, {"invariance": invariance.detach(), "redundancy": redundancy.detach()})
