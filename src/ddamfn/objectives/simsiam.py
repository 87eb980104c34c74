"""SimSiam: from one view of an image its other view is predicted.

Source: Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.objectives.pretext import TwoViewObjective, TwoViews, perceptron, pooled
from ddamfn.objectives.protocol import Context, Loss, TrainingSplit


def negative_cosine(prediction: Tensor, projection: Tensor) -> Tensor:
    """Mean over the batch of minus the cosine of two vectors; no gradient goes through the second.

    Args:
        prediction: (B, D) float.
        projection: (B, D) float, which is taken for a constant: without that all images end at one point.

    Source: Eq. 1 and 3.
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
