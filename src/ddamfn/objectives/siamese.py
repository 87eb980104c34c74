"""Pretext tasks of two views: Barlow Twins and SimSiam."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.objectives.pretext import TwoViewObjective, TwoViews, perceptron, pooled
from ddamfn.objectives.protocol import Context, Loss, TrainingSplit, require_at_least_0

_SMALLEST_VARIANCE = 1e-5
"""Of a number over the batch, as in batch normalization: one that is the same for all faces correlates with nothing."""


def cross_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Correlate every number of one view (B, D) with every number of the other, over the batch: (D, D) float, -1 to 1.

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


def negative_cosine(prediction: Tensor, projection: Tensor) -> Tensor:
    """Mean over the batch of minus the cosine of two vectors (B, D).

    The second is taken for a constant: without that all images end at one point. Source: Eq. 1 and 3.
    """
    return -F.cosine_similarity(prediction, projection.detach(), dim=1).mean()


def spread(projection: Tensor) -> Tensor:
    """Deviation over the batch of unit vectors times the root of their length: 1 if they lie anyhow, 0 on one point.

    Source: section 4.1, where it tells a collapse.
    """
    return F.normalize(projection.detach(), dim=1).std(dim=0, correction=0).mean() * math.sqrt(projection.shape[1])


@dataclass(frozen=True, kw_only=True)
class SimSiamObjective(TwoViewObjective):
    """SimSiam."""

    name: ClassVar[str] = "simsiam"
    bottleneck: int = 512
    """Numbers in the predictor's hidden layer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bottleneck < 1:
            raise ConfigError(f"bottleneck must be at least 1, not {self.bottleneck}")

    def create_criterion(self, split: TrainingSplit) -> "SimSiamCriterion":
        """Begin a run."""
        return SimSiamCriterion(self)


class SimSiamCriterion(TwoViews):
    """SimSiam at work; projector and predictor are learned with the network."""

    def __init__(self, config: SimSiamObjective) -> None:
        super().__init__()
        self.config = config
        self.projector = perceptron(config.channels, config.width, config.width, config.width, last_norm=True)
        self.predictor = perceptron(config.width, config.bottleneck, config.width)

    def forward(self, output: ModelOutput, targets: Tensor, context: Context | None = None) -> Loss:
        """Compute the loss of a batch's 2 B views; the loss lies between -1 and 1."""
        one, other = (self.projector(view) for view in pooled(output, self.config.channels).chunk(2))
        forth, back = negative_cosine(self.predictor(one), other), negative_cosine(self.predictor(other), one)
        return Loss((forth + back) / 2, {"spread": spread(one)})
