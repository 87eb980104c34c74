"""RAN's objective: some part of the face must tell more than the whole.

Source: Wang et al., "Region Attention Networks for Pose and Occlusion Robust Facial Expression Recognition", IEEE
Transactions on Image Processing 2020, section III-D.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ddamfn.models import ModelOutput
from ddamfn.objectives.cross_entropy import soft_cross_entropy
from ddamfn.objectives.protocol import Criterion, Loss, Stateless, TrainingSplit, extra_of, require_at_least_0


def region_bias_loss(crop_weights: Tensor, margin: float) -> Tensor:
    """Mean of max(0, margin - (a region's largest weight - the whole face's)); weights (B, R + 1), whole face last."""
    lead = crop_weights[:, :-1].amax(dim=1) - crop_weights[:, -1]
    return torch.relu(margin - lead).mean()


@dataclass(frozen=True, kw_only=True)
class RANObjective:
    """Cross-entropy plus the region-biased loss."""

    name: ClassVar[str] = "ran"
    takes_mixtures: ClassVar[bool] = True
    margin: float = 0.02
    """By how much the best region's weight must exceed the whole face's; the authors' program has 0.1."""
    region_weight: float = 1.0

    def __post_init__(self) -> None:
        require_at_least_0(margin=self.margin, region_weight=self.region_weight)

    def __call__(self, output: ModelOutput, targets: Tensor, weights: Tensor | None = None) -> Loss:
        """Loss of one batch; targets (B, K) float, rows of which sum to 1; weights (B,) float or None."""
        classification = soft_cross_entropy(output.logits, targets, weights=weights)
        region = region_bias_loss(extra_of(output, "crop_weights", self.name), self.margin)
        total = classification + self.region_weight * region
        return Loss(total, {"cross_entropy": classification.detach(), "region_bias": region.detach()})

    def create_criterion(self, split: TrainingSplit) -> Criterion:
        """Begin a run."""
        return Stateless(self)
